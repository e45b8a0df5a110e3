import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks gain nothing from more

from pathlib import Path

import pytest
import torch

import gancore_families
from gancore import GAN, Catalog, ConfigLayer, read_plugin, resolve, train
from gancore.config.run import read_layers
from gancore_plugins.datasets.digits import Digits

CATALOG = Catalog([*Catalog.installed().plugins, read_plugin(gancore_families, "families", "gancore-families", "0.1")])


@pytest.fixture
def assemble(tmp_path):
    """Return a function that assembles the GAN of a recipe, with changes of its keys."""

    def of_recipe(recipe, **changes):
        config = resolve([*read_layers(recipe, CATALOG), ConfigLayer("test", changes)], CATALOG)
        return GAN.assemble(config, tmp_path / "data", "cpu")

    return of_recipe


@pytest.fixture
def trained(assemble):
    """Return a function that trains the GAN of a recipe, and puts the network that samples into evaluation mode."""

    def of_recipe(recipe, **changes):
        gan = assemble(recipe, **changes)
        for _ in train(gan):
            pass
        gan.sampler().eval()
        torch.manual_seed(0)
        return gan

    return of_recipe


@pytest.fixture
def digits():
    """Return a function that returns digits (N, 1, 8, 8) in [-1, 1] of a split."""

    def of_split(split="all"):
        return torch.stack([image for image, _ in Digits(split=split).build(Path())]) / 127.5 - 1

    return of_split
