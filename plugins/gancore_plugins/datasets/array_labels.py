"""Which arrays of a file are trained on, and their labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gancore.contracts import Split
from gancore.errors import DataError
from gancore.utils.files import some
from gancore_plugins.readers.arrays import Numbers, StoredArray, read_all
from gancore_plugins.readers.layout import SPLITS
from gancore_plugins.readers.listing import natural

_IMAGES = (
    "images",
    "image",
    "imgs",
    "x_train",
    "train_images",
    "x",
    "data",
    "samples",
    "volumes",
    "series",
    "features",
)
"""Names of arrays that are trained on, the best first."""
_LABELS = ("labels", "label", "y_train", "train_labels", "y", "targets", "target", "classes", "class")
_NAMES = ("class_names", "label_names", "classes", "names")
_COLUMNS = ("columns", "column_names", "feature_names")
_MOST_LABELS = 1 << 28
"""Bytes of an array of labels."""
_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class Chosen:
    """The arrays of a file that are read, and a description of each other one.

    `unfit` is an array named as labels are that is not read, since its length is not that of the images.
    """

    images: StoredArray
    labels: StoredArray | None
    names: StoredArray | None
    columns: StoredArray | None
    unused: list[str]
    unfit: StoredArray | None = None


def choose(arrays: list[StoredArray], images_name: str, labels_name: str) -> Chosen:
    """Return the arrays to read. Raise DataError if it is not clear which ones."""
    known = {array.name: array for array in arrays}
    for name, what in ((images_name, "images"), (labels_name, "labels")):
        if name and name not in known:
            raise DataError(
                f"{arrays[0].path} has no array {name!r}; it has {', '.join(known)}",
                f"--set dataset.{what}=NAME",
            )
    fitting = [array for array in arrays if len(array.shape) > 1 and array.name != labels_name]
    images = known[images_name] if images_name else _only(_best_named(fitting, _IMAGES), "images")
    if images is None and len(arrays) == 1:
        images = arrays[0]
    if images is None:
        ranked = sorted(fitting, key=lambda array: (len(array.shape), math.prod(array.shape)), reverse=True)
        if len(ranked) != 1 and not (len(ranked) > 1 and len(ranked[0].shape) > len(ranked[1].shape)):
            listed = "; ".join(f"{array.name}: {array.describe()}" for array in arrays[:20])
            raise DataError(
                f"{arrays[0].path} has {len(arrays)} arrays, and no one is called images: {listed}",
                "--set dataset.images=NAME",
            )
        images = ranked[0]
    count, part = images.shape[:1], _part(images)
    rest = [array for array in arrays if array is not images and (part is None or _part(array) in (None, part))]
    flat = [array for array in rest if array.shape in (count, (*count, 1))]
    labels = known[labels_name] if labels_name else _only(_nearest(_best_named(flat, _LABELS), images), "labels")
    if labels is None and len(rest) == len(flat) == 1:
        labels = flat[0]
    rest = [array for array in rest if array is not labels]
    texts = [array for array in rest if array.dtype.kind in "SU"]
    names = _first_named([array for array in texts if len(array.shape) == 1], _NAMES, images)
    columns = _first_named([array for array in texts if array is not names], _COLUMNS, images)
    rest = [array for array in rest if array is not names and array is not columns]
    others = [array for array in rest if array.shape[:1] != count]
    unfit = _first_named(others, _LABELS, images) if labels is None else None
    used = (images, labels, names, columns)
    unused = [f"{array.name} {array.shape}" for array in arrays if all(array is not each for each in used)]
    return Chosen(images, labels, names, columns, unused, unfit)


def read_labels(chosen: Chosen, class_names: tuple[str, ...]) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return labels (N,) or conditions (N, D), and the names of the classes."""
    path = chosen.images.path
    if chosen.labels is None:
        if class_names:
            raise DataError(f"class_names need labels; {path} has no array of labels", "--set dataset.labels=NAME")
        return None, ()
    stored, what = chosen.labels, f"array {chosen.labels.name!r} of {path}"
    if stored.shape[:1] != chosen.images.shape[:1] or len(stored.shape) not in (1, 2):
        raise DataError(
            f"labels must have the shape (N,) or (N, D) for N = {chosen.images.shape[0]} images; {what} has "
            f"{stored.shape}",
            "--set dataset.labels=NAME names another array",
        )
    if math.prod(stored.shape) * stored.dtype.itemsize > _MOST_LABELS:
        raise DataError(f"{what} has more than {_MOST_LABELS:,} bytes", "use fewer values for each image")
    values = read_all(stored)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind in "biuf" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
        raise DataError(f"labels must be finite; row {row} of {what} is not", "correct it")
    if values.ndim == 2 or (values.dtype.kind == "f" and (values != np.rint(values)).any()):
        if values.dtype.kind not in "biuf":
            raise DataError(f"conditions must be numbers; {what} holds {values.dtype}", "convert them")
        if class_names:
            raise DataError(
                f"class_names need labels that are integers or text; {what} holds {stored.describe()}",
                "leave class_names out, or convert the labels",
            )
        return torch.from_numpy(values.astype(np.float32).reshape(len(values), -1)), ()
    if class_names and values.dtype.kind not in "biuf":
        known = set(class_names)
        if lost := sorted({str(value) for value in values} - known, key=natural):
            raise DataError(
                f"{what} has labels that class_names lacks: {some(lost)}",
                "add them to class_names, or leave class_names out",
            )
    names = class_names or (() if chosen.names is None else tuple(map(str, read_all(chosen.names))))
    return _numbered(values, names, what)


