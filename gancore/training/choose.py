"""The number of threads and the precision of a run where the config says `auto`: a few steps with each are timed.

More threads, or bf16, are chosen only if they make a step a tenth faster. Every step is one of a copy of the GAN, on
random images in batches of the real size; weights, optimizers and random numbers of the run stay as they were. The
learning rates of the copy are 0, so that noise does not make its weights infinite.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import ceil, inf
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from gancore.data.feed import Batch
from gancore.errors import describe_error
from gancore.training.precision import Precision, multiplies_bfloat16
from gancore.training.preflight import trial_condition
from gancore.training.step import step
from gancore.utils.cores import usable_cores
from gancore.utils.random import host_states_kept, seeded
from gancore.utils.threads import computing_with

if TYPE_CHECKING:
    from gancore.training.gan import GAN

_ADVANTAGE = 1.1
"""How many times as fast a step must be with more threads, or in bf16."""
_BLOCK_SECONDS = 0.01
"""Steps are timed in blocks of at least this time, so that the load of the machine is seen."""
_SLOW = 0.5
"""Seconds from which on a step is timed once only."""
_ROUNDS = {0.02: 5, _SLOW: 3, inf: 1}
"""Blocks per candidate: 5 if the fastest step takes less than 0.02 s, 3 if it takes less than `_SLOW`, else 1."""


@dataclass(frozen=True)
class Choice:
    """The number of threads and the precision of a run, and the seconds of a step with each candidate that was timed.

    None for `threads`, where the config says auto and the device is no CPU, keeps the number of the process. `failed`
    says why timing ended early. What was timed before it counts. With nothing to compare the choice is one thread: on
    busy cores the most threads are the slowest choice.
    """

    threads: int | None
    precision: Literal["fp32", "tf32", "bf16"]
    seconds_per_step: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def seconds(self) -> float | None:
        """The seconds of a step as it is chosen; None if it was not timed."""
        return self.seconds_per_step.get(_label(self.threads, self.precision))

    @property
    def was_tried(self) -> bool:
        """Whether the choice was made by trying steps; `failed` says why that ended early, if it did."""
        return bool(self.seconds_per_step or self.failed)

    def __str__(self) -> str:
        timed = ", ".join(f"{candidate} {_clock(seconds)}" for candidate, seconds in self.seconds_per_step.items())
        return f"chosen: {self._made}; time of a step: {timed}" if timed else self._made

    @property
    def _made(self) -> str:
        return ", ".join([*([] if self.threads is None else [_threads(self.threads)]), self.precision])

    def warnings(self, device: torch.device) -> Iterator[str]:
        """Yield what makes steps slow on this machine, and why timing ended early."""
        cores = usable_cores()
        if self.threads is not None and self.threads > cores:
            yield (
                f"training.threads is {self.threads}, and this process may use {cores} core{'s' * (cores > 1)}: steps "
                "are slow (--threads auto chooses anew)"
            )
        if self.precision == "bf16" and not multiplies_bfloat16(device):
            yield (
                f"training.precision is bf16, and this {device.type} has no instructions for it: steps are slower than "
                "in fp32 (--precision fp32)"
            )
        if self.failed:
            what = "only some" if self.seconds_per_step else "no"
            yield f"{what} steps could be timed, so the choice is {self._made}: {self.failed}"


class _Candidate(NamedTuple):
    threads: int | None
    precision: Precision

    def __str__(self) -> str:
        return _label(self.threads, self.precision.name)


def choose(gan: GAN) -> Choice:
    """Return what the options say or, for `auto`, what was fastest. All ranks must call this, and get the same."""
    options, fixed = gan.options.training, gan.precision
    threads: Sequence[int | None] = [None if options.threads == "auto" else options.threads]
    if options.threads == "auto" and gan.device.type == "cpu":
        threads = thread_numbers(min(torch.get_num_threads(), usable_cores()))
    other = None
    if options.precision == "auto" and len(gan.feed.shape) == 3 and multiplies_bfloat16(gan.device):
        other = Precision("bf16", gan.device)
    chosen = Choice(threads[0], fixed.name)
    if len(threads) > 1 or other:
        chosen = _timed(gan, [_Candidate(number, fixed) for number in threads], other)
    if gan.ranks.is_distributed and "auto" in (options.threads, options.precision):
        chosen = Choice(**gan.ranks.broadcast(asdict(chosen)))
    return chosen


def thread_numbers(most: int) -> list[int]:
    """Return the numbers of threads to try: the most, and every power of 4 below it, in descending order."""
    return [most, *(4**power for power in range(4, -1, -1) if 4**power < most)]


def _timed(gan: GAN, candidates: Sequence[_Candidate], other: Precision | None) -> Choice:
    """Return the fastest of the candidates, by descending numbers of threads, or the same in another precision."""
    timer, best = _StepTimer(gan), candidates[0]
    timed: dict[_Candidate, float] = {}
    with host_states_kept():
        if len(candidates) > 1:
            timed = timer.seconds(candidates)
            best = candidates[-1]
            if len(timed) > 1:
                fastest = min(timed.values())
                best = next(each for each in reversed(timed) if timed[each] < fastest * _ADVANTAGE)
        if other and not timer.failed:
            faster = best._replace(precision=other)
            found = timer.seconds([best, faster])
            timed |= found
            if len(found) == 2 and found[best] >= found[faster] * _ADVANTAGE:
                best = faster
    failed = timer.failed
    del timer
    gc.collect()  # the parts of a GAN refer to each other, so its copies would stay in memory
    return Choice(best.threads, best.precision.name, {str(each): seconds for each, seconds in timed.items()}, failed)


class _StepTimer:
    """Times the steps of a copy of a GAN."""

    def __init__(self, gan: GAN) -> None:
        self._gan = gan
        self._copies: dict[Precision, GAN] = {}
        self._blocks: dict[_Candidate, list[float]] = {}
        self.failed = ""
        """Why timing ended early; empty if it did not."""

    @cached_property
    def _batches(self) -> list[Batch]:
        gan = self._gan
        count = -(-gan.feed.batch_size // gan.ranks.size)
        with seeded(0, gan.device):
            images = torch.rand(count, *gan.feed.shape, device=gan.device) * 2 - 1
            condition = trial_condition(gan.spec.condition, gan.device, count)
        return [Batch(images, condition, count)] * gan.options.training.discriminator_steps

    def seconds(self, candidates: Sequence[_Candidate]) -> dict[_Candidate, float]:
        """Return the median seconds of a step with each candidate that was timed, in their order.

        After a step that fails there are only the times so far.
        """
        try:
            self._take_turns(candidates)
        except Exception as error:  # the first step of the run reports an error of a part
            self.failed = describe_error(error)
        return {each: median(seconds) for each in candidates if (seconds := self._blocks.get(each))}

    def _take_turns(self, candidates: Sequence[_Candidate]) -> None:
        """Time steps with each candidate in turns, so that a change of load affects them all.

        Slow steps are timed once, and not with fewer threads once these are slower.
        """
        blocks: dict[_Candidate, list[float]] = {}
        before = inf
        for each in candidates:
            blocks[each] = seconds = self._blocks.setdefault(each, [])
            if not seconds or min(seconds) < _SLOW:
                seconds.append(self._run(each, 1))
            if min(seconds) > max(_SLOW, before * _ADVANTAGE):
                break
            before = min(seconds)
        fastest = min(map(min, blocks.values()))
        for number in range(1, next(rounds for limit, rounds in _ROUNDS.items() if fastest < limit)):
            for each, seconds in blocks.items():
                if number < 2 or min(seconds) < 2 * fastest:
                    seconds.append(self._run(each, ceil(_BLOCK_SECONDS / fastest)))

    def _run(self, candidate: _Candidate, steps: int) -> float:
        """Return the seconds of a step, the mean of several."""
        with computing_with(candidate.threads), seeded(0, self._gan.device), torch.enable_grad():
            timed, is_new = self._in(candidate.precision)
            with timed.precision.float32_products():
                if is_new:  # this step allocates, and makes the optimizers' state
                    step(timed, self._batches)
                self._wait()
                begun = perf_counter()
                for _ in range(steps):
                    step(timed, self._batches)
                self._wait()
                return (perf_counter() - begun) / steps

    def _in(self, precision: Precision) -> tuple[GAN, bool]:
        """Return the copy that multiplies in this precision, and whether it is new."""
        if precision in self._copies:
            return self._copies[precision], False
        self._copies[precision] = made = self._gan.timing_copy(precision)
        for optimizer in made.optimizers.values():
            for group in optimizer.param_groups:
                if "lr" in group:
                    group["lr"] = group["lr"] * 0  # a number or a tensor
        return made, True

    def _wait(self) -> None:
        if self._gan.device.type == "cuda":
            torch.cuda.synchronize(self._gan.device)


def _label(threads: int | None, precision: str) -> str:
    return precision if threads is None else f"{_threads(threads)} {precision}"


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _clock(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
