"""Rank 0 records a run, and the others follow: they do what it says, and leave nothing themselves.

Before each step, and whenever samples are drawn, rank 0 has a word for the others. A signal that has arrived at one
of them goes the other way, so that all end after the same step.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext, suppress
from enum import IntEnum

from torch import Tensor

from gancore.distributed.ranks import Ranks
from gancore.errors import NonFiniteError, NumericsError, WorkerError
from gancore.run.interrupt import Interrupted, Interruption
from gancore.sampling.load import draw
from gancore.training.gan import GAN
from gancore.training.loop import Step, train


class _Command(IntEnum):
    STEP = 1
    DRAW = 2
    BACK = 3
    END = 4


class Coordinator:
    """Rank 0's part. `between` says that all ranks are between two steps, and none is in the midst of one."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.between = True

    @contextmanager
    def step(self) -> Iterator[None]:
        """All make a step in this block. Raises Interrupted instead when a signal has arrived at another rank."""
        if arrived := self._say(_Command.STEP):
            raise Interrupted(arrived)
        with self._at_work():
            yield

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """In this block the others may wait for this rank's part of something else than a word."""
        self.between = False
        try:
            yield
        except NumericsError:  # all find the same
            self.between = True
            raise
        self.between = True

    def samples(self, gan: GAN, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        """What `draw` gives, of which every rank draws a share. Raises NumericsError as it does."""
        self._say(_Command.DRAW, count, seed)
        # Alone, a draw may be broken off by a signal, and it is between steps all the same.
        with self._at_work() if self._ranks.is_distributed else nullcontext():
            return _drawn(gan, count, seed, labels)

    def back(self) -> None:
        """All are to go on from the state that rank 0 has."""
        self._say(_Command.BACK)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Ends the others when this block is left by an error, or because nobody asks for more steps."""
        try:
            yield
        except BaseException as error:
            if self.between and not isinstance(error, WorkerError):  # else nobody is there to hear it
                number = getattr(error, "signal", signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 0
                with suppress(WorkerError):
                    self._say(_Command.END, number, isinstance(error, Exception))
            raise

    def _say(self, word: _Command, *numbers: int) -> int:
        return self._ranks.all_reduce_max([word, *(*numbers, 0, 0)[:2], 0])[3] if self._ranks.is_distributed else 0


def follow(steps: Iterator[Step], gan: GAN, interruption: Interruption | None = None) -> Generator[Step, None, None]:
    """What every other rank does while rank 0 records the run: makes the same steps, and hands each on.

    Raises what ends the run: NonFiniteError as at rank 0, Interrupted when a signal has arrived at any rank,
    WorkerError when rank 0 ends by an error of its own, or a rank is gone.
    """
    interruption, failure = interruption or Interruption(), None
    with interruption.held():
        while True:
            word, one, two, arrived = gan.ranks.all_reduce_max([0, 0, 0, interruption.signal or 0])
            if word == _Command.STEP and not arrived:
                try:
                    step = next(steps, None)
                except NonFiniteError as error:  # rank 0 knows what comes of it
                    failure = error
                    continue
                if step is None:
                    return
                yield step
            elif word == _Command.DRAW:
                with suppress(NumericsError):
                    _drawn(gan, one, two, None)
            elif word == _Command.BACK:
                steps, failure = train(gan), None
            elif word == _Command.END:
                if failure:
                    raise failure
                if one:
                    raise Interrupted(one)
                if two:
                    raise WorkerError("process 0 has ended the run", "see what it says")
                return


def _drawn(gan: GAN, count: int, seed: int, labels: Tensor | None) -> Tensor:
    labels = gan.ranks.broadcast_tensors({} if labels is None else {"labels": labels}).get("labels")
    return draw(
        gan.sampler(),
        count,
        latent=gan.options.latent,
        seed=seed,
        device=gan.device,
        num_classes=gan.num_classes,
        labels=labels,
        ranks=gan.ranks,
    )
