"""The command `project`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.hints import one_line_command, with_plugins
from gancore_cli.options import (
    OutPath,
    PluginOptions,
    Terminal,
    best,
    check_weights,
    device,
    echo,
    ema,
    output_options,
    print_table,
    raw,
    run_or_checkpoint,
    settings_of,
)
from gancore_cli.signals import Interrupted, interruption

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.evaluation.train_extractor import Preparation
    from gancore.run.interrupt import Interruption
    from gancore.sampling.project_images import ImageSearches, ProjectionFiles
    from gancore.sampling.trained import TrainedGenerator


@click.command()
@run_or_checkpoint
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
    type=OutPath(path_type=Path),
    default="projection.npy",
    show_default=True,
    metavar="FILE.npy|DIR",
    help="Write the latents (N, Z), and FILE-comparison.png, which shows each image above its sample; or both into a "
    "folder.",
)
@raw
@ema
@best
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
    ema: float | None,
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
    from gancore.sampling.project_images import ImageSearches, ProjectionFiles
    from gancore.training.ema import short

    check_weights(raw=raw, ema=ema)
    files = ProjectionFiles.of(out, images)
    catalog = open_catalog(terminal)
    trained = load(run, raw=raw, best=best, ema=ema, device=device, catalog=catalog)
    warn(terminal, catalog, *trained.warnings)
    number = trained.class_number(label)
    names, given = _read(trained, images, assignments, catalog)
    searches = ImageSearches(trained, given, number, _condition(trained, condition, catalog))
    with attributed(trained.config, catalog):
        with _keeping(searches, files):
            terminal.display().prepare(_progress(searches.run(steps, seed), interruption()))
        files.write(searches)
        results = [{"image": name, **result} for name, result in zip(names, searches.results(), strict=True)]
    options = [*(["--condition", str(condition)] if condition else []), *(["--raw"] if raw else [])]
    options += [] if ema is None else ["--ema", short(ema)]
    options += [] if device == "auto" else ["--device", device]
    document = {
        "out": str(files.latents),
        "comparison": str(files.comparison) if files.shows(searches) else None,
        "step": trained.step,
        "steps": steps,
        "seed": seed,
        "images": results,
        "own_distance": searches.own_distance(),
        "commands": [_printed(command) for command in _commands(searches, files, options)],
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


def _progress(shares: Iterator[float], stop: Interruption) -> Iterator[Preparation]:
    """Yield the progress of searches. Raise Interrupted between two steps after a signal."""
    from gancore.evaluation.train_extractor import Preparation

    with stop.deferred():
        for share in shares:
            stop.check()
            yield Preparation("searching for latents", share)


@contextmanager
def _keeping(searches: ImageSearches, files: ProjectionFiles) -> Iterator[None]:
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


def _commands(searches: ImageSearches, files: ProjectionFiles, options: Sequence[str]) -> Iterator[list[str]]:
    """Yield the commands that draw the samples of the latents: one, or one for each class."""
    parts = files.parts(searches)
    suffix = ".png" if searches.images.ndim == 4 and files.shows(searches) else ".npy"
    for path, found in parts.items():
        if path == files.latents and len(parts) > 1:
            continue
        label = searches.trained.class_name(found[0].label)
        command = ["gancore", "sample", str(searches.trained.path), "--latents", str(path)]
        command += [] if label is None else [f"--class={label}"]
        yield [*command, *options, "--out", str(path.with_name(f"{path.stem}-samples{suffix}"))]
