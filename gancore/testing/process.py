"""The law on process-wide state: global random generators, and settings of torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from gancore.catalog.isolation import TORCH_SETTINGS, preserve_process_state
from gancore.component import Component
from gancore.testing.cases import Case, require
from gancore.testing.harness import Outputs, build, failures
from gancore.testing.inputs import Values
from gancore.utils.random import seeded

_GENERATORS: Mapping[str, Callable[[], str]] = {
    "random": lambda: str(random.getstate()),
    "numpy.random": lambda: str(np.random.get_state(legacy=False)),
    "torch": lambda: torch.get_rng_state().numpy().tobytes().hex(),
}
"""States of the global random generators."""
_SEED = 97_531
"""A seed that no component is likely to set."""


def process_state_is_not_modified(component: Component, case: Case) -> None:
    """Components change no setting of torch and do not seed global random generators."""
    with restored_process_state():
        before = {name: read() for name, (read, _) in TORCH_SETTINGS.items()}
        first = _states_after(component, case, 0)
        second = _states_after(component, case, 1) if first else {}  # only one that moved can have been seeded
        after = {name: read() for name, (read, _) in TORCH_SETTINGS.items()}
    changed = [name for name, value in after.items() if value != before[name]]
    require(not changed, f"it changes a setting of the whole process: {', '.join(changed)}; restore the old value")
    same = [name for name, state in first.items() if state == second.get(name)]
    require(not same, f"it seeds the global random generator of {', '.join(same)}; use a generator of your own")


def _states_after(component: Component, case: Case, shift: int) -> dict[str, str]:
    """Return the states of the generators that the component used, which start from another state for each shift."""
    random.seed(_SEED + shift)
    np.random.seed(_SEED + shift)
    before = {name: state() for name, state in _GENERATORS.items()}
    used = dict[str, str]()
    with seeded(_SEED + shift), failures(component):
        started = _GENERATORS["torch"]()
        built = build(component, case)
        ended = _GENERATORS["torch"]()
    if ended != started:
        used["torch, while it is built"] = ended

    def run(inputs: Values) -> Outputs:
        before["torch"] = _GENERATORS["torch"]()
        outputs = built.run(inputs)
        after = {name: state() for name, state in _GENERATORS.items()}  # before that of torch is restored
        used.update({name: state for name, state in after.items() if state != before[name]})
        return outputs

    replace(built, seed=_SEED + shift, run=run)()
    return used


@contextmanager
def restored_process_state() -> Iterator[None]:
    """Undo changes to the process at the end of the block, so that they do not affect other laws."""
    python, numpy = random.getstate(), np.random.get_state()
    with preserve_process_state():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
