"""Laws of what is minimized: losses and regularizers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeGuard, cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.contracts import Augmentation, Penalty, Regularizer
from gancore.errors import blame
from gancore.testing.cases import Case, Inapplicable, Untried, demand
from gancore.testing.general import is_random, unequal
from gancore.testing.harness import MOMENTS, set_up
from gancore.training.networks import describe_tensor

_PLAYERS = ("discriminator", "generator")
_SCALES = (1.0, 100.0, 10_000.0)
"""Sizes of logits, all of which are tried."""
_TIMES = 4
"""How often an image is there in a batch that is larger and says the same."""


def losses_are_finite_scalars(component: Component, case: Case) -> None:
    """Both players' losses are scalars and finite, at logits of any size that a network gives."""
    for scale in _SCALES:
        given = set_up(component, replace(case, scale=scale))()
        for player in _PLAYERS:
            loss = given[player]
            demand(
                _is_real_scalar(loss),
                f"the {player}'s loss must be a scalar tensor of floating point; received {describe_tensor(loss)}",
            )
            demand(cast(Tensor, loss).isfinite(), f"the {player}'s loss is {loss} at logits of size {scale:g}")


def gradient_reaches_what_is_scored(component: Component, case: Case) -> None:
    """D's loss carries a gradient to what was said of real and of fake images, G's to what was said of fakes."""
    bench = set_up(component, replace(case, scale=1.0))
    scored = {key: value.clone().requires_grad_() for key, value in bench.inputs.items() if _is_scored(key)}
    given = bench.in_form(**scored)
    for player, sides in (("discriminator", ("real", "fake")), ("generator", ("fake",))):
        loss = cast(Tensor, given[player])
        demand(loss.requires_grad, f"the {player}'s loss is detached from what it scores")
        wanted = list(scored)
        gradients = torch.autograd.grad(loss.sum(), list(scored.values()), allow_unused=True, retain_graph=True)
        reached = {key for key, gradient in zip(wanted, gradients, strict=True) if gradient is not None}
        for side in sides:
            demand(
                any(key.startswith(side) for key in reached),
                f"the {player}'s loss carries no gradient to what was said of {side} images",
            )


def a_loss_does_not_grow_with_the_batch(component: Component, case: Case) -> None:
    """If every image is there several times, its loss is no more: it is a mean over the batch, and not a sum."""
    once, often = (_pull(component, replace(case, scale=1.0), times) for times in (1, _TIMES))
    for key, pull in once.items():
        player, scored = key
        growth = often[key] / pull if pull else 1.0
        demand(
            growth < 0.9 * _TIMES,
            f"where every image is there {_TIMES} times, the {player}'s loss pulls at the {scored} {growth:.3g} times "
            "as much; take the mean over the batch, not the sum",
        )


def _pull(component: Component, case: Case, times: int) -> dict[tuple[str, str], float]:
    """The gradient of each player's loss to all that is scored, in sum, where every image is there so many times."""
    bench = set_up(component, case)
    inputs = {key: value.repeat_interleave(times, dim=0) for key, value in bench.inputs.items()}
    scored = {key: value.requires_grad_() for key, value in inputs.items() if _is_scored(key)}
    given, found = bench(**inputs), dict[tuple[str, str], float]()
    for player in _PLAYERS:
        loss = given[player]
        if not _is_real_scalar(loss) or not loss.requires_grad:
            raise Untried
        gradients = torch.autograd.grad(loss, list(scored.values()), allow_unused=True, retain_graph=True)
        sums = [0.0 if gradient is None else float(gradient.abs().sum()) for gradient in gradients]
        found |= {(player, key): value for key, value in zip(scored, sums, strict=True)}
    return found


def _is_real_scalar(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()


def _is_scored(key: str) -> bool:
    return key.rpartition(" ")[2] in ("logits", "features", "heads")


def penalties_are_finite_scalars(component: Component, case: Case) -> None:
    """A penalty is None, or a finite scalar."""
    penalty = set_up(component, case)()["penalty"]
    if penalty is None:
        raise Inapplicable
    demand(
        _is_real_scalar(penalty),
        f"a penalty must be None or a scalar tensor of floating point; received {describe_tensor(penalty)}",
    )
    demand(cast(Tensor, penalty).isfinite(), f"the penalty is {penalty}")


def gradient_reaches_its_player(component: Component, case: Case) -> None:
    """A penalty carries a gradient to the weights of the player whose update it belongs to."""
    bench = set_up(component, case)
    penalty = bench()["penalty"]
    if not isinstance(penalty, Tensor) or bench.player is None:
        raise Inapplicable
    demand(penalty.requires_grad, "the penalty is detached from the weights")
    weights = list(bench.player.parameters())
    gradients = torch.autograd.grad(penalty.sum(), weights, allow_unused=True)
    demand(
        any(gradient is not None for gradient in gradients),
        f"the penalty carries no gradient to the {cast(Regularizer, component).player}",
    )
    demand(
        all(gradient is None or gradient.isfinite().all() for gradient in gradients),
        "the gradient of the penalty is not finite",
    )


def a_penalty_is_the_mean_of_its_parts(component: Component, case: Case) -> None:
    """That of a batch is the mean of those of its halves, unless the class sets `whole_batch`.

    A penalty that draws random numbers is not judged, since halves draw others.
    """
    if cast(Regularizer, component).whole_batch:
        raise Inapplicable
    case = replace(case, count=4)
    bench = set_up(component, case)
    whole = bench.values()
    if "penalty" not in whole or is_random(bench):
        raise Inapplicable
    halves = [bench.values(**{key: value[part] for key, value in bench.inputs.items()}) for part in _HALVES]
    mean = (halves[0]["penalty"] + halves[1]["penalty"]) / 2
    different = unequal({"penalty": whole["penalty"]}, {"penalty": mean}, rounding=1e-3)
    demand(
        different is None,
        f"the penalty is {float(whole['penalty']):.6g}, and the mean of those of its halves {float(mean):.6g}; "
        "set whole_batch",
    )


_HALVES = (slice(2), slice(2, None))


def it_projects_in_place(component: Component, case: Case) -> None:
    """`project` changes weights in place: the parameters are the ones that the optimizer knows, and stay finite."""
    bench = set_up(component, case)
    player = bench.player
    if player is None:
        raise Untried
    before = dict(player.named_parameters())
    for place, moment in enumerate(MOMENTS):
        strength = cast(Regularizer, component).strength(moment)
        with blame(f"{component.kind} {component.name!r}"):
            cast(Penalty, bench.built).project(player, strength + place)
    same = all(before.get(name) is parameter for name, parameter in player.named_parameters())
    demand(same, "`project` replaced parameters, which the optimizer does not notice")
    demand(all(parameter.isfinite().all() for parameter in player.parameters()), "`project` left weights not finite")


def strength_keeps_its_range(component: Component, case: Case) -> None:
    """Of an augmentation it is a share, in 0..1; of a regularizer a finite number that is not below 0."""
    strengths = cast(tuple[object, ...], set_up(component, case)()["strength"])
    strange = [type(strength).__name__ for strength in strengths if not isinstance(strength, float | int)]
    demand(not strange, f"strength must be a plain number; received {strange[:1]}")
    most = 1.0 if isinstance(component, Augmentation) else float("inf")
    numbers = cast(tuple[float, ...], strengths)
    right = all(math.isfinite(number) and 0.0 <= number <= most for number in numbers)
    demand(right, f"strength must lie in 0..{most:g}; received {list(numbers)}")
