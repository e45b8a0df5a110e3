"""Laws for losses and regularizers, and for the strength of augmentations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard, cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Augmentation, Regularizer
from gancore.errors import blame
from gancore.testing.cases import Case, CaseSkipped, NotApplicable, UnsuitedComponent, require
from gancore.testing.general import first_difference, is_random
from gancore.testing.harness import MOMENTS, Harness, gradients, harness
from gancore.training.networks import describe_tensor

_PLAYERS = ("discriminator", "generator")
_SCALES = (1.0, 100.0, 10_000.0)
"""Standard deviations of logits."""
_UPDATES = 40
"""Number of updates of logits, each by at most 0.1."""
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
        found = gradients(loss, list(scored.values()))
        reached = {key for key, gradient in zip(scored, found, strict=True) if gradient is not None}
        for side in sides:
            has_gradient = any(key.startswith(side) for key in reached)
            require(has_gradient, f"the {player}'s loss has no gradient for the scores of {side} images")


def losses_oppose_each_other(component: Component, case: Case) -> None:
    """D separates real images from fakes, and G moves its fakes to the side of the real ones.

    D's loss is minimized over one logit per image. It may fall forever, but only as fast as the logits grow.
    """
    built = harness(component, replace(case, scale=1.0, logits=1))
    rng = torch.Generator().manual_seed(case.seed)
    real, fake = (0.1 * torch.randn(case.count, 1, generator=rng) for _ in range(2))
    _require_linear_fall(built)
    for _ in range(_UPDATES):
        of_real, of_fake, _ = _logit_gradients(built, real, fake)
        size = float(torch.cat([of_real, of_fake]).abs().max())
        if size == 0 or not math.isfinite(size):
            break
        real, fake = real - 0.1 * of_real / size, fake - 0.1 * of_fake / size
    apart = float(real.mean() - fake.mean())
    scores = f"minimizing D's loss takes the logits of real images to {real.mean():.2g}, of fakes to {fake.mean():.2g}"
    require(abs(apart) > 0.1, f"{scores}: it does not tell them apart; the sign of a term may be wrong")
    pull = -float(_logit_gradients(built, real, fake)[2].sum())
    direction = "higher" if pull > 0 else "lower"
    require(
        pull * apart >= 0,
        f"{scores}, and G's loss takes fakes to {direction} ones, away from real images; the sign of a term is wrong",
    )


def _require_linear_fall(built: Harness) -> None:
    """Raise LawBroken if D's loss falls faster than logits grow, so that no penalty on D stops it."""
    for side in ("real", "fake"):
        zeros = dict.fromkeys(("real logits", "fake logits", "attached"), torch.zeros_like(built.inputs["attached"]))
        logits = built.inputs[f"{side} logits"]
        found = [
            built.outputs(**{**zeros, f"{side} logits": scale * logits})["discriminator"] for scale in (100.0, 10_000.0)
        ]
        near, far = (float(cast(Tensor, loss).detach()) for loss in found)
        falls = far < -100 and far < 1000 * min(near, -1.0)
        fall = f"D's loss falls to {far:.2g} as the logits of {side} images grow"
        require(not falls, f"{fall}; the sign of a term is wrong")


