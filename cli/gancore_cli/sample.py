"""The command `sample`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.options import Terminal, data_dir, device, echo, output_options, settings_of
from gancore_cli.signals import Interrupted, interruption

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.run.interrupt import Interruption
    from gancore.sampling.draw import SampleStream
    from gancore.sampling.load import TrainedGenerator

_SECONDS_WITHOUT_PROGRESS = 1


@click.command()
@click.argument(
    "run",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT",
    shell_complete=completers.runs_and_checkpoints,
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=1),
    show_default="64, or as many as conditions",
    help="Number of samples.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed; image i depends only on the seed and i.",
)
@click.option("--class", "label", help="Generate only this class, a number or a name. The run must be conditional.")
@click.option(
    "--condition",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="An array, a picture or a folder: conditions of a run that is conditional on tensors or pictures, one for all "
    "samples, or one per sample.",
)
@settings_of("the dataset that reads --condition")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default="samples.png; what makes no picture: samples.csv for vectors, else samples.npy",
    metavar="FILE.png|.npy|.safetensors|.csv|DIR",
    help="Write one picture, an array as the data is stored, a table of vectors, or a folder of numbered PNGs.",
)
@click.option("--raw", is_flag=True, help="Use the current weights, not their average (EMA).")
@click.option("--best", is_flag=True, help="Use the best checkpoint of RUN, not the newest.")
@click.option(
    "--refresh-batchnorm",
    is_flag=True,
    help="Estimate the statistics of batch normalization anew for these weights, from 4,096 samples.",
)
@data_dir
@device
@output_options
def sample(
    terminal: Terminal,
    run: Path,
    count: int | None,
    seed: int,
    label: str | None,
    condition: Path | None,
    assignments: tuple[str, ...],
    out: Path | None,
    raw: bool,
    best: bool,
    refresh_batchnorm: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Generate samples with a trained generator.

    Loads CHECKPOINT, or the newest valid one of RUN. A larger --count adds samples and does not change the first
    ones. Samples are written while they are drawn, so any number fits into memory; Ctrl-C keeps those so far, in a file
    like samples.partial.npy or in the folder. 2-D points are plotted over points of the dataset, if the dataset can be
    read.

    \b
    Examples:
      gancore sample runs/0001
      gancore sample runs/0001 -n 1000 --seed 1 --out fake.npy
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.config.requirements import attributed
    from gancore.sampling.load import load
    from gancore.sampling.write import default_name, form_of, written
    from gancore.utils.paths import data_root

    if out:
        form_of(out)  # rejects a wrong file name before any work
    catalog = open_catalog(terminal)
    trained = load(run, raw=raw, best=best, device=device, catalog=catalog)
    out = out or Path(default_name(trained.shape))
    form = form_of(out)
    number = trained.class_number(label)
    warn(terminal, catalog, *trained.warnings, *_other_number(trained, label))
    if assignments and condition is None:
        raise click.UsageError("--set needs --condition, whose dataset it changes")
    conditions = None if condition is None else _conditions(trained, condition, assignments, count, catalog)
    if count is None:
        many = conditions is not None and conditions.shape != trained.spec.condition
        count = len(conditions) if many and conditions is not None else 64
    stream = trained.stream(count, seed=seed, label=label, conditions=conditions)
    stop = interruption()
    real = _real_points(trained, data_root(data_dir)) if form == "picture" else None
    writing = written(replace(stream, chunk=lambda start: _next_chunk(stream, start, stop)), out, real)
    with _interruptible(stop, writing, count, out), attributed(trained.config, catalog):
        if refresh_batchnorm:
            trained.refresh_batchnorm(conditions=conditions)
        show_drawing(terminal, writing, count)
    document = {"out": str(out), "count": count, "seed": seed, "shape": [count, *trained.shape], "step": trained.step}
    name = trained.class_name(label)
    document |= {"class": name, "class_number": number}
    document["classes"] = list(trained.classes) if trained.spec.condition == len(trained.classes) else []
    unit = "sample" if count == 1 else "samples"
    of_class = "" if number is None else f" of class {name}" + (f", number {number}," if name != str(number) else "")
    terminal.result(document, lambda: echo(f"{count:,} {unit}{of_class} of step {trained.step:,}: {out}"))


def _other_number(trained: TrainedGenerator, label: str | None) -> Iterator[str]:
    """Yield a warning if a class was given by its name, which is also the number of another class."""
    number = trained.class_number(label)
    if label is None or number is None or not label.isdecimal() or int(label) == number:
        return
    if int(label) < len(trained.classes):
        other = f"; number {int(label)} is class {trained.class_name(int(label))}"
        yield f"--class {label} is the name of class number {number}{other}"


def _next_chunk(stream: SampleStream, start: int, stop: Interruption) -> Tensor:
    """Return a chunk of the stream, unless a signal has arrived; then raise Interrupted."""
    stop.check()
    return stream.chunk(start)


@contextmanager
def _interruptible(stop: Interruption, writing: Generator[int, None, None], count: int, out: Path) -> Iterator[None]:
    """Defer signals to the end of a chunk. An interruption says what is kept: all samples if it came after the last."""
    try:
        with stop.deferred():
            yield
    except KeyboardInterrupt as error:
        # A writer that has not begun has drawn nothing: statistics are refreshed before the first sample.
        complete = f"{count:,} of {count:,} samples in {out}" if getgeneratorstate(writing) == GEN_CLOSED else ""
        kept = getattr(error, "kept", complete)
        other = "with another --out " if kept and out.is_dir() else ""  # a folder must be empty
        raise Interrupted(kept, f"run the command again {other}to draw all of them") from error


def show_drawing(terminal: Terminal, drawing: Iterator[int], count: int) -> None:
    """Draw all samples; show the progress if it takes more than a second. `drawing` yields their number so far."""
    started = time.monotonic()
    for _ in drawing:
        if time.monotonic() - started > _SECONDS_WITHOUT_PROGRESS:
            break
    else:
        return
    from gancore.evaluation.train_extractor import Preparation

    terminal.display().prepare(Preparation("drawing samples", done / count) for done in drawing)


def _conditions(
    trained: TrainedGenerator, path: Path, assignments: tuple[str, ...], count: int | None, catalog: Catalog
) -> Tensor:
    """Return the conditions of `--condition`: a single one (*shape), or as many as samples (N, *shape)."""
    from gancore.config.from_path import dataset_for
    from gancore.errors import ConfigError
    from gancore.evaluation.read_images import read_conditions

    shape = trained.spec.condition
    if not isinstance(shape, tuple):
        kind = "not conditional" if shape is None else f"conditional on {shape} classes"
        raise ConfigError(f"the run is {kind}, so it takes no --condition", "leave --condition out, or use --class")
    dataset = with_settings(dataset_for(path, catalog, shape), assignments, catalog)
    given = read_conditions(dataset, path, shape, like=trained.config.dataset)
    return given[0] if len(given) == 1 else given[:count]


def _real_points(trained: TrainedGenerator, root: Path) -> Tensor | None:
    """Return real points (M, 2) for the background of a plot of 2-D samples, or None."""
    from gancore.errors import GancoreError
    from gancore.evaluation.sources import ReferenceImages
    from gancore.sampling.grid import REAL_POINTS

    if trained.shape != (2,):
        return None
    try:
        return ReferenceImages.of(trained.config.dataset, root).draw(REAL_POINTS, seed=0, stream="real")
    except GancoreError:
        return None
