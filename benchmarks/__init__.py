"""The project measured beside the plain script, by commands that anyone can run."""
