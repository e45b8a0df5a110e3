"""The preflight check before the first step: do networks, loss and data fit each other, and does D mix samples?"""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn, optim
from torch.nn.utils.parametrize import cached

from gancore.checkpoint.state import check_module
from gancore.contracts import Objective, Output, Scores
from gancore.data.feed import Batch, Feed
from gancore.distributed.ranks import SINGLE_RANK
from gancore.errors import ConfigError, NonFiniteError, PluginError, blame
from gancore.training.finite import FiniteCheck
from gancore.training.networks import Freezer, call, describe_tensor, output_of, score, tensors_of
from gancore.training.state import TrainingState
from gancore.training.step import step
from gancore.utils.copies import copy_part
from gancore.utils.random import seeded

if TYPE_CHECKING:
    from gancore.training.gan import GAN

COUNT = 4
"""Images in a batch of the preflight."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Inputs:
    """Inputs of the checks: latents (COUNT, Z), and two batches of images with different mean and spread."""

    latent: Tensor
    first: Tensor
    second: Tensor
    labels: Tensor | None


def run_preflight(gan: GAN) -> bool:
    """Run tiny batches through copies of all parts, which stay as they were. Returns whether D mixes samples.

    Raises PluginError if a part fails or its output breaks the contract; ConfigError if a network fails only on the
    short last batch of an epoch, if a regularizer does not support D, and if gradients are to be accumulated over
    micro-batches although the images of a batch depend on each other.
    """
    device, shape, feed = gan.device, gan.feed.shape, gan.feed
    for role, part in _parts_of(gan).items():
        if isinstance(part, nn.Module):
            check_module(role, part)
    with seeded(0, device), torch.enable_grad():
        labels = None if gan.num_classes is None else torch.arange(COUNT, device=device) % gan.num_classes
        latent = torch.randn(COUNT, gan.options.latent.dim, device=device)
        fakes = _generate(_copy("generator", gan.generator), latent, labels, feed)
        first = torch.rand(COUNT, *shape, device=device) * 2 - 1
        inputs = _Inputs(latent, first, torch.rand(COUNT, *shape, device=device) * 0.6 + 0.1, labels)
        _check_gradients(_copy("discriminator", gan.discriminator), fakes, labels)
        mixes = mixes_samples(gan.discriminator, inputs.first, inputs.second, labels)
        _try_step(gan, inputs)
        _check_regularizers(gan, inputs)
        if gan.options.training.accumulate > 1:
            _check_accumulation(gan, inputs)
        if feed.smallest_part < COUNT:
            _check_last_batch(gan, inputs, mixes=mixes)
    return mixes


def _parts_of(gan: GAN) -> dict[str, object]:
    """Return all parts that may hold state, by the names that errors use."""
    return {
        "generator": gan.generator,
        "discriminator": gan.discriminator,
        "loss": gan.loss.objective,
        **{f"regularizer {label!r}": penalty for label, penalty in gan.penalties.items()},
        **{f"augmentation {label!r}": augment for label, augment in gan.augments.items()},
    }


def _try_step(gan: GAN, inputs: _Inputs) -> None:
    """Make one training step on a trial copy. The first step reports numbers that are not finite."""
    labels = torch.zeros(COUNT, dtype=torch.int64, device=gan.device) if inputs.labels is None else inputs.labels
    with suppress(NonFiniteError):
        step(trial_copy(gan), [Batch(inputs.first, labels, COUNT)])


def trial_copy(gan: GAN) -> GAN:
    """Return a GAN that steps as the given one does, but on copies of its parts, with a learning rate of 0.

    All regularizers and augmentations are active, at strength 1. D is updated once, in two passes, on this rank alone.
    """
    trial, memo = copy(gan), dict[int, object]()  # one memo: parts that share a module share its copy
    for role, name in _COPIED.items():
        setattr(trial, name, _copy(role, getattr(gan, name), memo))
    training = gan.options.training.model_copy(update={"accumulate": 1, "discriminator_steps": 1, "clip_norm": None})
    trial.options = gan.options.model_copy(update={"training": training})
    trial.ranks, trial.ema, trial.is_trial = SINGLE_RANK, None, True
    trial.optimizers = {
        role: optim.SGD([*module.parameters()] or [nn.Parameter(torch.zeros(1))], lr=0.0)
        for role, module in (("generator", trial.generator), ("discriminator", trial.discriminator))
    }
    trial.state = TrainingState({}, {}, seed=0, device=gan.device)
    trial.progress = trial.state.progress
    trial.finite_check = FiniteCheck(gan.device, immediate=True)
    trial.freezer = Freezer(trial.discriminator)
    trial.connect(one_pass=False)
    trial.critic.augmentations = trial.active_augmentations()
    return trial


_COPIED = {
    "generator": "generator",
    "discriminator": "discriminator",
    "loss": "loss",
    "regularizers": "penalties",
    "augmentations": "augments",
}
"""The parts that a step changes, as errors name them, and the attributes of a GAN that hold them."""


def _check_regularizers(gan: GAN, inputs: _Inputs) -> None:
    strict = [label for label, regularizer in gan.regularizers.items() if regularizer.per_sample]
    if strict and _mixes_rows("discriminator", gan.discriminator, inputs.first, inputs.second, inputs.labels):
        raise ConfigError(
            f"regularizer {strict[0]!r} needs a discriminator whose logits for an image depend on this image alone; in "
            "this one they depend on the rest of the batch (batch normalization, minibatch statistics)",
            "choose a discriminator without these, or another regularizer, such as r1",
        )


def _check_accumulation(gan: GAN, inputs: _Inputs) -> None:
    other = torch.randn_like(inputs.latent) * 0.3 + 0.5
    first, second, labels = inputs.first, inputs.second, inputs.labels
    mixing = {
        "discriminator": _mixes_rows("discriminator", gan.discriminator, first, second, labels),
        "generator": _mixes_rows("generator", gan.generator, inputs.latent, other, labels),
        "loss": _needs_whole_batch(gan.loss.objective, gan.discriminator, inputs),
        "regularizer": any(regularizer.whole_batch for regularizer in gan.regularizers.values()),
    }
    for part in (part for part, mixes in mixing.items() if mixes):
        raise ConfigError(
            f"training.accumulate splits a batch into micro-batches, which must not change the result; in this {part} "
            "the images of a batch depend on each other (batch statistics, averages over the batch)",
            "leave training.accumulate out and choose a smaller batch_size, or other parts",
        )


def _check_last_batch(gan: GAN, inputs: _Inputs, *, mixes: bool) -> None:
    """Check that the networks take the short last batch of an epoch."""
    feed, rest = gan.feed, gan.feed.smallest_part
    labels = None if inputs.labels is None else inputs.labels[:rest]
    per_process = "" if rest == (feed.size % feed.batch_size or feed.batch_size) else " for one process"
    try:
        _generate(_copy("generator", gan.generator), inputs.latent[:rest], labels, feed)
        if mixes:
            _discriminate(_copy("discriminator", gan.discriminator), inputs.first[:rest], labels)
        else:
            both = torch.cat([inputs.first[:rest], inputs.second[:rest]])
            labels = None if labels is None else torch.cat([labels, labels])
            _discriminate(_copy("discriminator", gan.discriminator), both, labels)
    except PluginError as error:
        raise ConfigError(
            f"batch_size {feed.batch_size} leaves a last batch of {rest} of {feed.size} images{per_process}, and "
            f"{error}",
            "choose a batch_size that divides the dataset, or leaves a larger rest",
        ) from error


def _generate(generator: nn.Module, latent: Tensor, labels: Tensor | None, feed: Feed) -> Tensor:
    """Return the images of a generator. Raises PluginError if they break the contract."""
    with blame("generator", "in forward()"):
        images = call(generator, latent, labels)
        expected = (len(latent), *feed.shape)
        valid = isinstance(images, Tensor) and images.shape == expected
        if not valid or images.dtype != latent.dtype or images.device != latent.device:
            raise PluginError(
                f"a generator must return images of shape {expected}, {latent.dtype}, on {latent.device}, for latents "
                f"of shape {tuple(latent.shape)}; received {describe_tensor(images)}"
            )
        if not images.requires_grad:
            raise PluginError("a generator's images must carry a gradient; these are detached from its parameters")
    return images  # type: ignore[no-any-return]  # checked above


def _discriminate(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> Output:
    """Return the output of a discriminator. Raises PluginError if it breaks the contract."""
    with blame("discriminator", "in forward()"):
        output = output_of(call(discriminator, images, labels))
        logits = output.logits
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or 0 in logits.shape:
            raise PluginError(
                f"a discriminator must return logits (N, K) with K >= 1, or an Output, for N = {len(images)} images; "
                f"received {describe_tensor(logits)}"
            )
        if not logits.is_floating_point() or logits.device != images.device:
            raise PluginError(
                f"a discriminator's logits must be floating point, on {images.device}; received "
                f"{describe_tensor(logits)}"
            )
        for name, tensor in tensors_of(output).items():
            if not isinstance(tensor, Tensor) or tensor.shape[:1] != (len(images),) or tensor.device != images.device:
                raise PluginError(
                    f"{name} of a discriminator must begin with N = {len(images)}, on {images.device}; received "
                    f"{describe_tensor(tensor)}"
                )
    return output


def _check_gradients(discriminator: nn.Module, images: Tensor, labels: Tensor | None) -> None:
    """Check that D's logits depend on its parameters, for its own update, and on the images, for G's."""
    images = images.detach().requires_grad_()
    weights = [parameter for parameter in discriminator.parameters() if parameter.requires_grad]
    with blame("discriminator", "when the gradient of its logits was taken"):
        logits = _discriminate(discriminator, images, labels).logits
        gradients: list[Tensor | None] = [None]
        if logits.requires_grad:
            gradients = list(torch.autograd.grad(logits.sum(), [images, *weights], allow_unused=True))
        for found, what in ((gradients[1:], "its parameters"), (gradients[:1], "the images")):
            if all(gradient is None for gradient in found):
                raise PluginError(f"a discriminator's logits must carry a gradient; these are detached from {what}")


@torch.no_grad()
def mixes_samples(discriminator: nn.Module, first: Tensor, second: Tensor, labels: Tensor | None) -> bool:
    """Return whether scoring two batches in one pass changes the outputs, or D's buffers.

    Both batches have the same `labels`. The discriminator is copied first.
    """
    discriminator = _copy("discriminator", discriminator)
    for parameter in discriminator.parameters():  # all-zero weights would hide mixing
        parameter.add_(torch.randn_like(parameter) * 0.02)
    other = _copy("discriminator", discriminator)
    twice = None if labels is None else torch.cat([labels, labels])
    joined = tensors_of(_discriminate(discriminator, torch.cat([first, second]), twice))
    with cached():  # as in a step, which makes one power iteration per update, not per pass
        halves = [tensors_of(_discriminate(other, part, labels)) for part in (first, second)]
    for name, whole in joined.items():
        if _differ(whole, torch.cat([half[name] for half in halves])):
            return True
    # Statistics change with every pass.
    return any(not torch.equal(*pair) for pair in zip(discriminator.buffers(), other.buffers(), strict=True))


def _mixes_rows(role: str, network: nn.Module, first: Tensor, second: Tensor, labels: Tensor | None) -> bool:
    """Return whether what a network returns for one item of a batch depends on the others."""
    network = _copy(role, network)
    for parameter in network.parameters():  # as in `mixes_samples`
        parameter.data.add_(torch.randn_like(parameter) * 0.02)

    def first_row(others: Tensor) -> Tensor:
        with seeded(0, first.device), torch.no_grad(), blame(role, "in forward()"):  # the same units are dropped
            return output_of(call(_copy(role, network), torch.cat([first[:1], others[1:]]), labels)).logits[0]

    return _differ(first_row(first), first_row(second))


def _needs_whole_batch(objective: Objective, discriminator: nn.Module, inputs: _Inputs) -> bool:
    """Return whether a loss of a batch differs from the mean of the losses of its halves."""
    discriminator, half = _copy("discriminator", discriminator), COUNT // 2
    with torch.no_grad():
        real = score(discriminator, inputs.first, None, inputs.labels)
        fake = score(discriminator, inputs.second, inputs.latent, inputs.labels)
    # An untrained network gives nearly the same logits for all images, which would hide an average.
    real, fake = (replace(s, logits=s.logits + 3 * torch.randn_like(s.logits)) for s in (real, fake))
    halves = [(_rows(real, rows), _rows(fake, rows)) for rows in (slice(half), slice(half, None))]

    def losses(real: Scores, fake: Scores) -> Tensor:
        own = _copy("loss", objective)
        with blame("loss", "in the preflight check"):
            generators = own.generator(fake, real if own.needs_real else None)
            return torch.stack([own.discriminator(real, fake), generators])

    return _differ(losses(real, fake), (losses(*halves[0]) + losses(*halves[1])) / 2)


def _rows(scores: Scores, rows: slice) -> Scores:
    """Return the scores of some of the images."""
    return replace(
        scores,
        images=scores.images[rows],
        logits=scores.logits[rows],
        labels=None if scores.labels is None else scores.labels[rows],
        latent=None if scores.latent is None else scores.latent[rows],
        features=tuple(feature[rows] for feature in scores.features),
        heads={name: head[rows] for name, head in scores.heads.items()},
    )


def _differ(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors differ by more than rounding. NaN equals NaN: the first step reports it."""
    one, other = one.double(), other.double()  # heads may be of any type
    scale = float(one.abs().nan_to_num(0, 0, 0).max())
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-3 * scale + 1e-12, equal_nan=True)


def _copy(role: str, part: T, memo: dict[int, object] | None = None) -> T:
    """Return a copy of a part. Raises PluginError if it cannot be copied."""
    with blame(role, "when it was copied"):
        return copy_part(part, memo)
