"""The process that a component shares with all others: its dice, and the settings of torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gancore.component import Component
from gancore.testing.cases import Case, demand
from gancore.testing.harness import Given, set_up
from gancore.testing.inputs import Values

_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {  # Any: each has its type
    "torch.set_grad_enabled": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.set_default_dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch.set_num_threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.use_deterministic_algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch.autograd.set_detect_anomaly": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
}
"""What sets each of them, how it is read, and how it is put back."""
_DICE: Mapping[str, Callable[[], str]] = {
    "Python's": lambda: str(random.getstate()),
    "NumPy's": lambda: str(np.random.get_state(legacy=False)),
    "torch's": lambda: torch.get_rng_state().numpy().tobytes().hex(),
}
"""The state of those that all share."""
_SEED = 97_531
"""One that nobody sets."""


def leaves_the_process_as_it_was(component: Component, case: Case) -> None:
    """It changes no setting of torch, and sets no dice to a seed but its own."""
    with as_it_was():
        before = _settings()
        first = _dice_after(component, case, 0)
        second = _dice_after(component, case, 1) if first else {}  # only what moved may have been set
        after = _settings()
    changed = [name for name, value in after.items() if value != before[name]]
    demand(not changed, f"the whole process is changed by {', '.join(changed)}")
    same = [name for name, state in first.items() if state == second.get(name)]
    demand(not same, f"it sets {', '.join(same)} dice, which all share, to a seed; draw from a generator of your own")


def _dice_after(component: Component, case: Case, shift: int) -> dict[str, str]:
    """The dice as the component leaves them, if it moved them; they were others before for each shift."""
    random.seed(_SEED + shift)
    np.random.seed(_SEED + shift)
    before = {name: state() for name, state in _DICE.items()}
    bench = set_up(component, case)
    moved = dict[str, str]()

    def work(given: Values) -> Given:
        before["torch's"] = _DICE["torch's"]()
        made = bench.work(given)
        after = {name: state() for name, state in _DICE.items()}  # before torch's are put back
        moved.update({name: state for name, state in after.items() if state != before[name]})
        return made

    replace(bench, seed=_SEED + shift, work=work)()
    return moved


def _settings() -> dict[str, object]:
    return {name: read() for name, (read, _) in _SETTINGS.items()}


@contextmanager
def as_it_was() -> Iterator[None]:
    """What a component does to the process ends with this block, so that no other suffers from it."""
    settings, python, numpy = _settings(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for name, value in settings.items():
            read, put = _SETTINGS[name]
            if read() != value:
                put(value)
