"""Interleaved timing: arms take turns round by round, so that other load on the machine affects all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Generic, TypeVar

import torch

Run = Callable[[int], float]
"""Makes a number of steps and returns their seconds."""
Start = Callable[[], Run]
"""Prepares an arm. Raises an error if the arm cannot run here."""
B = TypeVar("B")

WARM_UP = 5
"""First steps of another framework's loop, which are not counted: it creates optimizers and loaders each time."""


@dataclass(frozen=True)
class Series:
    """The seconds of an arm for `images` images, in every round; `missing` is the reason if it could not run.

    `value` is the value of the setting that the section varies, such as the batch size, or 0.
    """

    section: str
    arm: str
    images: int
    seconds: list[float] = field(default_factory=list)
    value: float = 0
    missing: str = ""

    @property
    def pace(self) -> float:
        """Images per second, the median over the rounds."""
        return self.images / median(self.seconds)

    def speedups(self, other: Series) -> list[float]:
        """Return the other's time per image divided by its own, for each round, in ascending order."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return sorted((b / other.images) / (a / self.images) for a, b in pairs)


def spread(numbers: list[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; for fewer than four numbers minimum, median and maximum."""
    if len(numbers) < 4:
        return min(numbers), median(numbers), max(numbers)
    low, _, high = quantiles(numbers, method="inclusive")
    return low, median(numbers), high


def interleave(
    section: str,
    arms: Mapping[str, Start],
    *,
    rounds: int,
    steps: int,
    batch: int,
    value: float = 0,
    warm_up: bool = True,
) -> list[Series]:
    """Warm up all arms, and time them in rounds. Each round starts with another arm."""
    series: dict[str, Series] = {}
    runs: dict[str, Run] = {}
    for arm, start in arms.items():
        print(f"{section}: {arm}{f', {value:g}' if value else ''}", flush=True)
        try:
            run = start()
            if warm_up:
                run(max(2, steps // 4))
        except Exception as error:  # the table shows it
            series[arm] = Series(section, arm, 0, value=value, missing=_summary(error))
            continue
        runs[arm], series[arm] = run, Series(section, arm, steps * batch, value=value)
    names = list(runs)
    for number in range(rounds):
        first = number % max(1, len(names))
        for arm in names[first:] + names[:first]:
            series[arm].seconds.append(runs[arm](steps))
    return list(series.values())


def _summary(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CPU = torch.device("cpu")


class Lap(Generic[B]):
    """Batches for another framework's loop, which measures the time of `steps` of them on a device.

    A loop that does not request a batch after the last one must call `finish`.
    """

    def __init__(self, loader: Iterable[B], steps: int, batch_size: int, device: torch.device = CPU) -> None:
        self.batch_size = batch_size
        self.seconds = 0.0
        self._loader, self._steps, self._device = loader, steps, device
        self._start = 0.0

    def __len__(self) -> int:
        return WARM_UP + self._steps

    def __iter__(self) -> Iterator[B]:
        batches = _endless(self._loader)
        for number in range(len(self)):
            if number == WARM_UP:
                synchronize(self._device)
                self._start = perf_counter()
            yield next(batches)
        self.finish()

    def finish(self) -> None:
        synchronize(self._device)
        self.seconds = perf_counter() - self._start


def _endless(loader: Iterable[B]) -> Iterator[B]:
    while True:
        yield from loader
