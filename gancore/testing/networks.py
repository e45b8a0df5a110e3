"""Laws for networks (generators, discriminators, extractors) and for augmentations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gancore.component import Component
from gancore.contracts import Augment
from gancore.errors import PluginError
from gancore.metrics import Features, LearnedExtractor
from gancore.testing.cases import Case, CaseSkipped, LawBroken, NotApplicable, UnsuitedCase, UnsuitedComponent, require
from gancore.testing.general import first_difference
from gancore.testing.harness import Harness, failures, gradients, harness
from gancore.testing.inputs import call_network, conditions, extra_inputs, extras_in, images
from gancore.training.mixing import COUNT, TrialInputs, depends_on_batch, differs_in_one_pass
from gancore.training.networks import describe_tensor, generated_of
from gancore.utils.random import seeded

_TRAINED_BY = {"loss": "discriminator", "regularizer": "penalty", "augmentation": "images"}
"""The output whose gradient trains the parameters of a kind; in others it is all outputs."""
_ROUNDING = 1e-4
"""Largest relative difference of images that are computed in two ways."""
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
    if isinstance(component, LearnedExtractor) and component.needs_labels:
        logits = outputs.get("logits")
        require(isinstance(logits, Tensor), "an extractor that learns from labels must return logits")


def gradient_reaches_every_parameter(component: Component, case: Case) -> None:
    """Gradients reach every parameter that requires one, and are finite.

    They are those of a network's outputs, of D's loss for the parameters of a loss, and of a penalty for its own.
    """
    built = harness(component, case)
    if built.module is None:
        raise NotApplicable("it is no module, so it has no parameters")
    if not any(parameter.requires_grad for parameter in built.module.parameters()):
        raise UnsuitedComponent("it has no parameters")
    outputs = _floating(built.outputs())
    used = _TRAINED_BY.get(component.kind)
    trained = {key: value for key, value in outputs.items() if used is None or key == used}
    if not trained:
        raise UnsuitedComponent(f"it has no {used}")
    require(any(value.requires_grad for value in trained.values()), "its outputs are detached from its parameters")
    names, parameters = zip(*[pair for pair in built.module.named_parameters() if pair[1].requires_grad], strict=True)
    where = {"loss": " in D's step, in which D's optimizer trains it"}.get(component.kind, "")
    for name, gradient in zip(names, gradients(_weighted(trained), parameters), strict=True):
        require(gradient is not None, f"the parameter {name} gets no gradient{where}; use it, or leave it out")
        require(gradient is not None and gradient.isfinite().all(), f"the gradient of {name} is not finite")


def gradient_reaches_the_images(component: Component, case: Case) -> None:
    """Gradients of the output reach the input images: G learns from them."""
    built = harness(component, case)
    built.outputs()  # failing without a gradient is reported by another law
    inputs = built.inputs["images"].clone().requires_grad_()
    try:
        outputs = _floating(built.outputs(images=inputs))
    except PluginError as error:
        raise LawBroken(f"the {component.kind} fails where a gradient is needed: {error}") from error
    key = "logits" if "logits" in outputs else "images"
    returned = f"the {key} that the {component.kind} returns"
    require(outputs[key].requires_grad, f"{returned} are detached from its input images")
    (gradient,) = gradients(_weighted({key: outputs[key]}), [inputs])
    require(gradient is not None, f"{returned} have no gradient for its input images")
    if component.kind == "augmentation":
        flat = gradient is not None and not gradient.any()
        require(not flat, "the augmentation is not differentiable: its gradient is 0 (round, comparisons, integers)")


def images_are_in_range(component: Component, case: Case) -> None:
    """Values of generated images are in [-1, 1], and not only in [0, 1], unless the data is not bounded."""
    if not case.bounded:
        raise UnsuitedCase("the samples are not bounded")
    for built in _initializations(component, case):
        generated = built.tensors()["images"]
        low, high = float(generated.min()), float(generated.max())
        in_range = low >= -1.0 and high <= 1.0
        require(in_range, f"images must be in [-1, 1]; received {low:.3g} to {high:.3g}; end the network with tanh")
        if low < 0:
            return
    raise LawBroken("images are never below 0, which is gray; black is -1: end the network with tanh, not a sigmoid")


def latent_changes_the_images(component: Component, case: Case) -> None:
    """Another latent gives another image, unless the condition is a tensor, which may determine the image alone."""
    for built in _initializations(component, case):
        generated, other = _images(built), _images(built, latent=10 * built.inputs["latent"].flip(1) + 1)
        if first_difference(generated, other) is not None:
            return
    if isinstance(case.condition, tuple):
        raise UnsuitedCase("a tensor as the condition may determine the image alone")
    raise LawBroken("images do not depend on the latent")


def condition_changes_the_images(component: Component, case: Case) -> None:
    """Conditional generators make another image of one latent for another condition."""
    for built in _initializations(component, case):
        latent, condition = built.inputs["latent"][:1].expand(case.count, -1), _condition(built)
        generated = _images(built, latent=latent, condition=condition)
        other = _images(built, latent=latent, condition=_other_condition(case, condition))
        if first_difference(generated, other) is not None:
            return
    raise LawBroken("images do not depend on the condition")


def truncation_ends_at_one_image(component: Component, case: Case) -> None:
    """Images of a method `truncated` are those of a call at truncation 1, and one image for all latents at 0."""
    built = harness(component, case, evaluation=True)
    method = getattr(built.module, "truncated", None)
    if method is None:
        raise NotApplicable("it has no method truncated")
    latent = built.inputs["latent"]

    def truncated(latent: Tensor, truncation: float) -> dict[str, Tensor]:
        def call(latent: Tensor, *condition: Tensor) -> object:
            return method(latent, truncation, *condition)

        with torch.no_grad(), seeded(built.seed + 1), failures(component):
            return {"images": generated_of(call_network(call, latent, built.inputs)).images}

    whole = first_difference(_images(built), truncated(latent, 1.0), _ROUNDING)
    require(whole is None, "truncated() at truncation 1 returns other images than a call")
    ends = truncated(latent, 0.0), truncated(3 * latent.flip(1) + 1, 0.0)
    require(first_difference(*ends, _ROUNDING) is None, "images of truncated() at truncation 0 depend on the latent")


def condition_changes_the_logits(component: Component, case: Case) -> None:
    """Conditional discriminators give an image another logit for another condition, or predict it with a head."""
    for built in _initializations(component, case, evaluation=True):
        outputs = built.tensors()
        if any(key.startswith("heads[") for key in outputs):
            raise UnsuitedComponent("a head of it may predict the condition")
        other = built.tensors(condition=_other_condition(case, _condition(built)))
        if not torch.equal(outputs["logits"], other["logits"]):
            return
    raise LawBroken(
        "logits do not depend on the condition, so G has no reason to follow it; use it in forward(), or predict it "
        "with a head"
    )


def _images(built: Harness, **changed: Tensor) -> dict[str, Tensor]:
    return {"images": built.tensors(**changed)["images"]}


def _condition(built: Harness) -> Tensor:
    if "condition" not in built.inputs:
        raise UnsuitedCase("the case has no condition")
    return built.inputs["condition"]


def _other_condition(case: Case, condition: Tensor) -> Tensor:
    return (condition + 1) % case.condition if isinstance(case.condition, int) else 0.5 - 2 * condition


def dropout_follows_the_mode(component: Component, case: Case) -> None:
    """Dropout drops units in training mode, and none in evaluation mode."""
    built = harness(component, case)
    module = built.module
    if module is None:
        raise NotApplicable("it is no module")
    with DropoutCalls() as in_training:
        built()
    module.eval()
    with DropoutCalls() as in_evaluation:
        built()
    if not in_training.dropped and not in_evaluation.dropped:
        raise UnsuitedComponent("it has no dropout")
    off = False in in_training.dropped
    require(not off, "its dropout drops nothing in training mode; pass training=self.training, or use nn.Dropout")
    on = True in in_evaluation.dropped
    require(not on, "its dropout drops units in evaluation mode; pass training=self.training, or use nn.Dropout")


class DropoutCalls(TorchFunctionMode):
    """Notes for each call of a dropout function whether it drops units; `dropped` has a bool for each."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped = list[bool]()

    def __torch_function__(
        self,
        func: Callable[..., Any],  # Any: any function of torch
        types: object,
        args: tuple[Any, ...] = (),  # Any: as above
        kwargs: Mapping[str, Any] | None = None,  # Any: as above
    ) -> Any:  # Any: as above
        named = dict(kwargs or {})
        if "dropout" in getattr(func, "__name__", ""):
            share = named.get("p", args[1] if len(args) > 1 else 0.5)
            training = named.get("training", named.get("train", args[2] if len(args) > 2 else True))
            if share > 0:
                self.dropped.append(bool(training))
        return func(*args, **named)


