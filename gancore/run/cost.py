"""What a run needs: parameters, memory and time, known before it trains for long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn, optim

from gancore.contracts import Shape
from gancore.errors import ConfigError
from gancore.sampling.grid import is_picture
from gancore.sampling.write import most_in_picture
from gancore.training.gan import GAN
from gancore.training.loop import Step, train
from gancore.training.networks import call, generated_of
from gancore.training.preflight import trial_condition
from gancore.utils.copies import copy_part
from gancore.utils.memory import free_memory
from gancore.utils.text import duration, file_size, with_unit_prefix

_MANY_PARAMETERS = 100_000_000
_SAMPLES = 4
"""Samples of the batch on which activations are counted, the number that `trial_condition` makes."""
_TIMED_STEPS, _TIMED_SECONDS = 8, 3.0
"""Steps whose time is taken in a dry run, and the seconds after which no further one begins."""


@dataclass(frozen=True)
class Cost:
    """What a run needs. `parameters` are those of both networks by player.

    `state_bytes`: weights, gradients, the states of optimizers, and the averages of the generator. `activation_bytes`:
    what a step keeps for its gradients, None if that is unknown. Penalties with gradients of images need more.
    `present_bytes`: weights and averages, which are in memory before the first step.
    """

    parameters: dict[str, int]
    state_bytes: int
    activation_bytes: int | None
    present_bytes: int

    def __str__(self) -> str:
        sizes = " and ".join(
            f"{player} {with_unit_prefix(count)}".rstrip() for player, count in self.parameters.items()
        )
        return f"networks: {sizes} parameters; training takes at least {file_size(self.bytes)} of memory"

    @property
    def bytes(self) -> int:
        """The memory that training takes at least."""
        return self.state_bytes + (self.activation_bytes or 0)

    def warnings(self, free: int | None) -> Iterator[str]:
        """Yield what makes the run slow or impossible, where `free` bytes of memory are left before its first step."""
        total = sum(self.parameters.values())
        if total > _MANY_PARAMETERS:
            yield (
                f"the networks have {with_unit_prefix(total)} parameters, which is slow and takes much data: a "
                "smaller size has fewer, as in --set size=small"
            )
        more = self.bytes - self.present_bytes
        if free is not None and more > free:
            yield (
                f"training takes at least {file_size(more)} more memory, and {file_size(free)} are free: "
                "lower the batch size, or --set training.accumulate=4, or --set size=small"
            )


@dataclass(frozen=True)
class Timing:
    """The time of a step as measured, of 1000 real images, and of the whole run at that speed.

    A total in minutes has no `seconds`.
    """

    seconds_per_step: float
    seconds_per_kimg: float
    seconds: float | None

    @classmethod
    def of_steps(cls, seconds_per_step: float, images_per_step: int, kimg: float | None) -> Timing:
        """Return the time of a run of `kimg` thousand real images."""
        per_kimg = seconds_per_step * 1000 / images_per_step
        return cls(seconds_per_step, per_kimg, None if kimg is None else kimg * per_kimg)

    def __str__(self) -> str:
        whole = "" if self.seconds is None else f"; the whole run about {duration(self.seconds)} at this speed"
        return f"time: {self.seconds_per_step:.3g} s per step, {self.seconds_per_kimg:.3g} s per kimg{whole}"


def cost_of(gan: GAN) -> Cost:
    """Return what training takes. The networks stay as they are."""
    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    state = present = 0
    for player, optimizer in gan.optimizers.items():
        per_weight = 2 + _states_of(optimizer)  # itself, its gradient
        for weight in (weight for module in gan.trained_by[player].values() for weight in module.parameters()):
            state += int(weight.nbytes * (per_weight if weight.requires_grad else 1))
            present += weight.nbytes
    for average in gan.averages.modules.values() if gan.averages else ():
        size = sum(weight.nbytes for weight in average.parameters())
        state, present = state + size, present + size
    parameters = {player: sum(weight.numel() for weight in each.parameters()) for player, each in networks.items()}
    return Cost(parameters, state, _activations(gan), present)


def check_memory(count: int, shape: Shape, dtype: str) -> None:
    """Raise ConfigError if the samples of an evaluation do not fit into the free memory."""
    needed, free = count * math.prod(shape) * getattr(torch, dtype).itemsize, free_memory(torch.device("cpu"))
    if free is not None and needed > free:
        problem = (
            f"evaluate.samples is {count:,}, which take {needed / 1e9:,.1f} GB of memory; {free / 1e9:,.1f} GB are free"
        )
        raise ConfigError(problem, "--set evaluate.samples=N takes fewer")


def check_pictures(count: int, shape: Shape) -> None:
    """Raise ConfigError if so large a number of samples of this shape cannot be drawn into one picture."""
    if is_picture(shape) and count > (most := most_in_picture(shape)):
        problem = f"sample.count is {count:,}; one picture shows at most {most:,} samples of shape {shape}"
        raise ConfigError(problem, f"--set sample.count={min(most, 64)}")


def timed_steps(gan: GAN) -> tuple[Step, float]:
    """Take a step and a few more; return the first, and the seconds that a step takes.

    The first step is left out of the time if there is another, since it also chooses algorithms. All ranks must call
    this; they take the same steps.
    """
    begun = perf_counter()
    steps = train(gan)
    first = next(steps)
    _wait(gan.device)
    after_first = perf_counter()
    count, end = 0, after_first
    while gan.ranks.broadcast(count < _TIMED_STEPS and end - begun < _TIMED_SECONDS) and next(steps, None) is not None:
        _wait(gan.device)
        count, end = count + 1, perf_counter()
    return first, (end - after_first) / count if count else after_first - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _states_of(optimizer: optim.Optimizer) -> float:
    """Return how many values an optimizer keeps for each weight, found out on a small one; 2, as Adam, if it fails."""
    with suppress(Exception), torch.enable_grad():  # an optimizer of the user may need anything
        weight = nn.Parameter(torch.zeros(8, 8))
        weight.grad = torch.zeros(8, 8)
        small = type(optimizer)([weight], **optimizer.defaults)
        small.step()
        kept = [value for value in small.state[weight].values() if isinstance(value, Tensor) and value.dim() > 0]
        return sum(value.numel() for value in kept) / weight.numel()
    return 2.0


def _activations(gan: GAN) -> int | None:
    """Return the bytes that a step keeps for its gradients: of D on real and fake images, or of G and D.

    They are counted on copies without values, which take neither memory nor time. None for networks that need values.
    """
    try:
        generator, discriminator = (_without_values(network) for network in (gan.generator, gan.discriminator))
        condition = trial_condition(gan.spec.condition, torch.device("cpu"))
        about = None if condition is None else condition.to("meta")
        latent = torch.empty(_SAMPLES, gan.options.latent.dim, device="meta")
        images, of_generator = None, _Kept()
        with of_generator.counted():
            images = generated_of(call(generator, latent, about)).images
        of_discriminator = _Kept()
        with of_discriminator.counted():
            call(discriminator, images.detach().requires_grad_(), about)
    except Exception:  # a network of the user may need values, or extras of the other one
        return None
    size = gan.feed.batch_size / gan.options.training.accumulate / gan.ranks.size / _SAMPLES
    return int(size * max(2 * of_discriminator.bytes, of_generator.bytes + of_discriminator.bytes))


class _Kept:
    """Bytes of the tensors that autograd keeps, each once, without the weights."""

    def __init__(self) -> None:
        self._seen: dict[int, Tensor] = {}

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._seen.values())

    def counted(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            self._seen.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor


def _without_values(network: nn.Module) -> nn.Module:
    """Return a copy whose weights and buffers have shapes only."""
    memo: dict[int, object] = {}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=weight.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy_part(network, memo)
