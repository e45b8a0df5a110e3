"""Every built-in recipe is valid, trains, and can be repeated from its resolved config."""

import re
from pathlib import Path

import pytest
import torch

import gancore_plugins
from gancore.catalog.catalog import BUILT_IN
from gancore.config.layers import ConfigLayer
from gancore.config.run import read_layers, resolve
from gancore.contracts import Spec
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import catalog, equal, weights

RECIPES = [recipe.name for recipe, plugin in catalog().recipes() if plugin.package == BUILT_IN]
SHAPES = {
    "mnist": [1, 28, 28],
    "fashion-mnist": [1, 28, 28],
    "stacked-mnist": [3, 28, 28],
    "cifar10": [3, 32, 32],
    "folder": [3, 32, 32],
}
"""Shapes of datasets that the tests do not have; noise takes their place."""
NARROW = {"r3gan", "resnet"}
"""Networks that are too wide for a test."""
NEEDED = {
    "pictures": ConfigLayer("path", {"dataset": {"path": "pictures"}}),
    "arrays": ConfigLayer("dataset", {"dataset": {"name": "noise", "shape": [2, 10]}}),
    "table": ConfigLayer("dataset", {"dataset": {"name": "noise", "shape": [5]}}),
}


def resolved(name):
    return resolve([*read_layers(name, catalog()), *([NEEDED[name]] if name in NEEDED else [])], catalog())


def small(run):
    """The run with two small steps, and with noise in place of data that the tests do not have."""
    layers = [
        ConfigLayer("run", run.to_data(catalog())),
        ConfigLayer("small", {"duration": "2 steps", "batch_size": 8}),
    ]
    networks = (run.generator, run.discriminator)
    layers += [ConfigLayer("narrow", {network.kind: {"width": 32}}) for network in networks if network.name in NARROW]
    if run.dataset.name in SHAPES:
        noise = {
            "name": "noise",
            "shape": SHAPES[run.dataset.name],
            "labeled": True,
            "mirrors": run.dataset.name == "cifar10",
        }
        layers += [ConfigLayer("noise", {"dataset": noise, "metrics": "none", "checkpoint": {"best": "none"}})]
    return resolve(layers, catalog())


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_has_a_summary_and_valid_keys(name):
    (recipe,) = (recipe for recipe, _ in catalog().recipes() if recipe.name == name)
    assert recipe.summary.endswith(".")
    run = resolved(name)
    assert resolve([ConfigLayer("file", run.to_data(catalog()))], catalog()) == run


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_names_its_papers(name):
    file = Path(gancore_plugins.__file__).parent / "recipes" / f"{name}.toml"
    head = file.read_text(encoding="utf-8").partition("\n\n")[0]
    assert re.search(r"^# .* et al\. \d{4} \(arXiv:\d{4}\.\d{4,5}\)", head, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "shape", "millions"),
    [("r3gan", (3, 32, 32), (20.78, 21.28)), ("stacked-mnist", (3, 32, 32), (20.73, 20.68))],
)
def test_r3gan_networks_have_the_parameters_of_the_paper(name, shape, millions):
    """Compare with table 9 of the paper, where Stacked MNIST has 32x32 pixels."""
    run = resolved(name)
    spec = Spec(shape, run.latent.dim, 10 if run.training.conditional else None)
    with torch.device("meta"):
        networks = run.generator.build(spec), run.discriminator.build(spec)
    found = [sum(parameter.numel() for parameter in network.parameters()) / 1e6 for network in networks]
    assert found == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_and_its_resolved_config_gives_the_same_weights(name):
    run = small(resolved(name))
    first, second = (GAN.assemble(config, Path(), "cpu") for config in (run, small(run)))
    for gan in (first, second):
        before = weights(gan)
        assert len(list(train(gan))) == 2
        after = weights(gan)
        moved = {key.partition(".")[0] for key in before if not equal({"": before[key]}, {"": after[key]})}
        assert {"generator", "discriminator"} <= moved
        assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert equal(weights(first), weights(second))
