"""The command `sample`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.options import (
    OutPath,
    Terminal,
    best,
    check_weights,
    data_dir,
    device,
    echo,
    ema,
    output_options,
    raw,
    refresh_batchnorm,
    run_or_checkpoint,
    settings_of,
)
from gancore_cli.sample_options import Given, drawing_options
from gancore_cli.signals import Interrupted, interruption

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.run.interrupt import Interruption
    from gancore.sampling.arrange import ArrangedSamples
    from gancore.sampling.draw import SampleStream
    from gancore.sampling.trained import TrainedGenerator

_SECONDS_WITHOUT_PROGRESS = 1
_MOST_DIGITS = 9
"""Digits of the number of a class; longer text is a name."""


@click.command()
@run_or_checkpoint
@drawing_options
@settings_of("the dataset that reads --condition")
@click.option(
    "--out",
    type=OutPath(path_type=Path),
    show_default="samples.png; timelapse.webp; what makes no picture: samples.csv for vectors, else samples.npy",
    metavar="FILE.png|.npy|.safetensors|.csv|.webp|.gif|.mp4|DIR",
    help="Write one picture, an array as the data is stored, a table of vectors, an animation, or a folder of numbered "
    "PNGs. A file that exists is replaced.",
)
@raw
@ema
@best
@refresh_batchnorm
@data_dir
@device
@output_options
def sample(
    terminal: Terminal,
    given: Given,
    run: Path,
    assignments: tuple[str, ...],
    out: Path | None,
    raw: bool,
    ema: float | None,
    best: bool,
    refresh_batchnorm: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Generate samples with a trained generator.

    Loads CHECKPOINT, or the newest valid one of RUN. A larger --count adds samples and does not change the first
    ones. Samples are written while they are drawn, so any number fits into memory; Ctrl-C keeps those so far, in a file
    like samples.partial.npy or in the folder. 2-D points are plotted over points of the dataset, if the dataset can be
    read. A .webp, .gif or .mp4 shows the samples one after another.

    \b
    Examples:
      gancore sample runs/0001
      gancore sample runs/0001 -n 1000 --seed 1 --out fake.npy
      gancore sample runs/0001 --seeds 0-31,64 --truncation 0.7 --grid 4x16
      gancore sample runs/0001 --ema 50
      gancore sample runs/0001 --interpolate 3,7,12 --frames 60 --out walk.webp
      gancore sample runs/0001 --timelapse --out growth.gif
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.config.requirements import attributed
    from gancore.sampling.animation import ANIMATED
    from gancore.sampling.arrange import arrange
    from gancore.sampling.load import load
    from gancore.sampling.write import default_name, form_of
    from gancore.utils.paths import data_root

    check_weights(raw=raw, ema=ema)
    if out:
        form_of(out)  # rejects a wrong file name before any work
    if given.timelapse:
        _draw_timelapse(terminal, given, run, out or Path("timelapse.webp"))
        return
    catalog = open_catalog(terminal)
    trained = load(run, raw=raw, best=best, ema=ema, device=device, catalog=catalog)
    out = out or Path(default_name(trained.shape))
    form = form_of(out)
    warn(
        terminal,
        catalog,
        *trained.warnings,
        *(text for label in given.labels for text in _other_number(trained, label)),
    )
    if assignments and given.condition is None:
        raise click.UsageError("--set needs --condition, whose dataset it changes")
    conditions = _conditions(trained, given, assignments, catalog)
    arranged = arrange(trained, given.read(trained, conditions), form)
    real = _real_points(trained, data_root(data_dir)) if form in ("picture", *ANIMATED) else None
    prepare = (lambda: trained.refresh_batchnorm(conditions=conditions)) if refresh_batchnorm else None
    replaced = _is_file(out)
    with attributed(trained.config, catalog):
        _write(terminal, given, arranged, out, real, prepare)
    _print_result(terminal, given, trained, arranged, out, replaced=replaced)


def _draw_timelapse(terminal: Terminal, given: Given, run: Path, out: Path) -> None:
    """Write the pictures of a run's training."""
    from gancore.sampling.animation import ANIMATED
    from gancore.sampling.arrange import ArrangedSamples
    from gancore.sampling.timelapse import TIMELAPSE_FPS, timelapse
    from gancore.sampling.write import form_of

    stream = timelapse(run)
    if form_of(out) in ANIMATED and given.fps is None:
        given = replace(given, fps=TIMELAPSE_FPS)
    rows, columns = given.grid or (1, 1)
    replaced = _is_file(out)
    _write(terminal, given, ArrangedSamples(stream, given.grid, rows * columns), out)
    document = {
        "out": str(out),
        "replaced": replaced,
        "count": stream.count,
        "shape": [stream.count, *stream.shape],
        "fps": given.fps,
    }
    what = f"{stream.count:,} pictures of the training of {run}"
    terminal.result(document, lambda: _print_written(what, out, replaced=replaced))


def _is_file(out: Path) -> bool:
    """Return whether there is a file or a link, which samples at this path replace; a folder must be empty."""
    return os.path.lexists(out) and not out.is_dir()


