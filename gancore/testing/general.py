"""Laws for components of several kinds.

A law takes a component and a case, and raises LawBroken with what was expected and what was received. A component may
refuse the case with ConfigError or DataError. Any other error is a PluginError, which only
`errors_are_config_or_data_errors` reports: other laws skip the case. CaseSkipped says why a case could not be tried.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tomli_w
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gancore.component import Component, components_in
from gancore.errors import ConfigError, PluginError
from gancore.metrics import Metric
from gancore.settings import plain
from gancore.testing.cases import Case, CaseSkipped, LawBroken, NotApplicable, UnsuitedComponent, require
from gancore.testing.fake_device import FakeDeviceMode, unregistered_tensors
from gancore.testing.harness import Harness, harness


def config_round_trips(component: Component, case: Case) -> None:
    """Components that are written as TOML or JSON and read again are equal to the original, with the same hash."""
    known = _ComponentsIn(component)
    data = plain(component, lambda kind: kind.name if issubclass(kind, Component) else kind.__name__)
    for form, read in (("TOML", tomllib.loads(tomli_w.dumps(data))), ("JSON", json.loads(json.dumps(data)))):
        try:
            again = type(component).model_validate(read, context=known)
        except ValidationError as error:
            raise LawBroken(f"its {form} cannot be read again: {error.errors()[0]['msg']}") from error
        require(again == component, f"read from its {form}, it becomes {again!r}; validators must keep valid values")
        require(hash(again) == hash(component), f"read from its {form}, it is equal but has another hash")


def errors_are_config_or_data_errors(component: Component, case: Case) -> None:
    """Components work, or raise ConfigError or DataError where they do not support the case."""
    built = harness(component, case)
    try:
        replace(built, run=built.run_with_all or built.run)()
    except PluginError as error:
        raise LawBroken(f"{error}; raise ConfigError or DataError where a case is not supported") from error


def same_seed_same_result(component: Component, case: Case) -> None:
    """Built and run twice with the same seed of torch, a component gives the same results, bit for bit."""
    difference = first_difference(_everything(component, case), _everything(component, case))
    require(difference is None, f"{difference} differs between two runs with the same seed; draw with torch only")


def _everything(component: Component, case: Case) -> dict[str, Tensor]:
    """Return all outputs, of networks in both modes, and the state."""
    built = harness(component, case)
    found = built.tensors()
    if built.module is not None and component.kind in ("generator", "discriminator"):
        built.module.eval()
        found |= {f"{key} in evaluation mode": value for key, value in built.tensors().items()}
    return found | {f"state {key}": value for key, value in built.state().items()}


def inputs_are_not_modified(component: Component, case: Case) -> None:
    """Components do not change their inputs in place."""
    built = harness(component, case)
    copies = {key: value.clone() for key, value in built.inputs.items()}
    built(**copies)
    difference = first_difference(copies, built.inputs)
    difference = difference or next(
        (name for name, (tensor, version) in built.scored.items() if tensor._version != version), None
    )
    require(difference is None, f"{difference} was changed in place; work on a copy")


def stays_on_its_device(component: Component, case: Case) -> None:
    """All tensors that a component creates are on the device of its inputs, and it moves none to another device.

    The device is fake: see `gancore.testing.fake_device`.
    """
    built = harness(component, case)
    on_cpu = [] if built.module is None else unregistered_tensors(built.module)
    copies = {key: value.clone() for key, value in built.inputs.items()}
    with FakeDeviceMode(on_cpu) as device:
        try:
            outputs = built(**copies)
        except PluginError as error:
            if isinstance(error.__cause__, LawBroken):
                raise error.__cause__ from None
            raise
    require(not device.any_on_cpu(outputs.values()), "its result is on the CPU, not on the device of its inputs")


def stays_in_single_precision(component: Component, case: Case) -> None:
    """With inputs and weights in float32, no output is float64."""
    for key, value in harness(component, case).tensors().items():
        if key != "strength":  # a number, not a tensor of the component
            require(value.dtype != torch.float64, f"{key} is float64 for inputs in float32; keep the inputs' dtype")


def accepts_a_batch_of_one(component: Component, case: Case) -> None:
    """Components accept a single image, networks in evaluation mode, and their outputs are finite."""
    case = replace(case, scale=min(case.scale, 1.0))  # another law covers large scores
    single = harness(component, replace(case, count=1), evaluation=True)
    batch = harness(component, case, evaluation=True)
    try:
        not_finite = _not_finite(single)
    except PluginError as error:
        batch()  # failing on every batch is reported by another law
        raise LawBroken(f"it fails for a batch of one: {error}") from error
    only_single = not_finite - _not_finite(batch)
    require(not only_single, f"for a batch of one {', '.join(sorted(only_single))} is NaN or infinite")


def _not_finite(built: Harness) -> set[str]:
    """Return the names of outputs with NaN or infinity."""
    return {key for key, value in built.tensors().items() if not value.isfinite().all()}


def state_dict_round_trips(component: Component, case: Case) -> None:
    """State of a built module is all in its state_dict, as tensors: another build that loads it works the same."""
    built = harness(component, case)
    if built.module is None:
        _require_stateless(component, built)
        raise NotApplicable("it is no module, so it has no state")
    _skip_unless_repeatable(component, case)
    before = attributes_of(built.built)
    for _ in range(2):
        built()  # fills whatever the module remembers of a pass
    state = built.state()
    not_tensors = [key for key in built.module.state_dict() if key not in state]
    require(not not_tensors, f"{not_tensors[:1]} in its state_dict is not a tensor, so it cannot be saved")
    changed = first_change(before, attributes_of(built.built))
    other = harness(component, replace(case, seed=case.seed + 1))
    try:
        other.module.load_state_dict(state)  # type: ignore[union-attr]  # as above
    except RuntimeError as error:
        raise LawBroken(f"another build cannot load its state_dict: {' '.join(str(error).split())}") from error
    if built.penalized is not None and other.penalized is not None:
        other.penalized.load_state_dict(built.penalized.state_dict())
    expected, received = built.tensors(), replace(other, inputs=built.inputs, seed=built.seed).tensors()
    difference = first_difference(expected, received)
    change = f"{difference} changes when the state_dict is saved and loaded"
    advice = "keep all state in parameters and buffers"
    if changed is not None:
        advice = f"the attribute `{changed}` changes in a pass and is not saved: make it a buffer with register_buffer"
    elif unregistered_tensors(built.module):
        advice = "a tensor in a plain attribute is not saved: make it a buffer with register_buffer"
    require(difference is None, f"{change}; {advice}")


def _require_stateless(component: Component, built: Harness) -> None:
    """Raise LawBroken if what `build` returned is no module, but changes in a pass."""
    if built.built is component:
        return
    before = attributes_of(built.built)
    built()
    changed = first_change(before, attributes_of(built.built))
    require(
        changed is None,
        f"the attribute `{changed}` changes in a pass and is not saved: return an nn.Module, and make it a buffer with "
        "register_buffer",
    )


def attributes_of(built: object) -> dict[str, str]:
    """Return numbers, texts, lists of these, and tensors in plain attributes, of all submodules, as text."""
    parts = built.named_modules() if isinstance(built, nn.Module) else [("", built)]
    return {
        f"{name}.{key}".lstrip("."): repr(value)
        for name, part in parts
        for key, value in getattr(part, "__dict__", {}).items()
        if isinstance(value, int | float | str | list | Tensor | None)
    }


def first_change(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    """Return the first attribute that changed."""
    return next((key for key, value in after.items() if before.get(key) != value), None)


def state_holds_no_graph(component: Component, case: Case) -> None:
    """Buffers are detached from the graph of a pass: a graph that is kept fails in the next update, or grows."""
    built = harness(component, case)
    if built.module is None:
        raise NotApplicable("it is no module, so it has no buffers")
    for _ in range(2):
        built(**{key: value.clone().requires_grad_(value.is_floating_point()) for key, value in built.inputs.items()})
    held = [name for name, buffer in built.module.named_buffers() if buffer.grad_fn is not None]
    require(not held, f"the buffer {', '.join(held)} holds the graph of an earlier pass; detach it")


def batch_order_does_not_matter(component: Component, case: Case) -> None:
    """Results do not depend on the order of the images in a batch, nor of a metric's real and generated images."""
    case = replace(case, scale=min(case.scale, 1.0))  # sums of large scores depend on the order by rounding
    _skip_unless_repeatable(component, case)
    built, other = harness(component, case), harness(component, case)
    if is_random(built):
        raise UnsuitedComponent("it draws random numbers, so its results depend on the order")
    generator, orders, shuffled = torch.Generator().manual_seed(case.seed), dict[str, Tensor](), dict[str, Tensor]()
    for key, value in built.inputs.items():
        group = key.partition(" ")[0] if isinstance(component, Metric) else "all"
        shuffled[key] = value[orders.setdefault(group, torch.randperm(len(value), generator=generator))]
    expected, received = built.tensors(), other.tensors(**shuffled)
    difference = first_difference(expected, received, rounding=1e-3)
    require(difference is None, f"{difference} changes with the order of the images in the batch")