def logits_are_not_probabilities(component: Component, case: Case) -> None:
    """Logits are scores before any sigmoid, which losses apply: some are outside [0, 1]."""
    for built in _initializations(component, case):
        for scale in (1.0, 1000.0):
            logits = built.tensors(images=scale * built.inputs["images"])["logits"]
            if float(logits.min()) < 0 or float(logits.max()) > 1:
                return
    raise LawBroken("logits are in [0, 1] for all images: remove the sigmoid, which losses apply themselves")


def _initializations(component: Component, case: Case, *, evaluation: bool = False) -> Iterator[Harness]:
    """Yield builds with different weights, for properties that a correct network may lack by chance."""
    for seed in range(_SEEDS):
        yield harness(component, replace(case, seed=case.seed + seed), evaluation=evaluation)


def preflight_detects_sample_mixing(component: Component, case: Case) -> None:
    """If D mixes the samples of a batch at any batch size, it does so in the small batches of the preflight check."""
    built = harness(component, case)
    module = built.module
    if module is None or not built.tensors()["logits"].isfinite().all():
        raise CaseSkipped("its logits are not finite")
    if getattr(module, "mixes_samples", None) is not None:
        raise UnsuitedComponent("its attribute mixes_samples says whether it mixes samples")

    def mixes(count: int, *, rows: bool = False) -> bool:
        sized = replace(case, count=count)
        with seeded(case.seed), failures(component, built.guesses):
            first, second = images(sized), 0.3 * images(sized) + 0.4
            condition = conditions(sized).get("condition")
            extras = extras_in(extra_inputs(module, sized, built.guesses))
            inputs = TrialInputs(torch.zeros(count, 1), first, second, condition, extras)
            # With the same random numbers, so that a unit that is rarely dropped is not taken for mixing.
            if not differs_in_one_pass(module, inputs):
                return False
            return not rows or depends_on_batch("discriminator", module, inputs)

    if mixes(COUNT):
        return
    late = next((count for count in _COUNTS if mixes(count, rows=True)), None)
    require(
        late is None,
        f"it mixes the samples of a batch for two batches of {late} images in one pass but not for two of {COUNT}, so "
        "the preflight check does not detect it; mix samples at every batch size, or at none, or set mixes_samples = "
        "True on the module",
    )


