"""The page of what was measured, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.machine import commit, described
from benchmarks.speed import growth, operators, races, startup, streams
from benchmarks.speed.memory import Peak
from benchmarks.speed.operators import Operator
from benchmarks.speed.timing import Series, spread

Row = Series | Peak | Operator
LONG = 0.01
"""The share of a step from which on an operator has a line of its own."""


def page(rows: Sequence[Row], command: str, threads: int) -> str:
    """All tables of what there is, in the order of their sections."""
    timed = [row for row in rows if isinstance(row, Series)]
    peaks = [row for row in rows if isinstance(row, Peak)]
    cores = f"{threads} thread{'s' if threads > 1 else ''}"
    lines = [
        "# How fast a step is",
        "",
        f"`{command}`, with --data-dir, --work and --out, at commit {commit()}, with {cores}. {described()}",
        "",
        "Arms take their rounds in turns. A ratio is that of two arms in the same round: its median over the rounds, "
        "and its quartiles (of fewer than four rounds, its least and most).",
        "",
        f"Beside them: {_others()}. torchgan draws fakes again for G's step; where it draws pictures, it is given back "
        "an argument of torchvision's `make_grid` that has been renamed since.",
    ]
    for recipe in races.SHARES:
        lines += _race(recipe, [each for each in timed if each.section == recipe])
    lines += _operators([row for row in rows if isinstance(row, Operator)])
    lines += _start([each for each in timed if each.section == startup.SECTION])
    lines += _memory(peaks)
    lines += _growth([each for each in timed if each.section.startswith(f"{growth.SECTION}: ")])
    lines += _stream([each for each in timed if each.section == streams.SECTION])
    return "\n".join(lines) + "\n"


def _others() -> str:
    """The versions of what the races take from others."""
    names = ("lightning", "torchgan", "torchvision")
    return ", ".join(f"{name} {version(name) if find_spec(name) else 'not installed'}" for name in names)


def _race(recipe: str, series: list[Series]) -> Iterator[str]:
    if not series:
        return
    ours = [each for each in series if each.arm in (races.OURS, races.OURS_BF16) and each.seconds]
    yield from _heading(
        f"Recipe {recipe}",
        f"{_rounds(series)} of {max(each.images for each in series):,} images. Ratios above 1 say how many times as "
        "fast as the arm gancore is.",
        ["arm", "images a second", *(f"{each.arm} is faster, times" for each in ours)],
    )
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", *("" for _ in ours))
        else:
            yield _row(each.arm, f"{each.pace:,.0f}", *(ratio(one.times(each)) for one in ours))


def _operators(rows: list[Operator]) -> Iterator[str]:
    if not rows:
        return
    arms = list(dict.fromkeys(row.arm for row in rows))
    spent = {(row.arm, row.name): row for row in rows}
    wholes = {arm: sum(row.micros for row in rows if row.arm == arm) for arm in arms}
    long = {row.name: row.micros for row in rows if row.micros >= LONG * wholes[row.arm]}
    long.pop(operators.BETWEEN, None)
    yield from _heading(
        "Where the time of a step goes",
        f"Microseconds of a step of `vanilla` that are an operator's own, by torch's profiler, and its calls. Lines of "
        f"their own have those that take {LONG:.0%} of an arm's step or more. The profiler adds to each call, and to "
        "Python between them.",
        ["operator", *arms],
    )
    for name in sorted(long, key=lambda name: -long[name]):
        found = [spent.get((arm, name)) for arm in arms]
        yield _row(f"`{name}`", *("" if one is None else f"{one.micros:,.0f} ({one.calls:.1f})" for one in found))
    others = {arm: sum(row.micros for row in rows if row.arm == arm and row.name not in long) for arm in arms}
    between = {arm: spent[arm, operators.BETWEEN].micros for arm in arms}
    yield _row("all other operators", *(f"{others[arm] - between[arm]:,.0f}" for arm in arms))
    yield _row(operators.BETWEEN, *(f"{between[arm]:,.0f}" for arm in arms))
    yield _row("a step", *(f"{wholes[arm]:,.0f}" for arm in arms))


def _start(series: list[Series]) -> Iterator[str]:
    if not series:
        return
    torch = next(each for each in series if each.arm == startup.SINGLE_RANK)
    yield from _heading(
        "The first step",
        f"{_rounds(series)} of whole processes of `vanilla`, from the command to the first step, or to the last image.",
        ["process", "seconds", f"times `{startup.SINGLE_RANK}`"],
    )
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", "")
        else:
            yield _row(each.arm, f"{median(each.seconds):.2f}", ratio(each.times(torch), inverse=True))


def _memory(peaks: list[Peak]) -> Iterator[str]:
    if not peaks:
        return
    yield from _heading(
        "Memory",
        "The most memory that was resident in a process that makes a few steps of `vanilla`. Arms whose data are in "
        "memory hold MNIST as float32, 179 MiB; gancore as uint8, 45 MiB.",
        ["arm", "MiB"],
    )
    for peak in peaks:
        yield _row(peak.arm, f"not measured: {peak.missing}" if peak.missing else f"{peak.mebibytes:,.0f}")


def _growth(series: list[Series]) -> Iterator[str]:
    if not series:
        return
    yield from _heading(
        "How the time of an image grows",
        f"{_rounds(series)}. The networks of `vanilla` on noise, with a batch of 64, 15,000 images of 28x28, and "
        "widths times 1, but for what is varied.",
        ["varied", "value", "gancore, µs an image", "by hand, µs an image", "gancore is faster, times"],
    )
    for ours, hand in _pairs(series):
        what = ours.section.partition(": ")[2]
        if ours.missing or hand.missing:
            yield _row(what, f"{ours.value:g}", f"not measured: {ours.missing or hand.missing}", "", "")
        else:
            yield _row(what, f"{ours.value:g}", micro(ours), micro(hand), ratio(ours.times(hand)))


def _stream(series: list[Series]) -> Iterator[str]:
    kept = next((each for each in series if each.arm == streams.IN_MEMORY and each.seconds), None)
    if kept is None:
        return
    yield from _heading(
        "Data that are streamed",
        f"{_rounds(series)}. Images that are waited for, {1e6 * streams.WAIT:.0f} µs each, or decoded from PNG, while "
        "the networks of `vanilla` train. Hidden is the share of what streaming adds to a step without workers that "
        "is gone with them; where images are decoded, workers take cores from the step, so on few of them it is less "
        "than nothing.",
        ["data", "µs an image", "times that in memory", "hidden"],
    )
    alone = {kind: series_of(series, streams.named(kind, 0)) for kind in streams.KINDS}
    for each in series:
        if each.missing:
            yield _row(each.arm, f"not measured: {each.missing}", "", "")
            continue
        without = alone.get(each.arm.partition(",")[0])
        gone = None if without is None or each is without else hidden(each, without, kept)
        told = "" if gone is None else f"{100 * gone:.0f} %"
        yield _row(each.arm, micro(each), ratio(each.times(kept), inverse=True), told)


def hidden(each: Series, without: Series, kept: Series) -> float | None:
    """The part of the time that streaming adds without workers which is gone with them; None if it adds nothing."""
    added = 1 / without.pace - 1 / kept.pace
    return (1 / without.pace - 1 / each.pace) / added if added > 0 else None


def series_of(series: Iterable[Series], arm: str) -> Series | None:
    return next((each for each in series if each.arm == arm and each.seconds), None)


def micro(series: Series) -> str:
    return f"{1e6 / series.pace:.1f}"


def ratio(numbers: list[float], *, inverse: bool = False) -> str:
    """`1.23 (1.20 to 1.25)`."""
    low, middle, high = spread(sorted(1 / number for number in numbers) if inverse else numbers)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _pairs(series: list[Series]) -> Iterator[tuple[Series, Series]]:
    ours = [each for each in series if each.arm == races.OURS]
    hand = [each for each in series if each.arm != races.OURS]
    return zip(ours, hand, strict=True)


def _rounds(series: list[Series]) -> str:
    rounds = max(len(each.seconds) for each in series)
    return f"{rounds} round{'s' if rounds > 1 else ''}"


def _heading(title: str, about: str, columns: list[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", about, "", _row(*columns), _row(*("---" for _ in columns)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def draw(rows: Sequence[Row], path: Path) -> None:
    """The race of `vanilla`, and the growth of both loops, as a picture. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    timed = [row for row in rows if isinstance(row, Series) and row.seconds]
    race = sorted((each for each in timed if each.section == "vanilla"), key=lambda each: each.pace)
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    colors = ["tab:orange" if each.arm.startswith("gancore") else "tab:gray" for each in race]
    axes.barh([each.arm for each in race], [each.pace for each in race], color=colors)
    axes.set(title="vanilla on MNIST, batches of 64", xlabel="images a second")
    for axes, what in zip(right.subplots(2, 2).flat, growth.VARIED, strict=True):
        for arm, color in ((races.OURS, "tab:orange"), ("by hand", "tab:gray")):
            line = [each for each in timed if each.section == f"{growth.SECTION}: {what}" and each.arm == arm]
            values, times = [f"{each.value:g}" for each in line], [1e6 / each.pace for each in line]
            axes.plot(values, times, "o-", color=color, label=arm)
        axes.set(xlabel=what, ylabel="µs an image")
        axes.set_ylim(bottom=0)
    if timed:
        axes.legend()
    figure.savefig(path, dpi=120)
