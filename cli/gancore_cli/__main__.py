"""`python -m gancore_cli` is the same as `gancore`."""

import os
import sys
from contextlib import suppress

with suppress(OSError):  # the working directory may have been deleted
    # Python puts it first, where a random.py or torch.py of the user would be imported in place of the package.
    if sys.path[0] == os.getcwd() and not __file__.startswith(os.path.join(sys.path[0], "")):
        del sys.path[0]

from gancore_cli.main import main

main()
