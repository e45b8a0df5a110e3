"""The fastest loop that we can write by hand for the same networks, without anything else a framework does.

The data are in memory, converted for the networks. D gets real and fake images in one pass where that changes nothing,
is frozen in G's step, and shares its pass over real images with R1. Adam is fused. In bfloat16 the MLPs keep weights in
both types, so that no step converts them twice; `autocast` is for networks whose batch normalization needs float32. The
numbers of a recipe are repeated here; a test checks that both loops make the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

Precision = Literal["float32", "masters", "autocast"]
"""`masters`: bfloat16 weights that are copies of float32 weights, on which Adam works."""


@dataclass(frozen=True)
class Plan:
    """Settings of a recipe; `interval` and `gamma` are those of R1, `half_life` and `ramp_up` of the EMA."""

    batch: int = 64
    latent: int = 100
    uniform: bool = False
    one_pass: bool = True
    rate: tuple[float, float] = (2e-4, 2e-4)
    betas: tuple[float, float] = (0.9, 0.999)
    gamma: float = 0.0
    interval: int = 1
    half_life: float | None = None
    ramp_up: float = 1.0


PLANS = {
    "vanilla": Plan(),
    "mnist": Plan(
        latent=32, rate=(2e-3, 1e-4), betas=(0.0, 0.99), gamma=1.0, interval=4, half_life=10_000, ramp_up=0.05
    ),
    "dcgan": Plan(batch=128, uniform=True, one_pass=False, betas=(0.5, 0.999)),
}


class Network:
    """A network and its Adam."""

    def __init__(self, module: nn.Module, plan: Plan, precision: Precision) -> None:
        self.module = module
        self._weights: list[Tensor] = list(module.parameters())
        self.masters = self._weights
        if precision == "masters":
            self.masters = [weight.detach().clone().requires_grad_() for weight in self._weights]
            module.to(torch.bfloat16)
        self._adam = torch.optim.Adam(self.masters, lr=plan.rate[0], betas=plan.betas, fused=True)

    def step(self, loss: Tensor, rate: float) -> None:
        for weight in self._weights:
            weight.grad = None
        # R1 makes the images a leaf: without `inputs` they would accumulate a gradient too.
        loss.backward(inputs=self._weights)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for group in self._adam.param_groups:
            group["lr"] = rate
        if self.masters is self._weights:
            self._adam.step()
            return
        for master, weight in zip(self.masters, self._weights, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
        self._adam.step()
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self.masters)


class Loop:
    """Trains copies of two networks on batches (N, C, H, W) in [-1, 1]; the learning rate ends after `total` steps."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        batches: Iterator[Tensor],
        plan: Plan,
        *,
        precision: Precision = "float32",
        channels_last: bool = False,
        noise: torch.Generator | None = None,
        total: int = 1_000_000,
    ) -> None:
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        copies = (deepcopy(module).train().to(memory_format=memory_format) for module in (generator, discriminator))
        self.generator, self.discriminator = (Network(module, plan, precision) for module in copies)
        self.ema = deepcopy(generator).eval().requires_grad_(False) if plan.half_life else None
        self._batches, self._plan, self._total = batches, plan, total
        self._dtype = torch.bfloat16 if precision == "masters" else torch.get_default_dtype()
        self._autocast = precision == "autocast"
        self._noise = noise or torch.Generator().manual_seed(0)
        self._step = 0
        self._seen = 0
        self._targets = torch.cat([torch.ones(plan.batch, 1), torch.zeros(plan.batch, 1)])

    def run(self, steps: int) -> float:
        start = perf_counter()
        for _ in range(steps):
            self._make_step(next(self._batches))
        return perf_counter() - start

    def _make_step(self, real: Tensor) -> None:
        plan, count = self._plan, len(real)
        start, end = plan.rate
        rate = start + (end - start) * self._step / self._total
        ones, zeros = self._targets[:count], self._targets[-count:]
        with self._cast():
            fake: Tensor = self.generator.module(self._latent(count))
        self.discriminator.step(self._discriminate(real, fake.detach(), ones, zeros), rate)

        self.discriminator.module.requires_grad_(False)
        with self._cast():
            logits = self.discriminator.module(fake)
        self.generator.step(binary_cross_entropy_with_logits(logits.to(ones.dtype), ones), rate)
        self.discriminator.module.requires_grad_(True)
        self._step += 1
        self._seen += count
        if self.ema is not None and plan.half_life:
            self._update_ema(self.ema, plan.half_life, count)

    def _discriminate(self, real: Tensor, fake: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        plan, discriminator = self._plan, self.discriminator.module
        penalized = plan.gamma > 0 and self._step % plan.interval == 0
        if plan.one_pass and not penalized:
            with self._cast():
                logits = discriminator(torch.cat([real, fake]))
            return 2 * binary_cross_entropy_with_logits(logits.to(ones.dtype), torch.cat([ones, zeros]))
        with self._cast():
            on_real = discriminator(real.requires_grad_(penalized)).to(ones.dtype)
            on_fake = discriminator(fake).to(ones.dtype)
        loss = binary_cross_entropy_with_logits(on_real, ones) + binary_cross_entropy_with_logits(on_fake, zeros)
        if penalized:
            (gradient,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
            loss = loss + gradient.square().sum() / len(real) * (plan.gamma / 2 * plan.interval)
        return loss

    def _latent(self, count: int) -> Tensor:
        size = (count, self._plan.latent)
        if self._plan.uniform:
            return torch.rand(size, generator=self._noise).mul_(2).sub_(1)
        return torch.randn(size, generator=self._noise).to(self._dtype)

    def _cast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self._autocast)

    @torch.no_grad()
    def _update_ema(self, ema: nn.Module, half_life: float, count: int) -> None:
        weight = 1 - 0.5 ** (count / min(half_life, self._plan.ramp_up * self._seen))
        torch._foreach_lerp_(list(ema.parameters()), self.generator.masters, weight)
        for averaged, current in zip(ema.buffers(), self.generator.module.buffers(), strict=True):
            averaged.copy_(current)


def for_networks(images: Tensor, precision: Precision = "float32") -> Tensor:
    """Convert stored images, uint8, to [-1, 1]."""
    return images.float().div_(127.5).sub_(1).to(torch.bfloat16 if precision == "masters" else torch.float32)


def shuffled(images: Tensor, size: int) -> Iterator[Tensor]:
    """Yield shuffled batches of converted images, epoch after epoch; the last of an epoch may be short."""
    generator = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.split(torch.randperm(len(images), generator=generator), size):
            yield images.index_select(0, chosen)
