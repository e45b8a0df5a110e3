"""The point that a page shows, as plain data: the latent, the condition, and the weights that draw it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from torch import Tensor

from gancore.errors import ConfigError, DataError
from gancore.sampling.directions import Directions, move
from gancore.sampling.latents import mix, read_latents, seed_latents, truncate
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.atomic import atomic_write, writing
from gancore.utils.files import regular

FOLDER = "explore"
"""Name of the folder of the explorer in that of a run."""
_DIGEST = r"[0-9a-f]{16}"
_MOST_KEPT = 256
"""Found latents that are kept in memory: those that were used last."""

Seed = Annotated[int, Field(ge=0, lt=2**53)]  # exact in JavaScript
Digest = Annotated[str, StringConstraints(pattern=rf"^{_DIGEST}$")]
Base = Seed | Digest
"""A latent: that of a seed, or the digest of one that was found or stored."""


class Point(BaseModel):
    """What a page shows.

    The latent is `base`, mixed with `other` by `amount`, then truncated, then moved along directions, whose numbers
    begin at 1, by standard deviations. A generator that truncates styles does so last, not in the latent. `condition`
    is the number of a class, or of an item of the dataset. `checkpoint` is the name of a file in the run's folder of
    checkpoints, `ema` the half-life in kimg of one of its averages; None is the average that samples are drawn from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    checkpoint: Annotated[str, StringConstraints(pattern=r"^(?:step-\d{8,}|best)\.safetensors$", max_length=64)]
    raw: bool = False
    ema: Annotated[float, Field(gt=0)] | None = None
    base: Base = 0
    other: Base | None = None
    amount: Annotated[float, Field(ge=0, le=1)] = 0.0
    truncation: Annotated[float, Field(ge=0, le=1)] = 1.0
    moves: Annotated[
        dict[Annotated[int, Field(ge=1, le=65536)], Annotated[float, Field(ge=-100, le=100)]], Field(max_length=64)
    ] = {}
    condition: Annotated[int, Field(ge=0, lt=2**31)] | None = None

    @property
    def is_of_seed(self) -> bool:
        """Whether options of `gancore sample` can name the latent: it is that of one seed."""
        return isinstance(self.base, int) and (self.other is None or self.amount == 0)

    @property
    def used_moves(self) -> dict[int, float]:
        """The moves that change something, in the order of their numbers."""
        return {number: amount for number, amount in sorted(self.moves.items()) if amount}


def read_point(data: str | bytes | Mapping[str, object]) -> Point:
    """Return the point in data, or in JSON, of a page or a file. Raise DataError for other data."""
    try:
        return Point.model_validate_json(data) if isinstance(data, str | bytes) else Point.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"this is no point of the explorer: {place}: {first['msg']}", "reload the page") from error


class StoredLatents:
    """Latents by their digests, in memory and as `latent-DIGEST.npy` in a folder of the run."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self._latents: dict[str, Tensor] = {}

    def add(self, latent: Tensor) -> str:
        """Keep a latent (Z,) in memory, and return its digest."""
        values = latent.detach().float().cpu().contiguous()
        digest = digest_of(values)
        self._latents.pop(digest, None)
        self._latents[digest] = values
        while len(self._latents) > _MOST_KEPT:
            del self._latents[next(iter(self._latents))]
        return digest

    def path(self, digest: str) -> Path:
        """Return the path of the file of a latent, which need not exist."""
        return self.folder / f"latent-{digest}.npy"

    def get(self, digest: str, dim: int) -> Tensor:
        """Return a latent (dim,). Raise DataError when it is neither in memory nor in a valid file."""
        latent = self._latents.pop(digest, None)
        if latent is None:
            latent = _read(self.path(digest), digest, dim)
        self._latents[digest] = latent  # now the one that was used last
        if latent.shape != (dim,):
            raise DataError(f"latent {digest} has {len(latent)} values; the generator takes {dim}", "choose another")
        return latent

    def write(self, digest: str, dim: int) -> Path:
        """Write the file of a latent, unless it exists, and return its path. Raise StorageError when that fails."""
        path, latent = self.path(digest), self.get(digest, dim)
        if not path.exists():
            write_array(path, latent.unsqueeze(0))
        return path


def write_array(path: Path, values: Tensor) -> None:
    """Write a tensor as an array of NumPy; its folder is made. Raise StorageError when it cannot be written."""
    content = io.BytesIO()
    np.save(content, values.numpy(), allow_pickle=False)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getvalue())


def digest_of(values: Tensor) -> str:
    """Return the first 16 digits of the SHA-256 of the values of a tensor on the CPU."""
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def _read(path: Path, digest: str, dim: int) -> Tensor:
    """Return the latent (dim,) of a file. Raise DataError when it has another digest than its name says."""
    try:
        with regular(path):  # otherwise a pipe would block the thread that draws
            latents = read_latents(path, dim)
        if len(latents) != 1 or digest_of(latents) != digest:
            raise DataError(f"{path} was changed: its SHA-256 does not begin with {digest}")
    except (OSError, DataError) as error:
        reason = error.message if isinstance(error, DataError) else f"{path}: {error.strerror or error}"
        raise DataError(f"latent {digest} is lost: {reason}", "find it again, or choose a seed") from error
    return latents[0]


def base_latent(base: Base, trained: TrainedGenerator, stored: StoredLatents) -> Tensor:
    """Return the latent (Z,) of a seed, or a stored one."""
    settings = trained.config.latent
    return seed_latents(settings, [base])[0] if isinstance(base, int) else stored.get(base, settings.dim)


def latent_of(point: Point, trained: TrainedGenerator, stored: StoredLatents, directions: Directions | None) -> Tensor:
    """Return the latent (1, Z) of a point; `directions` are needed if it is moved.

    Raises ConfigError when a direction does not exist, DataError when a stored latent is lost.
    """
    latent = base_latent(point.base, trained, stored)
    if point.other is not None and point.amount:
        other = base_latent(point.other, trained, stored)
        latent = mix(latent, other, point.amount, trained.config.latent.distribution)
    latents = latent.unsqueeze(0)
    if point.truncation < 1 and not trained.truncates_styles:
        latents = truncate(latents, point.truncation)
    if point.used_moves:
        if directions is None:
            raise ConfigError("the generator has no editing directions", "reset the directions")
        latents = move(directions, latents, point.used_moves)
    return latents
