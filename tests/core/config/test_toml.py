import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gancore.config import toml

TEXT = st.text() | st.text("\"\\\x00\x08\t\n\r\x1b\x1f\x7f\x80\u2028 #=[]{}.,'none") | st.text("abc_-0")
SCALARS = st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=25
)


def typed(value):
    """The same data with the types of all values, since 1 == 1.0 == True and -0.0 == 0.0."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), repr(value)


@given(VALUES)
@example({"a": {"b": {}, "c": [[], {}, [{}]]}, "": {"": {"": ""}}, "a.b": {"c.d": 1}})
@example([5e-324, 1.7976931348623157e308, -0.0, 1e16, 1e22, 1e-7, 0.1, float("inf"), -float("inf")])
def test_literal_is_one_line_that_reads_back_exactly(value):
    text = toml.literal(value)
    assert "\n" not in text
    assert typed(tomllib.loads(f"key = {text}")["key"]) == typed(value)


@pytest.mark.parametrize("value", [None, b"x", {1}, 1j])
@pytest.mark.parametrize("put", [lambda v: {"a": v}, lambda v: {"a": [v]}, lambda v: {"a": {"b": {"c": {"d": v}}}}])
def test_value_of_a_type_without_toml_is_refused_at_any_depth(value, put):
    with pytest.raises(TypeError, match="not TOML serializable"):
        toml.literal(put(value))
