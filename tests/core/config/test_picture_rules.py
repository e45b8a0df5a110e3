"""The rules by which values of a config follow from pictures."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore import Catalog, ConfigError
from gancore.config.layers import REMOVE
from gancore.config.picture_rules import (
    RULES,
    Facts,
    can_be_halved,
    decisions,
    is_set,
    r1_gamma,
    rules_for,
    wanted_shape,
)

RECIPE = Catalog.installed().recipe("pictures")
PAGE = Path(__file__).parents[3] / "docs" / "pictures.md"
SIDES = st.integers(1, 600)
FACTS = st.builds(
    Facts,
    shape=st.tuples(st.sampled_from([1, 2, 3, 4, 7]), SIDES, SIDES),
    items=st.integers(1, 100_000),
    classes=st.integers(0, 2000),
    mirrors=st.booleans(),
    accelerated=st.booleans(),
    pretrained=st.booleans(),
)


def decided(facts, own=None):
    return {each.key: each.value for each in decisions(RECIPE.rules, facts, dict(RECIPE.data), own or {})}


def kimg(values):
    return float(values["duration"].removesuffix(" kimg"))


def value_at(table, key):
    for part in key.split("."):
        table = table[part]
    return table


def test_recipe_holds_what_the_rules_give_without_a_gpu():
    values = decided(Facts((3, 32, 32), items=3_786))
    assert {
        "generator.name",
        "batch_size",
        "optimizer.generator.betas",
        "duration",
        "ema.refresh_batchnorm",
    } <= values.keys()
    assert values.pop("sample.every_kimg") == 50
    assert "sample" not in RECIPE.data, "a run in minutes draws twenty grids where no interval is set"
    assert values == {key: value_at(RECIPE.data, key) for key in values}


def test_page_has_the_rules():
    rows = [f"| {', '.join(f'`{key}`' for key in rule.keys)} | {rule.text} | {rule.reason} |" for rule in RULES]
    table = PAGE.read_text(encoding="utf-8").partition("| key | value | reason |\n| --- | --- | --- |\n")[2]
    assert table.partition("\n\n")[0].splitlines() == rows


@settings(max_examples=60)
@given(FACTS, st.data())
def test_rules_change_monotonically(facts, data):
    values, (channels, height, width) = decided(facts), facts.shape
    taller = decided(replace(facts, shape=(channels, height * 2, width * 2)))
    more = decided(replace(facts, items=facts.items + data.draw(st.integers(0, 10_000))))
    slower = decided(replace(facts, accelerated=False))
    assert taller["batch_size"] <= values["batch_size"] <= min(64, facts.items)
    assert kimg(values) <= kimg(more)
    assert kimg(slower) <= kimg(values)
    assert slower["batch_size"] <= values["batch_size"]
    if values["discriminator.name"] == "mlp":
        assert values["regularizers.r1.gamma"] == r1_gamma(height * width, values["batch_size"])
    if values["generator.name"] == taller["generator.name"] != "mlp":
        assert taller["generator.width"] <= values["generator.width"]
        assert 16 <= values["generator.width"] <= 64
    assert values["sample.every_kimg"] == pytest.approx(kimg(values) / 20, rel=0.01)


@settings(max_examples=60)
@given(FACTS, st.sets(st.sampled_from([key for _, key in rules_for(RECIPE.rules)])), st.sampled_from([1, 16, 100]))
def test_rules_leave_what_the_user_sets(facts, keys, batch):
    own = {"batch_size": batch}
    for key in sorted(keys - {"batch_size"}):
        table = own
        *parts, last = key.split(".")
        for part in parts:
            table = table.setdefault(part, {})
        table.setdefault(last, REMOVE)
    values = decided(facts, own)
    assert not [key for key in values if is_set(key, own)]
    assert not keys & values.keys()
    if "regularizers.r1.gamma" in values:
        assert values["regularizers.r1.gamma"] == r1_gamma(facts.pixels, batch)


@pytest.mark.parametrize(
    ("own", "key", "expected"),
    [
        ({"generator": "dcgan"}, "generator.name", True),
        ({"generator": "dcgan"}, "generator.width", False),
        ({"generator": {"name": "dcgan", "width": 8}}, "generator.width", True),
        ({"ema": REMOVE}, "ema.half_life_kimg", True),
        ({"regularizers": REMOVE}, "regularizers.r1.gamma", True),
        ({"regularizers": {"r1": REMOVE}}, "regularizers.r1.gamma", True),
        ({"regularizers": {"r1": {"interval": 2}}}, "regularizers.r1.gamma", False),
        ({"augmentations": {"ada": {"target": 0.5}}}, "augmentations.ada.policy", False),
        ({"optimizer": {"generator": {"lr": {"to": 1e-5}}}}, "optimizer.generator.lr", True),
        ({"seed": 1}, "batch_size", False),
    ],
)
def test_key_is_set_by_itself_and_by_a_table_around_it(own, key, expected):
    assert is_set(key, own) is expected


@given(st.tuples(st.sampled_from([1, 3, 4]), SIDES, SIDES), st.booleans())
def test_wanted_shape_is_small_and_fits_networks(shape, accelerated):
    wanted = wanted_shape(shape, accelerated=accelerated)
    assert wanted[0] == shape[0]
    assert can_be_halved(*wanted[1:])
    assert min(wanted[1:]) <= (64 if accelerated else 32)
    assert wanted_shape(wanted, accelerated=accelerated) == wanted
    assert wanted == shape or min(wanted[1:]) % 8 == 0


@pytest.mark.parametrize(
    ("sides", "possible"),
    [
        ((8, 8), True),
        ((30, 30), True),
        ((32, 32), True),
        ((28, 44), True),
        ((6, 8), False),
        ((31, 32), False),
        ((34, 34), False),
        ((300, 300), False),
        ((512, 512), True),
    ],
)
def test_can_be_halved_asks_for_even_sides_and_small_features(sides, possible):
    assert can_be_halved(*sides) is possible


@pytest.mark.parametrize(("sides", "network"), [((8, 9), "dcgan"), ((7, 40), "mlp"), ((300, 31), "dcgan")])
def test_rules_choose_networks_by_size(sides, network):
    values = decided(Facts((3, *sides), 1000))
    assert values["generator.name"] == values["discriminator.name"] == network
    assert ("generator.widths" in values) is (network == "mlp")


@pytest.mark.parametrize(
    ("own", "penalized", "refreshed"),
    [
        ({}, False, True),
        ({"discriminator": "dcgan"}, False, True),
        ({"discriminator": {"name": "dcgan", "normalization": "off"}}, True, True),
        ({"discriminator": "resnet", "generator": "resnet"}, True, False),
        ({"generator": {"name": "dcgan", "normalization": "off"}}, False, False),
    ],
)
def test_rules_follow_the_networks_of_the_user(own, penalized, refreshed):
    values = decided(Facts((3, 32, 32), 3000), own)
    assert (values.get("regularizers.r1.gamma"), values.get("regularizers.r1.interval")) == (
        (2.0, 4) if penalized else (None, None)
    )
    assert values["optimizer.discriminator.betas"] == ([0.0, 0.99] if penalized else [0.5, 0.999])
    assert values["ema.refresh_batchnorm"] is refreshed
    assert ("latent.dim" in values) is (own.get("generator") != "resnet")


@pytest.mark.parametrize(
    ("channels", "mirrors", "policy"),
    [(3, False, ["translation", "cutout"]), (5, True, ["translation", "cutout", "flip"])],
)
def test_rules_augment_color_only_in_colors(channels, mirrors, policy):
    values = decided(Facts((channels, 32, 32), 900, mirrors=mirrors))
    assert values["augmentations.ada.policy"] == policy


@pytest.mark.parametrize(("items", "pretrained", "total"), [(1, False, 50), (169, False, 169), (9**6, True, 500)])
def test_duration_follows_from_the_number_of_pictures(items, pretrained, total):
    assert kimg(decided(Facts((3, 32, 32), items, pretrained=pretrained))) == total


@pytest.mark.parametrize(
    ("items", "duration", "ramp"),
    [
        (1, None, 25),
        (169, None, 84.5),
        (999, None, 500),
        (1000, None, None),
        (1, "700 kimg", 350),
        (1, "9 minutes", None),
    ],
)
def test_ramp_of_ada_is_half_of_a_short_duration(items, duration, ramp):
    own = {} if duration is None else {"duration": duration}
    values = decided(Facts((3, 32, 32), items), own)
    assert values.get("augmentations.ada.ramp_kimg") == (None if ramp is None else pytest.approx(ramp, rel=1e-2))


def test_rules_for_names_an_unknown_rule():
    with pytest.raises(ConfigError, match=re.escape("unknown rule 'batch'; did you mean 'batch_size'?")):
        rules_for(["batch"])
    assert {key for _, key in rules_for(["generator"])} == {
        "generator.name",
        "generator.width",
        "generator.widths",
    }
