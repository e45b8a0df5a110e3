"""Samples of a generator: sample i depends only on the seed, on i, and on its condition.

Each sample has noise of its own, and the generator always sees chunks of the same size, so that not even rounding
depends on the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancore.config.run import LatentSettings
from gancore.contracts import Condition, Shape
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import ConfigError, NumericsError, blame
from gancore.sampling.grid import is_picture, picture, png_bytes
from gancore.sampling.latents import draw_latents, truncate
from gancore.training.gan import GAN
from gancore.training.networks import Network, call, eval_mode, generated_of
from gancore.utils.random import derive_seed, seeded
from gancore.utils.sample_format import UINT8, SampleFormat, condition_to_network

CHUNK = 64
"""Number of samples that the generator makes at once."""


@torch.no_grad()
def draw(  # the keywords say all that decides which images are drawn
    generator: nn.Module,
    count: int,
    *,
    latent: LatentSettings,
    seed: int,
    device: torch.device,
    sample_format: SampleFormat = UINT8,
    condition: Condition | None = None,
    conditions: Tensor | None = None,
    ranks: Ranks = SINGLE_RANK,
) -> Tensor:
    """Return samples (N, *shape) as the data is stored in `sample_format`, on the CPU.

    The generator runs in evaluation mode, and its modes are restored. `conditions` are labels (N,), or tensors
    (N, *condition) as a dataset stores them; without them, a run that is conditional on classes draws all in turn.
    Several `ranks` share the work, and only rank 0 gets all samples.
    Raises NumericsError when a sample is not finite, ConfigError when tensors are needed and `conditions` are missing.
    """
    chunks, failure, starts = [], None, range(0, count, CHUNK)
    for start in starts[ranks.rank :: ranks.size]:
        wanted = condition_of_chunk(condition, conditions, start)
        latents, noise_seed = chunk_latents(latent, seed, start)
        try:
            chunks.append(
                generate(generator, latents, wanted, noise_seed=noise_seed, device=device, sample_format=sample_format)
            )
        except NumericsError as error:
            failure = error
            break
    if ranks.all_reduce_max([failure is not None])[0]:
        raise failure or not_finite()
    return torch.cat(ranks.gather(chunks, len(starts)))[:count]


@torch.no_grad()
def generate(
    generator: nn.Module,
    latents: Tensor,
    conditions: Tensor | None,
    *,
    noise_seed: int,
    device: torch.device,
    sample_format: SampleFormat,
    truncation: float = 1.0,
) -> Tensor:
    """Return the samples of latents (N, Z), made at once; `conditions` (N, …) are as networks see them. See `draw`.

    `noise_seed` is the seed of the random numbers that the generator itself draws. A `truncation` in 0..1 is that of
    the generator's method `truncated`; without that method latents are multiplied by it.
    """
    wanted = None if conditions is None else conditions.to(device)
    with eval_mode(generator), seeded(noise_seed, device), blame("generator", "in forward()"):
        images = generated_of(call(truncating(generator, truncation), latents.to(device), wanted)).images.float()
    if not images.isfinite().all():  # converted to bytes they would look like any other image
        raise not_finite()
    return sample_format.to_stored(images).cpu()


def truncates_styles(generator: nn.Module) -> bool:
    """Return whether a generator has a method `truncated` of its own; latents are multiplied for all others."""
    return getattr(generator, "truncated", None) is not None


def truncating(generator: nn.Module, truncation: float) -> Network:
    """Return what maps latents (N, Z), and conditions, to the output of a generator at this truncation."""
    if truncation == 1:
        return generator
    method: Network | None = getattr(generator, "truncated", None)
    if method is None:
        return lambda latents, *condition: generator(truncate(latents, truncation), *condition)
    return lambda latents, *condition: method(latents, truncation, *condition)


def chunk_latents(latent: LatentSettings, seed: int, start: int) -> tuple[Tensor, int]:
    """Return the latents (CHUNK, Z) of samples from number `start` on, and the seed of what the generator draws."""
    return draw_latents(latent, seed, start, start + CHUNK), derive_seed(seed, "chunk", start)


def not_finite() -> NumericsError:
    """Return the error for samples that are not finite."""
    return NumericsError("the generator makes samples that are not finite", "go back to an older checkpoint")


@dataclass(frozen=True)
class SampleStream:
    """Samples that are drawn while they are read, so that any number of them takes the memory of one chunk.

    Iterate over it for tensors (M, *shape) as the data is stored, with M up to `chunk_size`, on the CPU; together they
    are the samples 0 to `count` - 1. Each iteration draws them anew. `columns` are the names of the values of a vector,
    if they are known, and `limits` the values that pictures show as black and white, None for uint8 and where unknown.
    """

    count: int
    shape: Shape
    dtype: torch.dtype
    chunk: Callable[[int], Tensor]
    """Returns the chunk of samples that begins with this number."""
    columns: tuple[str, ...] = ()
    limits: tuple[float, float] | None = None
    chunk_size: int = CHUNK

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, self.count, self.chunk_size):
            yield self.chunk(start)[: self.count - start]


def draw_samples(gan: GAN, count: int, seed: int = 0, conditions: Tensor | None = None) -> Tensor:
    """Return samples (N, *shape) of a GAN in training, as the data is stored, on the CPU; the run stays as it is.

    They are from the EMA if there is one. Sample i depends only on the weights, the seed, i and its condition; no
    stream of random numbers and no statistics of the run change, so it trains as if nothing had been drawn.
    `conditions` gives one to each sample: labels (N,), or tensors (N, *condition) as the dataset stores them; a single
    one is used for all. Without them, a run that is conditional on classes draws all in turn. Under several processes,
    all must call it, and only rank 0 gets all samples. A notebook shows the result as a picture.
    Raises ConfigError for other conditions, NumericsError when a sample is not finite.
    """
    if count < 1:
        raise ConfigError(f"the number of samples must be at least 1; received {count}")
    if conditions is not None:
        conditions = checked_conditions(gan.spec.condition, conditions, count)
    return draw_from(gan, count, seed, conditions).as_subclass(DrawnSamples)


def draw_from(gan: GAN, count: int, seed: int, conditions: Tensor | None) -> Tensor:
    """Return what `draw` returns for a GAN in training; all of its ranks must call it."""
    return draw(
        gan.sampler(),
        count,
        latent=gan.options.latent,
        seed=seed,
        device=gan.device,
        sample_format=gan.feed.format,
        condition=gan.spec.condition,
        conditions=conditions,
        ranks=gan.ranks,
    )


def condition_of_chunk(
    condition: Condition | None, conditions: Tensor | None, start: int, size: int = CHUNK
) -> Tensor | None:
    """Return the conditions of `size` samples from `start`, as networks see them; repeated where there are fewer."""
    if condition is None:
        return None
    if conditions is None and isinstance(condition, int):
        return torch.arange(start, start + size) % condition
    if conditions is None:
        raise ConfigError(
            f"the generator needs a condition of shape {condition} for each sample",
            "pass conditions, or use gancore sample RUN --condition FILE",
        )
    given = conditions[start : start + size]
    rows = torch.arange(size) % len(given)
    return condition_to_network(given.long() if isinstance(condition, int) else given)[rows]


class DrawnSamples(Tensor):
    """Samples that a notebook shows as a grid of images, or as a scatter plot of points.

    In every other way they are a tensor, and the results of operations on them are plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as in torch's own Parameter

    def _repr_png_(self) -> bytes | None:
        """Return the picture as a PNG; None for samples that cannot be shown."""
        return png_bytes(picture(self)) if is_picture(self.shape[1:]) else None


def checked_conditions(condition: Condition | None, given: Tensor, count: int) -> Tensor:
    """Return the conditions (count, …) to sample with. Raise ConfigError if `given` does not fit the condition."""
    if condition is None:
        raise ConfigError("the run is not conditional, so samples take no condition", "leave the condition out")
    shape = () if isinstance(condition, int) else condition
    if given.shape not in (shape, (count, *shape)):
        raise ConfigError(
            f"{count} samples need conditions of shape {(count, *shape)}, or one of shape {shape} for all; received "
            f"{tuple(given.shape)}",
            f"pass as many as samples: -n {len(given)}" if given.shape[1:] == shape and len(given) else "reshape them",
        )
    if isinstance(condition, int):
        if given.is_floating_point() or not 0 <= int(given.min()) <= int(given.max()) < condition:
            raise ConfigError(f"labels must be integers in 0..{condition - 1}; received {given.flatten()[:8].tolist()}")
    elif given.dtype not in (torch.uint8, torch.float32):
        raise ConfigError(f"conditions must be uint8 in 0..255 or float32; received {given.dtype}", "convert them")
    return given.expand(count, *shape)
