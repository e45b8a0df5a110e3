"""Laws for networks (generators, discriminators, extractors) and for augmentations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Augment
from gancore.metrics import Features, LearnedExtractor
from gancore.testing.cases import Case, CaseSkipped, LawBroken, require
from gancore.testing.general import first_difference
from gancore.testing.harness import Harness, harness
from gancore.testing.inputs import conditions, images
from gancore.training.mixing import COUNT, TrialInputs, mixes_samples
from gancore.training.networks import describe_tensor
from gancore.utils.random import seeded

_SEEDS = 32
"""Number of initializations to try."""
_COUNTS = (3, 16)
"""Batch sizes other than that of the preflight check."""
_LOW_STRENGTH, _MANY = 0.05, 64
"""A strength, and a number of images some of which it must leave unchanged."""


def output_has_the_promised_shape(component: Component, case: Case) -> None:
    """Images have shape (N, *shape), logits (N, K), Features (N, D), and other outputs begin with N."""
    outputs = harness(component, case)()
    if component.kind == "extractor":
        extracted = outputs["extracted"]
        valid = isinstance(extracted, Features)
        require(valid, f"an extractor must return Features; received {describe_tensor(extracted)}")
    for key, value in outputs.items():
        if key in ("extracted", "strength"):
            continue
        valid = isinstance(value, Tensor) and value.is_floating_point()
        if key == "images":
            expected = (case.count, *case.shape)
            valid = valid and _shape(value) == expected
            require(valid, f"images must be floating point of shape {expected}; received {describe_tensor(value)}")
        elif key == "logits" or component.kind == "extractor":
            valid = valid and len(_shape(value)) == 2 and _shape(value)[0] == case.count and 0 not in _shape(value)
            require(valid, f"{key} must have shape ({case.count}, K) with K >= 1; received {describe_tensor(value)}")
        else:
            valid = isinstance(value, Tensor) and _shape(value)[:1] == (case.count,)
            require(valid, f"the first dimension of {key} must be N = {case.count}; received {describe_tensor(value)}")
    if isinstance(component, LearnedExtractor):
        logits = outputs.get("logits")
        require(isinstance(logits, Tensor), "a learned extractor must return logits, which its training needs")


def gradient_reaches_every_parameter(component: Component, case: Case) -> None:
    """Gradients of the outputs reach every parameter that requires one, and are finite."""
    built = harness(component, case)
    module = built.module
    if module is None:
        raise CaseSkipped
    outputs = _floating(built.outputs())
    require(any(value.requires_grad for value in outputs.values()), "its outputs are detached from its parameters")
    _backward(outputs)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            gradient = parameter.grad
            require(gradient is not None, f"the parameter {name} gets no gradient; use it, or leave it out")
            require(gradient is not None and gradient.isfinite().all(), f"the gradient of {name} is not finite")


def gradient_reaches_the_images(component: Component, case: Case) -> None:
    """Gradients of the output reach the input images: G learns from them."""
    built = harness(component, case)
    inputs = built.inputs["images"].clone().requires_grad_()
    outputs = _floating(built.outputs(images=inputs))
    key = "logits" if "logits" in outputs else "images"
    require(outputs[key].requires_grad, f"the {key} that it returns are detached from its input images")
    _backward({key: outputs[key]})
    require(inputs.grad is not None, f"the {key} that it returns have no gradient for its input images")


def images_are_in_range(component: Component, case: Case) -> None:
    """Values of generated images are in [-1, 1], and not only in [0, 1]; vectors may have any value."""
    if len(case.shape) != 3:
        raise CaseSkipped
    for built in _initializations(component, case):
        generated = built.tensors()["images"]
        low, high = float(generated.min()), float(generated.max())
        in_range = low >= -1.0 and high <= 1.0
        require(in_range, f"images must be in [-1, 1]; received {low:.3g} to {high:.3g}; end the network with tanh")
        if low < 0:
            return
    raise LawBroken("images are never below 0, which is gray; black is -1: end the network with tanh, not a sigmoid")


def latent_changes_the_images(component: Component, case: Case) -> None:
    """Another latent gives another image."""
    for built in _initializations(component, case):
        generated, other = built.tensors(), built.tensors(latent=10 * built.inputs["latent"].flip(1) + 1)
        if first_difference(generated, other) is not None:
            return
    raise LawBroken("images do not depend on the latent")


def labels_change_the_images(component: Component, case: Case) -> None:
    """Conditional generators make different images of one latent for different classes."""
    if not isinstance(case.condition, int):
        raise CaseSkipped
    labels = torch.arange(case.count) % case.condition
    for built in _initializations(component, case):
        same = built.inputs["latent"][:1].expand(case.count, -1)
        generated = built.tensors(latent=same, condition=labels)
        other = built.tensors(latent=same, condition=(labels + 1) % case.condition)
        if first_difference(generated, other) is not None:
            return
    raise LawBroken("images do not depend on the labels")


def logits_are_not_probabilities(component: Component, case: Case) -> None:
    """Logits are scores before any sigmoid, which losses apply: some are outside [0, 1]."""
    for built in _initializations(component, case):
        for scale in (1.0, 1000.0):
            logits = built.tensors(images=scale * built.inputs["images"])["logits"]
            if float(logits.min()) < 0 or float(logits.max()) > 1:
                return
    raise LawBroken("logits are in [0, 1] for all images: remove the sigmoid, which losses apply themselves")


def _initializations(component: Component, case: Case) -> Iterator[Harness]:
    """Yield builds with different weights, for properties that a correct network may lack by chance."""
    for seed in range(_SEEDS):
        yield harness(component, replace(case, seed=case.seed + seed))


def preflight_detects_sample_mixing(component: Component, case: Case) -> None:
    """If D mixes the samples of a batch at any batch size, it does so in the small batches of the preflight check."""
    module = harness(component, case).module
    if module is None or not harness(component, case).tensors()["logits"].isfinite().all():
        raise CaseSkipped

    def mixes(count: int) -> bool:
        sized = replace(case, count=count)
        with seeded(case.seed):
            first, second = images(sized), 0.3 * images(sized) + 0.4
            condition = conditions(sized).get("condition")
            return mixes_samples(module, TrialInputs(torch.zeros(count, 1), first, second, condition))

    if mixes(COUNT):
        return
    late = next((count for count in _COUNTS if mixes(count)), None)
    require(
        late is None,
        f"it mixes the samples of a batch for two batches of {late} images in one pass but not for two of {COUNT}, so "
        "the preflight check does not detect it; mix samples at every batch size, or at none",
    )


def strength_zero_changes_nothing(component: Component, case: Case) -> None:
    """Strength is the share of images that an augmentation changes, so it changes none at strength 0."""
    built = harness(component, case)
    built.outputs()  # lets it observe logits
    augmented, original = _at_strength(built, 0.0)()["images"], built.inputs["images"]
    if not isinstance(augmented, Tensor):
        raise LawBroken(f"images must be a tensor at strength 0 too; received {describe_tensor(augmented)}")
    if augmented.shape != original.shape or augmented.dtype != original.dtype:
        raise CaseSkipped
    changed = first_difference({"": original}, {"": augmented}, rounding=1e-6)
    require(changed is None, "images are changed at strength 0")


def low_strength_leaves_images_unchanged(component: Component, case: Case) -> None:
    """At a low strength an augmentation leaves some images of a batch unchanged."""
    built = harness(component, replace(case, count=_MANY))
    built()
    original = built.inputs["images"]
    at_zero, augmented = (_at_strength(built, strength).tensors()["images"] for strength in (0.0, _LOW_STRENGTH))
    same_form = augmented.shape == original.shape and augmented.dtype == original.dtype
    if not same_form or not torch.allclose(at_zero, original, atol=1e-3):
        raise CaseSkipped  # other laws report it
    unchanged = ((augmented - original).abs().flatten(1).amax(dim=1) < 1e-3).any()
    changed = f"all {_MANY} images are changed at strength {_LOW_STRENGTH}"
    require(unchanged, f"{changed}; strength is the share of changed images")


def images_are_augmented_independently(component: Component, case: Case) -> None:
    """Each image of a batch is augmented with random parameters of its own."""
    built = harness(component, replace(case, count=8))
    built()
    copies = built.inputs["images"][:1].expand_as(built.inputs["images"])
    batches = [
        _at_strength(replace(built, seed=built.seed + seed), 1.0).tensors(images=copies.clone())["images"]
        for seed in range(6)
    ]
    if all(torch.equal(batches[0], other) for other in batches):
        raise CaseSkipped  # it draws no random numbers
    equal = all(torch.equal(image, batch[0]) for batch in batches for image in batch)
    require(not equal, "all images of a batch are changed by the same random parameters; draw them for each image")


def _at_strength(built: Harness, strength: float) -> Harness:
    augment = cast(Augment, built.built)
    return replace(built, run=lambda inputs: {"images": augment(inputs["images"], strength)})


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _floating(outputs: Mapping[str, object]) -> dict[str, Tensor]:
    return {key: value for key, value in outputs.items() if isinstance(value, Tensor) and value.is_floating_point()}


def _backward(outputs: Mapping[str, Tensor]) -> None:
    """Backpropagate a different weight for each element, so that gradients do not cancel."""
    total = sum((value * torch.linspace(0.5, 1.5, value.numel()).view_as(value)).sum() for value in outputs.values())
    total.backward()  # type: ignore[union-attr]  # there is at least one
