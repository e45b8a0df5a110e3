"""How to draw a point again: a command line, and lines of Python. Both give the same pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gancore.explore.point import Point
from gancore.sampling.trained import TrainedGenerator
from gancore.utils.paths import shell_quote


@dataclass(frozen=True)
class PointFiles:
    """PointFiles that a point needs where no option can name its parts: of its latent, and of its condition."""

    latent: Path | None = None
    condition: Path | None = None


@dataclass(frozen=True)
class Invocation:
    """How the explorer was started: the run as it was named, the device if one was, and how plugins were chosen.

    `program` is the command with options for plugins; `plugins` are those that are files.
    """

    run: Path
    device: str | None = None
    program: str = "gancore"
    plugins: tuple[Path, ...] = ()


def checkpoint_path(invocation: Invocation, point: Point) -> Path:
    """Return the path of the point's checkpoint."""
    return invocation.run / "checkpoints" / point.checkpoint


def out_name(point: Point) -> str:
    """Return the name of a picture of the point, such as `seed-5.png`."""
    return f"seed-{point.base}.png" if point.is_of_seed else "point.png"


def command(invocation: Invocation, point: Point, trained: TrainedGenerator, files: PointFiles) -> str:
    """Return the command that draws the point into a picture."""
    words = [invocation.program, "sample", shell_quote(checkpoint_path(invocation, point))]
    if files.latent is not None:
        words += ["--latents", shell_quote(files.latent)]
    else:
        words += ["--seeds", str(point.base)]
    if point.truncation < 1 and (files.latent is None or trained.truncates_styles):
        words += ["--truncation", repr(point.truncation)]
    if files.latent is None:
        for number, amount in point.used_moves.items():
            words += ["--move", f"{number}={amount!r}"]
    if files.condition is not None:
        words += ["--condition", shell_quote(files.condition)]
    elif point.condition is not None:
        words += ["--class", shell_quote(class_name(trained, point.condition))]
    words += ["--raw"] if point.raw else []
    words += ["--ema", repr(point.ema)] if point.ema is not None else []
    words += ["--device", invocation.device] if invocation.device else []
    return " ".join([*words, "--out", out_name(point)])


def class_name(trained: TrainedGenerator, number: int) -> str:
    """Return the name of a class for `--class`, or its number if the name could be read as something else."""
    name = trained.classes[number] if number < len(trained.classes) else str(number)
    plain = re.fullmatch(r"\w(?:[\w .-]*\w)?", name) is not None
    return name if plain and trained.class_number(name) == number else str(number)


def python(invocation: Invocation, point: Point, trained: TrainedGenerator, files: PointFiles) -> str:
    """Return lines of Python that draw the point: imports, and two lines, or three for a latent that is edited."""
    imports, latents = ["import gancore"], f"trained.seed_latents([{point.base}])"
    if files.latent is not None:
        imports += ["import numpy", "import torch"]
        latents = f"torch.from_numpy(numpy.load({str(files.latent)!r}))"
    else:
        if point.truncation < 1 and not trained.truncates_styles:
            latents = f"gancore.truncate({latents}, {point.truncation!r})"
        if point.used_moves:
            latents = f"gancore.move(gancore.find_directions(trained), {latents}, {point.used_moves})"
    options = ""
    if files.condition is not None:
        imports += ["import numpy", "import torch"]
        options = f", torch.from_numpy(numpy.load({str(files.condition)!r}))"
    elif point.condition is not None:
        options = f", label={_label(trained, point.condition)!r}"
    if point.truncation < 1 and trained.truncates_styles:
        options += f", truncation={point.truncation!r}"
    where = f"{str(checkpoint_path(invocation, point))!r}"
    where += ", raw=True" if point.raw else ""
    where += f", ema={point.ema!r}" if point.ema is not None else ""
    where += f", device={invocation.device!r}" if invocation.device else ""
    if invocation.plugins:
        imports.append("from pathlib import Path")
        named = "".join(f"Path({str(path)!r}), " for path in invocation.plugins)
        where += f", catalog=gancore.Catalog.installed(gancore.Choice(files=({named.strip()})))"
    out = out_name(point) if len(trained.shape) > 1 else Path(out_name(point)).with_suffix(".csv")
    lines = [f"trained = gancore.load({where})"]
    if not latents.startswith("trained."):
        lines.append(f"latents = {latents}")
        latents = "latents"
    lines.append(f"gancore.save_samples(trained.stream_latents({latents}{options}), {str(out)!r})")
    imports = sorted(dict.fromkeys(imports), key=lambda line: (line.startswith("from"), line))
    return "\n".join([*imports, "", *lines])


def _label(trained: TrainedGenerator, number: int) -> str | int:
    """Return a class as its name; or as its number, if it has no name or one that looks like a number."""
    name = trained.classes[number] if number < len(trained.classes) else ""
    return name if name and not name.isdecimal() and trained.class_number(name) == number else number
