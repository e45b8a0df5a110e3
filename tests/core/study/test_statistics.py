"""Statistics of a study against scipy, closed forms and definitions."""

import math
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from gancore.study.statistics import (
    Comparison,
    failure_of,
    fewest_seeds,
    holm,
    in_range,
    paired_ratio,
    rank_test,
    ranks_better,
    share_of_failures,
    smallest_p,
)

positive = st.floats(1e-3, 1e3)
pvalues = st.lists(st.floats(0, 1), min_size=1, max_size=8)
samples = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=5, unique=True)


@given(samples, samples)
def test_rank_test_is_the_exact_one_of_scipy_without_ties(first, second):
    assume(not set(first) & set(second))
    expected = mannwhitneyu(first, second, method="exact").pvalue
    assert rank_test(first, second, "lower") == pytest.approx(expected)


@given(samples, samples, st.sampled_from(["lower", "higher"]))
def test_rank_test_does_not_depend_on_the_order_of_arms_or_seeds(first, second, better):
    forward = rank_test(first, second, better)
    assert rank_test(second, first, better) == pytest.approx(forward)
    assert rank_test(first[::-1], second, better) == pytest.approx(forward)
    assert 0 < forward <= 1


@given(samples, samples)
def test_arm_that_ranks_better_has_lower_values_in_most_pairs(first, second):
    lower = sum(a < b for a in first for b in second) - sum(a > b for a in first for b in second)
    expected = None if lower == 0 else lower > 0
    assert ranks_better(first, second, "lower") is expected
    assert ranks_better(second, first, "higher") is expected
    negative = [[value - 1000 for value in each] for each in (first, second)]
    assert ranks_better(*negative, "lower") is expected


def test_rank_test_ranks_what_is_not_finite_as_worst():
    good, bad = [1.0, 2.0, 3.0, 4.0, 5.0], [math.nan, math.inf, math.nan, math.inf, math.nan]
    assert rank_test(good, bad, "lower") == pytest.approx(smallest_p(5, 1))
    assert rank_test(good, bad, "higher") == pytest.approx(smallest_p(5, 1))
    assert rank_test(bad, bad, "lower") == 1.0
    # Beside a failure a high value is good if lower is better, and so it is the other way around.
    assert rank_test([9.0, 9.5, 9.9], [math.nan] * 3, "lower") == rank_test([9.0, 9.5, 9.9], [99.0] * 3, "lower")


@given(st.integers(2, 7), st.integers(1, 5))
def test_smallest_p_is_that_of_arms_without_overlap(seeds, arms):
    apart = rank_test(list(range(seeds)), [100.0 + seed for seed in range(seeds)], "lower")
    assert smallest_p(seeds, arms) == pytest.approx(min(1.0, arms * apart))


@given(pvalues)
def test_holm_raises_no_p_above_that_of_bonferroni_and_keeps_the_order(given_values):
    corrected = holm(given_values)
    assert all(
        p <= new <= min(1.0, len(given_values) * p) + 1e-12 for p, new in zip(given_values, corrected, strict=True)
    )
    order = sorted(range(len(given_values)), key=lambda place: given_values[place])
    assert all(corrected[a] <= corrected[b] for a, b in pairwise(order))


def test_holm_of_an_example_computed_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.01, 0.04], 5) == pytest.approx([0.05, 0.16])


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=12))
def test_paired_ratio_is_that_of_the_medians_within_its_interval(pairs):
    own, others = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio, low, high = paired_ratio(own, others)
    assert ratio == pytest.approx(median(own) / median(others))
    assert low <= high
    assert min(own) / max(others) <= low * (1 + 1e-9)
    assert high <= max(own) / min(others) * (1 + 1e-9)


@given(st.lists(positive, min_size=1, max_size=12), st.floats(0.1, 10))
def test_paired_ratio_of_a_constant_factor_has_no_width(values, factor):
    ratio, low, high = paired_ratio([factor * value for value in values], values)
    assert (ratio, low, high) == pytest.approx((factor, factor, factor))


def test_paired_ratio_covers_the_truth_as_often_as_it_says():
    generator, hits = np.random.default_rng(1), 0
    for _ in range(200):
        level = generator.lognormal(0, 1, size=20)  # that of a seed, which both arms share
        others, own = level * generator.lognormal(0, 0.1, size=20), 2 * level * generator.lognormal(0, 0.1, size=20)
        _, low, high = paired_ratio(own, others)
        hits += low <= 2 <= high
    assert 0.88 <= hits / 200 <= 1


