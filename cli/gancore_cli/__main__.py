"""`python -m gancore_cli` is the same as `gancore`."""

from gancore_cli.main import main

main()