def samples_are_independent_in_evaluation(component: Component, case: Case) -> None:
    """In evaluation mode, the result for one item of a batch does not depend on the other items."""
    _skip_unless_repeatable(component, case, evaluation=True)
    whole = harness(component, case, evaluation=True)
    same = harness(component, case, evaluation=True)
    others = {
        key: torch.cat([value[:1], torch.zeros_like(value[1:])])
        for key, value in whole.inputs.items()
        if key != "logits"  # an augmentation observes these, and adapts to them
    }
    first = {key: value[:1] for key, value in whole.tensors().items() if value.ndim}
    again = {key: value[:1] for key, value in same.tensors(**others).items() if value.ndim}
    difference = first_difference(first, again, rounding=1e-4)
    require(difference is None, f"{difference} of an image changes with the other images of the batch")


def features_are_deterministic(component: Component, case: Case) -> None:
    """Features of an image are the same every time: without dropout and other randomness."""
    _skip_unless_repeatable(component, case, evaluation=True)
    random = is_random(harness(component, case, evaluation=True))
    require(not random, "features of the same images change with the random seed; call eval() on the module")


def _skip_unless_repeatable(component: Component, case: Case, *, evaluation: bool = False) -> None:
    """Raise CaseSkipped if two runs with one seed differ, which only `same_seed_same_result` reports."""
    first, second = (harness(component, case, evaluation=evaluation).tensors() for _ in range(2))
    if first_difference(first, second) is not None:
        raise CaseSkipped("two runs with one seed differ, which another law reports")


def is_random(built: Harness) -> bool:
    """Return whether another seed gives another result for the same inputs."""
    state = built.state()
    first, second = (replace(built, seed=built.seed + shift).tensors() for shift in (0, 1))
    if built.module is not None:
        built.module.load_state_dict(state)
    return first_difference(first, second) is not None


def first_difference(
    expected: Mapping[str, Tensor], received: Mapping[str, Tensor], rounding: float | None = None
) -> str | None:
    """Return the name of the first value that differs, by more than `rounding` if it is given; None if none does."""
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


class _ComponentsIn:
    """Finds the classes of the components in a component, like a catalog."""

    def __init__(self, component: Component) -> None:
        self._classes: list[type[Any]] = [type(each) for each in components_in(component)]  # Any: as `find` returns

    def find(self, kind: type[Any], name: str) -> type[Any]:  # Any: as a catalog does
        for found in self._classes:
            if issubclass(found, kind) and found.name == name:
                return found
        raise ConfigError(f"this component contains no {name!r}")
