"""Reading the user's files."""
