"""CIFAR-10, from its binary release: the other one is made of pickles, which run code when they are opened."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol
from gancore.errors import DataError
from gancore.utils.files import alone, regular
from gancore_plugins.datasets.archive import take
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.download import FAILURES, fetch, unmade
from gancore_plugins.datasets.mnist import METRICS
from gancore_plugins.datasets.published import RELEASES

if TYPE_CHECKING:
    from torch import Tensor

    from gancore_plugins.datasets.labeled import LabeledTensors

_FOLDER = "cifar-10-batches-bin"
_ARCHIVE = "cifar-10-binary.tar.gz"
_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_RECORDS = 10_000
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
"""Bytes of one image: its label, and then its reds, greens and blues, row by row."""


class CIFAR10(Divided):
    """Photographs of ten things, 32x32 in color, 50000 to train and 10000 to test, Krizhevsky 2009.

    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary release.
    """

    name = "cifar10"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.6)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def prepare(self, root: Path) -> Iterator[float]:
        yield from _prepare(root, _FILES[self.split])

    def build(self, root: Path) -> LabeledTensors:
        import torch

        from gancore_plugins.datasets.labeled import LabeledTensors

        names = _FILES[self.split]
        for _ in _prepare(root, names):  # nothing is left to do where it was prepared
            pass
        parts = [_read(path) for path in _found(root, names) or [root / _FOLDER / name for name in names]]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return LabeledTensors(images, labels, _CLASSES, mirrors=True)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels (N,) of one file. Raises DataError for one that is damaged."""
    import torch

    try:
        with regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0 or size % _RECORD or size > _RECORDS * _RECORD:
                raise DataError(
                    f"{path}: a file of CIFAR-10 holds 1 to {_RECORDS:,} records of {_RECORD} bytes; this one has "
                    f"{size} bytes",
                    "replace the file by an intact copy of the binary release",
                )
            data = bytearray(size)
            if file.readinto(data) != size:  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
                raise OSError("it became shorter")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "replace the file by an intact copy") from error
    records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].long()
    if (highest := int(labels.max())) >= len(_CLASSES):
        raise DataError(
            f"{path}: labels of CIFAR-10 lie in 0..{len(_CLASSES) - 1}; received {highest}",
            "check that this is the right file",
        )
    return records[:, 1:].reshape(-1, *_SHAPE).contiguous(), labels


def _found(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of these names, all in one folder; or none."""
    for place in (root / _FOLDER, root):
        if all((place / name).exists() for name in names):
            return [place / name for name in names]
    return []


def _prepare(root: Path, names: tuple[str, ...]) -> Iterator[float]:
    """Has the release downloaded where these files are not there; yields the share that is done."""
    if _found(root, names):
        return
    into = root / _FOLDER
    try:
        with unmade(root), alone(into):
            if not _found(root, names):
                yield from _download(root, into)
    except (*FAILURES, tarfile.TarError) as error:
        raise DataError(
            f"CIFAR-10 needs the files {', '.join(names)} of its binary release in one of the folders {into}, {root}; "
            f"they are not there, and the download failed: {error}",
            f"put the files into {into}, or name the folder that holds them with --data-dir",
        ) from error


def _download(root: Path, into: Path) -> Iterator[float]:
    """Fetches the release, and takes the files of both splits out of it."""
    files = [*_FILES["train"], *_FILES["test"]]
    spare = root / f".{_FOLDER}.part"  # always the same, so that one that was left is replaced
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
