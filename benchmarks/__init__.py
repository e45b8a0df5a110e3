"""Programs that measure gancore and compare it with a plain script, and their tables."""
