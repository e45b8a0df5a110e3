"""The time of a step by operator of torch: the self time and the number of calls of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import comparisons
from benchmarks.speed.timing import Run

SECTION = "operators"
ARMS = (comparisons.OURS, "by hand", comparisons.OURS_BF16, "by hand, bf16 by autocast")
OUTSIDE = "outside operators"
"""Time outside of all operators: Python, and the profiler itself."""


@dataclass(frozen=True)
class Operator:
    """Self time in microseconds and number of calls of an operator per step of an arm."""

    section: str
    arm: str
    name: str
    micros: float
    calls: float


def measure(names: list[str], folder: Path, work: Path, steps: int) -> Iterator[Operator]:
    """Yield the operators of each named arm of `vanilla`, longest first, and the time outside of operators."""
    arms = comparisons.arms("vanilla", folder, work)
    for name in ARMS:
        if name in names:
            print(f"{SECTION}: {name}", flush=True)
            yield from profile_steps(name, arms[name](), steps)


def profile_steps(arm: str, run: Run, steps: int) -> Iterator[Operator]:
    """Profile steps of an arm. On the CPU the backward pass runs in the same thread, so self times add up."""
    run(max(2, steps // 4))
    # The first trace of a process takes two seconds to set up, so it is discarded.
    with profile(activities=[ProfilerActivity.CPU]):
        run(1)
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        start = perf_counter()
        run(steps)
        seconds = perf_counter() - start
    events = sorted(trace.key_averages(), key=lambda event: -event.self_cpu_time_total)
    for event in events:
        yield Operator(SECTION, arm, event.key, event.self_cpu_time_total / steps, event.count / steps)
    inside = sum(event.self_cpu_time_total for event in events)
    yield Operator(SECTION, arm, OUTSIDE, (1e6 * seconds - inside) / steps, 0)
