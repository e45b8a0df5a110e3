import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.config.layers import flattened
from gancore.errors import ConfigError
from gancore.report.collect import collect
from gancore.report.compare import (
    best_first,
    config_differences,
    groups_over_seeds,
    median_and_spread,
    median_curve,
)
from helpers.run_folders import run_folder, score

NAMES = st.sampled_from(["lr", "name", "a.b", "g", "x y", 'q"'])
VALUES = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=3), st.lists(st.integers(0, 2)))
CONFIGS = st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
TABLES = st.dictionaries(NAMES, CONFIGS, max_size=4)
NUMBERS = st.floats(-1e6, 1e6)


@given(st.lists(TABLES, max_size=4))
def test_config_differences_are_the_keys_whose_values_differ(configs):
    rows = config_differences(configs)
    flat = [flattened(config) for config in configs]
    for row in rows:
        assert [repr(value) for value in row.values] == [repr(values.get(row.key)) for values in flat]
        assert len({repr(value) for value in row.values}) > 1
    different = {row.key for row in rows}
    for key in {key for values in flat for key in values} - different:
        assert len({repr(values.get(key)) for values in flat}) == 1


def test_config_differences_mark_absent_keys_and_keep_tables_together():
    one = {"seed": 0, "loss": {"name": "bce"}, "latent": {"dim": 8}}
    other = {"seed": 1, "loss": {"name": "hinge", "margin": 1.0}, "latent": {"dim": 8}}
    rows = config_differences([one, other, one])
    assert [(row.key, row.values) for row in rows] == [
        ("seed", (0, 1, 0)),
        ("loss.name", ("bce", "hinge", "bce")),
        ("loss.margin", (None, 1.0, None)),
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["bce", "hinge"]), st.integers(1, 2)), max_size=8))
def test_groups_over_seeds_ignore_the_seed_and_what_is_only_recorded(choices):
    configs = [{"seed": seed, "loss": {"name": loss}, "log": {"every_steps": log}} for seed, loss, log in choices]
    groups = groups_over_seeds(configs)
    assert sorted(position for group in groups for position in group) == list(range(len(configs)))
    for group in groups:
        assert {choices[position][1] for position in group} == {choices[group[0]][1]}
    assert len(groups) == len({loss for _, loss, _ in choices})


@given(st.lists(st.floats(), max_size=9))
def test_median_and_spread_leave_out_what_is_not_finite(values):
    finite = [value for value in values if math.isfinite(value)]
    spread = median_and_spread(values)
    if not finite:
        assert spread is None
        return
    assert (spread.median, spread.low, spread.high, spread.count) == (
        median(finite),
        min(finite),
        max(finite),
        len(finite),
    )


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 100), NUMBERS), min_size=1, max_size=6, unique_by=lambda point: point[0]),
        min_size=1,
        max_size=4,
    )
)
def test_median_curve_stays_between_the_curves_over_the_kimg_that_all_have(curves):
    found = median_curve(curves, points=7)
    first = max(min(kimg for kimg, _ in curve) for curve in curves)
    last = min(max(kimg for kimg, _ in curve) for curve in curves)
    if first > last:
        assert found is None
        return
    assert found.kimg[0] == first
    assert found.kimg[-1] == last
    for low, middle, high in zip(found.low, found.median, found.high, strict=True):
        assert low <= middle <= high
    values = [value for curve in curves for _, value in curve]
    assert min(values) - 1e-6 <= min(found.low)
    assert max(found.high) <= max(values) + 1e-6


def test_median_curve_takes_the_middle_of_three_lines():
    lines = [[(0, 0), (10, 10)], [(5, 1), (20, 1)], [(0, 100), (8, 100), (9, math.nan)]]
    found = median_curve(lines, points=4)
    assert found.kimg == (5.0, 6.0, 7.0, 8.0)
    assert found.low == (1.0,) * 4
    assert found.median == (5.0, 6.0, 7.0, 8.0)
    assert found.high == (100.0,) * 4


def test_median_curve_leaves_out_curves_without_points():
    assert median_curve([]) is None
    assert median_curve([[(0, math.nan)]]) is None
    found = median_curve([[(0, 1), (0, 3)], [(0, 5)], [(0, math.nan)], []])
    assert (found.median, found.count) == ((4.0,), 2)


def test_refusal_to_sort_keeps_the_metrics_of_the_newest_evaluation_in_its_hint(tmp_path):
    path = run_folder(tmp_path / "run", evaluation={"kid-random": score(5.0)})
    with pytest.raises(ConfigError, match="better") as error:
        best_first([collect(path)], "fd-classifier")
    assert error.value.hint == f"gancore evaluate {path} --metric fd-classifier --metric kid-random --save"
