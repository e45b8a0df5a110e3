"""The example plugin in `examples/` has a component of every kind, and needs no change to the core."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gancore_shapes
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import ConfigLayer
from gancore.config.run import read_layers, resolve
from gancore.contracts import Dataset
from gancore.errors import ConfigError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.networks import draw_latent
from helpers.small_runs import recorded
from helpers.tiny_components import catalog

PLUGIN = read_plugin(gancore_shapes, "shapes", "gancore-shapes", "0.1.0")
CATALOG = Catalog([*Catalog.installed().plugins, PLUGIN])


def run(loss, **changes):
    parts = {"generator": "mlp", "discriminator": "auxiliary", "loss": loss, "dataset": "digits"}
    layers = [
        ConfigLayer("parts", parts | changes),
        ConfigLayer("small", {"duration": "600 steps", "training": {"conditional": True}, "latent": {"dim": 16}}),
        ConfigLayer("quick", {"optimizer": {"generator": {"lr": 3e-3}, "discriminator": {"lr": 1e-3}}}),
        ConfigLayer("steady", {"generator": {"normalization": "batch"}}),
    ]
    return GAN.assemble(resolve(layers, CATALOG), Path(), "cpu")


def test_example_has_a_component_of_every_kind():
    assert {component.kind for component in PLUGIN.components} == set(CATALOG.kinds)
    assert [recipe.name for recipe in PLUGIN.recipes] == ["shapes"]


def test_example_recipe_uses_all_components_but_one_loss_and_the_exporter():
    config = resolve(read_layers("shapes", CATALOG), CATALOG)
    used = {type(component) for component in config.components()}
    assert {component.name for component in PLUGIN.components if component not in used} == {"feature-matching", "numpy"}
    assert CATALOG.find(Dataset, "shapes")(split="test") == config.dataset.part("test")


def test_acgan_trains_both_networks_to_know_the_classes():
    gan = run("acgan")
    for _ in train(gan):
        pass
    labels = torch.arange(200) % 10
    with torch.no_grad():
        images = gan.generator(gan.latent(200), labels)
        predicted = gan.discriminator(images, labels).heads["classes"].argmax(dim=1)
    assert (predicted == labels).double().mean() > 0.9  # 0.1 would be chance


def test_feature_matching_reduces_the_distance_of_mean_images():
    gan = run("feature-matching")
    labels = torch.arange(1000) % 10
    real = torch.stack([image for image, _ in gan.feed.dataset]) / 127.5 - 1

    @torch.no_grad()
    def distance():
        fake = gan.generator(draw_latent(gan.options.latent, 1000, torch.Generator().manual_seed(0)), labels)
        return (fake.mean(dim=0) - real.mean(dim=0)).square().mean().item()

    before = distance()
    with pytest.warns(UserWarning, match=r"'classes\.weight' .* have no gradient in a step"):  # the head of ACGAN
        assert [step.generator_loss.isfinite() for step in train(gan)][-1]
    assert distance() < 0.4 * before


@pytest.mark.parametrize("loss", ["acgan", "feature-matching"])
def test_example_losses_name_the_discriminator_that_they_need(loss):
    with pytest.raises(ConfigError, match=f"loss '{loss}' needs .*discriminator") as refused:
        run(loss, discriminator="mlp")
    assert "--discriminator auxiliary" in refused.value.hint


@pytest.mark.parametrize("part", ["train", "test"])
def test_shapes_are_of_three_kinds_and_inside_the_image(part, tmp_path):
    images, labels = CATALOG.find(Dataset, "shapes")(split=part, count=300).build(tmp_path).tensors
    assert images.shape == (300, 1, 16, 16)
    assert labels.bincount().tolist() == [100, 100, 100]
    border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], dim=-1)
    assert border.double().mean() < 10  # of 255
    area = torch.stack([images[labels == label].double().mean() for label in range(3)])
    assert area[1] > area[0] > area[2]  # for equal radii, a square contains the disc, and the disc the cross
    assert images.flatten(1).unique(dim=0).shape[0] == 300


def test_film_begins_with_the_first_samples_not_with_the_data(tmp_path):
    known = Catalog([*catalog().plugins, PLUGIN])
    directory, _, _ = recorded(tmp_path / "run", {"observers": {"film": {}}}, known=known)
    assert (directory.samples / "real.png").exists()
    with Image.open(directory.path / "film.gif") as film, Image.open(directory.samples / "step-00000000.png") as first:
        assert np.array_equal(np.asarray(film.convert("L")), np.asarray(first.convert("L")))
