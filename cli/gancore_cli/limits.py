"""Limits of the process below which libraries end it without a message: they are checked before torch is imported."""

from __future__ import annotations

import os
import resource
import threading

from gancore_cli.options import echo

_LITTLE_MEMORY = 4 << 30
"""Bytes of address space below which torch may fail: version 2.14 with CUDA takes 3.3 GB once it is loaded."""


def check_folder() -> None:
    """Raise StorageError when the working directory has been deleted."""
    try:
        os.getcwd()
    except OSError as error:
        from gancore.errors import StorageError

        raise StorageError("the working directory has been deleted", "cd to a folder that exists") from error


def check_limits() -> None:
    """Start as many threads as torch does, and print a note where it may lack memory.

    The libraries below torch end the process, or interrupt it, when they can start no thread or allocate no memory.
    Raises RuntimeError if a thread cannot be started.
    """
    from gancore.utils.cores import usable_cores

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < _LITTLE_MEMORY:
        echo(
            f"note: this process may have {soft:,} bytes of address space (ulimit -v); torch may need more, "
            "and then cannot be loaded or ends with std::bad_alloc",
            err=True,
        )
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    done = threading.Event()
    count = int(wanted) if wanted.isdecimal() else usable_cores()
    threads = [threading.Thread(target=done.wait) for _ in range(1, count)]
    try:
        for thread in threads:
            thread.start()
    finally:
        done.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
