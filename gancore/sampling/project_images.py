"""Searches for the latents of several images, and the files that keep what they find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from gancore.errors import ConfigError
from gancore.sampling.grid import Layout, is_picture, picture, tiles
from gancore.sampling.project import Projection, distances, project
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.atomic import atomic_write, writing
from gancore.utils.paths import check_folder_of

_RANDOM = 64
"""Random samples whose mean distance from an image is found."""
_COLUMNS, _SHOWN = 16, 256
"""Images in a row of the comparison, and in all of it."""


@dataclass
class ImageSearches:
    """The search for the latent of each image (N, *shape), and of a sample of the generator; and what they found."""

    trained: TrainedGenerator
    images: Tensor
    label: int | None
    condition: Tensor | None
    found: list[Projection] = field(default_factory=list)
    """The best of each search that has begun, in the order of the images; that of the sample is the last."""

    def run(self, steps: int, seed: int) -> Iterator[float]:
        """Do all searches, and yield the share in 0..1 that is done. What was found so far stays if this ends early."""
        own = self.trained.sample(1, seed, self.label, self.condition)
        images = [*self.images, *own.as_subclass(type(self.images))]
        for number, image in enumerate(images):
            search = project(self.trained, image, self.label, self.condition, steps=steps, seed=seed)
            for best in search:
                self.found[number:] = [best]
                yield (number + best.step / steps) / len(images)

    @property
    def of_images(self) -> list[Projection]:
        """What was found for the images."""
        return self.found[: len(self.images)]

    def own_distance(self) -> float:
        """Return the distance that was reached for a sample of the generator."""
        return self.found[-1].distance

    def labels(self) -> list[int]:
        """Return the classes of what was found for the images, each once; empty without classes."""
        return sorted({found.label for found in self.of_images if found.label is not None})

    def samples(self) -> Tensor:
        """Return the samples (N, *shape) of what was found for the images, each drawn as `sample` draws it."""
        latents = torch.stack([found.latent for found in self.of_images])
        if self.condition is not None:
            return self.trained.generate(latents, self.condition)
        labels = torch.tensor([found.label or 0 for found in self.of_images])
        return self.trained.generate(latents, labels if self.labels() else None)

    def results(self) -> Iterator[dict[str, object]]:
        """Yield for each image what was found, and the mean distance of random samples of the same class."""
        sample_format, random = self.trained.sample_format, {}
        for image, sample, found in zip(self.images, self.samples(), self.of_images, strict=True):
            if found.label not in random:
                random[found.label] = self.trained.sample(_RANDOM, 0, found.label, self.condition)
            yield {
                "distance": float(distances(sample[None], image, sample_format)),
                "random_distance": float(distances(random[found.label], image, sample_format).mean()),
                "class": self.trained.class_name(found.label),
                "class_number": found.label,
                "start": found.start,
            }


@dataclass(frozen=True)
class ProjectionFiles:
    """Where the latents and the comparison are written."""

    latents: Path
    comparison: Path

    @classmethod
    def of(cls, out: Path, images: Sequence[Path]) -> ProjectionFiles:
        """Return the files of `--out`. Raise ConfigError for other paths, and for those that are images.

        Raises StorageError if the files cannot be created.
        """
        if out.suffix.lower() == ".npy" and not out.is_dir():
            files = cls(out, out.with_name(f"{out.stem}-comparison.png"))
        elif not out.suffix or out.is_dir():
            files = cls(out / "latents.npy", out / "comparison.png")
        else:
            raise ConfigError(f"--out must end in .npy, or be a folder; received {out}", "--out projection.npy")
        check_folder_of(files.latents)
        for image in images:
            if image.resolve() in (files.latents.resolve(), files.comparison.resolve()):
                raise ConfigError(f"{image} would be overwritten", "choose another --out")
        return files

    def shows(self, searches: ImageSearches) -> bool:
        """Return whether the images can be shown."""
        return is_picture(searches.images.shape[1:])

    def write(self, searches: ImageSearches) -> None:
        """Write the files. Raise StorageError when one cannot be written."""
        with writing(self.latents):
            self.latents.parent.mkdir(parents=True, exist_ok=True)
        for path, found in self.parts(searches).items():
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.save(file, torch.stack([each.latent for each in found]).numpy(), allow_pickle=False)
        if self.shows(searches):
            with atomic_write(self.comparison) as temporary:
                comparison_of(searches).save(temporary, "PNG")

    def parts(self, searches: ImageSearches) -> dict[Path, list[Projection]]:
        """Return what was found for all images, and if several classes were found, also that of each; by file."""
        labels, found = searches.labels(), searches.of_images
        parts = {self.latents: found}
        if len(labels) > 1:
            for label in labels:
                path = self.latents.with_name(f"{self.latents.stem}-class-{label}.npy")
                parts[path] = [each for each in found if each.label == label]
        return parts


def comparison_of(searches: ImageSearches) -> Image:
    """Return a picture of the images, each above its sample; or of points, the images in gray."""
    found, limits = searches.samples()[:_SHOWN], searches.trained.sample_format.value_range
    images = searches.images[: len(found)]
    if images.ndim == 2:
        return picture(found, images)
    columns = min(_COLUMNS, len(images))
    shown = tiles(torch.cat([images, found]), limits)
    blank = torch.zeros_like(shown[:1]).expand(-len(images) % columns, *shown.shape[1:])
    shown = torch.cat([shown[: len(images)], blank, shown[len(images) :], blank])
    rows = len(shown) // columns
    ordered = shown.view(2, rows // 2, columns, *shown.shape[1:]).transpose(0, 1).flatten(0, 2)
    return picture(ordered, layout=Layout((rows, columns)))
