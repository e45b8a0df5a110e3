"""Arrays of the user: images, vectors, series or volumes in one file, read as they are needed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.contracts import Findings, Outline, Shape
from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.datasets.array_labels import choose, read_labels
from gancore_plugins.datasets.array_layout import LAYOUTS, Conversion, Layout, checked_shape, guess_layout, shape_in
from gancore_plugins.datasets.array_measure import Measured, Plan, measure
from gancore_plugins.datasets.finish import finish
from gancore_plugins.datasets.holdout import HeldOutRows, held_out
from gancore_plugins.readers.arrays import (
    Rows,
    StoredArray,
    array_format,
    arrays_in,
    is_checkpoint,
    read_all,
    take,
)

_EXACT = 2**24
"""Integers up to this have a float32 of their own."""
_FIRST, _LOOKED_AT = 1024, 1 << 26
"""Rows, and bytes, that are looked at where not all are read."""

Item: TypeAlias = Tensor | tuple[Tensor, int | Tensor]


class Array(HeldOutRows):
    """An array of the user in a file of NumPy, safetensors or HDF5; it may be larger than memory.

    uint8 is kept. Other numbers become float32, mapped to [-1, 1] from `value_range`, by default that of the training
    data; vectors are standardized instead. HDF5 needs the extra `hdf5`.
    """

    name = "array"
    path: str = Field(description="file: .npy, .npz, .safetensors, .h5 or .hdf5")
    images: str = Field(default="", description="name of the array to train on; empty: found by names and shapes")
    labels: str = Field(
        default="",
        description="name of the array of labels (N,), numbers or text, or of conditions (N, D); empty: found by names "
        "and shapes",
    )
    class_names: tuple[str, ...] = Field(
        default=(),
        description="names of labels 0, 1, …, or labels that are text in their order; empty: those in the file, or the "
        "labels themselves",
    )
    layout: Layout | None = Field(
        default=None,
        description="axes of the array: F values of a vector, C channels, L length, D depth, H height, W width; "
        "absent: found by the shape",
    )
    gray: bool = Field(default=False, description="whether RGB images whose channels are equal are read as gray")
    value_range: tuple[float, float] | None = Field(
        default=None, description="values that networks see as -1 and 1; absent: measured, and vectors are standardized"
    )
    standardize: bool = Field(
        default=True, description="whether networks see vectors with mean 0 and standard deviation 1"
    )
    mirrors: bool = Field(default=False, description="whether augmentations may mirror the images")
    on_error: Literal["stop", "skip"] = Field(
        default="stop", description="what to do with rows that are not finite: stop, or leave them out"
    )

    @classmethod
    def from_path(cls, path: Path, shape: Shape | None = None) -> Self | None:
        form = array_format(path)
        if form is None or (form == "safetensors" and is_checkpoint(path)):
            return None
        dataset = cls(path=str(path))
        arrays = arrays_in(path)
        if shape is None:
            return dataset
        try:
            images = choose(arrays, "", "").images
        except DataError:  # not clear without `images`, which may be set: `outline` and `build` say so
            return dataset
        layouts = [layout for layout in LAYOUTS if len(layout) == len(images.shape)]
        try:
            guess = guess_layout(images)
        except DataError:  # not clear without the shape
            guess = None
        layouts.sort(key=lambda layout: layout != guess)
        color = (3, *shape[1:]) if len(shape) == 3 and shape[0] == 1 else None
        for wanted, gray in ((shape, False), (color, True)):
            for layout in layouts:
                if shape_in(images, layout) == wanted:
                    return cls(path=str(path), layout=None if layout == guess else layout, gray=gray)
        return dataset

    def outline(self) -> Outline:
        plan = self._plan()
        out = held_out(plan.images.shape[0], self.holdout)
        items = int(out.sum()) if self.split == "test" and self.holdout else int((~out).sum())
        return Outline(items, plan.shape, plan.classes)

    def prepare(self, root: Path) -> Iterator[float]:
        yield from measure(self._plan(), root)

    def build(self, root: Path) -> TorchDataset[Any]:  # Any: (sample, condition), or a sample alone
        plan = self._plan()
        measured = finish(measure(plan, root))
        if measured.bad and self.on_error == "stop":
            raise _not_finite(plan, measured)
        chosen = plan.rows(self.split, measured.bad)
        if not len(chosen):
            raise DataError(
                f"{self.path} has no rows {'to train on' if self.split == 'train' else 'held out'}",
                "--set dataset.holdout=0.1 holds out a tenth; a file must have at least two rows for it",
            )
        attributes: dict[str, object] = {"mirrors": self.mirrors}
        if plan.value_range == "measured":
            attributes["value_range"] = measured.span(plan)
        elif plan.value_range is not None:
            attributes["value_range"] = plan.value_range
        if plan.standardized:
            attributes["scales"] = measured.means, measured.stds
        if plan.columns:
            attributes["columns"] = plan.columns
        labels = None if plan.conditions is None else plan.conditions[chosen]
        if plan.classes:
            attributes["classes"] = plan.classes
            attributes["labels"] = labels
        return ArrayItems(plan.images, plan.conversion, chosen, labels, attributes)

    def findings(self, root: Path) -> Findings:
        plan = self._plan()
        measured = finish(measure(plan, root))
        skipped = {"arrays left out": plan.chosen.unused} if plan.chosen.unused else {}
        if measured.bad:
            skipped |= {"unreadable, not finite": [f"row {row}" for row in measured.bad]}
        name = Path(self.path).name
        return Findings({plan.images.format: [name]}, skipped, dict(_facts(self, plan, measured)), list(_notes(plan)))

    def _plan(self) -> Plan:
        """Return how the file is read. Raise DataError if it cannot be."""
        path = Path(self.path).expanduser()
        chosen = choose(arrays_in(path), self.images, self.labels)
        images = chosen.images
        if images.dtype.kind not in "biuf":
            images.open()  # refuses Python objects
            raise DataError(
                f"arrays must hold real numbers; {images.name!r} of {path} holds {images.dtype}",
                "convert it, complex numbers to two channels: numpy.stack([array.real, array.imag], axis=1)",
            )
        layout = self.layout or guess_layout(images)
        shape = checked_shape(images, layout)
        if self.gray and shape[0] != 3:
            raise DataError(
                f"gray is for images with three channels; {path} has samples of shape {shape}", "leave gray out"
            )
        labels, classes = read_labels(chosen, self.class_names)
        if chosen.names is not None and classes != tuple(map(str, read_all(chosen.names))):
            unused = f"{chosen.names.name} {chosen.names.shape}"
            chosen = replace(chosen, unused=[*chosen.unused, unused])
        as_bytes = images.dtype.kind == "b" or (images.dtype == np.uint8 and self.value_range is None)
        standardized = layout == "NF" and not as_bytes and self.standardize and self.value_range is None
        measured: Literal["measured"] | None = "measured" if not as_bytes and layout != "NF" else None
        columns: tuple[str, ...] = ()
        if chosen.columns is not None and shape == chosen.columns.shape:
            columns = tuple(map(str, read_all(chosen.columns)))
        return Plan(
            chosen=chosen,
            shape=(1, *shape[1:]) if self.gray else shape,
            conversion=Conversion(layout, as_bytes, self.gray),
            conditions=labels,
            classes=classes,
            columns=columns,
            value_range=_checked_range(self.value_range, as_bytes) or measured,
            standardized=standardized,
            out=held_out(images.shape[0], self.holdout),
            holdout=self.holdout,
        )


class ArrayItems(TorchDataset[Item]):
    """Items (sample, condition), or samples alone, read from the file when they are asked for.

    It is pickled without the open file, so that each worker of a data loader opens the file itself.
    """

    def __init__(
        self,
        images: StoredArray,
        conversion: Conversion,
        chosen: NDArray[np.int64],
        conditions: Tensor | None,
        attributes: Mapping[str, object],
    ) -> None:
        self._images, self._conversion, self._chosen = images, conversion, chosen
        self._conditions, self._attributes = conditions, attributes
        self._open: tuple[int, Rows] | None = None
        for name, value in attributes.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrayItems, (self._images, self._conversion, self._chosen, self._conditions, self._attributes)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Item:
        return self.__getitems__([range(len(self))[index]])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Return the items at indices, of one read."""
        if self._open is None or self._open[0] != os.getpid():  # a file of HDF5 must not be shared by processes
            self._open = os.getpid(), self._images.open()
        samples = list(self._conversion(take(self._open[1], self._chosen[list(indices)].tolist())))
        if self._conditions is None:
            return list(samples)
        conditions = self._conditions[torch.as_tensor(indices)]
        return [
            (sample, condition if condition.ndim else int(condition))
            for sample, condition in zip(samples, conditions, strict=True)
        ]


