"""Whether the samples of a batch depend on each other: in a network, or in a loss.

Each check compares outputs on small batches. Weights are perturbed first: most of them a little, and a tensor whose
values are all equal strongly, since a gate that starts at zero would hide what it controls.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from gancore.contracts import Generated, Objective, Output, Scores
from gancore.errors import blame
from gancore.training.networks import NO_EXTRAS, Extras, call, checked_output, output_of, tensors_of
from gancore.utils.copies import copy_part
from gancore.utils.random import seeded

T = TypeVar("T")
COUNT = 4
"""Images in a batch of the preflight."""
_PARTS = 4
"""Parts of a batch on which a loss is compared with that of the whole; each has `COUNT` images."""


@dataclass(frozen=True)
class TrialInputs:
    """Inputs of the checks: latents (N, Z), and two batches of N images with different mean and spread.

    `condition` is what both batches are given, None unless the run is conditional. `extras` are those that D receives.
    """

    latent: Tensor
    first: Tensor
    second: Tensor
    condition: Tensor | None = None
    extras: Extras = field(default_factory=dict)


@torch.no_grad()
def differs_in_one_pass(discriminator: nn.Module, inputs: TrialInputs) -> bool:
    """Return whether scoring two batches in one pass changes the outputs, or D's buffers.

    If D has an attribute `mixes_samples`, that decides. The discriminator is copied first.
    """
    declared = getattr(discriminator, "mixes_samples", None)
    if declared is not None:
        return bool(declared)
    # Minibatch discrimination is zero unless images are near each other.
    near = replace(inputs, second=inputs.first + 1e-3 * inputs.second)
    return _mixes_passes(discriminator, inputs) or _mixes_passes(discriminator, near)


def _mixes_passes(discriminator: nn.Module, inputs: TrialInputs) -> bool:
    discriminator = perturbed_copy("discriminator", discriminator)
    other = copy_of("discriminator", discriminator)
    joined = tensors_of(score_trial(discriminator, torch.cat([inputs.first, inputs.second]), twice(inputs)))
    with cached():  # as in a step, which makes one power iteration per update, not per pass
        halves = [tensors_of(score_trial(other, images, inputs)) for images in (inputs.first, inputs.second)]
    for name, whole in joined.items():
        if differ(whole, torch.cat([half[name] for half in halves])):
            return True
    # Statistics change with every pass.
    return any(not torch.equal(*pair) for pair in zip(discriminator.buffers(), other.buffers(), strict=True))


def depends_on_batch(role: str, network: nn.Module, inputs: TrialInputs) -> bool:
    """Return whether what a network, `generator` or `discriminator`, returns for one sample depends on the others."""
    declared = getattr(network, "mixes_samples", None)
    if declared is not None:
        return bool(declared)
    network = perturbed_copy(role, network)
    first, second = inputs.first, inputs.second
    extras = inputs.extras
    if role == "generator":
        first, second, extras = inputs.latent, torch.randn_like(inputs.latent) * 0.3 + 0.5, NO_EXTRAS

    def first_row(others: Tensor) -> Tensor:
        batch = torch.cat([first[:1], others[1:]])
        with seeded(0, first.device), torch.no_grad(), blame(role, "in forward()"):  # the same units are dropped
            returned = call(copy_of(role, network), batch, inputs.condition, extras)
        return returned.images[0] if isinstance(returned, Generated) else output_of(returned).logits[0]

    near = first[:1] + 1e-3 * second
    return differ(first_row(first), first_row(second)) or differ(first_row(near), first_row(second))


def needs_whole_batch(objective: Objective, real: Scores, fake: Scores) -> bool:
    """Return whether a loss of a batch differs from the mean of the losses of its parts.

    If the objective has an attribute `whole_batch`, that decides. A loss that draws random numbers cannot be compared
    and counts as independent. `real` and `fake` are scores of `COUNT` images each.
    """
    declared = getattr(objective, "whole_batch", None)
    if declared is not None:
        return bool(declared)
    # More images than were scored, since half of few may by chance have the loss of all. An untrained network gives
    # nearly the same logits for all images, which would hide an average.
    rows = torch.arange(_PARTS * COUNT) % COUNT
    real, fake = (_spread(rows_of(scores, rows)) for scores in (real, fake))
    parts = torch.arange(len(rows)).chunk(_PARTS)

    def losses(real: Scores, fake: Scores, seed: int = 0) -> Tensor:
        own = copy_of("loss", objective)
        # Attached to the images, since a loss may differentiate with respect to them.
        real, fake = (_attached(scores) for scores in (real, fake))
        with seeded(seed, real.images.device), torch.enable_grad(), blame("loss", "in the preflight check"):
            needs_real = getattr(own, "needs_real", False)
            generators = own.generator(fake, real if needs_real else None)
            return torch.stack([own.discriminator(real, fake), generators]).detach()

    whole = losses(real, fake)
    if differ(whole, losses(real, fake, seed=1)):
        return False
    of_parts = torch.stack([losses(rows_of(real, part), rows_of(fake, part)) for part in parts])
    return differ(whole, of_parts.mean(dim=0))


def _spread(scores: Scores) -> Scores:
    return replace(scores, logits=scores.logits + 3 * torch.randn_like(scores.logits))


def _attached(scores: Scores) -> Scores:
    """Return the scores with logits that depend on the images, a leaf, without a change of values."""
    images = scores.images.detach().requires_grad_()
    return replace(scores, images=images, logits=scores.logits + 0 * images.sum())


def detached(scores: Scores) -> Scores:
    """Return the scores without their graph."""
    return replace(
        scores,
        logits=scores.logits.detach(),
        features=tuple(feature.detach() for feature in scores.features),
        heads={name: head.detach() for name, head in scores.heads.items()},
    )


def rows_of(scores: Scores, rows: Tensor) -> Scores:
    """Return the scores of the images at these rows (M,)."""
    return replace(
        scores,
        images=scores.images[rows],
        logits=scores.logits[rows],
        condition=None if scores.condition is None else scores.condition[rows],
        latent=None if scores.latent is None else scores.latent[rows],
        features=tuple(feature[rows] for feature in scores.features),
        heads={name: head[rows] for name, head in scores.heads.items()},
        extras={name: extra[rows] for name, extra in scores.extras.items()},
    )


def differ(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors differ by more than rounding. NaN equals NaN: the first step reports it."""
    one, other = one.double(), other.double()  # heads may be of any type
    scale = float(one.abs().nan_to_num(0, 0, 0).max())
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-3 * scale + 1e-12, equal_nan=True)