def _logit_gradients(built: Harness, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of D's loss for real and fake logits, and of G's loss for fake ones."""
    real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
    detached = torch.zeros_like(built.inputs["attached"])
    outputs = built.outputs(**{"real logits": real, "fake logits": fake, "attached": detached})
    losses = [cast(Tensor, outputs[player]) for player in _PLAYERS]
    if not all(_is_real_scalar(loss) and loss.requires_grad for loss in losses):
        raise CaseSkipped("a loss is not a scalar with a gradient, which another law reports")
    found = [*gradients(losses[0], [real, fake]), *gradients(losses[1], [fake])]
    if found[0] is None and found[1] is None:
        raise NotApplicable("D's loss does not use the logits")
    first, second, third = (fake.new_zeros(()) if each is None else each for each in found)
    return first.expand_as(real), second.expand_as(fake), third.expand_as(fake)


def generator_loss_is_attached_to_the_fakes(component: Component, case: Case) -> None:
    """Where G's loss changes with the images, features or heads of fakes, it also has a gradient for them."""
    case = replace(case, scale=1.0)
    expected = _generator_loss(component, case, {})
    if not expected.requires_grad:
        raise CaseSkipped("the generator's loss has no gradient, which another law reports")
    for key in ("fake images", "fake logits", "fake features", "fake heads"):
        before = harness(component, case).inputs[key]
        moved = (0.5 * before + 0.3).requires_grad_()
        loss = _generator_loss(component, case, {key: moved})
        if not (expected.isfinite() and loss.isfinite()) or torch.allclose(loss, expected, rtol=1e-4, atol=1e-6):
            continue
        (gradient,) = gradients(loss, [moved]) if loss.requires_grad else (None,)
        reached = gradient is not None and bool(gradient.any())
        what = key.partition(" ")[2]
        problem = f"the generator's loss reads the {what} of fakes, but has no gradient for them"
        require(reached, f"{problem}; do not detach them")


def _generator_loss(component: Component, case: Case, changed: Mapping[str, Tensor]) -> Tensor:
    """Return G's loss from a new build, with logits, features and heads that do not depend on the images."""
    built = harness(component, case)
    return cast(Tensor, built.outputs(**changed, attached=torch.zeros_like(built.inputs["attached"]))["generator"])


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
            raise CaseSkipped(f"the {player}'s loss is not a scalar with a gradient, which another law reports")
        partial = gradients(loss, list(scored.values()))
        sums = [0.0 if gradient is None else float(gradient.abs().sum()) for gradient in partial]
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
        raise NotApplicable("it adds no penalty")
    _require_scalar(penalty, "a penalty must be None or")
    require(cast(Tensor, penalty).isfinite(), f"the penalty is {penalty}")


def penalty_gradient_reaches_its_network(component: Component, case: Case) -> None:
    """Penalties have a finite gradient for the weights of the network that they regularize, named by `player`."""
    built = harness(component, case)
    penalty = built()["penalty"]
    if not isinstance(penalty, Tensor) or built.penalized is None:
        raise NotApplicable("it adds no penalty")
    require(penalty.requires_grad, "the penalty is detached from the weights")
    found = [each for each in gradients(penalty, list(built.penalized.parameters())) if each is not None]
    player = cast(Regularizer, component).player
    require(found, f"the penalty has no gradient for the weights of the {player}")
    require(all(gradient.isfinite().all() for gradient in found), "the gradient of the penalty is not finite")


def penalty_is_a_mean_over_the_batch(component: Component, case: Case) -> None:
    """Penalties of a batch are the mean of those of its halves, unless the class sets `whole_batch`.

    Not checked for a penalty that draws random numbers, because halves draw different ones.
    """
    if cast(Regularizer, component).whole_batch:
        raise NotApplicable("it sets whole_batch")
    case = replace(case, count=4)
    built = harness(component, case)
    whole = built.tensors()
    if "penalty" not in whole:
        raise NotApplicable("it adds no penalty")
    if is_random(built):
        raise UnsuitedComponent("it draws random numbers, and halves draw different ones")
    parts = (slice(2), slice(2, None))
    halves = [built.tensors(**{key: value[part] for key, value in built.inputs.items()}) for part in parts]
    mean = (halves[0]["penalty"] + halves[1]["penalty"]) / 2
    difference = first_difference({"penalty": whole["penalty"]}, {"penalty": mean}, rounding=1e-3)
    is_sum = torch.allclose(whole["penalty"], 2 * mean, rtol=1e-3)
    advice = "it sums over the batch: take the mean over images" if is_sum else "set whole_batch = True"
    require(
        difference is None,
        f"the penalty of the batch is {float(whole['penalty']):.6g}, but the mean over its halves is "
        f"{float(mean):.6g}; {advice}",
    )


def project_works_in_place(component: Component, case: Case) -> None:
    """`project` changes weights in place and keeps them finite: the optimizer holds the same parameters."""
    built = harness(component, case)
    network = built.penalized
    if network is None:
        raise NotApplicable("it has no network to project")
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
