"""The report of all sections, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import commit, describe_machine
from benchmarks.speed import comparisons, growth, operators, startup, streams
from benchmarks.speed.memory import Peak
from benchmarks.speed.operators import Operator
from benchmarks.speed.timing import Series, spread

Row = Series | Peak | Operator
MIN_SHARE = 0.01
"""Share of a step above which an operator has its own line."""


def page(rows: Sequence[Row], command: str, threads: int, device: str = "cpu") -> str:
    """Return the tables of all sections that were measured."""
    timed = [row for row in rows if isinstance(row, Series)]
    peaks = [row for row in rows if isinstance(row, Peak)]
    machine = describe_machine(device=torch.cuda.get_device_name(device) if device != "cpu" else "the CPU")
    cores = f"{threads} thread{'s' if threads > 1 else ''}"
    lines = [
        "# Speed of a training step",
        "",
        f"`{command}`, with --data-dir, --work and --out, at commit {commit()}, with {cores}. {machine}",
        "",
        "Arms take turns in every round. A speedup compares two arms in the same round: its median over the rounds, "
        "and its quartiles (for fewer than four rounds, minimum and maximum).",
        "",
        f"Compared with {_others()}. torchgan draws new fakes for G's step; torchvision's `make_grid` is patched to "
        "accept an argument that torchgan passes and torchvision has renamed.",
    ]
    for recipe in comparisons.FEWER_STEPS:
        lines += _comparison(recipe, [each for each in timed if each.section == recipe])
    lines += _fixed([each for each in timed if each.section == growth.FIXED])
    lines += _operators([row for row in rows if isinstance(row, Operator)])
    lines += _start([each for each in timed if each.section == startup.SECTION])
    lines += _memory(peaks)
    lines += _growth([each for each in timed if each.section.startswith(f"{growth.SECTION}: ")])
    lines += _stream([each for each in timed if each.section == streams.SECTION])
    return "\n".join(lines) + "\n"


def _others() -> str:
    """Return the versions of the other frameworks."""
    names = ("lightning", "torchgan", "torchvision")
    return ", ".join(f"{name} {version(name) if find_spec(name) else 'not installed'}" for name in names)


def _comparison(recipe: str, series: list[Series]) -> Iterator[str]:
    if not series:
        return
    ours = [each for each in series if each.arm in (comparisons.OURS, comparisons.OURS_BF16) and each.seconds]
    yield from _heading(
        f"Recipe {recipe}",
        f"{_rounds(series)} of {max(each.images for each in series):,} images. Speedups above 1: gancore is faster.",
        ["arm", "images per second", *(f"speedup of {each.arm}" for each in ours)],
    )
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", *("" for _ in ours))
        else:
            yield _row(each.arm, f"{each.pace:,.0f}", *(ratio(one.speedups(each)) for one in ours))


def _fixed(series: list[Series]) -> Iterator[str]:
    if not series:
        return
    tiny = growth.TINY
    yield from _heading(
        "Fixed cost of a step",
        f"{_rounds(series)}. Networks with hidden layers of 8 and 16 units, on batches of {tiny.batch} images of "
        f"{tiny.side}x{tiny.side}: nearly all of a step is what every step costs, Python and the calls of operators.",
        ["arm", "µs per step", "µs above by hand"],
    )
    hand = series_of(series, "by hand")
    for each in series:
        above = "" if hand is None or each is hand else _between(extra_micros(each, hand, tiny.batch))
        yield _row(each.arm, f"{1e6 * tiny.batch / each.pace:,.0f}", above)


def extra_micros(one: Series, other: Series, batch: int) -> list[float]:
    """Return the microseconds by which a step of one arm is longer than one of the other, for each round, sorted."""
    pairs = zip(one.seconds, other.seconds, strict=True)
    return sorted(1e6 * batch * (a / one.images - b / other.images) for a, b in pairs)


def _between(numbers: list[float]) -> str:
    low, middle, high = spread(numbers)
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def _operators(rows: list[Operator]) -> Iterator[str]:
    if not rows:
        return
    arms = list(dict.fromkeys(row.arm for row in rows))
    found = {(row.arm, row.name): row for row in rows}
    totals = {arm: sum(row.micros for row in rows if row.arm == arm) for arm in arms}
    listed = {row.name: row.micros for row in rows if row.micros >= MIN_SHARE * totals[row.arm]}
    listed.pop(operators.OUTSIDE, None)
    yield from _heading(
        "Time of a step by operator",
        f"Self time in microseconds per step of `vanilla`, by torch's profiler, and the number of calls. Operators "
        f"that take less than {MIN_SHARE:.0%} of the step of every arm are summed up. The profiler adds time to each "
        "call, and to Python between calls.",
        ["operator", *arms],
    )
    for name in sorted(listed, key=lambda name: -listed[name]):
        cells = [found.get((arm, name)) for arm in arms]
        yield _row(f"`{name}`", *("" if one is None else f"{one.micros:,.0f} ({one.calls:.1f})" for one in cells))
    others = {arm: sum(row.micros for row in rows if row.arm == arm and row.name not in listed) for arm in arms}
    outside = {arm: found[arm, operators.OUTSIDE].micros for arm in arms}
    yield _row("all other operators", *(f"{others[arm] - outside[arm]:,.0f}" for arm in arms))
    yield _row(operators.OUTSIDE, *(f"{outside[arm]:,.0f}" for arm in arms))
    yield _row("step", *(f"{totals[arm]:,.0f}" for arm in arms))


def _start(series: list[Series]) -> Iterator[str]:
    if not series:
        return
    imported = next(each for each in series if each.arm == startup.IMPORT_TORCH)
    yield from _heading(
        "Time to the first step",
        f"{_rounds(series)} of whole processes, from the command to the first step of `vanilla`, or to the end.",
        ["process", "seconds", f"relative to `{startup.IMPORT_TORCH}`"],
    )
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", "")
        else:
            yield _row(each.arm, f"{median(each.seconds):.2f}", ratio(each.speedups(imported), inverse=True))


def _memory(peaks: list[Peak]) -> Iterator[str]:
    if not peaks:
        return
    yield from _heading(
        "Memory",
        "Peak of the resident memory of a process that makes a few steps of `vanilla`. Arms with data in memory hold "
        "MNIST as float32, 179 MiB; gancore as uint8, 45 MiB.",
        ["arm", "MiB"],
    )
    for peak in peaks:
        yield _row(peak.arm, f"not measured: {peak.missing}" if peak.missing else f"{peak.mebibytes:,.0f}")


def _growth(series: list[Series]) -> Iterator[str]:
    if not series:
        return
    yield from _heading(
        "Time per image by size",
        f"{_rounds(series)}. The networks of `vanilla` on noise, with a batch of 64, 15,000 images of 28x28, and "
        "width 1, except for the setting that is varied.",
        ["setting", "value", "gancore, µs per image", "by hand, µs per image", "speedup of gancore"],
    )
    for ours, hand in _pairs(series):
        setting = ours.section.partition(": ")[2]
        if ours.missing or hand.missing:
            yield _row(setting, f"{ours.value:g}", f"not measured: {ours.missing or hand.missing}", "", "")
        else:
            yield _row(setting, f"{ours.value:g}", micro(ours), micro(hand), ratio(ours.speedups(hand)))


def _stream(series: list[Series]) -> Iterator[str]:
    in_memory = next((each for each in series if each.arm == streams.IN_MEMORY and each.seconds), None)
    if in_memory is None:
        return
    yield from _heading(
        "Streamed data",
        f"{_rounds(series)}. Images that take a wait of {1e6 * streams.WAIT:.0f} µs each, or are decoded from PNG, "
        "while the networks of `vanilla` train. Hidden: the share of the loading time that workers hide behind the "
        "step. Workers that decode take cores from the step: with few cores it is negative if the step uses them all. "
        "Auto: the number of workers is chosen in the first steps.",
        ["data", "µs per image", "relative to in memory", "hidden"],
    )
    without_workers = {kind: series_of(series, streams.arm_name(kind, 0)) for kind in streams.KINDS}
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", "", "")
            continue
        without = without_workers.get(each.arm.partition(",")[0])
        share = None if without is None or each is without else hidden(each, without, in_memory)
        cell = "" if share is None else f"{100 * share:.0f} %"
        yield _row(each.arm, micro(each), ratio(each.speedups(in_memory), inverse=True), cell)


def hidden(each: Series, without: Series, in_memory: Series) -> float | None:
    """Return the share of the loading time that workers hide behind the step; None if loading takes no time."""
    loading = 1 / without.pace - 1 / in_memory.pace
    return (1 / without.pace - 1 / each.pace) / loading if loading > 0 else None


def series_of(series: Iterable[Series], arm: str) -> Series | None:
    return next((each for each in series if each.arm == arm and each.seconds), None)


def micro(series: Series) -> str:
    return f"{1e6 / series.pace:.1f}"


def ratio(numbers: list[float], *, inverse: bool = False) -> str:
    """Return median and spread, like `1.23 (1.20 to 1.25)`."""
    low, middle, high = spread(sorted(1 / number for number in numbers) if inverse else numbers)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _pairs(series: list[Series]) -> Iterator[tuple[Series, Series]]:
    ours = [each for each in series if each.arm == comparisons.OURS]
    hand = [each for each in series if each.arm != comparisons.OURS]
    return zip(ours, hand, strict=True)


def _rounds(series: list[Series]) -> str:
    rounds = max(len(each.seconds) for each in series)
    return f"{rounds} round{'s' if rounds > 1 else ''}"


def _heading(title: str, about: str, columns: list[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", about, "", _row(*columns), _row(*("---" for _ in columns)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the comparison on `vanilla` and the growth of both loops. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    timed = [row for row in rows if isinstance(row, Series) and row.seconds]
    bars = sorted((each for each in timed if each.section == "vanilla"), key=lambda each: each.pace)
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    colors = ["tab:orange" if each.arm.startswith("gancore") else "tab:gray" for each in bars]
    axes.barh([each.arm for each in bars], [each.pace for each in bars], color=colors)
    axes.set(title="vanilla on MNIST, batches of 64", xlabel="images per second")
    for axes, what in zip(right.subplots(2, 2).flat, growth.VARIED, strict=True):
        for arm, color in ((comparisons.OURS, "tab:orange"), ("by hand", "tab:gray")):
            line = [each for each in timed if each.section == f"{growth.SECTION}: {what}" and each.arm == arm]
            values, times = [f"{each.value:g}" for each in line], [1e6 / each.pace for each in line]
            axes.plot(values, times, "o-", color=color, label=arm)
        axes.set(xlabel=what, ylabel="µs per image")
        axes.set_ylim(bottom=0)
    if timed:
        axes.legend()
    figure.savefig(path, dpi=120)
