"""Several ranks in lockstep: rank 0 records the run and sends commands, and the other ranks follow.

Rank 0 sends a command before each step and each time samples are drawn. In the same all-reduce each other rank reports
a signal that has arrived at it, so that all ranks end after the same step.
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
from gancore.sampling.draw import draw_from
from gancore.training.gan import GAN
from gancore.training.loop import Step, train
from gancore.utils.threads import computing_with


class Command(IntEnum):
    """What rank 0 asks the other ranks to do."""

    STEP = 1
    SAMPLE = 2
    ROLL_BACK = 3
    END = 4


class Coordinator:
    """Rank 0's side. `at_step_boundary` is True while no collective operation is in flight."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.at_step_boundary = True

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let all ranks take the step that this block takes.

        Raises Interrupted instead when a signal has arrived at another rank.
        """
        if number := self._send(Command.STEP):
            raise Interrupted(number)
        with self._in_flight():
            yield

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        """Mark a block in which the other ranks may wait in a collective operation other than a command."""
        self.at_step_boundary = False
        try:
            yield
        except NumericsError:  # all ranks raise the same
            self.at_step_boundary = True
            raise
        self.at_step_boundary = True

    def samples(self, gan: GAN, count: int, seed: int, conditions: Tensor | None) -> Tensor:
        """Return what `draw` returns; every rank draws a share. Raises NumericsError as `draw` does."""
        self._send(Command.SAMPLE, count, seed)
        # A single process that is interrupted while it draws is still at a step boundary.
        with self._in_flight() if self._ranks.is_distributed else nullcontext():
            return _draw(gan, count, seed, conditions)

    def roll_back(self) -> None:
        """Let all ranks continue from the state that rank 0 has."""
        self._send(Command.ROLL_BACK)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """End the other ranks when an error leaves this block, or when the consumer asks for no more steps."""
        try:
            yield
        except BaseException as error:
            if self.at_step_boundary and not isinstance(error, WorkerError):  # otherwise no rank listens
                number = getattr(error, "signal", signal.SIGINT) if isinstance(error, KeyboardInterrupt) else 0
                with suppress(WorkerError):
                    self._send(Command.END, number, isinstance(error, Exception))
            raise

    def _send(self, command: Command, *arguments: int) -> int:
        """Send a command with up to two arguments; return the number of a signal at another rank, or 0."""
        if not self._ranks.is_distributed:
            return 0
        return self._ranks.all_reduce_max([command, *(*arguments, 0, 0)[:2], 0])[3]


def follow(steps: Iterator[Step], gan: GAN, interruption: Interruption) -> Generator[Step, None, None]:
    """Take the same steps as rank 0, on any other rank, and yield each.

    Raises what ends the run: NonFiniteError as at rank 0, Interrupted when a signal has arrived at any rank,
    WorkerError when rank 0 ends by an error of its own, or a rank is gone.
    """
    failure = None
    with interruption.deferred():
        while True:
            command, first, second, arrived = gan.ranks.all_reduce_max([0, 0, 0, interruption.signal or 0])
            if command == Command.STEP and not arrived:
                try:
                    step = next(steps, None)
                except NonFiniteError as error:  # rank 0 decides what follows
                    failure = error
                    continue
                if step is None:
                    return
                yield step
            elif command == Command.SAMPLE:
                with suppress(NumericsError):
                    _draw(gan, first, second, None)
            elif command == Command.ROLL_BACK:
                steps, failure = train(gan), None
            elif command == Command.END:
                if failure:
                    raise failure
                if first:
                    raise Interrupted(first)
                if second:
                    raise WorkerError("process 0 has ended the run", "see the error of process 0")
                return


def _draw(gan: GAN, count: int, seed: int, conditions: Tensor | None) -> Tensor:
    given = {} if conditions is None else {"conditions": conditions}
    conditions = gan.ranks.broadcast_tensors(given).get("conditions")
    with computing_with(gan.choice.threads):
        return draw_from(gan, count, seed, conditions)
