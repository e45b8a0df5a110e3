import tomllib

import pytest
import tomli_w
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


@given(st.dictionaries(TEXT, VALUES, max_size=6))
@example({"a": {"b": {"c": {"d": {}}}}, "e": {}, "f": [[], {}, [{}]]})
@example({"a": {"b": {}, "c": 1}, "": {"": {"": ""}}, "a.b": {"c.d": 1}})
@example({"x": [5e-324, 1.7976931348623157e308, -0.0, 1e16, 1e22, 1e-7, 0.1, float("inf"), -float("inf")]})
@example({"a": {"z": {"deep": 1}}, "b": 2})
def test_document_is_read_back_exactly(data):
    assert typed(tomllib.loads(tomli_w.dumps(data))) == typed(data)


@given(TEXT, TEXT)
def test_string_stays_on_its_line(key, text):
    assert len(tomli_w.dumps({key: text}).split("\n")) == 2


def test_tuples_are_written_as_lists():
    assert tomllib.loads(tomli_w.dumps({"a": (1, (2.0, "x"))})) == {"a": [1, [2.0, "x"]]}


def test_nan_is_written_and_read():
    assert repr(tomllib.loads(tomli_w.dumps({"a": float("nan")}))["a"]) == "nan"


def test_values_come_first_then_tables_under_headers():
    data = {"b": {"inner": {"deep": {"x": 1, "y z": [True]}}, "n": 2}, "a": 1, "odd key": {}}
    document = 'a = 1\n\n[b]\nn = 2\n\n[b.inner.deep]\nx = 1\n"y z" = [\n    true,\n]\n\n["odd key"]\n'
    assert tomli_w.dumps(data) == document


@given(VALUES)
def test_literal_is_one_line_that_reads_back_exactly(value):
    text = toml.literal(value)
    assert "\n" not in text
    assert typed(tomllib.loads(f"key = {text}")["key"]) == typed(value)


def test_table_of_tables_has_no_header_of_its_own():
    assert tomli_w.dumps({"a": {"b": {"c": 1}}}) == "[a.b]\nc = 1\n"


@pytest.mark.parametrize("value", [None, b"x", {1}, 1j])
@pytest.mark.parametrize("put", [lambda v: {"a": v}, lambda v: {"a": [v]}, lambda v: {"a": {"b": {"c": {"d": v}}}}])
def test_value_of_a_type_without_toml_is_refused_at_any_depth(value, put):
    with pytest.raises(TypeError, match="not TOML serializable"):
        tomli_w.dumps(put(value))
    with pytest.raises(TypeError, match="not TOML serializable"):
        toml.literal(put(value))