def _numbered(values: Numbers, names: tuple[str, ...], what: str) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels (N,) int64 and the names of the classes. Without names, the distinct values are the names."""
    if names and values.dtype.kind in "biuf":
        numbers = values.astype(np.int64)
        if numbers.min() < 0 or numbers.max() >= len(names):
            raise DataError(
                f"labels must be in 0..{len(names) - 1} for {len(names)} class names; {what} has "
                f"{numbers.min()}..{numbers.max()}",
                "--set 'dataset.class_names=[…]' with a name for each label",
            )
        return torch.from_numpy(numbers), names
    values = values.astype(np.int64) if values.dtype.kind in "biuf" else values.astype(str)
    found, labels = np.unique(values, return_inverse=True)
    if len(found) > _MOST_CLASSES:
        raise DataError(
            f"there can be at most {_MOST_CLASSES:,} classes; {what} has {len(found):,} different values",
            "--set dataset.labels=NAME names another array",
        )
    if names and set(map(str, found)) <= set(names):
        places = np.array([names.index(str(each)) for each in found])
        return torch.from_numpy(places[labels]), names
    if found.dtype.kind == "U":
        order = np.array(sorted(range(len(found)), key=lambda place: natural(str(found[place]))), np.int64)
        found, labels = found[order], np.argsort(order)[labels]
    return torch.from_numpy(labels.astype(np.int64)), tuple(map(str, found))


def _first_named(arrays: Iterable[StoredArray], names: Sequence[str], images: StoredArray) -> StoredArray | None:
    """Return the array with the first of these names, in any case and folder, best in that of the images, or None."""
    return next(iter(_nearest(_best_named(arrays, names), images)), None)


def _best_named(arrays: Iterable[StoredArray], names: Sequence[str]) -> list[StoredArray]:
    """Return the arrays with the first of these names that any has, in any case and folder."""
    found = dict[str, list[StoredArray]]()
    for array in arrays:
        found.setdefault(array.name.rpartition("/")[2].lower(), []).append(array)
    return next((found[name] for name in names if name in found), [])


def _nearest(arrays: list[StoredArray], images: StoredArray) -> list[StoredArray]:
    """Return the arrays in the folder of the images, or all if none is there."""
    folder = images.name.rpartition("/")[0]
    return [array for array in arrays if array.name.rpartition("/")[0] == folder] or arrays


def _only(arrays: list[StoredArray], what: Literal["images", "labels"]) -> StoredArray | None:
    """Return the only array of several with one name, or the only one of the training part; None without any.

    Raise DataError if it is not clear which one.
    """
    found = [array for array in arrays if _part(array) == "train"] or arrays
    if len(found) > 1:
        listed = "; ".join(f"{array.name}: {array.describe()}" for array in found[:20])
        raise DataError(
            f"{found[0].path} has {len(found)} arrays that may be the {what}: {listed}", f"--set dataset.{what}=NAME"
        )
    return found[0] if found else None


def _part(array: StoredArray) -> Split | None:
    """Return the part of the data that a folder in the name of an array stands for, as in `train/images`, or None."""
    parts = (SPLITS.get(folder.lower()) for folder in array.name.split("/")[:-1])
    return next((part for part in parts if part is not None), None)