def _not_finite(plan: Plan, measured: Measured) -> DataError:
    return DataError(
        f"{len(measured.bad):,} of {plan.images.shape[0]:,} rows of {plan.images.path} are not finite as float32: "
        f"{some(list(map(str, measured.bad)), 50)}",
        "correct them, or leave them out: --set dataset.on_error=skip",
    )


def _checked_range(given: tuple[float, float] | None, as_bytes: bool) -> tuple[float, float] | None:
    if given is None:
        return None
    if not -math.inf < given[0] < given[1] < math.inf:
        raise DataError(
            f"value_range must be two finite numbers, the lower one first; received {list(given)}",
            "--set 'dataset.value_range=[0, 1]'",
        )
    if as_bytes:
        raise DataError("value_range is for numbers, not for booleans", "leave value_range out")
    return given


def _facts(dataset: Array, plan: Plan, measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield what to tell about an array, with a name for each fact."""
    guess = ", by its shape" if dataset.layout is None else ""
    yield (
        "array",
        f"{plan.images.name} {plan.images.dtype} {plan.images.shape}, read as {plan.conversion.layout}{guess}",
    )
    if plan.conversion.as_bytes:
        yield "values", "uint8 in 0..255" if plan.images.dtype.kind != "b" else "False and True, stored as 0 and 255"
    elif measured.low <= measured.high:
        found = f"{measured.low:g} to {measured.high:g}"
        if plan.standardized:
            yield "values", f"{found}; standardized for networks, value by value"
        elif plan.value_range == "measured":
            yield "values", f"{found}, measured in the training data; networks see them as -1 to 1"
        elif plan.value_range is not None:
            low, high = plan.value_range
            yield "values", f"{found}; networks see {low:g} to {high:g} as -1 to 1"
        else:
            yield "values", f"{found}; networks see them as they are"
    if plan.chosen.labels is not None:
        what = f"{len(plan.classes)} classes" if plan.classes else "numbers as a condition"
        yield "labels", f"array {plan.chosen.labels.name}, {what}"
    if dataset.holdout:
        yield "held out", f"{int(plan.out.sum()):,} of {len(plan.out):,} rows"


def _notes(plan: Plan) -> Iterator[str]:
    """Yield what a user should know before training."""
    images, unfit = plan.images, plan.chosen.unfit
    if unfit is not None:
        length = f"length {unfit.shape[0]:,}" if unfit.shape else "no length"
        yield (
            f"array {unfit.name!r} is not used as the labels: it has {length}, and {images.name!r} has "
            f"{images.shape[0]:,}"
        )
    if images.packed > 1:
        yield (
            f"the file compresses {images.packed:,} rows together, and reading any of them at random unpacks all: "
            f"write it with chunks={(1, *images.shape[1:])} if training waits for data"
        )
    first = np.asarray(plan.images.open()[: max(1, min(_FIRST, _LOOKED_AT // (plan.nbytes // len(plan.out))))])
    if plan.conversion.as_bytes and first.dtype == np.uint8 and first.max() <= 1:
        yield (
            f"the largest value of the first {len(first):,} rows is {first.max()}, of 255: for images in 0 and 1 use "
            "--set 'dataset.value_range=[0, 1]'"
        )
    if first.dtype.kind in "iu" and first.dtype.itemsize > 2 and np.abs(first.astype(np.float64)).max() > _EXACT:
        yield f"integers above {_EXACT:,} are rounded, since samples are float32"
    if (
        plan.conversion.layout == "NF"
        and plan.conversion.as_bytes
        and math.isqrt(plan.shape[0]) ** 2 == plan.shape[0] > 16
    ):
        side = math.isqrt(plan.shape[0])
        yield f"samples are vectors of {plan.shape[0]} bytes; images must have the shape (N, {side}, {side})"
