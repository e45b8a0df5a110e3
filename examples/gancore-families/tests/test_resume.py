"""A run that stops half way and resumes has the same bits as one that does not stop, for each recipe."""

import pytest
import torch
from PIL import Image

import gancore_families
from gancore import train

RECIPES = sorted(recipe.name.removesuffix(".toml") for recipe in gancore_families.gancore_recipes())


@pytest.fixture
def sizes(tmp_path):
    """Return, by recipe, settings that take no files but those that are written here."""
    for name in ("sources", "targets"):
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.effect_noise((8, 8), 64).save(tmp_path / name / f"{number}.png")
    places = {name: str(tmp_path / name) for name in ("sources", "targets")}
    return {
        "cyclegan": {"dataset": {"name": "unpaired", "size": 8, "channels": 1, **places}},
        "edges-to-fashion": {"dataset": {"name": "edges", "pictures": {"name": "digits"}}},
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_resume_from_half_way_is_exact(recipe, assemble, sizes):
    def fresh():
        return assemble(recipe, duration="8 steps", batch_size=16, **sizes.get(recipe, {}))

    def copies(gan):
        return {name: tensor.clone() for name, tensor in gan.state.tensors().items()}

    whole, half_way = fresh(), None
    for step in train(whole):
        if step.step == 4:
            half_way = copies(whole), whole.state.place()
    resumed = fresh()
    start = copies(resumed)
    resumed.restore(*half_way)
    assert [step.step for step in train(resumed)] == [5, 6, 7, 8]
    ended, expected = copies(resumed), copies(whole)
    assert ended.keys() == expected.keys()
    assert all(torch.equal(ended[name], expected[name]) for name in expected)
    assert not all(torch.equal(start[name], expected[name]) for name in expected if not name.startswith("random"))