def _print_written(what: str, out: Path, *, replaced: bool) -> None:
    """Print what was written where, and what it replaced."""
    echo(f"{what}: {out}")
    if replaced:
        echo(f"replaced: {out}")


def _write(
    terminal: Terminal,
    given: Given,
    arranged: ArrangedSamples,
    out: Path,
    real: Tensor | None = None,
    prepare: Callable[[], None] | None = None,
) -> None:
    """Draw and write all samples; a signal ends it after a chunk. `prepare` is called before the first."""
    from gancore.sampling.animation import changes_by
    from gancore.sampling.write import form_of, written

    stream, stop, form = arranged.stream, interruption(), form_of(out)
    style = arranged.style(real, given.upscale, given.fps)
    writing = written(replace(stream, chunk=lambda start: _next_chunk(stream, start, stop)), out, style)
    for text in changes_by(form, stream, style):
        terminal.note(f"note: {text}")
    with _interruptible(stop, writing, stream.count, out):
        if prepare:
            prepare()
        show_drawing(terminal, writing, stream.count)


def _print_result(
    terminal: Terminal,
    given: Given,
    trained: TrainedGenerator,
    arranged: ArrangedSamples,
    out: Path,
    *,
    replaced: bool,
) -> None:
    """Print what was drawn."""
    from gancore.sampling.animation import ANIMATED

    count = arranged.stream.count
    frames = count // arranged.per_frame if out.suffix.lower().removeprefix(".") in ANIMATED else None
    names = [str(trained.class_name(label)) for label in given.labels]
    numbers = [trained.class_number(label) for label in given.labels]
    one = len(names) == 1
    rows = [name for name in names for _ in range(arranged.grid[0] // len(names))] if arranged.grid and not one else []
    document = {
        "out": str(out),
        "replaced": replaced,
        "count": count,
        "seed": None if given.seeds or given.interpolate or given.latents else given.seed,
        "seeds": given.seeds or given.interpolate,
        "latents": None if given.latents is None else str(given.latents),
        "truncation": given.truncation,
        "moves": {str(number): amount for number, amount in given.moves.items()},
        "shape": [count, *trained.shape],
        "step": trained.step,
        "half_life_kimg": trained.half_life_kimg,
        "class": names[0] if one else None,
        "class_number": numbers[0] if one else None,
        "rows": rows,
        "grid": arranged.grid,
        "frames": frames,
        "classes": list(trained.classes) if trained.spec.condition == len(trained.classes) else [],
    }
    of_class = f" of class {names[0]}" if one else ""
    if one and names[0] != str(numbers[0]):
        of_class += f", number {numbers[0]},"
    unit = "sample" if count == 1 else "samples"
    is_other = trained.config.ema is not None and trained.half_life_kimg in trained.config.ema.more_kimg
    average = f", average of {trained.half_life_kimg:g} kimg" if is_other else ""
    what = f"{count:,} {unit}{of_class} of step {trained.step:,}{average}"
    what += f" in {frames:,} frames" if frames else ""
    what += f", with a row for each class: {', '.join(rows)}" if rows else ""
    terminal.result(document, lambda: _print_written(what, out, replaced=replaced))


def _other_number(trained: TrainedGenerator, label: str | None) -> Iterator[str]:
    """Yield a warning if a class was given by its name, which is also the number of another class."""
    number = trained.class_number(label)
    if label is None or number is None or not label.isdecimal() or len(label) > _MOST_DIGITS:
        return
    if (other_number := int(label)) != number and other_number < len(trained.classes):
        other = f"; number {other_number} is class {trained.class_name(other_number)}"
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
    trained: TrainedGenerator, given: Given, assignments: tuple[str, ...], catalog: Catalog
) -> Tensor | None:
    """Return the conditions of `--condition`: a single one (*shape), or as many as samples (N, *shape)."""
    from gancore.config.from_path import dataset_for
    from gancore.errors import ConfigError
    from gancore.evaluation.read_images import read_conditions

    path, shape = given.condition, trained.spec.condition
    if path is None:
        return None
    if not isinstance(shape, tuple):
        kind = "not conditional" if shape is None else f"conditional on {shape} classes"
        raise ConfigError(f"the run is {kind}, so it takes no --condition", "leave --condition out, or use --class")
    dataset = with_settings(dataset_for(path, catalog, shape), assignments, catalog)
    conditions = read_conditions(dataset, path, shape, like=trained.config.dataset)
    return conditions[0] if len(conditions) == 1 else conditions[: given.count]


def _real_points(trained: TrainedGenerator, root: Path) -> Tensor | None:
    """Return real points (M, 2) for the background of a plot of 2-D samples, or None."""
    from gancore.errors import GancoreError
    from gancore.evaluation.sources import ReferenceImages
    from gancore.sampling.grid import REAL_POINTS

    if trained.shape != (2,):
        return None
    try:
        return ReferenceImages.of(trained.config.dataset, root).to_plot(REAL_POINTS)
    except GancoreError:
        return None
