"""The command line: the only code of gancore that prints, renders errors, or exits."""
