"""A rehearsal before the first step: do networks, loss and data fit each other, and does D mix its samples?"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from gancore.config import LatentSettings
from gancore.contracts import Objective, Output, Shape
from gancore.errors import GancoreError, PluginError
from gancore.players import call, frozen, judge
from gancore.randomness import seeded

_COUNT = 4


def rehearse(
    generator: nn.Module,
    discriminator: nn.Module,
    objective: Objective,
    shape: Shape,
    latent: LatentSettings,
    num_classes: int | None,
    device: torch.device,
) -> bool:
    """Runs a tiny batch through copies of both networks, which stay as they were. True when D mixes samples.

    Raises PluginError when a network fails, or gives what the contract does not promise.
    """
    with seeded(0, device):
        labels = None if num_classes is None else torch.arange(_COUNT, device=device) % num_classes
        noise = torch.randn(_COUNT, latent.dim, device=device)
        images = _tried("generator", deepcopy(generator), noise, labels)
        if not isinstance(images, Tensor) or images.shape != (_COUNT, *shape) or not images.is_floating_point():
            raise PluginError(
                f"a generator must return floating point images of shape {(_COUNT, *shape)} "
                f"for latents of shape {tuple(noise.shape)}; received {_described(images)}"
            )
        if not images.requires_grad:
            raise PluginError("a generator's images must carry a gradient; these are detached from its parameters")
        first = torch.rand(_COUNT, *shape, device=device) * 2 - 1
        second = torch.rand(_COUNT, *shape, device=device) * 0.6 + 0.1  # of another mean and spread than the first
        critic = deepcopy(discriminator)
        with torch.no_grad():
            for parameter in critic.parameters():  # a network that begins at zero would hide what it does
                parameter.add_(torch.randn_like(parameter) * 0.02)
            both = None if labels is None else torch.cat([labels, labels])
            joined = _logits(_tried("discriminator", critic, torch.cat([first, second]), both))
            apart = torch.cat([_logits(_tried("discriminator", critic, part, labels)) for part in (first, second)])
        _rehearse_objective(deepcopy(objective), deepcopy(discriminator), first, images, noise, labels)
    return not torch.allclose(joined, apart, rtol=1e-3, atol=1e-3 * float(joined.abs().max()) + 1e-12)


def _rehearse_objective(
    objective: Objective, discriminator: nn.Module, real: Tensor, fake: Tensor, latent: Tensor, labels: Tensor | None
) -> None:
    def discriminators_step() -> object:
        seen = judge(discriminator, real, None, labels)
        return objective.discriminator(seen, judge(discriminator, fake.detach(), latent, labels))

    def generators_step() -> object:
        with frozen(discriminator):
            with torch.no_grad():
                seen = judge(discriminator, real, None, labels) if objective.needs_real else None
            return objective.generator(judge(discriminator, fake, latent, labels), seen)

    scores = {"discriminator": discriminators_step, "generator": generators_step}
    for role, score in scores.items():
        try:
            loss = score()
        except GancoreError:
            raise
        except Exception as error:  # a stranger's loss may raise anything
            raise PluginError(f"the loss fails in the {role}'s step: {type(error).__name__}: {error}") from error
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            raise PluginError(
                f"a loss must return a scalar tensor with a gradient in the {role}'s step; received {_described(loss)}"
            )


def _tried(role: str, module: nn.Module, batch: Tensor, labels: Tensor | None) -> Any:  # Any: checked by the caller
    try:
        return call(module, batch, labels)
    except GancoreError:
        raise
    except Exception as error:  # a stranger's module may raise anything
        raise PluginError(
            f"the {role} fails on a batch of shape {tuple(batch.shape)}: {type(error).__name__}: {error}"
        ) from error


def _logits(output: object) -> Tensor:
    logits = output.logits if isinstance(output, Output) else output
    if not isinstance(logits, Tensor) or logits.ndim != 2 or 0 in logits.shape or len(logits) % _COUNT:
        raise PluginError(
            f"a discriminator must return logits (N, K) with K >= 1, or an Output; received {_described(output)}"
        )
    return logits


def _described(value: object) -> str:
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
