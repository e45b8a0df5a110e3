"""Latents: those of seeds, and what lies between them.

All tensors are float32 on the CPU. Z is `latent.dim` of the run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from gancore.config.run import LatentSettings
from gancore.errors import ConfigError, DataError, GancoreError, describe_error
from gancore.training.networks import draw_latent
from gancore.utils.random import generator_for

Distribution = Literal["normal", "uniform"]
"""Distribution of latents: standard normal, or uniform in [-1, 1]."""
MOST_SEEDS = 1_000_000
"""Seeds that a text may name."""
_MOST_BYTES = 1 << 30
"""Bytes of the largest file of latents, and of its array: 16 million latents of 16 numbers."""
_SMALLEST_SINE = 1e-6
"""Below it, two directions are parallel or opposite, and no single arc connects them."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in a text such as `0-31,64`, in its order: numbers, and ranges with both ends.

    Raises ConfigError for other text, a range that runs backward, and more than a million seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*([0-9]{1,18})\s*(?:-\s*([0-9]{1,18})\s*)?", part)
        if ends is None:
            raise ConfigError(f"seeds are numbers and ranges; received {text!r}", "write them like 0-31,64")
        first = int(ends[1])
        last = first if ends[2] is None else int(ends[2])
        if last < first:
            raise ConfigError(f"the range of seeds {part.strip()} runs backward", f"write {last}-{first}")
        if len(seeds) + last - first >= MOST_SEEDS:
            raise ConfigError(f"{text!r} names more than {MOST_SEEDS:,} seeds", "name fewer")
        seeds += range(first, last + 1)
    return tuple(seeds)


def draw_latents(settings: LatentSettings, seed: int, start: int, stop: int) -> Tensor:
    """Return the latents (stop - start, Z) of samples `start` to `stop` under a seed."""
    return torch.cat([draw_latent(settings, 1, generator_for(seed, "sample", index)) for index in range(start, stop)])


def seed_latents(settings: LatentSettings, seeds: Sequence[int]) -> Tensor:
    """Return a latent per seed (N, Z): that of sample 0 under the seed. Raise ConfigError for seeds below 0, or none.

    The settings of a run are in its config: `gancore.load(RUN).config.latent`.
    """
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"seeds must be at least 0, and one or more; received {list(seeds)[:8]}")
    return torch.cat([draw_latents(settings, seed, 0, 1) for seed in seeds])


def checked_latents(latents: Tensor, dim: int) -> Tensor:
    """Return latents (N, Z) as float32 on the CPU; a single one (Z,) becomes (1, Z).

    Raises ConfigError for another shape or length than `dim`, integers, and values that are not finite.
    """
    if latents.ndim not in (1, 2) or latents.shape[-1] != dim or len(latents) == 0:
        raise ConfigError(
            f"latents must have shape (N, {dim}) or ({dim},), as latent.dim of the run says; received shape "
            f"{tuple(latents.shape)}"
        )
    if not latents.is_floating_point():
        raise ConfigError(
            f"latents must be floating-point numbers; received {latents.dtype}", "convert them to float32"
        )
    latents = latents.detach().to("cpu", torch.float32)
    if not latents.isfinite().all():
        raise ConfigError("latents must be finite; some are NaN or infinite")
    return latents.reshape(-1, dim)


