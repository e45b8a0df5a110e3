from copy import deepcopy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gancore.config.layers import REMOVE, ConfigLayer, assignment, flattened, merge, source_of
from gancore.errors import ConfigError

LEAVES = st.integers(0, 9) | st.booleans() | st.lists(st.integers(0, 9), max_size=2)


def tables(keys, leaves):
    def table(inner):
        return st.dictionaries(st.sampled_from(keys), inner, min_size=1, max_size=3)

    return table(st.recursive(leaves, table, max_leaves=6))


PLAIN = tables("abc", LEAVES)
VALUES = st.dictionaries(st.sampled_from("abc"), LEAVES, max_size=3)
# A key is a value in all layers or a table in all: layers that disagree merge from the left only.
TYPED = st.recursive(
    VALUES, lambda inner: st.builds(dict.__or__, VALUES, st.dictionaries(st.sampled_from("xyz"), inner))
)
ANY = tables(["a", "b", "name"], LEAVES | st.sampled_from(["x", "y", REMOVE]))


def total(*layers):
    return merge([ConfigLayer(str(number), layer) for number, layer in enumerate(layers)])[0]


def paths(table, path=()):
    for key, value in table.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from paths(value, (*path, key))


def leaves(table):
    return {path: value for path, value in paths(table) if not isinstance(value, dict)}


def related(one, other):
    length = min(len(one), len(other))
    return one[:length] == other[:length]


@given(PLAIN, PLAIN)
def test_merge_overrides_leaves_and_keeps_the_others(below, above):
    kept = {path: value for path, value in leaves(below).items() if not any(related(path, p) for p in leaves(above))}
    assert leaves(total(below, above)) == kept | leaves(above)


@given(TYPED, TYPED, TYPED)
def test_merge_is_associative(one, two, three):
    assert total(one, two, three) == total(total(one, two), three) == total(one, total(two, three))


@given(ANY, ANY)
@example({"b": {"a": 0}}, {"b": {"name": {"a": "none"}}})
def test_merge_is_idempotent(below, above):
    assert total(below, above, above) == total(below, above)


@given(ANY, ANY)
def test_merge_does_not_change_its_layers(below, above):
    before = deepcopy((below, above))
    total(below, above)
    assert (below, above) == before


@given(ANY, ANY, ANY)
def test_merge_with_names_and_removals_is_left_associative(one, two, three):
    assert total(one, two, three) == total(total(one, two), three)
    assert REMOVE not in leaves(total(one, two, three)).values()


@given(st.lists(ANY, min_size=1, max_size=4))
def test_merge_gives_every_value_its_source(layers):
    data, sources = merge([ConfigLayer(str(number), layer) for number, layer in enumerate(layers)])
    for path, value in paths(data):
        expected = layers[int(sources[path])]
        for part in path:
            expected = expected[part] if isinstance(expected, dict) else {"name": expected}[part]
        assert value == expected or isinstance(value, dict)
    removed = {path for path, value in paths(layers[-1]) if value == REMOVE}
    assert removed <= set(sources)


@given(ANY, ANY)
def test_merge_keeps_no_source_of_removed_values(below, above):
    data, sources = merge([ConfigLayer("below", below), ConfigLayer("above", above)])
    removed = {path for layer in (below, above) for path, value in paths(layer) if value == REMOVE}
    assert set(sources) <= {path for path, _ in paths(data)} | removed


def test_merge_treats_a_name_as_a_table_with_that_name():
    table, short = {"generator": {"name": "mlp", "widths": [1]}}, {"generator": "mlp"}
    assert total(table, short) == table
    assert total(short, {"generator": {"widths": [1]}}) == table
    assert total(short) == short


def test_merge_treats_text_as_a_name_only_for_components():
    deep = {"optimizer": {"generator": {"lr": {"from": 1}}}}
    assert total(deep, {"optimizer": {"generator": {"lr": "x"}}}) == {"optimizer": {"generator": {"lr": "x"}}}
    nested = {"generator": {"inner": {"core": {"name": "a", "x": 1}}}}
    assert total(nested, {"generator": {"inner": {"core": "a"}}}) == nested


def test_merge_resets_a_table_if_its_name_changes():
    below = {"generator": {"name": "mlp", "widths": [1]}}
    assert total(below, {"generator": {"name": "mlp", "slope": 1}}) == {
        "generator": {"name": "mlp", "widths": [1], "slope": 1}
    }
    assert total(below, {"generator": {"name": "cnn", "slope": 1}}) == {"generator": {"name": "cnn", "slope": 1}}
    assert total(below, {"generator": "cnn"}) == {"generator": {"name": "cnn"}}
    assert total({"generator": "mlp"}, {"generator": {"name": "cnn"}}) == {"generator": {"name": "cnn"}}


def test_merge_resets_only_the_table_whose_name_changes():
    below = {"generator": {"name": "mlp", "inner": {"name": "a", "x": 1}, "y": 2}, "z": 3}
    above = {"generator": {"inner": {"name": "b"}}}
    assert total(below, above) == {"generator": {"name": "mlp", "inner": {"name": "b"}, "y": 2}, "z": 3}


