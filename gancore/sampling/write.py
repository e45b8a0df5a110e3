"""Samples as files: arrays, a table, a picture, a folder of pictures, or an animation; written while they are drawn."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from gancore.contracts import Shape
from gancore.errors import ConfigError, StorageError
from gancore.sampling.animation import ANIMATED, DEFAULT_STYLE, PictureStyle, check_animation, check_installed
from gancore.sampling.draw import CHUNK, SampleStream
from gancore.sampling.grid import DEFAULT_LAYOUT, Layout, enlarged, grid_pixels, is_picture, tile_picture, tiles
from gancore.sampling.writers import WRITERS, Form, WriterKind
from gancore.utils.atomic import hold, move, remove_abandoned, replacing, temporary_name
from gancore.utils.text import file_size

_MOST_PIXELS = 1 << 27
"""Pixels of the largest picture of several samples; Pillow refuses to open more than 178 million."""
_MOST_POINTS = 1_000_000
"""Points in the largest scatter plot."""
_SHOWN = 64
"""Samples that fit into a picture whatever their size, as the default of `gancore sample` does."""
_BYTES_OF_PNG, _BYTES_OF_NUMBER = 4096, 8
"""Bytes on the disk of a small PNG, and of a short number in a table."""

_FORMS: dict[str, Form] = {
    ".png": "picture",
    ".webp": "webp",
    ".gif": "gif",
    ".mp4": "mp4",
    ".npy": "npy",
    ".safetensors": "safetensors",
    ".csv": "csv",
    "": "folder",
}
_SHOWING = ("picture", *ANIMATED)
"""Forms that show several samples side by side."""


def form_of(out: Path) -> Form:
    """Return the form of samples at this path: a picture for `.png`, an array for `.npy` and `.safetensors`, a table.

    `.webp`, `.gif` and `.mp4` are animations. A new or empty folder, or a path without a suffix, gets numbered PNGs.
    Raises ConfigError for other paths, and for a form whose package is not installed.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise ConfigError(f"--out must be a file, or a new or empty folder; {out} is not empty", "name another one")
        return "folder"
    if out.name == "-" or out.name.lower() in _FORMS:
        raise ConfigError(f"{out} is no name of a file: it is only an ending, or a dash", "--out samples.png")
    if out.suffix.lower() not in _FORMS:
        endings = ".png, .webp, .gif, .mp4, .npy, .safetensors or .csv"
        problem = f"{out} does not end in {endings}, and is no folder"
        raise ConfigError(problem, "--out samples.png")
    form = _FORMS[out.suffix.lower()]
    check_installed(form)
    return form


def default_name(shape: Shape) -> str:
    """Return the name of a file that holds samples of this shape: a picture if they make one, a table, or an array."""
    if is_picture(shape):
        return "samples.png"
    return "samples.csv" if len(shape) == 1 else "samples.npy"


def save_samples(
    samples: Tensor | SampleStream,
    out: Path | str,
    real: Tensor | None = None,
    *,
    grid: tuple[int, int] | None = None,
    upscale: int | None = None,
    fps: float | None = None,
) -> None:
    """Write samples (N, …), or those of `TrainedGenerator.stream` while they are drawn, in the form of the path.

    The form is a picture for `.png`, an array for `.npy` and `.safetensors`, a table of vectors for `.csv`, a folder of
    numbered PNGs for a path without a suffix, and an endless animation for `.webp` and `.gif`, or a video for `.mp4`.
    `real` are points to show behind points in a picture. `grid` are the rows and columns of a picture, whose last
    places may stay empty, or of each frame of an animation, which else shows one sample. `upscale` enlarges images by
    an integer. `fps` are the frames per second, 20 by default.
    A file is complete or absent, whenever the process is killed. If drawing ends early, by an error or Ctrl-C, the
    samples so far are kept in a new file named like `samples.partial.npy`, or in the folder; the attribute `kept` of
    the exception says so, and is empty without samples. What a killed process left of the same file is removed.
    Raises ConfigError when these samples or settings do not fit the form, StorageError when a file cannot be written or
    is larger than the free space.
    """
    if not isinstance(samples, Tensor | SampleStream):
        raise ConfigError(f"samples must be a tensor; received {type(samples).__name__}", "convert: torch.from_numpy")
    if isinstance(samples, Tensor):
        samples = _stream_of(samples)
    rows, columns = grid or (1, 1)
    for _ in written(samples, Path(out), PictureStyle(real, Layout(grid, upscale), fps, rows * columns)):
        pass


