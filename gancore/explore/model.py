"""The explored run: its generators, the pictures of points, and what a page offers to change."""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.checkpoint.store import find_checkpoints
from gancore.config.from_path import dataset_for
from gancore.config.requirements import attributed
from gancore.errors import CheckpointError, ConfigError, DataError, GancoreError
from gancore.evaluation.sources import ReferenceImages
from gancore.explore.conditions import Conditions
from gancore.explore.favorites import Favorite, Favorites
from gancore.explore.point import Base, Point, StoredLatents, digest_of, latent_of, write_array
from gancore.explore.repeat import Invocation, PointFiles, command, python
from gancore.sampling.directions import Directions, find_directions
from gancore.sampling.grid import is_picture, picture, png_bytes
from gancore.sampling.load import load
from gancore.sampling.project import Projection, project
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.paths import name_a_run

_MOST_LOADED = 3
"""Generators that are kept in memory: first those whose checkpoints are removed, then those that were used last."""
_SHOWN_DIRECTIONS = 10
_MOST_PIXELS = 1 << 25
"""Pixels of the largest picture whose latent is searched for."""
_NO_PICTURES = (b"PK", b"\x89HDF", b"PAR1", b"\x1f\x8b")
"""The first bytes of archives and compressed arrays, which can hold far more than their size."""
_FAST = 1  # level of compression of a PNG
_Weights = tuple[str, bool, float | None]
"""The name of a checkpoint, whether its current weights are meant, and the half-life of an average."""


@dataclass
class _Loaded:
    """A generator, its editing directions, which are found when they are first needed, and the state of its file."""

    trained: TrainedGenerator
    stamp: tuple[int, ...] | None

    @cached_property
    def directions(self) -> Directions | GancoreError:
        """The directions, or why the generator has no such."""
        try:
            return find_directions(self.trained)
        except GancoreError as error:
            return error


@dataclass
class Search:
    """A picture (C, H, W) whose latent is searched for, and the newest result."""

    image: Tensor
    newest: Projection | None = None


