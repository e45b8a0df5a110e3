"""A dataset that is read while it is trained on: how much of that do workers hide behind the steps?

Two datasets take their time for an image, one by waiting, as for a disk, and one by decoding a picture, which takes
a core. The networks are those of `vanilla`.
"""

from __future__ import annotations

from functools import partial
from io import BytesIO
from time import sleep

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from benchmarks.speed import ours
from benchmarks.speed.growth import World
from benchmarks.speed.timing import Begin, RunConfig, Series, in_turns

SECTION = "stream"
WAIT = 1e-4
"""Seconds that an image is waited for."""
SIZE = 2048
IN_MEMORY = "in memory"
WORKERS = (0, 1, 2)
_QUEUED = 8
"""Steps that are not counted: batches that workers have made ready while others had their turn."""


class Waiting(Dataset[Tensor]):
    """Images that must be waited for."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        sleep(WAIT)
        return self._images[index]


class Decoding(Dataset[Tensor]):
    """Images that are PNG files in memory."""

    def __init__(self, images: Tensor) -> None:
        self._files = [_png(image) for image in images]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(BytesIO(self._files[index])) as picture:
            image: Tensor = pil_to_tensor(picture)
        return image


def _png(image: Tensor) -> bytes:
    file = BytesIO()
    to_pil_image(image).save(file, "png")
    return file.getvalue()


KINDS = {"waiting": Waiting, "decoding": Decoding}


def measured(rounds: int, steps: int) -> list[Series]:
    world = World(size=SIZE)
    images, _ = world.data().tensors
    arms: dict[str, Begin] = {IN_MEMORY: partial(_begun, world, Waiting(images), "device", 0)}
    for kind, dataset in KINDS.items():
        for workers in WORKERS:
            arms[named(kind, workers)] = partial(_begun, world, dataset(images), "stream", workers)
    return in_turns(SECTION, arms, rounds=rounds, steps=steps, batch=world.batch)


def named(kind: str, workers: int) -> str:
    return f"{kind}, {workers} {'worker' if workers == 1 else 'workers'}" if workers else f"{kind}, without workers"


def _begun(world: World, dataset: Dataset[object], data: str, workers: int) -> RunConfig:
    run = ours.begun(world.gan(dataset, data=data, workers=workers))

    def after_the_queue(steps: int) -> float:
        run(_QUEUED)
        return run(steps)

    return after_the_queue
