"""What the collapse guard proposes to change."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from gancore import Catalog
from gancore.config.layers import ConfigLayer, assignment
from gancore.config.run import read_layers, resolve
from gancore.contracts import Spec
from gancore.run.changes import changes, refused
from gancore.run.collapse_advice import advice

CATALOG = Catalog.installed()
IMAGES, VECTORS = Spec((1, 28, 28)), Spec((2,))


def proposed(recipe, *sets, spec=IMAGES, items=60_000):
    """The command that is proposed for a recipe, the keys that it sets, and the config before and then."""
    layers = [*read_layers(recipe, CATALOG), *map(assignment, sets)]
    before = resolve(layers, CATALOG).to_data(CATALOG)
    command = shlex.split(advice(before, spec, items, Path("runs/a b")).removeprefix("try: "))
    values = [word for option, word in pairwise(command) if option == "--set"]
    now = resolve([ConfigLayer("run", before), *map(assignment, values)], CATALOG).to_data(CATALOG)
    return command, values, before, now


@pytest.mark.parametrize(
    ("recipe", "sets", "spec", "items", "values"),
    [
        ("vanilla", [], IMAGES, 60_000, ["regularizers.r1.gamma=0.766"]),
        ("vanilla", [], VECTORS, 60_000, ["regularizers.r1.gamma=1.0"]),
        ("mnist", [], IMAGES, 60_000, ["regularizers.r1.gamma=4.0"]),
        ("mnist", ["regularizers.r1.gamma=0"], IMAGES, 60_000, ["regularizers.r1.gamma=0.766"]),
        ("vanilla", ["regularizers.r2.gamma=2"], IMAGES, 60_000, ["regularizers.r2.gamma=8.0"]),
        (
            "vanilla",
            ["regularizers.r1.gamma=30"],
            IMAGES,
            60_000,
            ["optimizer.generator.lr=0.0001", "optimizer.discriminator.lr=0.0001"],
        ),
        (
            "vanilla",
            ["discriminator=dcgan"],  # with batch normalization
            IMAGES,
            60_000,
            ["optimizer.generator.lr=0.0001", "optimizer.discriminator.lr=0.0001"],
        ),
        (
            "mnist",
            [],
            IMAGES,
            9_999,
            ['augmentations.ada.policy=["translation", "cutout"]', "regularizers.r1.gamma=4.0"],
        ),
    ],
)
def test_advice_names_keys_and_values_that_fit_the_config(recipe, sets, spec, items, values):
    _, found, _, now = proposed(recipe, *sets, spec=spec, items=items)
    assert sorted(found) == sorted(values)
    assert now


@pytest.mark.parametrize("recipe", [recipe.name for recipe, _ in CATALOG.recipes() if recipe.name != "pictures"])
def test_advice_resumes_only_what_a_run_can_take(recipe):
    sets = ["dataset=digits"] if recipe in ("arrays", "table") else []
    command, values, before, now = proposed(recipe, *sets)
    assert values
    if command[1] == "resume":
        assert command[2] == "runs/a b"
        assert not refused(changes(before, now), before, now)
    else:
        assert command[:3] == ["gancore", "train", "runs/a b/config.toml"]
        assert command[-2:] == ["--out", "NEW"]


def test_advice_halves_both_ends_of_a_schedule():
    *_, now = proposed("mnist", "regularizers=none", "regularizers.clip.name=weight-clipping")
    assert now["optimizer"]["generator"]["lr"] == {"from": 0.001, "to": 5e-05, "shape": "linear"}


def test_advice_moves_no_image_that_must_match_its_condition():
    _, values, *_ = proposed("mnist", spec=Spec((1, 28, 28), condition=(1, 28, 28)), items=100)
    assert values == ["regularizers.r1.gamma=4.0"]


def test_advice_for_python_objects_names_no_command():
    config = resolve(read_layers("vanilla", CATALOG), CATALOG).to_data(CATALOG)
    config["generator"] = {"name": "object", "type": "mine.G"}
    assert advice(config, VECTORS, 100, Path("run")) == "try: regularizers.r1.gamma=1.0"