@torch.no_grad()
def perturbed_copy(role: str, network: nn.Module) -> nn.Module:
    """Return a copy whose weights are moved a little, and those that all have one value far."""
    network = copy_of(role, network)
    for parameter in network.parameters():
        constant = bool((parameter == parameter.flatten()[:1].squeeze()).all()) if parameter.numel() else False
        parameter.add_(torch.randn_like(parameter) * (1.0 if constant else 0.02))
    return network


def twice(inputs: TrialInputs) -> TrialInputs:
    """Return the inputs for both batches at once."""
    condition = None if inputs.condition is None else torch.cat([inputs.condition, inputs.condition])
    extras = {name: torch.cat([extra, extra]) for name, extra in inputs.extras.items()}
    return replace(inputs, condition=condition, extras=extras)


def score_trial(discriminator: nn.Module, images: Tensor, inputs: TrialInputs) -> Output:
    """Return the output of a discriminator for images (N, *shape). Raises PluginError if it breaks the contract."""
    with blame("discriminator", "in forward()"):
        return checked_output(call(discriminator, images, inputs.condition, inputs.extras), images)


def copy_of(role: str, part: T, memo: dict[int, object] | None = None) -> T:
    """Return a copy of a part. Raises PluginError if it cannot be copied."""
    with blame(role, "when it was copied"):
        return copy_part(part, memo)
