"""The cores that this process may use. Nothing here imports torch, which reads some limits while it is imported."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""The limit of a container: microseconds of CPU time, or `max`, and the microseconds of a period."""


def cores_in_words() -> str:
    """Return the number of cores that this process may use, as in `1 core` and `16 cores`."""
    cores = usable_cores()
    return f"{cores} core{'s' * (cores != 1)}"


def usable_cores() -> int:
    """Return the number of cores that this process may use: those it may run on, at most the limit of a container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = map(int, _QUOTA.read_text(encoding="ascii").split())
        allowed = min(allowed, -(-quota // period))
    return max(1, allowed)
