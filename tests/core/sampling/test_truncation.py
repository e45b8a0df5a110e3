"""Truncation of a generator that has a method for it: in Python, in the explorer, and in the command that it prints."""

import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import gancore
from gancore.catalog.catalog import Catalog
from gancore.errors import ConfigError
from gancore.explore.model import Explorer
from gancore.explore.point import Point
from gancore.explore.repeat import Invocation
from gancore.sampling.directions import find_directions, move
from gancore_cli.main import main


@pytest.fixture(scope="module")
def styled(tmp_path_factory):
    """The folder of a short run of the generator `style`, conditional on classes."""
    folder = tmp_path_factory.mktemp("styled") / "run"
    run = gancore.Run(
        "digits",
        generator={"name": "style", "width": 8, "style": 8},
        discriminator={"name": "mlp", "widths": [16]},
        set={"training.conditional": True, "training.threads": 1, "latent.dim": 8},
        steps=5,
        out=folder,
        device="cpu",
    )
    for _ in run.train():
        pass
    return folder


def test_truncation_moves_styles_where_the_generator_can(styled):
    trained = gancore.load(styled, device="cpu")
    assert trained.truncates_styles
    latents = trained.seed_latents([3, 4])
    assert torch.equal(trained.generate(latents, truncation=1.0), trained.generate(latents))
    typical = trained.generate(latents, label=3, truncation=0.0)
    assert torch.equal(typical[0], typical[1])
    assert not torch.equal(typical[:1], trained.generate(latents[:1], label=4, truncation=0.0))
    spread = [trained.sample(64, label=3, truncation=by).double().var(dim=0).mean() for by in (1.0, 0.5, 0.0)]
    assert spread[0] > spread[1] > spread[2] == 0
    with pytest.raises(ConfigError, match="the truncation must be"):
        trained.stream_latents(latents, truncation=2)
    options = gancore.SampleOptions(seeds=[3, 4], labels=[3], truncation=0.5, moves={1: 2.0})
    moved = move(find_directions(trained), latents, {1: 2.0})
    arranged = torch.cat(list(gancore.arrange(trained, options).stream))
    assert torch.equal(arranged, trained.generate(moved, label=3, truncation=0.5))


def test_point_with_truncated_styles_is_drawn_again_to_the_bit(styled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    explorer = Explorer(Invocation(styled, device="cpu"), Catalog.installed(), styled)
    points = {"edited": {"moves": {1: 1.5}}, "mix": {"other": 9, "amount": 0.3}}
    for name, fields in points.items():
        point = Point(checkpoint="step-00000005.safetensors", base=2, truncation=0.6, condition=3, **fields)
        shown = explorer.picture(point)
        assert shown != explorer.picture(point.model_copy(update={"truncation": 1.0})), name
        explorer.write_files(point)
        text = explorer.repeat(point)
        with pytest.raises(SystemExit, match=r"^0$"):
            main(shlex.split(text["command"])[1:])
        out = shlex.split(text["command"])[-1]
        first = np.asarray(Image.open(out))
        exec(text["python"], {})  # noqa: S102  # what users paste
        (tmp_path / "shown.png").write_bytes(shown)
        for pixels in (first, np.asarray(Image.open(out))):
            assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "shown.png"))), name
