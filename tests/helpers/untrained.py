"""Generators as loaded from a checkpoint, but without one: for tests of what is done with trained generators."""

from pathlib import Path

import torch

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Spec
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.sample_format import SampleFormat
from helpers.tiny_components import PARTS, catalog


def untrained(generator, spec, *, distribution="normal", seed=0, sample_format=None):
    """Return a TrainedGenerator of a module, or of a component that builds it with weights of this seed."""
    latent = {"dim": spec.latent_dim, "distribution": distribution}
    config = resolve([ConfigLayer("test", {**PARTS, "duration": "1 steps", "latent": latent})], catalog())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = generator if isinstance(generator, torch.nn.Module) else generator.build(spec)
    sample_format = sample_format or SampleFormat("uint8" if spec.bounded else "float32")
    return TrainedGenerator(
        module.eval(), config, spec, sample_format, 0, torch.device("cpu"), False, Path("none.safetensors"), ""
    )


def gray(latent_dim=8, condition=None, side=16):
    """Return the spec of square gray pictures."""
    return Spec((1, side, side), latent_dim, condition)
