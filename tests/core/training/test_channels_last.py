"""Images laid out pixel by pixel: the same run, up to rounding, and as repeatable."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.training.loop import train
from helpers.tiny_components import assembled, equal, trained, weights

CONVOLUTIONS = {
    "dataset": {"name": "noise", "shape": [3, 16, 16], "count": 12},
    "generator": {"name": "dcgan", "width": 2},
    "discriminator": {"name": "dcgan", "width": 2, "normalization": "spectral"},
    "regularizers": {"r1": {"interval": 2}},
    "duration": "4 steps",
    "ema": {},
}


def run(channels_last, seed=0):
    return assembled(CONVOLUTIONS, seed=seed, training={"channels_last": channels_last})


def laid_out_by_pixels(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_the_layout_changes_rounding_alone(seed):
    by_channel, by_pixel = (trained(run(channels_last, seed))[1] for channels_last in (False, True))
    for one, other in zip(by_channel, by_pixel, strict=True):
        expected, received = one.scalars(), other.scalars()
        for key in expected.keys() - {"seconds"}:
            assert received[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-4)


def test_weights_are_laid_out_as_is_asked_and_their_moments_with_them_also_after_a_restore():
    whole, first, second = (run(True) for _ in range(3))
    trained(whole)
    steps = train(first)
    next(steps), next(steps)
    second.restore({name: tensor.contiguous() for name, tensor in first.tensors().items()}, first.place())
    trained(second)
    assert equal(weights(whole), weights(second))
    for gan in (whole, second):
        for module, optimizer in ((gan.generator, "generator"), (gan.discriminator, "discriminator")):
            wide = [each for each in module.parameters() if each.ndim == 4 and min(each.shape[1:]) > 1]
            assert wide
            for weight in wide:
                assert laid_out_by_pixels(weight)
                assert laid_out_by_pixels(gan.optimizers[optimizer].state[weight]["exp_avg"])


def test_on_a_processor_images_are_laid_out_by_channel_unless_it_is_asked():
    gan = assembled(CONVOLUTIONS)
    assert all(weight.is_contiguous() for weight in gan.generator.parameters())
