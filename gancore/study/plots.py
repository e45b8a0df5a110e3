"""Plots of a study: the values of each arm, and those of a search over each key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator, NullFormatter

from gancore.report.plots import COLORS, CURVES, GRID, INK, drawn, tick
from gancore.utils.text import short_number

_WIDTH, _ROW, _FRAME = 6.4, 0.42, 0.75  # in inches
_SCATTER = (4.0, 2.6)


def values_of_arms(
    arms: Sequence[tuple[str, Sequence[float]]], metric: str, real_data: float | None, prefix: str
) -> str:
    """Return a row of dots for each arm, one for each seed, with a stroke at the median and a line at real data."""

    def draw(axes: mpl.axes.Axes) -> None:
        for row, (_, values) in enumerate(arms):
            finite, color = [value for value in values if math.isfinite(value)], CURVES[row % COLORS]
            axes.plot(finite, [row] * len(finite), "o", color=color, alpha=0.6, markersize=6, markeredgewidth=0)
            if finite:
                axes.plot([median(finite)] * 2, [row - 0.32, row + 0.32], color=color, linewidth=2.5)
        if real_data is not None:
            axes.axvline(real_data, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            at = {"xycoords": axes.get_xaxis_transform(), "xytext": (3, 2), "textcoords": "offset points"}
            axes.annotate("real data", (real_data, 1), color=INK, va="bottom", fontsize=9, **at)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks(range(len(arms)), [f"\u200b{name}" for name, _ in arms])
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_xlabel(metric, color=INK, loc="right")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda value, _: tick(value))

    parts = [f"{name}: median {short_number(median(finite))} of {len(finite)}" for name, values in arms
             if (finite := [value for value in values if math.isfinite(value)])]  # fmt: skip
    parts += [] if real_data is None else [f"real data: {short_number(real_data)}"]
    return drawn(draw, (_WIDTH, _FRAME + _ROW * len(arms)), prefix, f"{metric} of each arm; {'; '.join(parts)}")


def values_over_key(
    points: Sequence[tuple[float, float]],
    key: str,
    metric: str,
    prefix: str,
    *,
    choices: Sequence[str] = (),
    is_logarithmic: bool,
) -> str:
    """Return the metric of the runs of a search over a key, as dots: (value of the key, metric).

    A value of a key that has `choices` is the number of one of them.
    """

    def draw(axes: mpl.axes.Axes) -> None:
        axes.plot(*zip(*points, strict=True), "o", color=CURVES[0], alpha=0.6, markersize=5, markeredgewidth=0)
        if choices:
            axes.set_xlim(-0.5, len(choices) - 0.5)
            axes.set_xticks(range(len(choices)), [f"\u200b{choice}" for choice in choices])
        elif is_logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=all(x == int(x) for x, _ in points)))
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlabel(key, color=INK, loc="right")
        axes.set_ylabel(metric, color=INK)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        for axis in (axes.yaxis,) if choices else (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: tick(value))

    best = f"{len(points)} runs, {metric} from {short_number(min(y for _, y in points))} to "
    best += short_number(max(y for _, y in points))
    return drawn(draw, _SCATTER, prefix, f"{metric} over {key}: {best}")
