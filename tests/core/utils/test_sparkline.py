import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.utils.sparkline import BLOCKS, can_show_blocks, sparkline

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(), max_size=200), st.integers(1, 80))
def test_sparkline_has_a_character_for_each_value_up_to_its_width(values, width):
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= {*BLOCKS, " "}


@given(st.lists(st.floats(), max_size=80))
def test_sparkline_leaves_gaps_exactly_where_values_are_not_finite(values):
    line = sparkline(values, 80)
    assert [character == " " for character in line] == [not math.isfinite(value) for value in values]


@given(st.lists(FINITE, min_size=1, max_size=80))
def test_sparkline_is_in_the_order_of_the_values_and_spans_all_blocks(values):
    line = sparkline(values, 80)
    for one, left in zip(values, line, strict=True):
        assert all(left <= right for other, right in zip(values, line, strict=True) if one <= other)
    if max(values) / 2 > min(values) / 2:
        assert {BLOCKS[0], BLOCKS[-1]} <= set(line)


@given(FINITE, st.integers(1, 500))
def test_sparkline_of_equal_values_is_flat(value, count):
    assert set(sparkline([value] * count, 40)) == {"▄"}


def test_sparkline_of_many_values_shows_medians():
    values = [0.0] * 999 + [1e9] + [1.0] * 1000
    assert sparkline(values, 2) == "▁█"
    assert sparkline([], 10) == ""
    assert sparkline([1, 2, math.nan, 4], 10) == "▁▃ █"


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("no", False)]
)
def test_can_show_blocks_depends_on_the_encoding(encoding, expected):
    assert can_show_blocks(encoding) is expected
