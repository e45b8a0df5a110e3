"""`python -m gancore_cli` is `gancore`."""

from gancore_cli.main import main

main()
