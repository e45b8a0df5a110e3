"""Laws that components of most kinds keep.

Each takes a component and a case, and raises LawBroken with what it expected and received. A component that refuses the
case raises ConfigError or DataError, and one that fails PluginError, which is for `either_works_or_says_why_not` alone:
what another law cannot try, it does not judge.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from gancore.component import Component, components_in, lookup
from gancore.config import toml
from gancore.errors import ConfigError, PluginError
from gancore.metrics import Metric
from gancore.settings import plain
from gancore.testing.cases import Case, Inapplicable, LawBroken, Untried, demand
from gancore.testing.fake_device import Elsewhere, unregistered
from gancore.testing.harness import Bench, observed, set_up


def survives_a_round_trip(component: Component, case: Case) -> None:
    """Written as TOML and as JSON and read again, a component is equal to what it was, and has the same hash."""
    known = _Known(component)
    data = plain(component, lambda kind: kind.name if issubclass(kind, Component) else kind.__name__)
    for form, read in (("TOML", tomllib.loads(toml.dumps(data))), ("JSON", json.loads(json.dumps(data)))):
        try:
            again = type(component).model_validate(read, context=lookup(known))
        except ValidationError as error:
            raise LawBroken(f"its {form} cannot be read again: {error.errors()[0]['msg']}") from error
        demand(again == component, f"read from its {form}, it is {again!r}")
        demand(hash(again) == hash(component), f"read from its {form}, it is equal but has another hash")


def either_works_or_says_why_not(component: Component, case: Case) -> None:
    """It does its work, or raises ConfigError or DataError where it cannot serve the case."""
    try:
        set_up(component, case).generously()
    except PluginError as error:
        raise LawBroken(str(error)) from error


def same_seed_same_result(component: Component, case: Case) -> None:
    """Built and put to work twice under the same seed of torch, it gives the same, bit for bit."""
    first, second = observed(component, case), observed(component, case)
    different = unequal(first, second)
    demand(different is None, f"{different} differs between two times under one seed")


def leaves_its_inputs_alone(component: Component, case: Case) -> None:
    """What it was given is the same afterward."""
    bench = set_up(component, case)
    given = {key: value.clone() for key, value in bench.inputs.items()}
    bench(**given)
    changed = unequal(given, bench.inputs)
    demand(changed is None, f"{changed} was changed in place")


def stays_on_its_device(component: Component, case: Case) -> None:
    """All it makes is on the device of its inputs and its module, and nothing is moved between devices.

    The device is pretended: see `gancore.testing.fake_device`.
    """
    bench = set_up(component, case)
    behind = [] if bench.module is None else unregistered(bench.module)
    inputs = {key: value.clone() for key, value in bench.inputs.items()}
    with Elsewhere(behind) as device:
        given = _work(bench, inputs)
    demand(not device.left(given.values()), "what it gives is on the CPU, whatever the device of its inputs")


def _work(bench: Bench, inputs: Mapping[str, Tensor]) -> Mapping[str, object]:
    """The work, whose own complaint about devices is told apart from a failure."""
    try:
        return bench(**inputs)
    except PluginError as error:
        if isinstance(error.__cause__, LawBroken):
            raise error.__cause__ from None
        raise


def stays_in_single_precision(component: Component, case: Case) -> None:
    """Of inputs and weights in float32 it makes nothing in float64."""
    for key, value in set_up(component, case).values().items():
        if key != "strength":  # a number of the loop's
            demand(value.dtype != torch.float64, f"{key} is float64, of inputs in float32")


def accepts_a_batch_of_one(component: Component, case: Case) -> None:
    """It works on one image alone, networks in evaluation mode, and gives what is finite."""
    tame = replace(case, scale=min(case.scale, 1.0))  # large scores are for another law
    one, several = (_set_up_for_evaluation(component, replace(tame, count=count)) for count in (1, case.count))
    try:
        given = _not_finite(one)
    except PluginError as error:
        several()  # what fails on any batch is not for this law
        raise LawBroken(f"it fails on a batch of one: {error}") from error
    demand(given <= _not_finite(several), f"of a batch of one it gives NaN or infinity: {', '.join(sorted(given))}")


def _not_finite(bench: Bench) -> set[str]:
    """Which of the values that it gives hold NaN or infinity."""
    return {key for key, value in bench.values().items() if not value.isfinite().all()}


def what_it_builds_survives_a_round_trip(component: Component, case: Case) -> None:
    """What it has built is all in the state_dict, as tensors: loaded into another build, it does the same."""
    bench = set_up(component, case)
    if bench.module is None:
        raise Inapplicable
    _steady(component, case)
    for _ in range(2):
        bench()  # whatever is remembered of a pass is remembered now
    state = bench.state()
    strange = [key for key in bench.module.state_dict() if key not in state]
    demand(not strange, f"{strange[:1]} in its state_dict is no tensor, so it cannot be saved")
    other = set_up(component, replace(case, seed=case.seed + 1))
    try:
        other.module.load_state_dict(state)  # type: ignore[union-attr]  # as above
    except RuntimeError as error:
        raise LawBroken(f"its state_dict fits no other build of it: {' '.join(str(error).split())}") from error
    if bench.player is not None and other.player is not None:
        other.player.load_state_dict(bench.player.state_dict())
    expected, received = bench.values(), replace(other, inputs=bench.inputs, seed=bench.seed).values()
    different = unequal(expected, received)
    demand(different is None, f"{different} is another after its state_dict was saved and loaded")


def what_it_builds_keeps_no_graph(component: Component, case: Case) -> None:
    """What it remembers of a pass is detached: a graph that is kept fails in the next update, or grows without end."""
    bench = set_up(component, case)
    if bench.module is None:
        raise Inapplicable
    for _ in range(2):
        bench(**{key: value.clone().requires_grad_(value.is_floating_point()) for key, value in bench.inputs.items()})
    held = [name for name, buffer in bench.module.named_buffers() if buffer.grad_fn is not None]
    demand(not held, f"the buffer {', '.join(held)} holds the graph of an earlier pass; detach what is remembered")


def scores_do_not_depend_on_order(component: Component, case: Case) -> None:
    """The images of a batch may come in any order; real and fake ones of a metric each in an order of their own."""
    _steady(component, case)
    bench, other = set_up(component, case), set_up(component, case)
    if is_random(bench):
        raise Inapplicable
    dice, orders, shuffled = torch.Generator().manual_seed(case.seed), dict[str, Tensor](), dict[str, Tensor]()
    for key, value in bench.inputs.items():
        together = key.partition(" ")[0] if isinstance(component, Metric) else "all"
        shuffled[key] = value[orders.setdefault(together, torch.randperm(len(value), generator=dice))]
    expected, received = bench.values(), other.values(**shuffled)
    different = unequal(expected, received, rounding=1e-3)
    demand(different is None, f"{different} is another when the images come in another order")


def an_image_does_not_depend_on_its_batch(component: Component, case: Case) -> None:
    """In evaluation mode, what is made of one item of a batch is made of it whatever the others are."""
    _steady(component, case, evaluation=True)
    whole = _set_up_for_evaluation(component, case)
    parts = _set_up_for_evaluation(component, case)
    others = {
        key: torch.cat([value[:1], torch.zeros_like(value[1:])])
        for key, value in whole.inputs.items()
        if key != "logits"  # those are shown to what watches, which then goes another way
    }
    first = {key: value[:1] for key, value in whole.values().items() if value.ndim}
    again = {key: value[:1] for key, value in parts.values(**others).items() if value.ndim}
    different = unequal(first, again, rounding=1e-4)
    demand(different is None, f"{different} of an image is another when the rest of the batch is another")


def chance_has_no_say_in_features(component: Component, case: Case) -> None:
    """Of one image an extractor reads the same each time: no dropout in evaluation, no dice."""
    _steady(component, case, evaluation=True)
    random = is_random(_set_up_for_evaluation(component, case))
    demand(not random, "features of the same images are others when random numbers are others")


def _set_up_for_evaluation(component: Component, case: Case) -> Bench:
    bench = set_up(component, case)
    if bench.module is not None:
        bench.module.eval()
    return bench


def _steady(component: Component, case: Case, *, evaluation: bool = False) -> None:
    """Whoever gives two things for one is told so by `same_seed_same_result`, and by no other law."""
    prepare = _set_up_for_evaluation if evaluation else set_up
    if unequal(prepare(component, case).values(), prepare(component, case).values()) is not None:
        raise Untried


def is_random(bench: Bench) -> bool:
    """Whether another seed makes another result of the same inputs."""
    state = bench.state()
    first, second = (replace(bench, seed=bench.seed + shift).values() for shift in (0, 1))
    if bench.module is not None:
        bench.module.load_state_dict(state)
    return unequal(first, second) is not None


def unequal(
    expected: Mapping[str, Tensor], received: Mapping[str, Tensor], rounding: float | None = None
) -> str | None:
    """The name of the first value that differs, by more than rounding if that is given; None if none does."""
    if expected.keys() != received.keys():
        return min(expected.keys() ^ received.keys())
    for key, value in expected.items():
        other = received[key]
        if value.shape != other.shape or value.dtype != other.dtype:
            return key
        if rounding is not None and value.is_floating_point():
            finite = value[value.isfinite()]
            size = float(finite.abs().max()) if finite.numel() else 1.0
            if not torch.allclose(value, other, rtol=rounding, atol=rounding * size + 1e-9, equal_nan=True):
                return key
        elif not torch.equal(torch.nan_to_num(value), torch.nan_to_num(other)):
            return key
    return None


class _Known:
    """Finds the components that lie in a component, as a catalog would."""

    def __init__(self, component: Component) -> None:
        self._classes: list[type[Any]] = [type(each) for each in components_in(component)]  # Any: as `find` gives it

    def find(self, kind: type[Any], name: str) -> type[Any]:  # Any: as a catalog does
        for found in self._classes:
            if issubclass(found, kind) and found.name == name:
                return found
        raise ConfigError(f"no {name!r} lies in this component")