def read_latents(path: Path, dim: int) -> Tensor:
    """Return the latents (N, Z) of a file: .npy, .npz or .safetensors with one array (N, Z) or (Z,) of floats.

    Of several arrays in a file, it takes the one named `latents`. Nothing in the file is executed. Raises DataError for
    another or a damaged file, and for what `checked_latents` refuses.
    """
    try:
        array = _array(path)
        array = np.array(array, array.dtype.newbyteorder("="))
    except GancoreError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds for damaged files
        raise DataError(f"{path} cannot be read as latents: {describe_error(error)}") from error
    try:
        return checked_latents(torch.from_numpy(array), dim)
    except (ConfigError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def _array(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path} is not a regular file")
    _check_size(path, path.stat().st_size)
    if suffix == ".npy":
        return np.lib.format.open_memmap(path, mode="r")  # it is as long as its header says, and holds no objects
    if suffix == ".npz":
        with ZipFile(path) as members, np.load(path, allow_pickle=False) as arrays:
            name = _only(arrays.files)
            _check_size(path, members.getinfo(name if name in members.namelist() else f"{name}.npy").file_size)
            read: np.ndarray = arrays[name]
            return read
    if suffix == ".safetensors":
        with safe_open(path, "np") as tensors:
            stored: np.ndarray = tensors.get_tensor(_only(tensors.keys()))
            return stored
    raise DataError(f"latents are read from .npy, .npz and .safetensors; received {path}", "save them as .npy")


def _check_size(path: Path, size: int) -> None:
    """Raise DataError for more bytes than latents may have."""
    if size > _MOST_BYTES:
        raise DataError(
            f"the latents in {path} have {size:,} bytes; the most is {_MOST_BYTES:,}", "divide them into several files"
        )


def _only(names: Sequence[str]) -> str:
    """Return the name of the array to read."""
    if len(names) != 1 and "latents" not in names:
        raise ValueError(f"it has {len(names)} arrays, without one named latents")
    return "latents" if "latents" in names else names[0]


def truncate(latents: Tensor, psi: float) -> Tensor:
    """Return latents (N, Z) times `psi` in [0, 1]: closer to 0, so that samples are more typical and less diverse.

    The truncation trick draws latents again that are too far from 0 (Brock et al. 2019, section 3.1). Multiplication
    keeps their direction instead, as StyleGAN's psi does (Karras et al. 2019, appendix B), there toward the mean of
    the mapped latents. Raises ConfigError for another `psi`.
    """
    check_truncation(psi)
    return latents * psi


def check_truncation(psi: float) -> None:
    """Raise ConfigError unless a truncation is in [0, 1]."""
    if not 0 <= psi <= 1:
        raise ConfigError(f"the truncation must be in 0..1; received {psi:g}", "1 changes nothing")


def mix(first: Tensor, second: Tensor, amount: float, distribution: Distribution) -> Tensor:
    """Return the latent (Z,) at `amount` in [0, 1] of the way from the first (Z,) to the second.

    Uniform latents move on a straight line. Normal ones move on an arc around 0 at constant angular speed (spherical
    linear interpolation, Shoemake 1985), while their norm changes linearly: points inside would be nearer to 0 than
    latents usually are (White 2016, section 2.1). Latents in opposite directions have no single arc, so they move on a
    line as well. Both ends are exact.
    """
    return _path(first, second, torch.tensor([amount], dtype=torch.float64), distribution)[0]


def _path(first: Tensor, second: Tensor, amounts: Tensor, distribution: Distribution) -> Tensor:
    """Return the latents (A, Z) at `amounts` (A,) of the way; see `mix`."""
    start, end, amounts = first.double(), second.double(), amounts.unsqueeze(1)
    between = torch.lerp(start, end, amounts)
    norms = start.norm(), end.norm()
    if distribution == "normal" and min(norms) > 0:
        start_direction, end_direction = start / norms[0], end / norms[1]
        # Unlike acos of the product, this is accurate for small angles.
        angle = 2 * torch.atan2((end_direction - start_direction).norm(), (end_direction + start_direction).norm())
        if angle.sin() > _SMALLEST_SINE:
            turned = ((1 - amounts) * angle).sin() * start_direction + (amounts * angle).sin() * end_direction
            between = turned / angle.sin() * torch.lerp(*norms, amounts)
    between = torch.where(amounts == 1, end, torch.where(amounts == 0, start, between))  # without rounding
    return between.to(first.dtype)


def interpolate(keys: Tensor, frames: int, distribution: Distribution = "normal", *, loop: bool = True) -> Tensor:
    """Return a walk (F, Z) through the keys (K, Z), as `mix` moves between two of them.

    The first frame is the first key, and each key is a frame. With `loop` the walk returns to the first key, which
    would be frame F: the next frame after the last, so that an animation has no seam. Otherwise the last frame is the
    last key. Numbers of frames between keys differ by one at most. Raises ConfigError for fewer than two keys, or
    fewer frames than keys.
    """
    if keys.ndim != 2 or len(keys) < 2:
        raise ConfigError(
            f"an interpolation needs two latents or more (K, Z); received shape {tuple(keys.shape)}",
            "name another seed: --interpolate 3,7",
        )
    if frames < len(keys):
        raise ConfigError(
            f"a walk through {len(keys)} latents needs as many frames or more; received {frames}", "use more --frames"
        )
    legs = len(keys) if loop else len(keys) - 1
    places = [leg * (frames if loop else frames - 1) // legs for leg in range(legs + 1)]
    walk = []
    for leg in range(legs):
        amounts = torch.arange(places[leg + 1] - places[leg], dtype=torch.float64) / (places[leg + 1] - places[leg])
        walk.append(_path(keys[leg], keys[(leg + 1) % len(keys)], amounts, distribution))
    return torch.cat(walk if loop else [*walk, keys[-1:]])
