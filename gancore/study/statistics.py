"""Statistics of a study: paired ratios with bootstrap intervals, rank tests, and what may be concluded from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median

import numpy as np
from scipy.stats import PermutationMethod, binomtest, mannwhitneyu

from gancore.metrics import Better
from gancore.utils.text import short_number

LEVEL = 0.05
"""The probability below which a difference is called one."""
_RESAMPLES = 10_000
FEWEST_SHARE, WORST_FACTOR = 0.01, 3.0
"""A run fails below this share of a class, or this many times worse than the median of the baseline."""


@dataclass(frozen=True)
class Comparison:
    """An arm compared with the baseline by one metric.

    `ratio` is that of the medians, `low` and `high` are its 95 % interval; all three have a value if all values are
    positive. The interval is of this arm alone, and too narrow with few seeds. `p` is corrected for the number of
    `arms` that are compared with the baseline; `smallest_p` is the least that this number of seeds can give.
    `is_better` says whether the values of the arm rank better, None if neither do.
    """

    arm: str
    baseline: str
    metric: str
    better: Better
    ratio: float | None
    low: float | None
    high: float | None
    p: float
    is_better: bool | None
    smallest_p: float
    arms: int
    failed: int
    failed_baseline: int
    seeds: int

    @property
    def conclusion(self) -> str:
        """What may be concluded, in a sentence."""
        against, seeds = self.baseline, f"{self.seeds} seed{'s' * (self.seeds != 1)}"
        ratio, _, interval = self.ratio_text.partition(" ")
        size = f": {ratio} times the {self.metric} of {against}{interval and ' '}{interval}" if ratio else ""
        failures = ""
        if self.failed or self.failed_baseline:
            failures = f" {self.arm} failed with {self.failed} of {self.seeds}, {against} with {self.failed_baseline}."
        if not self.can_differ:
            verb = "is" if self.seeds == 1 else "are"
            return (
                f"{seeds} {verb} too few to tell {self.arm} and {against} apart, whatever the values{size}. "
                f"It takes at least {fewest_seeds(self.arms)} seeds.{failures}"
            )
        if self.p >= LEVEL:
            return f"{seeds} cannot tell {self.arm} and {against} apart{size}, p = {self.p:.2g}.{failures}"
        word = "better" if self.is_better else "worse"
        return f"{self.arm} is {word} than {against}{size}, p = {self.p:.2g}.{failures}"

    @property
    def ratio_text(self) -> str:
        """The ratio, with its interval where there are seeds enough for one; empty without a ratio."""
        if self.ratio is None or self.low is None or self.high is None:
            return ""
        return f"{self.ratio:.2f}" + (f" ({self.low:.2f} to {self.high:.2f})" if self.can_differ else "")

    @property
    def can_differ(self) -> bool:
        """Whether this number of seeds can show a difference at all."""
        return self.smallest_p < LEVEL


def failure_of(
    value: float | None,
    shares: Iterable[tuple[float, float | None]],
    baseline: Sequence[float],
    better: Better,
) -> str | None:
    """Return why a run has failed by the stated rule, None if it has not; `value` may be absent.

    `shares` are those of the rarest class among the samples and, if it is known, in real data. `baseline` are the
    finite values of the baseline.
    """
    if value is None or not math.isfinite(value):
        return "not finite"
    for share, real in shares:
        if share < (FEWEST_SHARE if real is None else min(FEWEST_SHARE, real / 2)):
            return f"a class has {share:.1%} of the samples"
    middle = median(baseline) if baseline else math.nan
    if better == "lower" and middle > 0 and value > WORST_FACTOR * middle:
        return f"above {WORST_FACTOR:g} times the median of the baseline"
    if better == "higher" and middle > 0 and value < middle / WORST_FACTOR:
        return f"below 1/{WORST_FACTOR:g} of the median of the baseline"
    return None


def share_of_failures(arm: str, failed: int, seeds: int) -> str:
    """Return how often an arm has failed, with the 95 % interval of Clopper and Pearson 1934, in a sentence."""
    interval = binomtest(failed, seeds).proportion_ci(1 - LEVEL, method="exact")
    return (
        f"{arm} failed with {failed} of {seeds} seed{'s' * (seeds != 1)}, so with {interval.low:.0%} to "
        f"{interval.high:.0%} of all seeds (95 % interval)."
    )


def paired_ratio(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the ratio of the medians and its 95 % interval: seeds are resampled as pairs (percentile bootstrap).

    `values` and `baseline` (S,) belong to the same seeds, in the same order. None unless all are finite and positive.
    With few seeds the interval is too narrow. If the baseline is constant, it reaches from the lowest to the highest
    value for four or five seeds, and so has the true ratio with a probability of 87.5 % or 93.75 %.
    """
    pairs = np.array([values, baseline], dtype=float)
    if not pairs.size or not np.isfinite(pairs).all() or (pairs <= 0).any():
        return None
    chosen = np.random.default_rng(0).integers(pairs.shape[1], size=(_RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, chosen], axis=2)
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    ratio = np.median(pairs[0]) / np.median(pairs[1])
    return float(ratio), float(low), float(high)


