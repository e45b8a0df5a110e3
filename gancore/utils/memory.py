"""Free memory of the machine and of GPUs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

_CONTAINER = Path("/sys/fs/cgroup")
"""Where a container finds its limit: memory.max in bytes, or `max`; memory.current, what it uses of it; memory.stat."""


def installed_memory() -> int:
    """Return the memory of the machine, at most the limit of a container, in bytes."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _in_container("memory.max")
    return installed if limit is None else min(installed, limit)


def free_memory(device: torch.device, *, swap: bool = False) -> int | None:
    """Return the free memory of a GPU, or of the machine or container, in bytes; None if it is unknown.

    With `swap` the free swap space of the machine counts too.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError, KeyError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":") for line in file)
        names = ["MemAvailable", *(["SwapFree"] if swap else [])]
        free = sum(1024 * int(lines[name].split()[0]) for name in names)
        limit, used = _in_container("memory.max"), _in_container("memory.current")
        return free if limit is None or used is None else min(free, max(0, limit - used + _cached_files()))
    return None


def _cached_files() -> int:
    """Return what copies of files use in a container, which it gives up where memory is needed."""
    with suppress(OSError, ValueError, IndexError):
        lines = (_CONTAINER / "memory.stat").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] in ("active_file", "inactive_file"))
    return 0


def _in_container(name: str) -> int | None:
    with suppress(OSError, ValueError):
        return int((_CONTAINER / name).read_text(encoding="ascii"))
    return None
