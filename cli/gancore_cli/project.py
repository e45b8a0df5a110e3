"""The command `project`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.hints import one_line_command, with_plugins
from gancore_cli.options import PluginOptions, Terminal, device, echo, output_options, print_table, settings_of
from gancore_cli.signals import Interrupted, interruption

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.evaluation.train_extractor import Preparation
    from gancore.run.interrupt import Interruption
    from gancore.sampling.load import TrainedGenerator
    from gancore.sampling.project import Projection

_RANDOM = 64
"""Random samples whose mean distance from an image is printed."""
_COLUMNS, _SHOWN = 16, 256
"""Images in a row of the comparison, and in all of it."""


@click.command()
@click.argument(
    "run",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT",
    shell_complete=completers.runs_and_checkpoints,
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--class", "label", help="Search in this class, a number or a name.  [default: all classes compete]")
@click.option(
    "--condition",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="An array or a picture: the condition of a run that is conditional on tensors or pictures.",
)
@settings_of("the dataset that reads IMAGE")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Steps of each optimization.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the latents to start from."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="projection.npy",
    show_default=True,
    metavar="FILE.npy|DIR",
    help="Write the latents (N, Z), and FILE-comparison.png, which shows each image above its sample; or both into a "
    "folder.",
)
@click.option("--raw", is_flag=True, help="Use the current weights, not their average (EMA).")
@click.option("--best", is_flag=True, help="Use the best checkpoint of RUN, not the newest.")
@device
@output_options
def project(
    terminal: Terminal,
    run: Path,
    images: tuple[Path, ...],
    label: str | None,
    condition: Path | None,
    assignments: tuple[str, ...],
    steps: int,
    seed: int,
    out: Path,
    raw: bool,
    best: bool,
    device: str,
) -> None:
    """Find the latents whose samples come nearest to images.

    IMAGE is a picture, a folder or archive of pictures, or an array. It is read as the dataset of the run reads its
    own, and resized to the shape of the run's samples.

    \b
    Examples:
      gancore project runs/0001 digit.png
      gancore project runs/0001 pictures --class cat --steps 400 --out found.npy

    The distance of an image from its sample is the root mean squared error of all values, which are 0 to 255 in
    pictures. Two numbers say what it is worth: the mean distance of random samples from the image, and the distance
    that is reached for a sample of the generator itself. Ctrl-C keeps the best latents so far.
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.config.requirements import attributed
    from gancore.sampling.load import load

    files = _Files.of(out, images)
    catalog = open_catalog(terminal)
    trained = load(run, raw=raw, best=best, device=device, catalog=catalog)
    warn(terminal, catalog, *trained.warnings)
    number = trained.class_number(label)
    names, given = _read(trained, images, assignments, catalog)
    searches = _Searches(trained, given, number, _condition(trained, condition, catalog))
    stop = interruption()
    with attributed(trained.config, catalog):
        with _keeping(searches, files):
            terminal.display().prepare(searches.run(steps, seed, stop))
        files.write(searches)
        results = [{"image": name, **result} for name, result in zip(names, searches.results(), strict=True)]
    options = [*(["--condition", str(condition)] if condition else []), *(["--raw"] if raw else [])]
    document = {
        "out": str(files.latents),
        "comparison": str(files.comparison) if files.shows(searches) else None,
        "step": trained.step,
        "steps": steps,
        "seed": seed,
        "images": results,
        "own_distance": searches.own_distance(),
        "commands": [_printed(command) for command in files.commands(searches, options)],
    }
    terminal.result(document, lambda: _print(document))


def _printed(command: Sequence[str]) -> str:
    """Return a command as a line to paste, with the plugins of the present one."""
    options = click.get_current_context().find_object(PluginOptions) or PluginOptions()
    return one_line_command(with_plugins(shlex.join(command), options))


