"""Timing in turns: arms take their rounds one after the other, so what else the machine does meets them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Generic, TypeVar

import torch

RunConfig = Callable[[int], float]
"""Makes so many steps, and returns the seconds that they took."""
Begin = Callable[[], RunConfig]
"""Makes an arm ready. It raises where the arm cannot run here."""
B = TypeVar("B")

LEAD = 5
"""Steps at the beginning of another's loop that are not counted: it makes optimizers, and loaders, anew."""


@dataclass(frozen=True)
class Series:
    """The seconds that an arm took for `images` images, in every round. `missing` says why there are none.

    `value` is what the section varies, such as the batch size; 0 where it varies nothing.
    """

    section: str
    arm: str
    images: int
    seconds: list[float] = field(default_factory=list)
    value: float = 0
    missing: str = ""

    @property
    def pace(self) -> float:
        """Images a second, the median over the rounds."""
        return self.images / median(self.seconds)

    def times(self, other: Series) -> list[float]:
        """How many times as long the other took, round by round, for each image, from the least to the most."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return sorted((b / other.images) / (a / self.images) for a, b in pairs)


def spread(numbers: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile; of fewer than four numbers the least and the most."""
    if len(numbers) < 4:
        return min(numbers), median(numbers), max(numbers)
    low, _, high = quantiles(numbers, method="inclusive")
    return low, median(numbers), high


def in_turns(
    section: str,
    arms: Mapping[str, Begin],
    *,
    rounds: int,
    steps: int,
    batch: int,
    value: float = 0,
    warm_up: bool = True,
) -> list[Series]:
    """All arms, warmed up, and then in so many rounds, each of which another arm begins."""
    series: dict[str, Series] = {}
    runs: dict[str, RunConfig] = {}
    for arm, begin in arms.items():
        print(f"{section}: {arm}{f', {value:g}' if value else ''}", flush=True)
        try:
            run = begin()
            if warm_up:
                run(max(2, steps // 4))
        except Exception as error:  # whatever others raise in here is a line of the table
            series[arm] = Series(section, arm, 0, value=value, missing=_said(error))
            continue
        runs[arm], series[arm] = run, Series(section, arm, steps * batch, value=value)
    names = list(runs)
    for number in range(rounds):
        first = number % max(1, len(names))
        for arm in names[first:] + names[:first]:
            series[arm].seconds.append(runs[arm](steps))
    return list(series.values())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def settle(device: torch.device) -> None:
    """Waits until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


CPU = torch.device("cpu")


class Lap(Generic[B]):
    """Batches for another's loop, which fetches and trains on `steps` of them on a device while the clock runs.

    A loop that does not ask for more after the last batch must `finish` it.
    """

    def __init__(self, loader: Iterable[B], steps: int, batch_size: int, device: torch.device = CPU) -> None:
        self.batch_size = batch_size
        self.seconds = 0.0
        self._loader, self._steps, self._device = loader, steps, device
        self._begun = 0.0

    def __len__(self) -> int:
        return LEAD + self._steps

    def __iter__(self) -> Iterator[B]:
        batches = _endless(self._loader)
        for number in range(len(self)):
            if number == LEAD:
                settle(self._device)
                self._begun = perf_counter()
            yield next(batches)
        self.finish()

    def finish(self) -> None:
        settle(self._device)
        self.seconds = perf_counter() - self._begun


def _endless(loader: Iterable[B]) -> Iterator[B]:
    while True:
        yield from loader
