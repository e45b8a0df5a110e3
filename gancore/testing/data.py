"""Laws of data and of what measures: datasets and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Dataset, Mixture
from gancore.data.items import check_items, check_labels
from gancore.errors import DataError, PluginError, blame, describe_error
from gancore.metrics import Measurement, Metric
from gancore.testing.cases import Case, Inapplicable, LawBroken, demand
from gancore.testing.general import unequal
from gancore.testing.harness import evidence_of, set_up


def items_have_the_promised_form(component: Component, case: Case) -> None:
    """Items are uint8 images or finite float32 vectors of one shape; labels are ints, below the number of classes."""
    bench = set_up(component, case)
    items = {key: value for key, value in bench().items() if key != "size"}
    size = len(bench.built)  # type: ignore[arg-type]  # map-style, so it has a length
    demand(size > 0, "a dataset must hold at least one item; this one is empty")
    images = [value for key, value in items.items() if not key.endswith("label")]
    labels = [value for key, value in items.items() if key.endswith("label")]
    strange = [type(image).__name__ for image in images if not isinstance(image, Tensor)]
    what = strange[0] if strange else ""
    demand(not strange, f"an item must be a tensor, or a tensor and a label; received {what}")
    shapes = sorted({tuple(cast(Tensor, image).shape) for image in images})
    demand(len(shapes) == 1, f"all images of a dataset must have one shape; received {shapes}")
    turned = len(shapes[0]) == 3 and shapes[0][0] > 4 and shapes[0][2] in (1, 3, 4)
    demand(not turned, f"an image must be (C, H, W); {shapes[0]} looks like (H, W, C): permute(2, 0, 1)")
    classes = getattr(bench.built, "classes", None)
    named = classes is None or isinstance(classes, tuple | list)
    demand(named, f"`classes` must be a tuple of names; received {classes!r}")
    whole = all(isinstance(label, Tensor) and not label.ndim and not label.is_floating_point() for label in labels)
    demand(whole, "a label must be an int")
    demand(classes is None or labels, "a dataset with classes must give labels")
    try:
        for image in images:
            check_items(cast(Tensor, image).unsqueeze(0))
        for label in labels:
            check_labels(cast(Tensor, label).unsqueeze(0), None if classes is None else len(classes))
    except DataError as error:
        raise LawBroken(error.message) from error


def items_depend_on_their_index_alone(component: Component, case: Case) -> None:
    """Read again, in another order and with other random numbers, an item is what it was."""
    bench = set_up(component, case)
    once = {key: value.clone() for key, value in bench.values().items()}  # items may share their memory
    alone = dict(once)
    for key in reversed(list(once)):
        if key.startswith("items[") and not key.endswith("label"):
            with blame(f"dataset {component.name!r}"):
                item = bench.built[int(key[6:-1])]  # type: ignore[index]  # map-style, so it is indexed
            alone[key] = (item[0] if isinstance(item, tuple | list) else item).clone()
    again = replace(bench, seed=bench.seed + 1).values()
    different = unequal(once, alone) or unequal(once, again)
    demand(different is None, f"{different} is another when it is read again")


def parts_are_datasets(component: Component, case: Case) -> None:
    """`part` gives None for both splits, or for both another component of the class, which are not one and the same."""
    dataset = cast(Dataset, component)
    with blame(f"dataset {component.name!r}"):
        parts = [dataset.part("train"), dataset.part("test")]
    if parts == [None, None]:
        raise Inapplicable
    strange = [part for part in parts if not isinstance(part, type(component))]
    demand(not strange, f"both parts must be components of {type(component).__name__}; received {strange[:1]}")
    demand(parts[0] != parts[1], f"what is held out must be no part of the training; both are {parts[0]!r}")


def progress_is_a_rising_share(component: Component, case: Case) -> None:
    """`prepare` yields the share that is done, which rises from 0 to 1."""
    with blame(f"dataset {component.name!r}"):
        shares = list(cast(Dataset, component).prepare(case.root))
    demand(shares == sorted(shares) and all(0 <= share <= 1 for share in shares), f"received {shares[:8]}")


def measurements_are_numbers(component: Component, case: Case) -> None:
    """`measure` returns a Measurement whose value, details and ideals are numbers, and the value is not NaN."""
    try:
        measured = set_up(component, case)()["measurement"]
    except PluginError as error:
        if isinstance(error.__cause__, TypeError | ValueError) and "float" in str(error.__cause__):
            raise LawBroken(f"a value and details must be numbers: {error.__cause__}") from error
        raise
    demand(isinstance(measured, Measurement), f"a metric must return a Measurement; received {type(measured).__name__}")
    measured = cast(Measurement, measured)
    tables = isinstance(measured.details, Mapping) and isinstance(measured.ideal, Mapping)
    demand(tables, f"details and ideals must be numbers by name; received {measured.details!r} and {measured.ideal!r}")
    demand(isinstance(measured.warnings, tuple | list), f"warnings must be a tuple; received {measured.warnings!r}")
    numbers = {"value": measured.value, **measured.details, **{f"ideal {key}": n for key, n in measured.ideal.items()}}
    strange = [f"{key} is a {type(n).__name__}" for key, n in numbers.items() if not isinstance(n, float | int)]
    demand(not strange, f"a value, details and ideals must be plain numbers, for JSON; here {', '.join(strange)}")
    demand(not math.isnan(measured.value), "the value is NaN for ordinary images")
    demand(measured.ideal.keys() <= {"value", *measured.details}, "`ideal` is about values that are not there")


def it_looks_only_at_what_it_needs(component: Component, case: Case) -> None:
    """Given what `needs` names and nothing else, it measures whatever it can measure when all is there."""
    metric, bench = cast(Metric, component), set_up(component, case)
    mixture = Mixture(torch.zeros(3, case.shape[0]), 1.0) if len(case.shape) == 1 else None

    def measure(all_there: bool) -> None:
        metric.measure(evidence_of(metric, bench.inputs, mixture, all_there=all_there))

    everything, needed = _error(lambda: measure(True)), _error(lambda: measure(False))
    demand(everything or not needed, f"it needs more than {sorted(metric.needs)}: {needed}")


def it_says_when_there_are_too_few_images(component: Component, case: Case) -> None:
    """Of one image or two it makes a number, or raises DataError."""
    bench = set_up(component, case)
    bench()  # what fails on enough images is not for this law
    for count in (1, 2):
        try:
            bench(**{key: value[:count] for key, value in bench.inputs.items()})
        except DataError:
            continue
        except PluginError as error:
            raise LawBroken(f"{count} images must be measured, or be a DataError; {error}") from error


def _error(work: Callable[[], object]) -> str:
    try:
        work()
    except Exception as error:  # whatever it is, it is a metric that cannot measure
        return describe_error(error)
    return ""
