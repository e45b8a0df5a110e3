"""Free memory of the machine and of GPUs."""

from __future__ import annotations

from contextlib import suppress

import torch


def free_memory(device: torch.device, *, swap: bool = False) -> int | None:
    """Return the free memory of a GPU, or of the machine, in bytes; None if it is unknown.

    With `swap` the free swap space of the machine counts too.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with suppress(OSError, ValueError, KeyError, IndexError), open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":") for line in file)
        names = ["MemAvailable", *(["SwapFree"] if swap else [])]
        return sum(1024 * int(lines[name].split()[0]) for name in names)
    return None
