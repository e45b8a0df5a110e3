"""The command line. It is the only part of gancore that prints, formats errors, and exits."""
