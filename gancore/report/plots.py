"""Plots of a page: SVG drawn by matplotlib, whose text stays text and whose colors are CSS variables of the page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from gancore.utils.text import short_number

Points = Sequence[tuple[float, float]]
"""A curve: pairs of kimg and value. NaN is a gap."""

COLORS = 6
"""Number of colors of curves; a page defines each as a CSS variable."""
DASHES = ("solid", (0, (4, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)))
"""Patterns of lines: with more curves than colors, each color returns with the next one."""
_MOST_POINTS = 300
"""Points of a curve that are drawn; of more, each stands for several lines of the log."""
_FEWEST_TO_SMOOTH = 8
_SMOOTHED_SHARE = 0.05  # of the points of a curve, whose weights are a half and more
_OUTSIDE, _MARGIN, _FLATTENED = 0.02, 0.1, 3.0
"""An axis leaves out this part of the points of a curve at each end, at least one, and shows a margin of this part of
the range that is left, if an axis with all points would be more than three times as long."""
_SIZE = (5.0, 2.7)  # in inches of 72 units each
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gancore",  # otherwise the ids of shapes are random
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "path.simplify": True,
    "text.parse_math": False,  # labels come from the user
}

# matplotlib takes no CSS variables, so it draws in colors that stand for them.
INK, GRID, _WARNING = "#010101", "#010102", "#010103"
CURVES = tuple(f"#0101{number:02x}" for number in range(16, 16 + COLORS))
_VARIABLES = {
    INK: "muted",
    GRID: "line",
    _WARNING: "warning",
    **{color: f"curve-{number}" for number, color in enumerate(CURVES)},
}


@dataclass(frozen=True)
class Curve:
    """A curve of a plot; `number` chooses color and dashes. `band` has lower and upper ends of a range around it."""

    label: str
    points: Points
    number: int
    is_smoothed: bool = True
    band: tuple[Points, Points] | None = None
    best: tuple[float, float] | None = None
    """The point to mark as the best one."""
    note: str = ""
    """What the caption of its plot must say about it."""


@dataclass(frozen=True)
class Plot:
    """Curves over kimg. `levels` are horizontal lines with labels, `events` the kimg of vertical ones.

    With `shows_dots` each point is a dot on its curve, as for values that are measured rarely.
    """

    title: str
    curves: tuple[Curve, ...]
    levels: tuple[tuple[float, str], ...] = ()
    events: tuple[float, ...] = ()
    until: float = 0.0
    """The kimg at which the axis ends; 0 for the end of the curves."""
    shows_dots: bool = False
    is_logarithmic: bool = False
    """Whether the vertical axis is; all values must be above 0 then."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no finite value to draw."""
        return not any(math.isfinite(value) for curve in self.curves for _, value in curve.points)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The ends of the vertical axis if few points would flatten the curves, which lie outside then; else None."""
        if self.shows_dots or self.is_logarithmic:
            return None
        sorted_values = [sorted(value for _, value in curve.points if math.isfinite(value)) for curve in self.curves]
        kept, drawn = list[float](), list[float]()
        for values in sorted_values:
            cut = max(1, round(_OUTSIDE * len(values))) if len(values) >= _FEWEST_TO_SMOOTH else 0
            kept += values[cut : len(values) - cut]
            drawn += values
        if not kept:
            return None
        margin = _MARGIN * (max(kept) - min(kept))
        low, high = max(min(kept) - margin, min(drawn)), min(max(kept) + margin, max(drawn))
        is_flat = max(drawn) - min(drawn) > _FLATTENED * (high - low) > 0
        return (low, high) if is_flat else None

    @property
    def description(self) -> str:
        """What the plot shows in words, for readers who do not see it."""
        parts = [f"{self.title} over thousands of real images"]
        for curve in self.curves:
            finite = [value for _, value in curve.points if math.isfinite(value)]
            if finite:
                label = f"{curve.label}: " if curve.label else ""
                parts.append(f"{label}from {short_number(finite[0])} to {short_number(finite[-1])}")
        parts += [f"{label} at {short_number(level)}" for level, label in self.levels]
        return "; ".join(parts)


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the exponential moving average of values, without the pull of its start; NaN stays NaN, and is skipped."""
    weight = 1 / (1 + max(1.0, _SMOOTHED_SHARE * len(values)))
    average, total, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average += weight * (value - average)
            total += weight * (1 - total)
        result.append(average / total if math.isfinite(value) else math.nan)
    return result