def _stream_of(samples: Tensor) -> SampleStream:
    """Return samples (N, …) as a stream."""
    scaled = samples.dtype != torch.uint8 and samples.numel() > 0
    limits = (float(samples.min()), float(samples.max())) if scaled else None
    shape = tuple(samples.shape[1:])
    return SampleStream(len(samples), shape, samples.dtype, lambda start: samples[start : start + CHUNK], limits=limits)


def written(samples: SampleStream, out: Path, style: PictureStyle = DEFAULT_STYLE) -> Generator[int, None, None]:
    """Do what `save_samples` does, and yield the number of samples that are written so far.

    Errors in the arguments are raised at once, the others while it is iterated over.
    """
    form = form_of(out)
    _check(samples, form, out, style)
    return _written(samples, form, out, style)


def _written(samples: SampleStream, form: Form, out: Path, style: PictureStyle) -> Generator[int, None, None]:
    try:
        (out if form == "folder" else out.parent).mkdir(parents=True, exist_ok=True)
        if form == "folder":
            yield from _in_folder(samples, out, style.layout.upscale or 1)
            return
        yield from _in_file(samples, WRITERS[form], out, style)
    except OSError as error:
        failure = StorageError(f"cannot write samples to {out}: {error.strerror or error}", "choose another --out")
        failure.kept = getattr(error, "kept", "")
        raise failure from error


def _in_folder(samples: SampleStream, out: Path, upscale: int) -> Iterator[int]:
    done, digits, limits = 0, max(4, len(str(samples.count - 1))), samples.limits
    try:
        for chunk in samples:
            if limits is None and chunk.dtype != torch.uint8:  # one scale for all
                limits = float(chunk.min()), float(chunk.max())
            for tile in tiles(chunk, limits):
                with replacing(out / f"{done:0{digits}d}.png", durable=False) as temporary:
                    enlarged(tile_picture(tile), upscale).save(temporary, "PNG")
                done += 1
            yield done
    except BaseException as error:
        _say_kept(error, done, samples, out)
        raise


def _in_file(samples: SampleStream, kind: WriterKind, out: Path, style: PictureStyle) -> Iterator[int]:
    remove_abandoned(out)
    temporary = temporary_name(out)
    try:
        with temporary.open("wb", buffering=0) as file:
            hold(file.fileno())
            try:
                writer = kind(file, samples, style)  # that of an animation draws some samples
            except BaseException as error:
                _say_kept(error, 0, samples, out)
                raise
            try:
                for chunk in samples:
                    writer.add(chunk)
                    yield writer.count
                writer.end()
                move(temporary, out)
            except BaseException as error:
                _say_kept(error, 0, samples, out)
                with suppress(OSError):  # the first error is the one to report
                    place = out
                    if writer.count and temporary.exists():
                        writer.end()
                        place = _free_name(out)
                        os.replace(temporary, place)
                    _say_kept(error, writer.count, samples, place)
                raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _free_name(out: Path) -> Path:
    """Return a name such as `samples.partial.npy` that no file has."""
    names = (out.with_name(f"{out.stem}.partial{number}{out.suffix}") for number in ["", *range(2, 1000)])
    return next(name for name in names if not os.path.lexists(name))


