"""The curves of a page: which numbers of the log each plot shows, of one run or of several, and what is good."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gancore.checkpoint.log import kimg_at
from gancore.evaluation.collapse import LOW_VALUES_TO_ALARM, MIN_DIVERSITY
from gancore.report.compare import MedianCurve, groups_over_seeds, median_curve
from gancore.report.plots import COLORS, DASHES, Curve, Plot, Points, smoothed, svg
from gancore.report.scores import Score
from gancore.report.summary import RunSummary

_LOSSES = (
    "In a GAN neither loss has to fall, since each network works against the other. Good: both level off. A loss that "
    "runs away, or one that stays at zero, says that one network has won."
)
_LOGITS = (
    "Mean output of the discriminator for real and for generated images. Good: real stays above fake, and the gap does "
    "not grow without end. Without a gap it cannot tell them apart."
)
_PENALTIES = "What each regularizer adds, as the log has it. Good: it levels off and stays finite."
_SPEED = (
    "Real images that training takes per second from line to line of the log, without the time of pictures, "
    "evaluations and checkpoints. The number at the top includes that time."
)
_OUTSIDE = "Some points lie outside the plot, and count as its edge in the thick lines."
_DIVERSITY = (
    "Effective number of distinct samples, relative to that of as many real images. Good: near 1. Below "
    f"{MIN_DIVERSITY} in {LOW_VALUES_TO_ALARM} evaluations in a row is a warning of collapse."
)
_KINDS = {
    "discriminator_loss": ("Loss of the discriminator", _LOSSES),
    "generator_loss": ("Loss of the generator", _LOSSES),
    "real_logit_mean": ("Logits of real images", _LOGITS),
    "fake_logit_mean": ("Logits of generated images", _LOGITS),
    "images_per_second": ("Images per second", _SPEED),
    "diversity": ("Diversity", _DIVERSITY),
}


_WIDE = 30
"""Ratio of the highest and the lowest value of a metric above which its axis is logarithmic."""
_MOST_NAMES = 4
"""Runs over seeds that a legend names."""


@dataclass(frozen=True)
class CurveView:
    """A plot of a page, with its title, and a caption that says what its curves mean and what is good."""

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Legend:
    """What a curve stands for, in plots of several runs; `swatch` has the CSS classes of its color and its dashes."""

    label: str
    swatch: str


def training_curves(runs: Sequence[RunSummary]) -> list[CurveView]:
    """Return the plots of losses, logits, penalties, speed and diversity; those without a number are left out."""
    return _views(_training(runs), "t")


def metric_curves(runs: Sequence[RunSummary]) -> list[CurveView]:
    """Return a plot for each metric, with the score of real data as a line and the best value marked."""
    return _views(_measured(runs), "m")


def legend(runs: Sequence[RunSummary]) -> list[Legend]:
    """Return what the curves stand for; nothing for one run, whose curves have labels of their own."""
    if len(runs) == 1:
        return []
    entries = []
    for number, (names, members) in enumerate(_groups(runs)):
        of_seeds = f"median of {len(members)} seeds: " if len(members) > 1 else ""
        entries.append(Legend(of_seeds + names, _swatch(number)))
    return entries


def swatches_of(runs: Sequence[RunSummary]) -> list[str]:
    """Return the CSS classes of the swatch of each run: those of its curve."""
    groups = [members for _, members in _groups(runs)]
    return [_swatch(next(number for number, members in enumerate(groups) if run in members)) for run in runs]


def _swatch(number: int) -> str:
    return f"c{number % COLORS} d{number // COLORS % len(DASHES)}"


def best_point(run: RunSummary, metric: str) -> tuple[float, float] | None:
    """Return kimg and value of the best value of a metric; None if it is not known."""
    score = run.scores.get(metric)
    if score is None or score.best is None:
        return None
    [kimg] = kimg_at(run.log, [score.best[0]])
    return None if kimg is None else (kimg, score.best[1])


def metrics_of(runs: Iterable[RunSummary], *, with_further: bool = False) -> dict[str, Score]:
    """Return the metrics of all runs by name, from the first run that knows what their values are compared with."""
    found: dict[str, Score] = {}
    for run in runs:
        for name, score in (run.scores | (run.further_scores if with_further else {})).items():
            if name not in found or not found[name].better:
                found[name] = score
    return found


def _groups(runs: Sequence[RunSummary]) -> list[tuple[str, list[RunSummary]]]:
    """Return the runs that a curve stands for, with their names: one run, or all that differ only in their seed."""
    groups = []
    for positions in groups_over_seeds([run.config or {"path": str(run.path)} for run in runs]):
        members = [runs[position] for position in positions]
        names = [run.name for run in members[:_MOST_NAMES]]
        names += [f"{len(members) - _MOST_NAMES} more"] if len(members) > _MOST_NAMES else []
        groups.append((", ".join(names), members))
    return groups


def _views(plots: Iterable[tuple[Plot, str]], prefix: str) -> list[CurveView]:
    views = list[CurveView]()
    for plot, caption in plots:
        if not plot.is_empty:
            parts = [caption, *(curve.note for curve in plot.curves), _OUTSIDE if plot.limits else ""]
            views.append(CurveView(plot.title, " ".join(filter(None, parts)), svg(plot, f"{prefix}{len(views)}")))
    return views


def _training(runs: Sequence[RunSummary]) -> Iterator[tuple[Plot, str]]:
    events, until, lines = _events(runs), _until(runs), [line for run in runs for line in run.log]
    penalties = list(dict.fromkeys(key for line in lines for key in line if key.startswith("penalty.")))
    if len(runs) == 1:
        (run,) = runs
        pairs = (
            ("Losses", _LOSSES, {"discriminator_loss": "discriminator", "generator_loss": "generator"}),
            ("Logits", _LOGITS, {"real_logit_mean": "real images", "fake_logit_mean": "generated images"}),
            ("Penalties", _PENALTIES, {key: key.removeprefix("penalty.") for key in penalties}),
        )
        for title, caption, labels in pairs:
            drawn = [Curve(label, run.curve(key), number) for number, (key, label) in enumerate(labels.items())]
            yield Plot(title, tuple(drawn), events=events, until=until), caption
    else:
        for key in ("discriminator_loss", "generator_loss", "real_logit_mean", "fake_logit_mean"):
            title, caption = _KINDS[key]
            yield Plot(title, _curves(runs, key), events=events, until=until), caption
        for key in penalties:
            title = f"Penalty {key.removeprefix('penalty.')}"
            yield Plot(title, _curves(runs, key), until=until), _PENALTIES
    for key in ("images_per_second", "diversity"):
        title, caption = _KINDS[key]
        is_rare = key == "diversity"
        levels = ((MIN_DIVERSITY, "warning"), (1.0, "real data")) if is_rare else ()
        curves = _curves(runs, key, is_smoothed=not is_rare)
        yield Plot(title, curves, levels, events if is_rare else (), until, shows_dots=is_rare), caption


def _measured(runs: Sequence[RunSummary]) -> Iterator[tuple[Plot, str]]:
    for name, metric in metrics_of(runs).items():
        curves = _curves(runs, name, is_smoothed=False, is_metric=True)
        until = max([_until(runs), *(kimg for curve in curves for kimg, _ in curve.points)])
        levels = ((metric.real_data, "real data"),) if metric.real_data is not None else ()
        caption = {"lower": "Lower is better.", "higher": "Higher is better."}.get(metric.better or "", "")
        if metric.real_data is not None:
            caption += " The dashed line is the score of real data: even a perfect model gets about that."
        numbers = [value for curve in curves for _, value in curve.points if math.isfinite(value)]
        numbers += [level for level, _ in levels]
        spreads = metric.better == "lower" and bool(numbers) and 0 < _WIDE * min(numbers) < max(numbers)
        caption += " The axis is logarithmic." if spreads else ""
        plot = Plot(name, curves, levels, _events(runs), until, shows_dots=True, is_logarithmic=spreads)
        yield plot, caption.strip()


def _events(runs: Sequence[RunSummary]) -> tuple[float, ...]:
    """Return the kimg of events to mark; none in plots of several runs, where they would not say of which."""
    return tuple(event.kimg for event in runs[0].events) if len(runs) == 1 else ()


def _until(runs: Sequence[RunSummary]) -> float:
    """Return the kimg at which the axes of all plots end."""
    return max((run.kimg for run in runs), default=0.0)


def _curves(
    runs: Sequence[RunSummary], key: str, *, is_smoothed: bool = True, is_metric: bool = False
) -> tuple[Curve, ...]:
    """Return a curve for each group of runs."""
    curves = []
    for number, (names, members) in enumerate(_groups(runs)):
        found = [_measured_points(run, key) if is_metric else run.curve(key) for run in members]
        points: Points = found[0]
        band, note = None, ""
        if len(members) > 1:
            over_seeds = median_curve([_smoothed(each) for each in found] if is_smoothed else found)
            if over_seeds is None:
                continue
            points = list(zip(over_seeds.kimg, over_seeds.median, strict=True))
            low, high = (list(zip(over_seeds.kimg, end, strict=True)) for end in (over_seeds.low, over_seeds.high))
            band, note = (low, high), _missing(names, over_seeds, found)
        if points:
            best = best_point(members[0], key) if is_metric and len(runs) == 1 else None
            curves.append(Curve("", points, number, is_smoothed and band is None, band, best, note))
    return tuple(curves)


def _missing(names: str, shown: MedianCurve, curves: Sequence[Points]) -> str:
    """Return a sentence if not all seeds have values, or if some have values after the end of the shortest one."""
    last = max(kimg for points in curves for kimg, value in points if math.isfinite(value))
    of = f"is of {shown.count} of {len(curves)} seeds, since the others have no values"
    until = f"ends at {shown.kimg[-1]:,.1f} kimg with the shortest curve"
    parts = [of] * (shown.count < len(curves)) + [until] * (shown.kimg[-1] < last)
    return f"The median of {names} {' and '.join(parts)}." if parts else ""


def _measured_points(run: RunSummary, metric: str) -> Points:
    """Return the values of a metric as (kimg, value): those of the log, and one that only evaluation.json has."""
    history = run.scores[metric].history if metric in run.scores else ()
    at = kimg_at(run.log, [step for step, _ in history])
    return [(kimg, value) for kimg, (_, value) in zip(at, history, strict=True) if kimg is not None]


def _smoothed(points: Points) -> Points:
    return list(zip((kimg for kimg, _ in points), smoothed([value for _, value in points]), strict=True))