def test_merge_adds_a_name_to_a_table_without_one():
    assert total({"generator": {"widths": [1]}}, {"generator": "mlp"}) == {"generator": {"name": "mlp", "widths": [1]}}


def test_merge_uses_the_label_as_default_name():
    below = {"regularizers": {"r1": {"gamma": 1}, "second": {"name": "r1", "gamma": 2}}}
    assert total(below, {"regularizers": {"r1": "r1", "second": {"name": "r1"}}}) == {
        "regularizers": {"r1": {"name": "r1", "gamma": 1}, "second": {"name": "r1", "gamma": 2}}
    }
    assert total(below, {"regularizers": {"r1": {"name": "r2"}, "second": "r2"}}) == {
        "regularizers": {"r1": {"name": "r2"}, "second": {"name": "r2"}}
    }


def test_merge_value_none_removes_keys_and_tables():
    below = {"ema": {"half_life_kimg": 1}, "latent": {"dim": 3, "distribution": "normal"}}
    assert total(below, {"ema": REMOVE, "latent": {"dim": REMOVE}, "more": {"and": REMOVE}}) == {
        "latent": {"distribution": "normal"},
        "more": {},
    }


def test_merge_sets_a_removed_table_afresh():
    assert total({"a": {"x": 1}}, {"a": REMOVE}, {"a": {"y": 2}}) == {"a": {"y": 2}}


def test_source_of_knows_every_path():
    _, sources = merge(
        [
            ConfigLayer("recipe", {"generator": {"name": "mlp", "slope": 1}, "seed": 1, "loss": "bce", "ema": {}}),
            ConfigLayer("file", {"generator": {"widths": [1]}, "loss": {"x": 1}}),
            ConfigLayer("--set", {"seed": 2, "ema": REMOVE}),
        ]
    )
    assert sources == {
        ("generator",): "file",
        ("generator", "name"): "recipe",
        ("generator", "slope"): "recipe",
        ("generator", "widths"): "file",
        ("seed",): "--set",
        ("loss",): "file",
        ("loss", "name"): "recipe",
        ("loss", "x"): "file",
        ("ema",): "--set",
    }
    assert source_of(("generator", "widths", "0"), sources) == "file"
    assert source_of(("generator", "slope"), sources) == "recipe"
    assert source_of(("nowhere", "at", "all"), sources) is None
    assert source_of((), sources) is None


@pytest.mark.parametrize(
    ("right", "value"),
    [
        ("3", 3),
        ("-1e-3", -1e-3),
        ("0x10", 16),
        ("true", True),
        ("[1, 2.5]", [1, 2.5]),
        ("[]", []),
        ('"two words"', "two words"),
        ("'x'", "x"),
        ("two words", "two words"),
        (" 50 epochs ", "50 epochs"),
        ("mlp", "mlp"),
        ("True", "True"),
        ("[1, 2", "[1, 2"),
        ("a=b", "a=b"),
        ("", ""),
        ("none", "none"),
        ("2020-01-01", "2020-01-01"),
        ("10:00:00", "10:00:00"),
        ("{from = 1, to = 0, kimg = 2}", {"from": 1, "to": 0, "kimg": 2}),
        ("{}", {}),
    ],
)
def test_assignment_value_is_toml_or_a_bare_string(right, value):
    layer = assignment(f"a.b-c={right}")
    assert layer.data == {"a": {"b-c": value}}
    assert type(layer.data["a"]["b-c"]) is type(value)
    assert layer.source == f"--set a.b-c={right}"


@given(st.lists(st.text("abcz_-09", min_size=1), min_size=1, max_size=4), st.integers())
def test_assignment_key_is_a_path(path, value):
    data = assignment(f" {' . '.join(path)} = {value}").data
    for part in path:
        data = data[part]
    assert data == value


@pytest.mark.parametrize("text", ["", "seed", "=3", ".=3", "a.=3", ".a=3", "a..b=3", " =3", "a. .b=3"])
def test_assignment_without_path_or_value_is_rejected(text):
    with pytest.raises(ConfigError, match="--set takes PATH=VALUE; received") as error:
        assignment(text)
    assert repr(text) in str(error.value)
    assert "--set optimizer.generator.lr=1e-3" in error.value.hint


NESTED = st.recursive(st.integers(), lambda inner: st.dictionaries(st.text('ab. "', min_size=1), inner), max_leaves=6)


@given(st.dictionaries(st.text('ab. "', min_size=1), NESTED))
def test_flattened_values_are_those_of_all_tables_each_under_a_key_of_its_own(table):
    def leaves(table):
        for value in table.values():
            if isinstance(value, dict) and value:
                yield from leaves(value)
            else:
                yield value

    assert list(flattened(table).values()) == list(leaves(table))


def test_flattened_keys_are_those_of_assignments():
    assert flattened({"a": {"b": {"c": 1}, "d": {}}, "e.f": {"g": 2}}) == {"a.b.c": 1, "a.d": {}, '"e.f".g': 2}
