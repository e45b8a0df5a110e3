import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.utils.text import duration, file_size, short_number, with_unit_prefix


@given(st.floats(0, 48 * 3600 - 1))
def test_duration_names_the_nearest_second(seconds):
    parts = duration(seconds).split(":")
    assert [len(part) for part in parts[1:]] == [2] * (len(parts) - 1)
    total = sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))
    assert abs(total - seconds) <= 0.5


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "0:05"), (3599.6, "1:00:00"), (7261, "2:01:01"), (3 * 86400, "3.0 days")]
)
def test_duration_shows_hours_minutes_and_days(seconds, text):
    assert duration(seconds) == text


@given(st.floats(-1e300, 1e300))
def test_short_number_has_four_digits(number):
    text = short_number(number)
    assert len(text) <= 11
    assert math.isclose(float(text.replace(",", "")), number, rel_tol=5.1e-4, abs_tol=1e-323)


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (math.nan, "-"), (math.inf, "inf"), (0.09, "0.09"), (999.96, "1,000"), (12345.6, "12,346")],
)
def test_short_number_of_some_values(number, text):
    assert short_number(number) == text


@given(st.floats(0, 1e17))
def test_unit_prefix_leaves_three_digits(number):
    value, prefix = with_unit_prefix(number).split(" ")
    power = ["", "k", "M", "G", "T"].index(prefix)
    assert "+" not in value
    assert power in (0, 4) or 1 <= float(value) < 1000
    assert math.isclose(float(value.replace(",", "")) * 1000**power, number, rel_tol=6e-3, abs_tol=1e-323)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 "), (999, "999 "), (999.6, "1 k"), (1_214_000, "1.21 M"), (3e12, "3 T")]
)
def test_unit_prefix_of_some_values(number, text):
    assert with_unit_prefix(number) == text
    assert file_size(number) == f"{text}B"


@given(st.lists(st.integers(0, 10**16), min_size=2, max_size=2).map(sorted))
def test_file_size_of_a_larger_file_is_not_smaller(counts):
    first, second = (file_size(count).removesuffix("B").split(" ") for count in counts)
    scale = ["", "k", "M", "G", "T"].index
    key = [(scale(unit), float(value.replace(",", ""))) for value, unit in (first, second)]
    assert key == sorted(key)