@pytest.mark.parametrize("seeds", [4, 5])
def test_paired_ratio_of_few_seeds_to_a_constant_is_from_the_lowest_to_the_highest_value(seeds):
    """So it covers the truth less often than it says: with a probability of 1 - 2 / 2**seeds."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        own = 2 * generator.lognormal(0, 0.1, size=seeds)
        _, low, high = paired_ratio(own, [1.0] * seeds)
        assert (low, high) == (min(own), max(own))


@pytest.mark.parametrize("seeds", [4, 10])
def test_paired_ratio_of_few_seeds_covers_the_truth_in_most_cases(seeds):
    generator, hits = np.random.default_rng(1), 0
    for _ in range(200):
        others, own = generator.lognormal(0, 0.1, size=seeds), 2 * generator.lognormal(0, 0.1, size=seeds)
        _, low, high = paired_ratio(own, others)
        hits += low <= 2 <= high
    assert 0.85 <= hits / 200 <= 1


@pytest.mark.parametrize("values", [[], [0.0], [-1.0], [math.nan], [math.inf]])
def test_paired_ratio_is_absent_unless_all_values_are_positive(values):
    assert paired_ratio(values, [1.0] * len(values)) is None


@pytest.mark.parametrize(
    ("value", "shares", "better", "reason"),
    [
        (None, (), "lower", "not finite"),
        (math.nan, (), "lower", "not finite"),
        (3.0, (), "lower", None),
        (3.01, (), "lower", "above 3 times the median of the baseline"),
        (0.34, (), "higher", None),
        (0.33, (), "higher", "below 1/3 of the median of the baseline"),
        (1.0, [(0.009, None)], "lower", "a class has 0.9% of the samples"),
        (1.0, [(0.01, None)], "lower", None),
        (1.0, [(0.01, 0.1)], "lower", None),
        (1.0, [(0.003, 0.005)], "lower", None),
        (1.0, [(0.002, 0.005)], "lower", "a class has 0.2% of the samples"),
    ],
)
def test_failure_is_said_by_the_stated_rule(value, shares, better, reason):
    assert failure_of(value, shares, [0.5, 1.0, 7.0], better) == reason


def test_failure_by_the_median_needs_a_baseline():
    assert failure_of(99.0, (), [], "lower") is None


def compared(**changes):
    fields = {
        "arm": "hinge",
        "baseline": "base",
        "metric": "fd",
        "better": "lower",
        "ratio": 0.5,
        "low": 0.4,
        "high": 0.6,
    }
    fields |= {
        "p": 0.01,
        "is_better": True,
        "smallest_p": 0.001,
        "arms": 1,
        "failed": 0,
        "failed_baseline": 0,
        "seeds": 10,
    }
    return Comparison(**fields | changes).conclusion


def test_conclusion_says_what_the_numbers_allow():
    assert compared() == "hinge is better than base: 0.50 times the fd of base (0.40 to 0.60), p = 0.01."
    assert compared(is_better=False).startswith("hinge is worse than base")
    assert compared(is_better=True, ratio=None) == "hinge is better than base, p = 0.01."
    assert compared(p=0.3).startswith("10 seeds cannot tell hinge and base apart: 0.50 times")
    assert compared(seeds=3, smallest_p=0.1, p=0.1) == (
        "3 seeds are too few to tell hinge and base apart, whatever the values: 0.50 times the fd of base. "
        "It takes at least 4 seeds."
    )
    assert compared(failed=2).endswith(" hinge failed with 2 of 10, base with 0.")
    without = compared(ratio=None, low=None, high=None, is_better=False, failed=9)
    assert without == "hinge is worse than base, p = 0.01. hinge failed with 9 of 10, base with 0."


def test_range_has_the_median_and_both_ends():
    assert in_range([3.0, 1.0, 2.0, math.nan]) == "2 (1 to 3)"
    assert in_range([5.0]) == "5"
    assert in_range([math.nan]) == "-"


@pytest.mark.parametrize(
    ("failed", "seeds", "low", "high"), [(0, 30, "0%", "12%"), (1, 30, "0%", "17%"), (3, 10, "7%", "65%")]
)
def test_failures_of_an_arm_have_the_interval_of_clopper_and_pearson(failed, seeds, low, high):
    """Against tables of exact binomial confidence limits."""
    text = share_of_failures("base", failed, seeds)
    assert text == f"base failed with {failed} of {seeds} seeds, so with {low} to {high} of all seeds (95 % interval)."


@given(st.integers(1, 50))
def test_fewest_seeds_are_those_that_can_show_a_difference(arms):
    seeds = fewest_seeds(arms)
    assert smallest_p(seeds, arms) < 0.05 <= smallest_p(seeds - 1, arms)
