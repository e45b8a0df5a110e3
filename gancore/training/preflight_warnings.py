"""Warnings of the preflight: what runs, and yet will hardly train as its author expects. Each says how to fix it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gancore.data.items import is_channels_last
from gancore.errors import blame
from gancore.training.mixing import TrialInputs, differ, perturbed_copy
from gancore.training.networks import call, generated_of, output_of
from gancore.utils.copies import copy_part
from gancore.utils.random import seeded

if TYPE_CHECKING:
    from gancore.data.feed import Feed
    from gancore.training.gan import GAN

_REAL_ITEMS = 16
_SCALES = (1.0, 1e3, 1e6)
"""Factors of pictures, at one of which a discriminator without a sigmoid has logits outside of [0, 1]."""
_LATENT_SCALE = 10.0
"""Factor of latents at which a generator without tanh leaves [-1, 1]."""
_ENOUGH = 64
"""Number of generated values of which some are negative, unless the generator cannot make any."""


@torch.no_grad()
def preflight_warnings(gan: GAN, inputs: TrialInputs) -> Iterator[str]:
    """Yield a warning for each suspicious property of the data, G and D of a run. All parts stay as they were."""
    yield from _of_data(gan.feed, gan.feed.first(_REAL_ITEMS))
    yield from _of_generator(gan, inputs)
    yield from _of_discriminator(gan, inputs)


def untrained_warnings(trial: GAN) -> Iterator[str]:
    """Yield a warning for each network with parameters that got no gradient in a trial step, and for foreign ones."""
    parts = [part for modules in trial.trained_by.values() for part in modules.values()]
    known = {id(weight) for part in parts for weight in part.parameters()}
    foreign = [leaf for leaf in trial.preflight_leaves if isinstance(leaf, nn.Parameter) and id(leaf) not in known]
    if foreign:
        count = "1 parameter" if len(foreign) == 1 else f"{len(foreign)} parameters"
        shapes = ", ".join(sorted({str(tuple(leaf.shape)) for leaf in foreign}))
        yield (
            f"the losses depend on {count} that no part of the run holds, of shape {shapes}: they are neither "
            "trained nor saved. Let build() return an nn.Module that holds them, or freeze them with "
            "requires_grad_(False)"
        )
    for role, network in (("generator", trial.generator), ("discriminator", trial.discriminator)):
        idle = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
        if idle:
            more = f" and {len(idle) - 1} more" if len(idle) > 1 else ""
            have, they, them = ("have", "they are", "them") if more else ("has", "it is", "it")
            yield (
                f"parameter {idle[0]!r}{more} of the {role} {have} no gradient in a step, so {they} never trained: "
                f"use {them} in the forward pass, choose a loss or a regularizer that uses the output of {them}, or "
                "set requires_grad to False"
            )


def _of_data(feed: Feed, real: Tensor) -> Iterator[str]:
    if is_channels_last(feed.shape):
        yield (
            f"the data has shape {feed.shape}, which looks like (H, W, C); images are (C, H, W): change the order "
            "with .permute(2, 0, 1)"
        )
    low, high = float(real.min()), float(real.max())
    if len(feed.shape) == 3 and not feed.format.bounded and low >= 0 and high > 0:
        guess = "(0, 1)" if high <= 1 else "(0, 255)"
        yield (
            f"the first images are float32 in {low:.3g}..{high:.3g} and are passed to the networks as they are: set "
            f"the attribute `value_range` of the dataset, such as {guess}, to map them to [-1, 1]"
        )
    if feed.format.value_range is not None and (low < -1.001 or high > 1.001):
        yield (
            f"the first samples leave the dataset's value_range {feed.format.value_range}, so networks see them in "
            f"{low:.3g}..{high:.3g} instead of [-1, 1]: correct value_range"
        )
    if feed.draws_random_items():
        yield (
            "two reads of the first item of the dataset differ, but the data is kept in memory, so each item is read "
            "once for the whole run: --set training.data=stream, or use augmentations"
        )
    if feed.shares_open_files():
        yield (
            "the dataset moves the place in a file that it keeps open, and workers move it for each other: open files "
            "in __getitem__, or map them into memory; --set training.workers=0 reads in one process"
        )


def _of_generator(gan: GAN, inputs: TrialInputs) -> Iterator[str]:
    generator = perturbed_copy("generator", gan.generator)
    scale, conditions = _LATENT_SCALE, [inputs.condition] * 4
    if inputs.condition is not None and inputs.condition.ndim > 2:
        # A translation may depend on the picture alone, through any number of layers that make values smaller.
        scale = _SCALES[-1]
        conditions = [inputs.condition * factor for factor in (1, -1, scale, -scale)]
    large = inputs.latent.flip(1) * scale
    latents = (inputs.latent, -inputs.latent, large, -large)
    batches = [_images(generator, *both) for both in zip(latents, conditions, strict=True)]
    images = torch.stack(batches)
    if not images.isfinite().all():
        return  # the first step reports it
    if not any(differ(batches[0], other) for other in batches[1:]):
        yield "generated images do not depend on the latent: use all inputs of the generator's forward()"
    if not gan.spec.bounded:
        return
    # Perturbed biases of the last layer may make all values positive; so may initial weights of zero.
    as_built = _images(copy_part(gan.generator), inputs.latent, inputs.condition)
    if images.numel() >= _ENOUGH and float(images.min()) >= 0 and float(as_built.min()) >= 0:
        yield (
            "no generated value is below 0, but images are in [-1, 1], where black is -1: end the generator with "
            "tanh, not with a sigmoid"
        )
    largest = float(images.abs().max())
    if largest > 1.001 and not getattr(gan.generator, "unbounded", False):
        yield (
            f"the generator's images are not limited to [-1, 1], the range of the data; they reach {largest:.3g} at "
            f"latents {scale:g} times as large: end it with tanh, or set its attribute `unbounded` to True if "
            "that is intended"
        )


def _images(generator: nn.Module, latent: Tensor, condition: Tensor | None) -> Tensor:
    with seeded(0, latent.device), blame("generator", "in the preflight check"):
        return generated_of(call(generator, latent, condition)).images


def _of_discriminator(gan: GAN, inputs: TrialInputs) -> Iterator[str]:
    pictures = [name for name, extra in inputs.extras.items() if extra.ndim > 2]
    if pictures and gan.augmentations:
        yield (
            f"augmentations change the images that the discriminator sees, but not its extra input {pictures[0]!r}, so "
            "the two may no longer match: remove augmentations that move pixels"
        )
    discriminator = perturbed_copy("discriminator", gan.discriminator)
    for scale in _SCALES:
        with seeded(0, inputs.first.device), blame("discriminator", "in the preflight check"):
            output = call(discriminator, inputs.first * scale, inputs.condition, inputs.extras)
        logits = output_of(output).logits
        if not logits.isfinite().all() or float(logits.min()) < 0 or float(logits.max()) > 1:
            return
    yield (
        "all logits of the discriminator are in [0, 1]: return scores before any sigmoid, which losses apply themselves"
    )
