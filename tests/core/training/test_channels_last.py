"""The memory format channels_last: the same run up to rounding, and reproducible."""

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


def is_channels_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_channels_last_changes_the_run_only_by_rounding(seed):
    contiguous, channels_last_steps = (trained(run(channels_last, seed))[1] for channels_last in (False, True))
    for step, other in zip(contiguous, channels_last_steps, strict=True):
        expected, received = step.scalars(), other.scalars()
        for key in expected.keys() - {"seconds"}:
            assert received[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-4)


def test_channels_last_applies_to_weights_and_moments_also_after_restore():
    whole, first, second = (run(True) for _ in range(3))
    trained(whole)
    steps = train(first)
    next(steps), next(steps)
    second.restore({name: tensor.contiguous() for name, tensor in first.state.tensors().items()}, first.state.place())
    trained(second)
    assert equal(weights(whole), weights(second))
    for gan in (whole, second):
        for module, optimizer in ((gan.generator, "generator"), (gan.discriminator, "discriminator")):
            kernels = [weight for weight in module.parameters() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
            assert kernels
            for weight in kernels:
                assert is_channels_last(weight)
                assert is_channels_last(gan.optimizers[optimizer].state[weight]["exp_avg"])


def test_channels_last_is_off_by_default_on_the_cpu():
    gan = assembled(CONVOLUTIONS)
    assert all(weight.is_contiguous() for weight in gan.generator.parameters())
