"""CIFAR-10, from its binary release: the other one is made of pickles, which run code when they are opened."""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gancore.contracts import EvaluationProtocol
from gancore.errors import DataError
from gancore_plugins.datasets.divided import Divided
from gancore_plugins.datasets.download import FAILURES, fetch, unmade
from gancore_plugins.datasets.mnist import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from gancore_plugins.datasets.labelled import LabelledTensors

_FOLDER = "cifar-10-batches-bin"
_ARCHIVE, _MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
_FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
_RECORDS = 10_000
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
"""Bytes of one image: its label, and then its reds, greens and blues, row by row."""


class CIFAR10(Divided):
    """Photographs of ten things, 32x32 in colour, 50000 to train and 10000 to test, Krizhevsky 2009.

    A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; the binary release.
    """

    name = "cifar10"
    evaluation = EvaluationProtocol(metrics=METRICS, gate=0.6)
    split: Literal["train", "test"] = Field(default="train", description="which of the published sets to use")

    def build(self, root: Path) -> LabelledTensors:
        import torch

        from gancore_plugins.datasets.labelled import LabelledTensors

        parts = [_read(path) for path in _find(root, _FILES[self.split])]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return LabelledTensors(images, labels, _CLASSES, mirrors=True)


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels (N,) of one file. Raises DataError for one that is damaged."""
    import torch

    try:
        with path.open("rb") as file:
            data = bytearray(file.read(_RECORDS * _RECORD + 1))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "replace the file by an intact copy") from error
    if not data or len(data) % _RECORD or len(data) > _RECORDS * _RECORD:
        raise DataError(
            f"{path}: a file of CIFAR-10 holds 1 to {_RECORDS:,} records of {_RECORD} bytes; this one has "
            f"{'more' if len(data) > _RECORDS * _RECORD else len(data)} bytes",
            "replace the file by an intact copy of the binary release",
        )
    records = torch.frombuffer(data, dtype=torch.uint8).reshape(-1, _RECORD)
    labels = records[:, 0].long()
    if (highest := int(labels.max())) >= len(_CLASSES):
        raise DataError(
            f"{path}: labels of CIFAR-10 lie in 0..{len(_CLASSES) - 1}; received {highest}",
            "check that this is the right file",
        )
    return records[:, 1:].reshape(-1, *_SHAPE).contiguous(), labels


def _find(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of these names, all in one folder; where they are absent the release is downloaded."""
    places = (root / _FOLDER, root)
    for place in places:
        if all((place / name).exists() for name in names):
            return [place / name for name in names]
    into = places[0]
    try:
        with unmade(into):
            _download(root, into)
    except (*FAILURES, tarfile.TarError) as error:
        raise DataError(
            f"CIFAR-10 needs the files {', '.join(names)} of its binary release in one of the folders "
            f"{', '.join(map(str, places))}; they are not there, and the download failed: {error}",
            f"put the files into {into}, or name the folder that holds them with --data-dir",
        ) from error
    return [into / name for name in names]


def _download(root: Path, into: Path) -> None:
    """Fetches the release from beside the one that torchvision knows of, and takes the files out of it, by name."""
    from torchvision.datasets import CIFAR10 as PICKLED

    address = PICKLED.url.rpartition("/")[0]
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=root) as spare:
        archive = Path(spare, _ARCHIVE)
        fetch([f"{address}/{_ARCHIVE}"], _MD5, archive)
        with tarfile.open(archive) as members:
            names = members.getnames()
            for name in (*_FILES["train"], *_FILES["test"]):
                member = members.extractfile(f"{_FOLDER}/{name}") if f"{_FOLDER}/{name}" in names else None
                if member is None:
                    raise OSError(f"{_ARCHIVE} holds no file {name}")
                Path(spare, name).write_bytes(member.read(_RECORDS * _RECORD + 1))
        into.mkdir(exist_ok=True)
        for name in (*_FILES["train"], *_FILES["test"]):
            Path(spare, name).replace(into / name)