def _print(document: dict[str, Any]) -> None:  # Any: JSON
    has_classes = any(image["class"] is not None for image in document["images"])
    header = ["image", "distance", "random samples", *(["class"] if has_classes else [])]
    rows = [
        [image["image"], f"{image['distance']:.4g}", f"{image['random_distance']:.4g}", image["class"]]
        for image in document["images"]
    ]
    print_table(header, [row[: len(header)] for row in rows])
    echo(f"a sample of the generator itself: distance {document['own_distance']:.4g}")
    echo(f"latents: {document['out']}")
    if document["comparison"]:
        echo(f"comparison: {document['comparison']}")
    for command in document["commands"]:
        echo(f"draw the samples: {command}")


def _read(
    trained: TrainedGenerator, paths: Sequence[Path], assignments: tuple[str, ...], catalog: Catalog
) -> tuple[list[str], Tensor]:
    """Return the names of all images, and the images (N, *shape) as the run stores its data."""
    from tempfile import TemporaryDirectory

    import torch

    from gancore.config.from_path import dataset_for
    from gancore.errors import DataError
    from gancore.evaluation.sources import ReferenceImages

    names, images, dtype = [], [], getattr(torch, trained.sample_format.dtype)
    for path in paths:
        dataset = dataset_for(path, catalog, trained.shape, trained.config.dataset)
        with TemporaryDirectory(prefix="gancore-") as root:
            source = ReferenceImages.of(with_settings(dataset, assignments, catalog), root)
            found = source.draw(len(source), 0, "images")
        if found.shape[1:] != trained.shape or found.dtype != dtype:
            raise DataError(
                f"{path} has samples of shape {tuple(found.shape[1:])}, {str(found.dtype).removeprefix('torch.')}; the "
                f"run's data has shape {trained.shape}, {trained.sample_format.dtype}",
                "convert it to the format of the run's data",
            )
        names += [str(path)] if len(found) == 1 else [f"{path}: {number}" for number in range(len(found))]
        images.append(found)
    return names, torch.cat(images)


def _condition(trained: TrainedGenerator, path: Path | None, catalog: Catalog) -> Tensor | None:
    """Return the condition of `--condition` as a dataset stores it. Raise ConfigError if the run takes another one."""
    from gancore.config.from_path import dataset_for
    from gancore.errors import ConfigError
    from gancore.evaluation.read_images import read_conditions

    shape = trained.spec.condition
    if not isinstance(shape, tuple):
        if path is not None:
            kind = "not conditional" if shape is None else f"conditional on {shape} classes"
            raise ConfigError(f"the run is {kind}, so it takes no --condition", "leave --condition out, or use --class")
        return None
    if path is None:
        raise ConfigError(f"the run is conditional on tensors of shape {shape}", "give one: --condition PATH")
    found = read_conditions(dataset_for(path, catalog, shape), path, shape, like=trained.config.dataset)
    if len(found) != 1:
        raise ConfigError(f"--condition must hold one condition; {path} holds {len(found)}", "name a file with one")
    return found[0]


@dataclass
class _Searches:
    """The search for the latent of each image (N, *shape), and of a sample of the generator; and what they found."""

    trained: TrainedGenerator
    images: Tensor
    label: int | None
    condition: Tensor | None
    found: list[Projection] = field(default_factory=list)
    """The best of each search that has begun, in the order of the images; that of the sample is the last."""

    def run(self, steps: int, seed: int, stop: Interruption) -> Iterator[Preparation]:
        """Do all searches, and yield the progress. Raise Interrupted after a signal."""
        from gancore.evaluation.train_extractor import Preparation
        from gancore.sampling.project import project

        own = self.trained.sample(1, seed, self.label, self.condition)
        images = [*self.images, *own.as_subclass(type(self.images))]
        with stop.deferred():
            for number, image in enumerate(images):
                search = project(self.trained, image, self.label, self.condition, steps=steps, seed=seed)
                for best in search:
                    self.found[number:] = [best]
                    stop.check()
                    yield Preparation("searching for latents", (number + best.step / steps) / len(images))

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
        import torch

        latents = torch.stack([found.latent for found in self.of_images])
        if self.condition is not None:
            return self.trained.generate(latents, self.condition)
        labels = torch.tensor([found.label or 0 for found in self.of_images])
        return self.trained.generate(latents, labels if self.labels() else None)

    def results(self) -> Iterator[dict[str, object]]:
        """Yield for each image what was found, and the mean distance of random samples of the same class."""
        from gancore.sampling.project import distances

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


