"""Going back: a run whose numbers were not finite goes on from its newest checkpoint, with other noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from gancore import checkpoint
from gancore.errors import NonFiniteError
from gancore.gan import GAN
from gancore.history import forget_after
from gancore.recovery import tolerate
from gancore.training import Step, train

T = TypeVar("T")


def persistent(
    steps: Iterator[Step],
    gan: GAN,
    consumed: Callable[[Iterator[Step], tuple[str, ...]], Iterator[T]],
    checkpoints: Path,
    log: Path,
) -> Iterator[T]:
    """What `consumed` makes of the steps, and, after each time that the run went back, of those from there.

    It is also given what there is to warn of. Steps are taken again only where `training.on_nonfinite` is `rollback`;
    noise, and whatever modules draw, then come from streams that depend on the seed and on how often it went back, so
    that the run does not meet the same fate. The data keep their order.
    Raises NonFiniteError for any other policy, beyond the limit, and where there is no checkpoint yet.
    """
    warnings: tuple[str, ...] = ()
    while True:
        try:
            yield from consumed(steps, warnings)
            return
        except NonFiniteError as error:
            kept = checkpoint.kept(checkpoints)
            if gan.options.training.on_nonfinite != "rollback" or not kept:
                raise
            often = tolerate(gan, error)
            go_back(gan, kept[-1])
            forget_after(log, gan.progress.step)
            warnings = (f"{error}; back at step {gan.progress.step} with other noise, {often}",)
            steps = train(gan)


def go_back(gan: GAN, path: Path) -> None:
    """Puts the GAN back to a checkpoint of this run, but for how often it went back, on which the noise depends."""
    number = gan.progress.nonfinite
    saved = checkpoint.load(path)
    gan.restore(saved.tensors, saved.about["progress"])
    gan.progress.nonfinite = number
    gan.change_noise(number)
