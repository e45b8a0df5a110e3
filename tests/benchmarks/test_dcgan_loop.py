import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import dcgan_loop
from benchmarks.dcgan_loop import Discriminator, Generator, initialize


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_networks_halve_and_double_between_the_image_and_the_smallest_map(side, channels, monkeypatch):
    monkeypatch.setattr(dcgan_loop, "WIDTH", 4)
    generator, discriminator = Generator(channels, side), Discriminator(channels, side)
    images = generator(torch.randn(3, dcgan_loop.LATENT))
    assert images.shape == (3, channels, side, side)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (3,)
    widest = 4 * side // dcgan_loop.STARTS[side] // 2
    assert generator[1].out_channels == discriminator[-2].in_channels == widest


def test_networks_for_64_pixels_have_the_parameters_of_the_tutorial():
    counts = [sum(each.numel() for each in network(3, 64).parameters()) for network in (Generator, Discriminator)]
    assert counts == [3_576_704, 2_765_568]


def test_initialization_draws_weights_from_narrow_normal_distributions():
    torch.manual_seed(0)
    generator = Generator(1, 28).apply(initialize).requires_grad_(False)
    assert generator[1].weight.std() == pytest.approx(0.02, rel=0.01)
    assert generator[2].weight.mean() == pytest.approx(1, abs=0.01)
    assert generator[2].weight.std() == pytest.approx(0.02, rel=0.2)
    assert generator[2].bias.abs().max() == 0


@pytest.mark.parametrize("options", [[], ["--diffaugment"]])
def test_loop_trains_and_writes_samples(tmp_path, monkeypatch, capsys, options):
    monkeypatch.setattr(dcgan_loop, "WIDTH", 4)
    data, out = tmp_path / "data.npy", tmp_path / "samples.npy"
    np.save(data, np.random.default_rng(0).integers(0, 256, (140, 1, 28, 28), dtype=np.uint8))
    command = ["--data", data, "--minutes", 1e-9, "--threads", 1, "--samples", 5, "--out", out, *options]
    monkeypatch.setattr(sys, "argv", ["dcgan_loop", *map(str, command)])
    dcgan_loop.main()
    took = json.loads(capsys.readouterr().out)
    assert took["images"] == dcgan_loop.BATCH, "it stops after the first batch"
    assert took["finite"]
    samples = np.load(out)
    assert (samples.shape, samples.dtype) == ((5, 1, 28, 28), np.uint8)
    assert samples.std() > 0


def test_loop_takes_smaller_batches_at_the_end_of_an_epoch(monkeypatch):
    monkeypatch.setattr(dcgan_loop, "WIDTH", 4)
    times = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(dcgan_loop.time, "perf_counter", lambda: next(times))
    images = torch.rand(130, 1, 28, 28)
    seen = dcgan_loop.train(images, Generator(1, 28), Discriminator(1, 28), 3.0, torch.nn.Identity())
    assert seen == 128 + 2 + 128
