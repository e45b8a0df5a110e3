"""CIFAR-10, from its binary release. The other release is pickles, which can run code when they are opened."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from gancore.contracts import EvaluationProtocol
from gancore.errors import DataError
from gancore.utils.files import regular
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.archive import take
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.download import DOWNLOAD_ERRORS, fetch, remove_new_folders_on_error
from gancore_plugins.datasets.labeled import LabeledTensors
from gancore_plugins.datasets.mnist import METRICS
from gancore_plugins.datasets.published import RELEASES

_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = "cifar-10-binary.tar.gz"
_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
"""Bytes of an image: its label, then its reds, greens and blues, row by row."""
_RECORDS = 10_000
"""The most images in a file."""


class CIFAR10(Divided):
    """Photographs of ten things, 32x32 in color, 50000 to train and 10000 to test, Krizhevsky 2009.

    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary release.
    """

    name = "cifar10"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.6)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        names = _FILES[self.split]
        if _find(root, names):
            return
        into = root / _FOLDER
        try:
            with remove_new_folders_on_error(root), exclusive(into):
                if not _find(root, names):
                    yield from _download(root, into)
        except (*DOWNLOAD_ERRORS, tarfile.TarError) as error:
            raise DataError(
                f"CIFAR-10 needs the files {', '.join(names)} of its binary release in one of the folders {into}, "
                f"{root}; they are missing, and the download failed: {error}",
                f"put the files into {into}, or set --data-dir to their folder",
            ) from error

    def build(self, root: Path) -> LabeledTensors:
        for _ in self.prepare(root):  # does nothing if the files exist
            pass
        names = _FILES[self.split]
        parts = [_read(path) for path in _find(root, names) or [root / _FOLDER / name for name in names]]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return LabeledTensors(images, labels, _CLASSES, mirrors=True)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return images uint8 (N, 3, 32, 32) and labels (N,) of a file. Raise DataError if it is damaged."""
    try:
        with regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0 or size % _RECORD or size > _RECORDS * _RECORD:
                raise DataError(
                    f"{path}: a file of CIFAR-10 holds 1 to {_RECORDS:,} records of {_RECORD} bytes; this one has "
                    f"{size} bytes",
                    "replace the file with an intact copy of the binary release",
                )
            data = bytearray(size)
            if file.readinto(data) != size:  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
                raise OSError("the file was truncated while it was read")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "replace the file with an intact copy") from error
    records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, _RECORD)  # (N, 3073)
    labels = records[:, 0].long()
    if (highest := int(labels.max())) >= len(_CLASSES):
        raise DataError(
            f"{path}: labels of CIFAR-10 are in 0..{len(_CLASSES) - 1}; received {highest}",
            "check that this is the right file",
        )
    return records[:, 1:].reshape(-1, *_SHAPE).contiguous(), labels


def _find(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Return the paths of these files, from the first folder that has all of them; or an empty list."""
    for folder in (root / _FOLDER, root):
        if all(os.path.exists(folder / name) for name in names):
            return [folder / name for name in names]
    return []


def _download(root: Path, into: Path) -> Iterator[float]:
    """Download the release, and move the files of both splits into a folder; yield the share that is downloaded."""
    files = [*_FILES["train"], *_FILES["test"]]
    spare = root / f".{_FOLDER}.part"  # a fixed name: replaces one that a killed process left
    try:
        shutil.rmtree(spare, ignore_errors=True)
        spare.mkdir()
        yield from fetch(RELEASES["CIFAR10"], _ARCHIVE, spare)
        take(spare / _ARCHIVE, {f"{_FOLDER}/{name}": name for name in files}, _RECORDS * _RECORD, spare)
        into.mkdir(exist_ok=True)
        for name in files:
            os.replace(spare / name, into / name)
    finally:
        shutil.rmtree(spare, ignore_errors=True)
