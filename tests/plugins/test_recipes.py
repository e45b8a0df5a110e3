"""Every recipe that comes with gancore is whole, trains, and can be replayed."""

import re
from pathlib import Path

import pytest
import torch

import gancore_plugins
from gancore.catalog.catalog import BUILT_IN
from gancore.config.layers import ConfigLayer
from gancore.config.run import read_layers, resolve
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import catalog, equal, weights

RECIPES = [recipe.name for recipe, plugin in catalog().recipes() if plugin.package == BUILT_IN]
SHAPES = {
    "mnist": [1, 28, 28],
    "fashion-mnist": [1, 28, 28],
    "stacked-mnist": [3, 28, 28],
    "cifar10": [3, 32, 32],
    "folder": [3, 64, 64],
}
"""Of data that is not here; noise stands in for it."""
NARROW = {"r3gan", "resnet"}
"""Networks whose width is for a GPU."""
NEEDED = {"folder": ConfigLayer("path", {"dataset": {"path": "pictures"}})}


def resolved(name):
    return resolve([*read_layers(name, catalog()), *([NEEDED[name]] if name in NEEDED else [])], catalog())


def small(run):
    """The run with few images a step, and noise where its data is not here."""
    layers = [
        ConfigLayer("run", run.to_data(catalog())),
        ConfigLayer("small", {"duration": "2 steps", "batch_size": 8}),
    ]
    players = (run.generator, run.discriminator)
    layers += [ConfigLayer("narrow", {each.kind: {"width": 32}}) for each in players if each.name in NARROW]
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
def test_it_says_in_a_sentence_what_it_is_for_and_all_its_keys_are_right(name):
    (recipe,) = (recipe for recipe, _ in catalog().recipes() if recipe.name == name)
    assert recipe.summary.endswith(".")
    run = resolved(name)
    assert resolve([ConfigLayer("file", run.to_data(catalog()))], catalog()) == run


@pytest.mark.parametrize("name", RECIPES)
def test_it_names_its_papers(name):
    file = Path(gancore_plugins.__file__).parent / "recipes" / f"{name}.toml"
    head = file.read_text(encoding="utf-8").partition("\n\n")[0]
    assert re.search(r"^# .* et al\. \d{4} \(arXiv:\d{4}\.\d{4,5}\)", head, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "shape", "millions"),
    [("r3gan", (3, 32, 32), (20.78, 21.28)), ("stacked-mnist", (3, 32, 32), (20.73, 20.68))],
)
def test_networks_of_r3gan_are_as_large_as_those_of_the_paper(name, shape, millions):
    """Of its table 9; its digits are stacked at 32x32."""
    run = resolved(name)
    classes = 10 if run.training.conditional else None
    with torch.device("meta"):
        networks = run.generator.build(shape, run.latent.dim, classes), run.discriminator.build(shape, classes)
    found = [sum(parameter.numel() for parameter in network.parameters()) / 1e6 for network in networks]
    assert found == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", RECIPES)
def test_it_trains_and_its_resolved_config_does_the_same_again(name):
    run = small(resolved(name))
    first, second = (GAN.assemble(each, Path(), "cpu") for each in (run, small(run)))
    for gan in (first, second):
        before = weights(gan)
        assert len(list(train(gan))) == 2
        after = weights(gan)
        moved = {key.partition(".")[0] for key in before if not equal({"": before[key]}, {"": after[key]})}
        assert {"generator", "discriminator"} <= moved
        assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert equal(weights(first), weights(second))
