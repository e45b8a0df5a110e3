"""Choosing the device to train on."""

from __future__ import annotations

from typing import Literal

import torch

from gancore.errors import ConfigError

Choice = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(choice: str = "auto") -> torch.device:
    """Return the device; `auto` is the first available of cuda, mps and cpu. Raises ConfigError for any other name."""
    available = [name for name, is_available in _probes().items() if is_available]
    if choice == "auto":
        return torch.device(available[0])
    if choice not in available:
        raise ConfigError(
            f"--device must be a device of this machine; received {choice!r}. Known: auto, {', '.join(available)}",
            "leave --device out to use the best one",
        )
    return torch.device(choice)


def _probes() -> dict[str, bool]:
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
