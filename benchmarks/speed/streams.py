"""Streamed data: how much of the loading time workers hide behind the steps.

Two datasets take time per image: one waits, as for a disk, the other decodes a picture, which uses a core. The networks
are those of `vanilla`. Linux lets a thread sleep up to 50 µs longer than it asks for, which is switched off here: a
wait then takes WAIT and the time to wake up, 25 to 35 µs on virtual machines.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from time import sleep
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from benchmarks.speed import ours
from benchmarks.speed.growth import Setup
from benchmarks.speed.timing import Run, Series, Start, interleave

SECTION = "stream"
WAIT = 1e-4
"""Seconds to wait for an image."""
SIZE = 2048
IN_MEMORY = "in memory"
WORKERS: tuple[int | Literal["auto"], ...] = (0, 1, 2, "auto")
_PREFETCHED = 8
"""Steps that are not counted: their batches were loaded while another arm ran."""


class Waiting(Dataset[Tensor]):
    """Images that take WAIT seconds each."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        sleep(WAIT)
        return self._images[index]


class Decoding(Dataset[Tensor]):
    """PNG files in memory, decoded when they are read."""

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


def measure(rounds: int, steps: int) -> list[Series]:
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")  # of this thread, and of the workers it starts
    setup = Setup(size=SIZE)
    images, _ = setup.data().tensors
    arms: dict[str, Start] = {IN_MEMORY: partial(_start, setup, Waiting(images), "device", 0)}
    for kind, dataset in KINDS.items():
        for workers in WORKERS:
            arms[arm_name(kind, workers)] = partial(_start, setup, dataset(images), "stream", workers)
    return interleave(SECTION, arms, rounds=rounds, steps=steps, batch=setup.batch)


def arm_name(kind: str, workers: int | str) -> str:
    return f"{kind}, {workers} {'worker' if workers == 1 else 'workers'}" if workers else f"{kind}, without workers"


def _start(setup: Setup, dataset: Dataset[object], data: str, workers: int | Literal["auto"]) -> Run:
    gan = setup.gan(dataset, data=data, workers=workers, threads=torch.get_num_threads())
    run = ours.start(gan)
    while workers == "auto" and gan.feed.workers_choice is None:
        run(_PREFETCHED)
    if gan.feed.workers_choice:
        print(gan.feed.workers_choice)

    def after_prefetched(steps: int) -> float:
        run(_PREFETCHED)
        return run(steps)

    return after_prefetched
