"""Randomness: one seed, many independent streams, and an unchanged random state of the process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return the seed of a stream: `derive_seed(0, "order", 3)` is the seed of epoch 3's order in run 0."""
    text = "/".join(map(str, (seed, *stream)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1  # torch takes 63 bits


def generator_for(seed: int, *stream: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator at the beginning of a stream."""
    return torch.Generator(device).manual_seed(derive_seed(seed, *stream))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of the CPU and the device in the block, and restore their states after it.

    `torch.manual_seed` would also seed every other device, and not restore it.
    """
    device = device or torch.device("cpu")
    outer = states_of(device)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        put_states(outer, device)


@contextmanager
def host_states_kept() -> Iterator[None]:
    """Restore the states of Python's `random` and of numpy's global generator after the block."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class GlobalRandomness:
    """The state of torch's global generators in a run, separate from that of the rest of the process.

    Modules such as dropout draw from the global generators. `lent()` sets them to the run's state during a step.
    So the run and the rest of the process do not change each other's random numbers.
    """

    def __init__(self, seed: int, device: torch.device, *stream: int) -> None:
        self._device = device
        with seeded(derive_seed(seed, "global", *stream), device):
            self.states = states_of(device)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Make the run's random state that of the process in the block."""
        outer = states_of(self._device)
        put_states(self.states, self._device)
        try:
            yield
        finally:
            self.states = states_of(self._device)
            put_states(outer, self._device)


def states_of(device: torch.device) -> dict[str, Tensor]:
    """Return the states of the global generators of the CPU and the device: uint8 tensors by name."""
    states = {"cpu": torch.default_generator.get_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def put_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Set the global generators to what `states_of` returned."""
    torch.default_generator.set_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif "mps" in states:
        torch.mps.set_rng_state(states["mps"])