def rank_test(values: Sequence[float], baseline: Sequence[float], better: Better) -> float:
    """Return the two-sided p of Mann and Whitney's test, by permutations; values that are not finite rank worst.

    It is exact for up to nine seeds of each arm, and 1 for a single seed.
    """
    first, second = _ranks(values, baseline, better)
    if len({*first, *second}) == 1 or len(first) < 2 or len(second) < 2:
        return 1.0
    method = PermutationMethod(n_resamples=100_000, rng=np.random.default_rng(0))
    return float(mannwhitneyu(first, second, method=method).pvalue)


def ranks_better(values: Sequence[float], baseline: Sequence[float], better: Better) -> bool | None:
    """Return whether values rank better than those of the baseline in more than half of all pairs; None for half."""
    first, second = _ranks(values, baseline, better)
    balance = sum((other > own) - (other < own) for own in first for other in second)
    return None if balance == 0 else (balance > 0) == (better == "lower")


def _ranks(values: Sequence[float], baseline: Sequence[float], better: Better) -> tuple[list[int], list[int]]:
    """Return the ranks of both among all values, lowest first; values that are not finite are the worst."""
    worst = math.inf if better == "lower" else -math.inf
    both = [[value if math.isfinite(value) else worst for value in each] for each in (values, baseline)]
    order = {value: rank for rank, value in enumerate(sorted({*both[0], *both[1]}))}
    first, second = ([order[value] for value in each] for each in both)
    return first, second


def smallest_p(seeds: int, arms: int) -> float:
    """Return the smallest corrected p that a number of seeds of each arm can give, compared in `arms` tests."""
    return min(1.0, arms * 2 / math.comb(2 * seeds, seeds))


def fewest_seeds(arms: int) -> int:
    """Return the fewest seeds with which `arms` tests can show a difference."""
    return next(seeds for seeds in count(2) if smallest_p(seeds, arms) < LEVEL)


def holm(pvalues: Sequence[float], tests: int | None = None) -> list[float]:
    """Return p values corrected for the number of tests, so that the chance of any false difference is below the level.

    `tests` is that number if more are planned than there are values. The method is that of Holm 1979, A simple
    sequentially rejective multiple test procedure.
    """
    tests = max(tests or 0, len(pvalues))
    order = sorted(range(len(pvalues)), key=lambda place: pvalues[place])
    corrected, highest = [0.0] * len(pvalues), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (tests - rank) * pvalues[place]))
        corrected[place] = highest
    return corrected


def in_range(values: Sequence[float]) -> str:
    """Return the median of the finite values, and the lowest and the highest in parentheses."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "-"
    if len(finite) == 1:
        return short_number(finite[0])
    return f"{short_number(median(finite))} ({short_number(min(finite))} to {short_number(max(finite))})"
