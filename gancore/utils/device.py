"""Choosing the device to train on."""

from __future__ import annotations

from typing import Literal

import torch

from gancore.errors import ConfigError

Choice = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(choice: str = "auto") -> torch.device:
    """`auto` is the first that is there of cuda, mps and cpu. Raises ConfigError for one that is not there."""
    there = [name for name, is_there in _probes().items() if is_there]
    if choice == "auto":
        return torch.device(there[0])
    if choice not in there:
        raise ConfigError(
            f"--device must be a device of this machine; received {choice!r}. Known: auto, {', '.join(there)}",
            "leave --device out to use the best that is there",
        )
    return torch.device(choice)


def _probes() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