def _say_kept(error: BaseException, done: int, samples: SampleStream, place: Path) -> None:
    """Set `kept` of the error, empty without samples."""
    kept = f"{done:,} of {samples.count:,} samples in {place}" if done else ""
    error.kept = kept  # type: ignore[attr-defined]  # of gancore's errors


def most_in_picture(shape: Shape, layout: Layout = DEFAULT_LAYOUT) -> int:
    """Return how many samples of this shape, which make a picture, one picture can show."""
    if len(shape) == 1:
        return _MOST_POINTS
    return max(1 if layout.upscale else _SHOWN, _MOST_PIXELS // grid_pixels(shape, 1, layout))


def _check(samples: SampleStream, form: Form, out: Path, style: PictureStyle) -> None:
    """Raise ConfigError when samples do not fit the form, StorageError when they do not fit on the disk."""
    shape, count = samples.shape, samples.count
    if form == "picture" and count == 0:
        raise ConfigError("a picture shows one sample or more; received 0", "pass some, or write an array: a .npy file")
    if form == "csv" and len(shape) != 1:
        raise ConfigError(f"a .csv file holds vectors; these samples have shape {shape}", "write --out FILE.npy")
    shown = is_picture(shape)
    if form in (*_SHOWING, "folder") and not (shown and (form != "folder" or len(shape) > 1)):
        raise ConfigError(
            f"images of 1, 3 or 4 channels and series make pictures, points in the plane make one; these have shape "
            f"{shape}",
            "write the array instead: --out FILE.npy" + (", or a table: --out FILE.csv" if len(shape) == 1 else ""),
        )
    _check_style(samples, form, out, style)
    rows, columns = style.layout.grid or (1, 1)
    if form == "picture" and max(count, rows * columns) > (most := most_in_picture(shape, style.layout)):
        room = f"a grid of {rows:,} x {columns:,}" if rows * columns > count else f"{count:,}"
        raise ConfigError(
            f"one picture shows at most {most:,} samples of shape {shape}; received {room}",
            "write an array: --out FILE.npy" + (", or a folder: --out DIR" if len(shape) > 1 else ""),
        )
    size = {"csv": math.prod(shape) * _BYTES_OF_NUMBER, "folder": _BYTES_OF_PNG} | dict.fromkeys(_SHOWING, 0)
    needed = count * size.get(form, math.prod(shape) * samples.dtype.itemsize)
    place = next(folder for folder in [out.absolute(), *out.absolute().parents] if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise StorageError(
            f"{count:,} samples take about {file_size(needed)} as {out.suffix or 'PNGs'}, and {file_size(free)} are "
            f"free in {place}",
            "draw fewer, or choose another --out",
        )


def _check_style(samples: SampleStream, form: Form, out: Path, style: PictureStyle) -> None:
    """Raise ConfigError when a setting of the style has no effect in this form, or does not fit the samples."""
    (rows, columns), upscale = style.layout.grid or (1, 1), style.layout.upscale
    has_images = len(samples.shape) > 1
    effects = {"grid": has_images and form in _SHOWING, "upscale": has_images and form in (*_SHOWING, "folder")}
    effects["fps"] = form in ANIMATED
    values = {"grid": style.layout.grid, "upscale": upscale, "fps": style.fps}
    for setting, value in values.items():
        if value is not None and not effects[setting]:
            what = f"{out.name}" if has_images or setting == "fps" else "a plot of points"
            raise ConfigError(f"{setting} has no effect on {what}", f"leave --{setting} out")
    if min(rows, columns, 1 if upscale is None else upscale) < 1:
        raise ConfigError(f"grid and upscale must be at least 1; received {style.layout.grid} and {upscale}")
    if form in ANIMATED:
        check_animation(samples, form, style)
    elif style.layout.grid and rows * columns < samples.count:
        raise ConfigError(
            f"a grid of {rows} x {columns} does not show {samples.count:,} samples",
            "use a larger --grid, or draw fewer",
        )
