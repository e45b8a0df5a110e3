"""CPU threads: how many this process may use, and another number of them for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The limit of a container: microseconds of CPU time, or `max`, and the microseconds of a period."""


def usable_cores() -> int:
    """Return the number of cores that this process may use: those it may run on, at most the limit of a container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        allowed = min(allowed, -(-quota // period))
    return max(1, allowed)


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
