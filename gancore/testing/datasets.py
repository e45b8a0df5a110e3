"""Laws for datasets and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.component import Component
from gancore.contracts import Dataset, Mixture
from gancore.data.items import check_conditions, check_items, check_labels, collate, columns_of
from gancore.errors import DataError, PluginError, blame, describe_error
from gancore.metrics import Measurement, Metric
from gancore.testing.cases import Case, CaseSkipped, LawBroken, NotApplicable, require
from gancore.testing.general import first_difference
from gancore.testing.harness import harness, metric_inputs
from gancore.utils.random import seeded
from gancore.utils.sample_format import format_of


def items_have_the_promised_format(component: Component, case: Case) -> None:
    """Items are finite samples of one shape, uint8 or float32, alone or with a condition: a label or a tensor."""
    built = harness(component, case)
    outputs = built()
    size = len(built.built)  # type: ignore[arg-type]  # map-style, so it has a length
    require(size > 0, "a dataset must hold at least one item; this one is empty")
    items = [value for key, value in outputs.items() if key.startswith("items[") and key.endswith("]")]
    classes = getattr(built.built, "classes", None)
    valid = classes is None or isinstance(classes, tuple | list)
    require(valid, f"`classes` must be a tuple of names; received {classes!r}")
    pairs = [item for item in items if isinstance(item, tuple | list) and len(item) == 2]
    require(classes is None or len(pairs) == len(items), "a dataset with `classes` must return items (image, label)")
    try:
        samples, conditions = collate(items)
        check_items(samples)
        check_conditions(conditions)
        check_labels(conditions, None if classes is None else len(classes))
    except DataError as error:
        raise LawBroken(error.message) from error
    shape = tuple(samples.shape[1:])
    channels_last = len(shape) == 3 and shape[0] > 4 and shape[2] in (1, 3, 4)
    require(not channels_last, f"an image must be (C, H, W); {shape} looks like (H, W, C): permute(2, 0, 1)")
    _check_range(samples, getattr(built.built, "value_range", None))
    _check_scales(samples, built.built)


def _check_range(samples: Tensor, value_range: object) -> None:
    """Raise LawBroken unless float32 samples lie in the `value_range` that the dataset names."""
    if value_range is None or not samples.is_floating_point():
        return
    valid = isinstance(value_range, tuple | list) and len(value_range) == 2
    require(valid, f"`value_range` must be the smallest and the largest value; received {value_range!r}")
    low, high = cast(tuple[float, float], value_range)
    found = f"{float(samples.min()):.4g} to {float(samples.max()):.4g}"
    inside = low <= float(samples.min()) and float(samples.max()) <= high
    require(inside, f"samples must lie in `value_range`, {low} to {high}; received {found}")


def _check_scales(samples: Tensor, built: object) -> None:
    """Raise LawBroken unless `scales` standardize the samples, and `columns` name the values of vectors."""
    try:
        form = format_of(built, samples[0])
        columns_of(cast(TorchDataset[Any], built), tuple(samples.shape[1:]))
    except DataError as error:
        raise LawBroken(error.message) from error
    if form.scales is None:
        return
    require(
        getattr(built, "mixture", None) is None,
        "a dataset with `scales` must have no `mixture`: metrics compare standardized samples",
    )
    seen = form.to_network(samples)
    require(
        bool(seen.isfinite().all()), "samples standardized by `scales` must be finite; use larger standard deviations"
    )
    back = form.to_stored(seen)
    tolerance = 1e-3 * (samples.abs().amax() + 1e-30)
    require(
        bool((back - samples).abs().amax() <= tolerance),
        "samples must be restored after they are standardized; `scales` are too far from the data for float32",
    )


def items_depend_only_on_their_index(component: Component, case: Case) -> None:
    """Items are the same when they are read again, in another order and with another random seed."""
    built = harness(component, case)
    once = {key: value.clone() for key, value in built.tensors().items()}  # items may share memory
    alone = dict(once)
    for key in reversed(list(once)):
        if key.endswith(" sample"):
            with blame(f"dataset {component.name!r}"):
                item = built.built[int(key[6:].partition("]")[0])]  # type: ignore[index]  # map-style
            alone[key] = (item[0] if isinstance(item, tuple | list) else item).clone()
    again = replace(built, seed=built.seed + 1).tensors()
    difference = first_difference(once, alone) or first_difference(once, again)
    require(difference is None, f"{difference} differs when it is read again; return new tensors, without randomness")


def parts_are_different_datasets(component: Component, case: Case) -> None:
    """`part` returns None for both splits, or two different components of the class."""
    dataset = cast(Dataset, component)
    with blame(f"dataset {component.name!r}"):
        parts = [dataset.part("train"), dataset.part("test")]
    if parts == [None, None]:
        raise NotApplicable("it is not split into parts")
    wrong = [part for part in parts if not isinstance(part, type(component))]
    require(not wrong, f"both parts must be components of {type(component).__name__}; received {wrong[:1]}")
    require(parts[0] != parts[1], f"the test part must differ from the training part; both are {parts[0]!r}")


def progress_rises_from_0_to_1(component: Component, case: Case) -> None:
    """`prepare` yields its progress, which rises from 0 to 1."""
    with blame(f"dataset {component.name!r}"):
        shares = list(cast(Dataset, component).prepare(case.root))
    valid = shares == sorted(shares) and all(0 <= share <= 1 for share in shares)
    require(valid, f"`prepare` must yield rising numbers in [0, 1]; received {shares[:8]}")


def measurements_are_numbers(component: Component, case: Case) -> None:
    """`measure` returns a Measurement whose value, details and ideals are numbers, and whose value is not NaN."""
    try:
        measured = harness(component, case)()["measurement"]
    except PluginError as error:
        if isinstance(error.__cause__, TypeError | ValueError) and "float" in str(error.__cause__):
            raise LawBroken(f"value and details must be numbers: {error.__cause__}") from error
        raise
    if not isinstance(measured, Measurement):
        raise LawBroken(f"a metric must return a Measurement; received {type(measured).__name__}")
    tables = isinstance(measured.details, Mapping) and isinstance(measured.ideal, Mapping)
    require(tables, f"details and ideal must be dicts of numbers; received {measured.details!r} and {measured.ideal!r}")
    require(isinstance(measured.warnings, tuple | list), f"warnings must be a tuple; received {measured.warnings!r}")
    numbers = {"value": measured.value, **measured.details, **{f"ideal {key}": n for key, n in measured.ideal.items()}}
    wrong_types = [f"{key} is a {type(n).__name__}" for key, n in numbers.items() if not isinstance(n, float | int)]
    require(not wrong_types, f"value, details and ideals must be int or float, for JSON; {', '.join(wrong_types)}")
    require(not math.isnan(measured.value), "the value is NaN for ordinary images; return a number, or raise DataError")
    unknown = sorted(measured.ideal.keys() - {"value", *measured.details})
    require(not unknown, f"`ideal` has {unknown}, which are neither `value` nor in `details`")


def needs_lists_all_inputs_used(component: Component, case: Case) -> None:
    """With only the inputs that `needs` names, a metric measures whatever it can measure with all inputs."""
    metric, built = cast(Metric, component), harness(component, case)
    mixture = Mixture(torch.zeros(3, case.shape[0]), 1.0) if len(case.shape) == 1 else None

    def measure(everything: bool) -> None:
        metric.measure(metric_inputs(metric, built.inputs, mixture, everything=everything))

    with_all, with_needs = _error(lambda: measure(True)), _error(lambda: measure(False))
    require(with_all or not with_needs, f"it uses more than `needs` = {sorted(metric.needs)}: {with_needs}")


def too_few_images_raise_data_error(component: Component, case: Case) -> None:
    """For one or two images a metric returns a Measurement or raises DataError."""
    built = harness(component, case)
    built()  # failing on enough images is reported by another law
    for count in (1, 2):
        try:
            built(**{key: value[:count] for key, value in built.inputs.items()})
        except DataError:
            continue
        except PluginError as error:
            raise LawBroken(f"{count} images must be measured or raise DataError; {error}") from error


def damaged_images_score_worse(component: Component, case: Case) -> None:
    """Noise and constant images score worse than other real images, in the direction that `better` says.

    Not checked for metrics that compare with training images, which rate novelty, or with conditions.
    """
    metric = cast(Metric, component)
    if "training" in metric.needs:
        raise NotApplicable("it compares with training images")
    if "conditions" in metric.needs:
        raise NotApplicable("it compares with what samples were asked for")
    generator = torch.Generator().manual_seed(case.seed)
    reference = _rows(case, generator)
    mixture = Mixture(_centers(case), _SPREAD) if len(case.shape) == 1 else None

    def value(fake: Mapping[str, Tensor]) -> float:
        inputs = {f"{source} {key}": rows for source in ("real", "training") for key, rows in reference.items()}
        inputs |= {f"fake {key}": rows for key, rows in fake.items()}
        with seeded(case.seed), blame(f"metric {metric.name!r}"):
            return metric.measure(metric_inputs(metric, inputs, mixture)).value * (
                -1 if metric.better == "lower" else 1
            )

    held_out = [value(_rows(case, generator)) for _ in range(3)]
    damaged = {
        "noise": value(_far_rows(case, generator, 0.01)),
        "a constant image": value(_far_rows(case, generator, 0.0)),
    }
    tolerance = 3 * (max(held_out) - min(held_out)) + 1e-3 * (abs(max(held_out)) + 1e-6)
    better = [what for what, score in damaged.items() if score > max(held_out) + tolerance]
    require(
        not better,
        f"{' and '.join(better)} scores better than other real images, since `better` is {metric.better!r}; set it to "
        "the direction in which the metric improves",
    )
    worse = [score for score in damaged.values() if score < min(held_out) - tolerance]
    if not worse:
        raise CaseSkipped("noise and constant images score like real ones here")


_ROWS, _CLASSES, _SPREAD = 96, 4, 0.1
"""Number of images, classes among them, and the standard deviation of vectors and features around their class."""


def _centers(case: Case) -> Tensor:
    """Return a point (F,) for each class, far from 0."""
    return torch.stack([torch.full(case.shape, float(4 + index)) for index in range(_CLASSES)])


def _rows(case: Case, generator: torch.Generator) -> dict[str, Tensor]:
    """Return real images of four classes, each of a gray level of its own, with their features and logits."""
    labels = torch.arange(_ROWS) % _CLASSES
    noise = torch.randn(_ROWS, *case.shape, generator=generator)
    if case.bounded:
        level = (64 + 32 * labels).view(-1, *(1,) * len(case.shape))
        images = (level + 4 * noise).clamp(0, 255).round().to(torch.uint8)
    else:
        images = _centers(case)[labels] + _SPREAD * noise
    features = torch.randn(_ROWS, 6, generator=generator) + labels[:, None]
    logits = 10 * torch.nn.functional.one_hot(labels, _CLASSES) + torch.randn(_ROWS, _CLASSES, generator=generator)
    return {"images": images, "features": features, "logits": logits}


def _far_rows(case: Case, generator: torch.Generator, spread: float) -> dict[str, Tensor]:
    """Return bright images of one class that are far from real ones and near each other, or equal if `spread` is 0."""
    noise = torch.randn(_ROWS, *case.shape, generator=generator)
    images = torch.full_like(noise, 255.0 if case.bounded else 40.0) + spread * noise
    if case.bounded:
        images = torch.where((noise > 1) & (spread > 0), 250.0, images).clamp(0, 255).round().to(torch.uint8)
    features = 40 + spread * torch.randn(_ROWS, 6, generator=generator)
    logits = torch.tensor([10.0, 0.0, 0.0, 0.0]) + spread * torch.randn(_ROWS, _CLASSES, generator=generator)
    return {"images": images, "features": features, "logits": logits}


def _error(measure: Callable[[], object]) -> str:
    try:
        measure()
    except Exception as error:  # any error means that the metric cannot measure
        return describe_error(error)
    return ""
