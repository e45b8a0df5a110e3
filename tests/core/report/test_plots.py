import math
import re

import html5lib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.report.plots import COLORS, Curve, Plot, smoothed, svg, thinned, tick
from gancore.utils.files import without_warnings

NUMBERS = st.floats(-1e9, 1e9)
VALUES = st.one_of(NUMBERS, st.just(math.nan))


def drawn(plot, prefix="p"):
    with without_warnings():
        return svg(plot, prefix)


def example(label="generator", **more):
    points = [(float(kimg), math.sin(kimg)) for kimg in range(30)]
    return Plot("Losses", (Curve(label, points, 0), Curve("other", points[:5], 1)), **more)


def test_svg_is_xml_whose_text_is_text_and_whose_colors_are_those_of_the_page():
    text = drawn(example(levels=((0.5, "real data"),), events=(3.0,)))
    words = [element.text for element in html5lib.parseFragment(text).iter() if element.tag.endswith("}text")]
    assert {"generator", "other", "real data", "kimg"} <= {word.lstrip("\u200b") for word in words}
    assert not re.findall(r"#[0-9a-f]{6}", text)
    assert set(re.findall(r"var\(--[a-z0-9-]+\)", text)) == {
        *("var(--curve-0)", "var(--curve-1)", "var(--muted)", "var(--line)", "var(--warning)"),
    }


def test_svg_has_the_same_text_each_time_and_ids_with_its_prefix():
    first, again, other = drawn(example()), drawn(example()), drawn(example(), "q")
    assert first == again
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', first)) <= {
        pair for name in ids[0] for pair in ((name, ""), ("", name))
    }


@pytest.mark.parametrize("label", ["$x^2$", "_hidden", "</svg><script>", 'a"b&c', "日本", "r\x00\x1b"])
def test_svg_shows_any_label_as_text(label):
    text = drawn(example(label, levels=((1.0, label),)))
    assert "<script" not in text
    assert text.count("</svg>") == 1


@given(st.lists(VALUES, min_size=1, max_size=60))
def test_smoothed_stays_within_the_values_and_keeps_gaps(values):
    result = smoothed(values)
    assert [math.isnan(value) for value in result] == [math.isnan(value) for value in values]
    finite = [value for value in values if math.isfinite(value)]
    for value in result:
        assert math.isnan(value) or min(finite) - 1e-6 <= value <= max(finite) + 1e-6


@given(NUMBERS, st.integers(1, 50))
def test_smoothed_constant_is_the_constant(value, count):
    assert smoothed([value] * count) == pytest.approx([value] * count, rel=1e-9, abs=1e-9)


@given(st.lists(VALUES, max_size=400), st.integers(4, 50))
def test_thinned_keeps_the_lowest_and_the_highest_of_the_points(values, most):
    points = [(float(kimg), value) for kimg, value in enumerate(values)]
    kimg, kept = thinned(points, most)
    assert len(kept) <= max(most, 0)
    assert {(at, value) for at, value in zip(kimg, kept, strict=True) if value == value} <= set(points)
    assert (np.diff(kimg) > 0).all()
    finite = [value for value in values if value == value]
    if finite:
        assert np.nanmin(kept) == min(finite)
        assert np.nanmax(kept) == max(finite)


@given(st.lists(VALUES, max_size=60))
def test_limits_keep_nearly_all_of_the_line_within_the_points(values):
    limits = Plot("x", (Curve("", list(enumerate(values)), 0),)).limits
    if limits is not None:
        finite = [value for value in values if math.isfinite(value)]
        assert min(finite) <= limits[0] < limits[1] <= max(finite)


def test_limits_leave_out_a_first_point_that_would_flatten_the_curve():
    points = [(kimg, 1 + 0.1 * math.sin(kimg)) for kimg in range(200)]
    assert Plot("x", (Curve("", points, 0),)).limits is None
    low, high = Plot("x", (Curve("", [(0, 50.0), *points[1:]], 0),)).limits
    assert 0.8 < low < 1 < high < 25
    assert Plot("x", (Curve("", [(0, 50.0), *points[1:]], 0),), shows_dots=True).limits is None


def test_plot_is_empty_without_a_finite_value():
    assert Plot("x", (Curve("", [(0.0, math.nan)], 0),)).is_empty
    assert Plot("x", ()).is_empty
    assert not example().is_empty
    assert "generator: from 0 to -0.6636" in example().description
    assert COLORS == 6


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (-3.0, "\u22123"), (9999.0, "9999"), (12_000.0, "12k"), (-12_000.0, "\u221212k")]
)
def test_tick_has_a_minus_sign_and_thousands(value, text):
    assert tick(value) == text
