"""Laws for losses and regularizers, and for the strength of augmentations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeGuard, cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Augmentation, Regularizer
from gancore.errors import blame
from gancore.testing.cases import Case, CaseSkipped, NotApplicable, require
from gancore.testing.general import first_difference, is_random
from gancore.testing.harness import MOMENTS, harness
from gancore.training.networks import describe_tensor

_PLAYERS = ("discriminator", "generator")
_SCALES = (1.0, 100.0, 10_000.0)
"""Standard deviations of logits."""
_COPIES = 4
"""Number of copies of each image in a larger batch with the same content."""


def losses_are_finite_scalars(component: Component, case: Case) -> None:
    """Losses of D and G are finite scalars, for logits of any size that a network may give."""
    for scale in _SCALES:
        outputs = harness(component, replace(case, scale=scale))()
        for player in _PLAYERS:
            loss = outputs[player]
            _require_scalar(loss, f"the {player}'s loss must be")
            require(cast(Tensor, loss).isfinite(), f"the {player}'s loss is {loss} at logits of size {scale:g}")


def loss_gradient_reaches_the_scores(component: Component, case: Case) -> None:
    """Losses have gradients for the scores: that of D for real and fake images, that of G for fakes."""
    built = harness(component, replace(case, scale=1.0))
    scored = {key: value.clone().requires_grad_() for key, value in built.inputs.items() if _is_score(key)}
    outputs = built.outputs(**scored)
    for player, sides in (("discriminator", ("real", "fake")), ("generator", ("fake",))):
        loss = cast(Tensor, outputs[player])
        require(loss.requires_grad, f"the {player}'s loss is detached from the scores")
        gradients = torch.autograd.grad(loss.sum(), list(scored.values()), allow_unused=True, retain_graph=True)
        reached = {key for key, gradient in zip(scored, gradients, strict=True) if gradient is not None}
        for side in sides:
            has_gradient = any(key.startswith(side) for key in reached)
            require(has_gradient, f"the {player}'s loss has no gradient for the scores of {side} images")


def loss_does_not_grow_with_the_batch(component: Component, case: Case) -> None:
    """Losses are means over the batch, not sums: copies of the images in the batch do not increase them."""
    single, copied = (_gradient_sizes(component, replace(case, scale=1.0), copies) for copies in (1, _COPIES))
    for key, size in single.items():
        player, scores = key
        growth = copied[key] / size if size else 1.0
        require(
            growth < 0.9 * _COPIES,
            f"with {_COPIES} copies of each image, the gradient of the {player}'s loss for the {scores} is "
            f"{growth:.3g} times as large; take the mean over the batch, not the sum",
        )


def _gradient_sizes(component: Component, case: Case, copies: int) -> dict[tuple[str, str], float]:
    """Return the sum of the gradient of each loss for each input with scores, with copies of each image."""
    built = harness(component, case)
    inputs = {key: value.repeat_interleave(copies, dim=0) for key, value in built.inputs.items()}
    scored = {key: value.requires_grad_() for key, value in inputs.items() if _is_score(key)}
    outputs, found = built(**inputs), dict[tuple[str, str], float]()
    for player in _PLAYERS:
        loss = outputs[player]
        if not _is_real_scalar(loss) or not loss.requires_grad:
            raise CaseSkipped
        gradients = torch.autograd.grad(loss, list(scored.values()), allow_unused=True, retain_graph=True)
        sums = [0.0 if gradient is None else float(gradient.abs().sum()) for gradient in gradients]
        found |= {(player, key): value for key, value in zip(scored, sums, strict=True)}
    return found


def _is_real_scalar(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()


def _require_scalar(value: object, what: str) -> None:
    valid = _is_real_scalar(value)
    require(valid, f"{what} a scalar tensor of floating point; received {describe_tensor(value)}")


def _is_score(key: str) -> bool:
    return key.rpartition(" ")[2] in ("logits", "features", "heads")


def penalties_are_finite_scalars(component: Component, case: Case) -> None:
    """Penalties are finite scalars, or None."""
    penalty = harness(component, case)()["penalty"]
    if penalty is None:
        raise NotApplicable
    _require_scalar(penalty, "a penalty must be None or")
    require(cast(Tensor, penalty).isfinite(), f"the penalty is {penalty}")


def penalty_gradient_reaches_its_network(component: Component, case: Case) -> None:
    """Penalties have a finite gradient for the weights of the network that they regularize, named by `player`."""
    built = harness(component, case)
    penalty = built()["penalty"]
    if not isinstance(penalty, Tensor) or built.penalized is None:
        raise NotApplicable
    require(penalty.requires_grad, "the penalty is detached from the weights")
    weights = list(built.penalized.parameters())
    gradients = [each for each in torch.autograd.grad(penalty.sum(), weights, allow_unused=True) if each is not None]
    player = cast(Regularizer, component).player
    require(gradients, f"the penalty has no gradient for the weights of the {player}")
    finite = all(gradient.isfinite().all() for gradient in gradients)
    require(finite, "the gradient of the penalty is not finite")


def penalty_is_a_mean_over_the_batch(component: Component, case: Case) -> None:
    """Penalties of a batch are the mean of those of its halves, unless the class sets `whole_batch`.

    Not checked for a penalty that draws random numbers, because halves draw different ones.
    """
    if cast(Regularizer, component).whole_batch:
        raise NotApplicable
    case = replace(case, count=4)
    built = harness(component, case)
    whole = built.tensors()
    if "penalty" not in whole or is_random(built):
        raise NotApplicable
    parts = (slice(2), slice(2, None))
    halves = [built.tensors(**{key: value[part] for key, value in built.inputs.items()}) for part in parts]
    mean = (halves[0]["penalty"] + halves[1]["penalty"]) / 2
    difference = first_difference({"penalty": whole["penalty"]}, {"penalty": mean}, rounding=1e-3)
    require(
        difference is None,
        f"the penalty of the batch is {float(whole['penalty']):.6g}, but the mean over its halves is "
        f"{float(mean):.6g}; take the mean over images, or set whole_batch = True",
    )


def project_works_in_place(component: Component, case: Case) -> None:
    """`project` changes weights in place and keeps them finite: the optimizer holds the same parameters."""
    built = harness(component, case)
    network = built.penalized
    if network is None:
        raise CaseSkipped
    before = dict(network.named_parameters())
    for index, moment in enumerate(MOMENTS):
        strength = cast(Regularizer, component).strength(moment)
        with blame(f"{component.kind} {component.name!r}"):
            project = getattr(built.built, "project", None)
            if project is not None:
                project(network, strength + index)
    same = all(before.get(name) is parameter for name, parameter in network.named_parameters())
    require(same, "`project` replaced parameters, but the optimizer still has the old ones; change them in place")
    finite = all(parameter.isfinite().all() for parameter in network.parameters())
    require(finite, "`project` made weights NaN or infinite")


def strength_is_in_range(component: Component, case: Case) -> None:
    """Strengths of augmentations are in [0, 1], those of regularizers finite and not negative."""
    strengths = cast(tuple[object, ...], harness(component, case)()["strength"])
    wrong_types = [type(strength).__name__ for strength in strengths if not isinstance(strength, float | int)]
    require(not wrong_types, f"strength must return a float or an int; received {wrong_types[:1]}")
    high = 1.0 if isinstance(component, Augmentation) else float("inf")
    numbers = cast(tuple[float, ...], strengths)
    valid = all(math.isfinite(number) and 0.0 <= number <= high for number in numbers)
    require(valid, f"strength must be in [0, {high:g}]; received {list(numbers)}")