class Explorer:
    """A run that is explored. All methods that draw or load are called in one thread.

    `data_root` is the folder of the files of datasets. Raises CheckpointError when the run has no valid checkpoint,
    ConfigError when its samples make no picture.
    """

    def __init__(self, invocation: Invocation, catalog: Catalog, data_root: Path) -> None:
        if not invocation.run.is_dir():
            is_file = invocation.run.exists()
            raise CheckpointError(
                f"explore takes the folder of a run; {invocation.run} {'is a file' if is_file else 'does not exist'}",
                name_a_run(),
            )
        self._invocation, self._catalog = invocation, catalog
        newest = load(invocation.run, device=invocation.device or "auto", catalog=catalog)
        if newest.path.absolute().parent != invocation.run.absolute() / "checkpoints":
            raise CheckpointError(
                f"{invocation.run} is no run: it has no folder checkpoints", "name a run, like runs/0001"
            )
        if not is_picture(newest.shape):
            raise ConfigError(
                f"samples of shape {newest.shape} make no picture, so there is nothing to show",
                "draw them: gancore sample RUN --out samples.npy",
            )
        self.newest, self.favorites = newest, Favorites(invocation.run)
        self.latents = StoredLatents(invocation.run)
        self.conditions = Conditions(newest, catalog, data_root)
        self._loaded: dict[_Weights, _Loaded] = {}
        raw = not newest.averaged and newest.config.ema is not None
        self._loaded[newest.path.name, raw, None] = _Loaded(newest, _stamp(newest.path))

    def describe(self) -> dict[str, object]:
        """Return what a page must know of the run, as data for JSON."""
        trained = self.newest
        conditions = self.conditions
        point = Point(checkpoint=trained.path.name, condition=0 if conditions.count else None)
        return {
            "run": str(self._invocation.run),
            "shape": list(trained.shape),
            "classes": conditions.classes,
            "conditions": conditions.count if isinstance(trained.spec.condition, tuple) else 0,
            "labels": conditions.labels,
            "problem": conditions.problem,
            "find": len(trained.shape) == 3,
            "unit": " of 255" if trained.sample_format.bounded else "",
            "averaged": trained.config.ema is not None,
            "averages": list(trained.config.ema.more_kimg) if trained.config.ema else [],
            "point": point.model_dump(mode="json"),
            "warnings": list(trained.warnings),
        }

    def checkpoints(self) -> list[dict[str, object]]:
        """Return the checkpoints in the folder, newest first, as data for JSON."""
        if not self._invocation.run.is_dir():
            raise CheckpointError(f"{self._invocation.run} was moved or removed", "move it back, or explore it anew")
        named = reversed(find_checkpoints(self._invocation.run))
        return [{"name": path.name, "label": _label_of(path)} for path in named]

    def directions(self, point: Point) -> dict[str, object]:
        """Return the strongest editing directions of the point's generator, as data for JSON.

        `shares` are parts of the sum of all squared strengths, that is, of the variance.
        """
        found = self._load(point).directions
        if isinstance(found, GancoreError):
            return {"shares": [], "method": "", "problem": str(found)}
        squares = found.strengths.double().square()
        shares = (squares / squares.sum()).tolist()[:_SHOWN_DIRECTIONS]
        return {"shares": shares, "method": found.method, "problem": ""}

    def picture(self, point: Point) -> bytes:
        """Return the picture of a point as a PNG: the same pixels as those of the command that repeats it."""
        return self._draw(self._load(point).trained, self._latent(point), point)

    def pictures(self, point: Point, bases: Iterable[Base]) -> Generator[None, None, list[str]]:
        """Draw the pictures of a point with other latents, one in each step; return them as PNG in base 64."""
        drawn = []
        for base in bases:
            changed = point.model_copy(update={"base": base, "other": None})
            drawn.append(base64.b64encode(self.picture(changed)).decode())
            yield
        return drawn

    def keep(self, point: Point) -> str:
        """Keep the latent of a point before truncation and moves in memory, and return its digest."""
        return self.latents.add(self._latent(point.model_copy(update={"truncation": 1.0, "moves": {}}))[0])

    def repeat(self, point: Point) -> dict[str, object]:
        """Return how to draw the point again: a command and lines of Python, as data for JSON.

        `files` are the names of files that both need and `write_files` writes. `gone` says why there is no such way.
        """
        trained, files = self._load(point).trained, self._files(point)
        needed = [str(path) for path in (files.latent, files.condition) if path is not None and not path.exists()]
        path = self._invocation.run / "checkpoints" / point.checkpoint
        if not path.is_file():
            gone = f"{path} was removed, so nothing can draw this picture again. Save the favorite or download it now."
            return {"command": "", "python": "", "files": [], "gone": gone}
        return {
            "command": command(self._invocation, point, trained, files),
            "python": python(self._invocation, point, trained, files),
            "files": needed,
            "gone": "",
        }

    def write_files(self, point: Point) -> None:
        """Write the files that repeat the point. Raise StorageError when that fails."""
        files = self._files(point)
        if files.latent is not None:
            digest = self.latents.add(self._latent(point)[0])
            self.latents.write(digest, self.newest.config.latent.dim)
        condition = self.conditions.of(point.condition)
        if files.condition is not None and condition is not None and not files.condition.exists():
            write_array(files.condition, condition)

    def save(self, point: Point, title: str) -> Favorite:
        """Save a point as a favorite, with the files that repeat it."""
        png = self.picture(point)
        self.write_files(point)
        for base in (point.base, point.other):
            if isinstance(base, str):
                self.latents.write(base, self.newest.config.latent.dim)
        return self.favorites.add(point, title, png)

    def read_picture(self, content: bytes) -> Tensor:
        """Return a picture of the user as the run stores its samples, (C, H, W). Raise DataError for other files."""
        if content.startswith(_NO_PICTURES):
            raise DataError("this is no picture that can be read: it is an archive", "choose another file")
        with TemporaryDirectory(prefix="gancore-") as folder:
            path = Path(folder) / "picture"
            path.write_bytes(content)
            try:
                dataset = dataset_for(path, self._catalog, self.newest.shape, self.newest.config.dataset)
                if "max_pixels" in type(dataset).model_fields:
                    dataset = dataset.model_copy(update={"max_pixels": _MOST_PIXELS})
                return ReferenceImages.of(dataset, folder).draw(1, seed=0, stream="picture")[0]
            except DataError as error:
                reason = str(error).replace(str(path), "the file")
                raise DataError(f"this is no picture that can be read: {reason}", "choose another file") from error

    def search(self, point: Point, search: Search) -> Generator[None, None, Point]:
        """Find the latent whose picture comes nearest to that of the search, and return its point.

        The weights are those of the point, and so is a condition that is a tensor; all classes compete.
        """
        trained = self._load(point).trained
        condition = self.conditions.of(point.condition) if isinstance(trained.spec.condition, tuple) else None
        for projection in project(trained, search.image, condition=condition):
            search.newest = projection
            yield
        if search.newest is None:
            raise DataError("the search has found nothing", "begin it again")
        self.latents.add(search.newest.latent)
        return _found(point, search.newest)

    def shown_search(self, point: Point, search: Search) -> dict[str, object]:
        """Return how far a search is, as data for JSON, with the picture of the nearest latent so far."""
        newest = search.newest
        if newest is None:
            return {"step": 0, "steps": 0, "distance": None, "picture": None}
        # Its latent is not kept in memory, where each would take the place of one in use.
        png = self._draw(self._load(point).trained, newest.latent.unsqueeze(0), _found(point, newest))
        drawn = base64.b64encode(png).decode()
        return {"step": newest.step, "steps": newest.steps, "distance": newest.distance, "picture": drawn}

    def shown_target(self, search: Search) -> str:
        """Return the picture of a search as a PNG in base 64."""
        limits = self.newest.sample_format.value_range
        return base64.b64encode(png_bytes(picture(search.image.unsqueeze(0), None, limits), _FAST)).decode()

    def _load(self, point: Point) -> _Loaded:
        """Return the generator of a point, from memory unless its file was replaced. Raise CheckpointError if lost."""
        key = point.checkpoint, point.raw, point.ema
        path = self._invocation.run / "checkpoints" / point.checkpoint
        stamp = _stamp(path)
        if key not in self._loaded or stamp not in (None, self._loaded[key].stamp):  # the best one can be replaced
            device = self._invocation.device or "auto"
            trained = load(path, raw=point.raw, ema=point.ema, device=device, catalog=self._catalog)
            if (trained.shape, trained.spec.condition) != (self.newest.shape, self.newest.spec.condition):
                raise CheckpointError(f"{path} draws samples of another shape", "choose another checkpoint")
            self._loaded.pop(key, None)
            while len(self._loaded) >= _MOST_LOADED:
                del self._loaded[self._replaceable()]
            self._loaded[key] = _Loaded(trained, stamp)
        self._loaded[key] = self._loaded.pop(key)  # now the one that was used last
        return self._loaded[key]

    def _replaceable(self) -> _Weights:
        """Return which generator in memory to remove: if possible one that can be loaded again."""
        folder = self._invocation.run / "checkpoints"
        return next((key for key in self._loaded if (folder / key[0]).exists()), next(iter(self._loaded)))

    def _draw(self, trained: TrainedGenerator, latents: Tensor, point: Point) -> bytes:
        conditions = self.conditions.of(point.condition)
        with attributed(trained.config, self._catalog):
            truncation = point.truncation if trained.truncates_styles else 1.0  # else it is in the latents
            stream = trained.stream_latents(latents, conditions, truncation=truncation)
            samples = torch.cat(list(stream))
        return png_bytes(picture(samples, self.conditions.real_points, stream.limits), _FAST)

    def _latent(self, point: Point) -> Tensor:
        """Return the latent (1, Z) of a point, after truncation and moves. Truncation of styles is not part of it."""
        loaded = self._load(point)
        directions = loaded.directions if point.used_moves else None
        if isinstance(directions, GancoreError):
            raise directions
        return latent_of(point, loaded.trained, self.latents, directions)

    def _files(self, point: Point) -> PointFiles:
        """Return the paths of the files that repeat the point, which need not exist."""
        values = self._latent(point)[0]  # also of a seed, since moves may be wrong
        latent = None if point.is_of_seed else self.latents.path(digest_of(values))
        condition = None
        chosen = self.conditions.of(point.condition)
        if chosen is not None and isinstance(self.newest.spec.condition, tuple):
            condition = self.latents.folder / f"condition-{digest_of(chosen)}.npy"
        return PointFiles(latent, condition)


def _found(point: Point, newest: Projection) -> Point:
    """Return the point of a latent that was found with the weights of a point."""
    condition = point.condition if newest.label is None else newest.label
    base = digest_of(newest.latent)
    return Point(checkpoint=point.checkpoint, raw=point.raw, ema=point.ema, base=base, condition=condition)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced; None if there is no file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _label_of(path: Path) -> str:
    """Return how a page names a checkpoint: its step, or the best one."""
    return "best" if path.stem == "best" else f"step {int(path.stem.removeprefix('step-')):,}"
