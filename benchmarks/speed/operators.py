"""Where the time of a step goes: the operators of torch that a loop calls, each with the time that is its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import races
from benchmarks.speed.timing import RunConfig

SECTION = "operators"
ARMS = (races.OURS, "by hand", races.OURS_BF16, "by hand, bf16 by autocast")
BETWEEN = "between operators"
"""What no operator accounts for: Python, and the profiler itself."""


@dataclass(frozen=True)
class Operator:
    """The microseconds and the calls of an operator in a step of an arm."""

    section: str
    arm: str
    name: str
    micros: float
    calls: float


def measured(names: list[str], folder: Path, work: Path, steps: int) -> Iterator[Operator]:
    """The operators of each arm of `vanilla` that is named, from the longest to the shortest, and what is between."""
    arms = races.arms("vanilla", folder, work)
    for name in ARMS:
        if name in names:
            print(f"{SECTION}: {name}", flush=True)
            yield from profiled(name, arms[name](), steps)


def profiled(arm: str, run: RunConfig, steps: int) -> Iterator[Operator]:
    """So many steps of an arm. Those of the backward pass run in the same thread, so all times add up."""
    run(max(2, steps // 4))
    # Two seconds of its own go into the first trace of a process: it is no part of what is measured.
    with profile(activities=[ProfilerActivity.CPU]):
        run(1)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        begun = perf_counter()
        run(steps)
        seconds = perf_counter() - begun
    events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
    for event in events:
        yield Operator(SECTION, arm, event.key, event.self_cpu_time_total / steps, event.count / steps)
    known = sum(event.self_cpu_time_total for event in events)
    yield Operator(SECTION, arm, BETWEEN, (1e6 * seconds - known) / steps, 0)
