"""The options of `sample` that say what is drawn and how it is shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.sampling.arrange import SampleOptions
    from gancore.sampling.trained import TrainedGenerator

R = TypeVar("R")

_WITH_TIMELAPSE = {"run", "out", "grid", "upscale", "fps", "timelapse", "as_json", "quiet", "verbose"}
"""Parameters that a timelapse uses: it needs no generator."""
_EXCLUSIVE = {
    "--seeds": ("--count", "--seed", "--latents", "--interpolate"),
    "--latents": ("--count", "--seed", "--interpolate"),
    "--interpolate": ("--seed",),
}
"""Options that cannot be used together: each of them says which latents there are."""


@dataclass(frozen=True)
class Given:
    """The options of `sample` as they were given, texts and paths. None, False and () stand for options without one."""

    count: int | None
    seed: int
    seeds: str | None
    labels: tuple[str, ...]
    condition: Path | None
    truncation: float
    latents: Path | None
    moves: Mapping[int, float]
    interpolate: str | None
    frames: int | None
    timelapse: bool
    grid: tuple[int, int] | None
    upscale: int | None
    fps: float | None

    def read(self, trained: TrainedGenerator, conditions: Tensor | None) -> SampleOptions:
        """Return what to draw, with the seeds and latents that texts and files name. Raise as reading them does."""
        from gancore.sampling.arrange import SampleOptions
        from gancore.sampling.latents import parse_seeds, read_latents

        return SampleOptions(
            count=self.count,
            seed=self.seed,
            seeds=None if self.seeds is None else parse_seeds(self.seeds),
            latents=None if self.latents is None else read_latents(self.latents, trained.config.latent.dim),
            interpolate=None if self.interpolate is None else parse_seeds(self.interpolate),
            frames=self.frames,
            labels=self.labels,
            conditions=conditions,
            truncation=self.truncation,
            moves=self.moves,
            grid=self.grid,
        )


def _check(context: click.Context) -> None:
    """Raise UsageError for options that do not fit together."""
    given = {
        parameter.opts[-1]: parameter.name
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
    }
    pairs = [(option, other) for option, others in _EXCLUSIVE.items() for other in others]
    pairs += [("--timelapse", option) for option, name in given.items() if name not in _WITH_TIMELAPSE]
    for option, other in pairs:
        if option in given and other in given:
            raise click.UsageError(f"{option} and {other} cannot be used together")
    if "--frames" in given and "--interpolate" not in given:
        raise click.UsageError("--frames needs --interpolate, whose frames it counts")


def _grid(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Return the rows and columns of a text such as `4x16`."""
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is not ROWSxCOLUMNS, such as 4x16.")
    return int(found[1]), int(found[2])


def _moves(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[int, float]:
    """Return the amounts by the numbers of directions."""
    amounts: dict[int, float] = {}
    for text in texts:
        number, _, amount = text.partition("=")
        try:
            key, value = int(number), float(amount)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not INDEX=AMOUNT, such as 1=2.5.") from error
        if key in amounts:
            raise click.BadParameter(f"direction {key} is given twice.")
        amounts[key] = value
    return amounts


_OPTIONS = [
    click.option(
        "-n",
        "--count",
        type=click.IntRange(min=1),
        show_default="64, or as many as conditions; 8 for each of several classes; 1 with --interpolate",
        help="Number of samples: in total, for each --class, or in each frame of --interpolate.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Random seed; image i depends only on the seed and i.",
    ),
    click.option("--seeds", metavar="0-31,64", help="Draw the first sample of each of these seeds."),
    click.option(
        "--class",
        "labels",
        multiple=True,
        metavar="CLASS",
        help="Generate only this class, a number or a name. Can be repeated: the same latents for each class, a row of "
        "the picture for each.",
    ),
    click.option(
        "--condition",
        type=click.Path(path_type=Path, exists=True),
        metavar="PATH",
        help="An array, a picture or a folder: conditions of a run that is conditional on tensors or pictures, one for "
        "all samples, or one per sample.",
    ),
    click.option(
        "--truncation",
        type=click.FloatRange(0, 1),
        metavar="PSI",
        default=1.0,
        show_default=True,
        help="Lower values in 0 to 1 give more typical, less diverse samples: latents are multiplied, or styles moved "
        "toward their mean if the generator has styles.",
    ),
    click.option(
        "--latents",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Draw from the latents (N, Z) of a .npy, .npz or .safetensors file.",
    ),
    click.option(
        "--move",
        "moves",
        multiple=True,
        callback=_moves,
        metavar="INDEX=AMOUNT",
        help="Move latents along an editing direction of the generator, 1 being the strongest; the amount is in "
        "standard deviations of the latent. Can be repeated.",
    ),
    click.option(
        "--interpolate",
        metavar="3,7,12",
        help="Walk through the latents of these seeds and back to the first. Each frame is a sample.",
    ),
    click.option(
        "--frames", type=click.IntRange(2, 1_000_000), show_default="60", help="Frames of --interpolate, in total."
    ),
    click.option(
        "--timelapse",
        is_flag=True,
        help="Show the pictures that RUN drew during training, in order. Needs no checkpoint.",
    ),
    click.option(
        "--grid",
        callback=_grid,
        metavar="ROWSxCOLUMNS",
        help="Rows and columns of a picture, or of each frame of an animation. Sets the number of samples unless "
        "another option does; places without a sample stay empty.",
    ),
    click.option("--upscale", type=click.IntRange(1, 64), help="Enlarge images by an integer, without smoothing."),
    click.option(
        "--fps",
        type=click.FloatRange(0.1, 240),
        show_default="20; 4 with --timelapse",
        help="Frames per second of an animation.",
    ),
]


def drawing_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add the options to a command, and pass it what was given. Raise UsageError if they do not fit."""

    @functools.wraps(function)
    def with_given(**kwargs: Any) -> R:  # Any: the command's options
        _check(click.get_current_context())
        given = Given(**{field.name: kwargs.pop(field.name) for field in fields(Given)})
        return function(given=given, **kwargs)

    for option in reversed(_OPTIONS):
        with_given = option(with_given)
    return with_given