def thinned(points: Points, most: int = _MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return kimg and values (M,) with M <= `most`. Of several points in one bin the lowest and the highest stay."""
    kimg, values = np.array(points, dtype=float).reshape(-1, 2).T
    if len(kimg) <= most:
        return kimg, values
    kept = set[int]()
    for part in np.array_split(np.arange(len(kimg)), most // 2):
        finite = part[np.isfinite(values[part])]
        if len(finite):
            kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
        else:
            kept.add(int(part[0]))
    order = sorted(kept)
    return kimg[order], values[order]


def svg(plot: Plot, prefix: str) -> str:
    """Return a plot as an SVG element of a page. `prefix` makes its ids different from those of other plots."""

    def draw(axes: mpl.axes.Axes) -> None:
        for curve in plot.curves:
            _draw(axes, curve, plot)
        for level, label in plot.levels:
            axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            place = axes.get_yaxis_transform()
            # At the left, since curves end near the level that they should reach.
            at = {"xycoords": place, "xytext": (0, 3), "textcoords": "offset points"}
            axes.annotate(label, (0.01, level), color=INK, va="bottom", fontsize=9, **at)
        for kimg in plot.events:
            axes.axvline(kimg, color=_WARNING, linewidth=1.2, linestyle=(0, (1, 2)))
        if plot.limits is not None:
            axes.set_ylim(*plot.limits)
        if plot.until:
            axes.set_xlim(0, plot.until * 1.02)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_xlabel("kimg", color=INK, loc="right")
        if plot.is_logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        for axis in (axes.xaxis, axes.yaxis):
            if axis is axes.xaxis or not plot.is_logarithmic:
                axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(lambda value, _: tick(value))
        labeled = [curve for curve in plot.curves if curve.label]
        if labeled:
            axes.legend(
                *axes.get_legend_handles_labels(), loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False,
                borderaxespad=0.2, handlelength=1.2, labelcolor=INK,
            )  # fmt: skip

    return drawn(draw, _SIZE, prefix, plot.description)


def drawn(draw: Callable[[mpl.axes.Axes], None], size: tuple[float, float], prefix: str, description: str) -> str:
    """Return what `draw` draws in axes of a size in inches, as an SVG element in the style of all plots.

    Colors must be `INK`, `GRID` and those of `CURVES`, which the page replaces by its own.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        draw(axes)
        axes.spines[:].set_color(GRID)
        axes.tick_params(colors=INK, length=3)
        file = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return _for_page(file.getvalue(), prefix, description)


def _draw(axes: mpl.axes.Axes, curve: Curve, plot: Plot) -> None:
    """Draw a curve: thin as it was measured, and thick as it is smoothed where it has enough points."""
    color = CURVES[curve.number % COLORS]
    label = f"\u200b{curve.label}" if curve.label else None  # matplotlib drops labels that begin with a line
    line = {"linewidth": 1.8, "linestyle": DASHES[curve.number // COLORS % len(DASHES)], "label": label}
    if curve.band is not None:
        kimg, low = np.array(curve.band[0]).T
        axes.fill_between(kimg, low, np.array(curve.band[1])[:, 1], color=color, alpha=0.18, linewidth=0)
    smooths = curve.is_smoothed and len(curve.points) >= _FEWEST_TO_SMOOTH
    marker = "o" if plot.shows_dots and len(curve.points) <= 40 else ""
    kimg, values = thinned(curve.points)
    raw = {"linewidth": 0.8, "alpha": 0.45} if smooths else line
    axes.plot(kimg, values, color=color, marker=marker, markersize=3.5, **raw)
    if smooths:
        low, high = plot.limits or (-math.inf, math.inf)
        # Otherwise a point outside would pull the line away for long.
        average = smoothed([min(max(value, low), high) if math.isfinite(value) else value for _, value in curve.points])
        kimg, values = thinned([(at, value) for (at, _), value in zip(curve.points, average, strict=True)])
        axes.plot(kimg, values, color=color, **line)
    if curve.best is not None:
        axes.plot(*curve.best, "o", markersize=9, markerfacecolor="none", markeredgecolor=color, markeredgewidth=1.6)
        side = "right" if curve.best[0] > 0.8 * plot.until else "left" if curve.best[0] < 0.2 * plot.until else "center"
        text, at = f"best {short_number(curve.best[1])}", {"xytext": (0, 8), "textcoords": "offset points"}
        axes.annotate(text, curve.best, color=INK, fontsize=9, ha=side, **at)


def tick(value: float) -> str:
    """Return the label of a value of an axis."""
    text = f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _for_page(text: str, prefix: str, description: str) -> str:
    """Return the SVG element of a document of matplotlib, for use within HTML."""
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)  # the page has the style
    text = re.sub(r'(?<= )id="([^"]+)"', "", text) if "#" not in text else _renamed(text, prefix)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    head = re.search(r'viewBox="[^"]+"', text)
    label = description.translate({ord("&"): "&amp;", ord('"'): "&quot;", ord("<"): "&lt;"})
    element = f'<svg class="plot" role="img" aria-label="{label}" {head[0] if head else ""}>'
    return element + re.sub(r"\n\s*", "\n", text[text.index(">") + 1 :])


def _renamed(text: str, prefix: str) -> str:
    """Return the text with ids that only this plot has, without those that nothing refers to."""
    used = set(_references(text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    return re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', text)


def _references(text: str) -> Iterator[str]:
    for found in re.finditer(r'url\(#([^)]+)\)|href="#([^"]+)"', text):
        yield found[1] or found[2]