def strength_zero_changes_nothing(component: Component, case: Case) -> None:
    """Strength is the share of images that an augmentation changes, so it changes none at strength 0."""
    built = harness(component, case)
    built.outputs()  # lets it observe logits
    augmented, original = _at_strength(built, 0.0)()["images"], built.inputs["images"]
    if not isinstance(augmented, Tensor):
        raise LawBroken(f"images must be a tensor at strength 0 too; received {describe_tensor(augmented)}")
    if augmented.shape != original.shape or augmented.dtype != original.dtype:
        raise CaseSkipped("its images have a wrong format, which another law reports")
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
        raise CaseSkipped("it changes images at strength 0, which another law reports")
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
        raise UnsuitedComponent("it draws no random numbers")
    equal = all(torch.equal(image, batch[0]) for batch in batches for image in batch)
    require(not equal, "all images of a batch are changed by the same random parameters; draw them for each image")


def _at_strength(built: Harness, strength: float) -> Harness:
    augment = cast(Augment, built.built)
    return replace(built, run=lambda inputs: {"images": augment(inputs["images"], strength)})


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _floating(outputs: Mapping[str, object]) -> dict[str, Tensor]:
    return {key: value for key, value in outputs.items() if isinstance(value, Tensor) and value.is_floating_point()}


def _weighted(outputs: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of all elements with different weights, so that gradients do not cancel."""
    sums = [
        (value * torch.linspace(0.5, 1.5, value.numel()).view_as(value)).sum()
        for value in outputs.values()
        if value.requires_grad
    ]
    return torch.stack(sums).sum()