@contextmanager
def _keeping(searches: _Searches, files: _Files) -> Iterator[None]:
    """Write what was found so far when a signal ends the block."""
    try:
        yield
    except KeyboardInterrupt as error:
        count, kept = len(searches.of_images), ""
        if count:
            files.write(searches)
            unit = "image" if len(searches.images) == 1 else "images"
            kept = f"the best latents so far, for {count} of {len(searches.images)} {unit}, in {files.latents}"
        raise Interrupted(kept, "run the command again to search to the end") from error


@dataclass(frozen=True)
class _Files:
    """Where the latents and the comparison are written."""

    latents: Path
    comparison: Path

    @classmethod
    def of(cls, out: Path, images: Sequence[Path]) -> _Files:
        """Return the files of `--out`. Raise ConfigError for other paths, and for those that are images."""
        from gancore.errors import ConfigError

        if out.suffix.lower() == ".npy" and not out.is_dir():
            files = cls(out, out.with_name(f"{out.stem}-comparison.png"))
        elif not out.suffix or out.is_dir():
            files = cls(out / "latents.npy", out / "comparison.png")
        else:
            raise ConfigError(f"--out must end in .npy, or be a folder; received {out}", "--out projection.npy")
        files.check_writable()
        for image in images:
            if image.resolve() in (files.latents.resolve(), files.comparison.resolve()):
                raise ConfigError(f"{image} would be overwritten", "choose another --out")
        return files

    def check_writable(self) -> None:
        """Raise StorageError if the files cannot be created, before anything is searched for."""
        from gancore.errors import StorageError

        folder = self.latents.absolute().parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise StorageError(
                f"cannot write to {self.latents}: {folder} is not a writable folder", "choose another --out"
            )

    def shows(self, searches: _Searches) -> bool:
        """Return whether the images can be shown."""
        from gancore.sampling.grid import is_picture

        return is_picture(searches.images)

    def write(self, searches: _Searches) -> None:
        """Write the files. Raise StorageError when one cannot be written."""
        import numpy as np
        import torch

        from gancore.utils.atomic import atomic_write, writing

        with writing(self.latents):
            self.latents.parent.mkdir(parents=True, exist_ok=True)
        for path, found in self._parts(searches).items():
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.save(file, torch.stack([each.latent for each in found]).numpy(), allow_pickle=False)
        if self.shows(searches):
            with atomic_write(self.comparison) as temporary:
                _comparison(searches).save(temporary, "PNG")

    def commands(self, searches: _Searches, options: Sequence[str]) -> Iterator[list[str]]:
        """Yield the commands that draw the samples of the latents: one, or one for each class."""
        parts = self._parts(searches)
        suffix = ".png" if searches.images.ndim == 4 and self.shows(searches) else ".npy"
        for path, found in parts.items():
            if path == self.latents and len(parts) > 1:
                continue
            label = searches.trained.class_name(found[0].label)
            command = ["gancore", "sample", str(searches.trained.path), "--latents", str(path)]
            command += [] if label is None else [f"--class={label}"]
            yield [*command, *options, "--out", str(path.with_name(f"{path.stem}-samples{suffix}"))]

    def _parts(self, searches: _Searches) -> dict[Path, list[Projection]]:
        """Return what was found for all images, and if several classes were found, also that of each; by file."""
        labels, found = searches.labels(), searches.of_images
        parts = {self.latents: found}
        if len(labels) > 1:
            for label in labels:
                path = self.latents.with_name(f"{self.latents.stem}-class-{label}.npy")
                parts[path] = [each for each in found if each.label == label]
        return parts


def _comparison(searches: _Searches) -> Image:
    """Return a picture of the images, each above its sample; or of points, the images in gray."""
    import torch

    from gancore.sampling.grid import Layout, picture, tiles

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
