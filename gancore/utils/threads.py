"""Another number of CPU threads for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def computing_with(threads: int | None) -> AbstractContextManager[None]:
    """Return a context in which torch computes with this number of threads; with None, or the present number, as it is.

    torch keeps the number for the whole process, so it is restored after the block.
    """
    before = torch.get_num_threads()
    return nullcontext() if threads is None or threads == before else _threads(threads, before)


@contextmanager
def _threads(threads: int, before: int) -> Iterator[None]:
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
