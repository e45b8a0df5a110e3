"""Laws of observers, who are told of a run in a folder that is theirs to try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.errors import PluginError, blame
from gancore.observers import Observer, Outcome, RunInfo, Writer
from gancore.testing.cases import Case, LawBroken, demand

_WRITTEN = ("config.toml", "manifest.json", "samples/step-00000000.png", "checkpoints/step-00000000.safetensors")
"""What a run has written before it begins."""


def it_bears_whatever_is_told(component: Component, case: Case) -> None:
    """It bears numbers that are not finite, names of any letters, pictures of 1, 3 and 4 channels, and an early end."""
    odd = ("penalty.a/b", "x y", "größe", "..", "fd-random:value", "")
    tales: dict[str, Callable[[Writer, Path], None]] = {
        "NaN and infinity": lambda writer, _: writer.scalars(_line(1, loss=float("nan"), best=-float("inf"))),
        "numbers of odd names": lambda writer, _: writer.scalars(_line(1, **dict.fromkeys(odd, 1.0))),
        "numbers that were not there before": _ordinary_run_and_more,
        "a picture of 3 channels": lambda writer, _: writer.image(
            1, "samples", torch.zeros(3, 5, 7, dtype=torch.uint8)
        ),
        "a picture of 4 channels": lambda writer, _: writer.image(
            1, "samples", torch.zeros(4, 1, 1, dtype=torch.uint8)
        ),
        "a file that is gone": lambda writer, folder: writer.file(1, folder / "checkpoints" / "gone.safetensors"),
        "nothing but the end": lambda *_: None,
    }
    _told(component, lambda writer, folder: None)  # what fails anyway is not for this law
    for what, tale in tales.items():
        try:
            _told(component, tale, outcome="interrupted")
        except PluginError as error:
            raise LawBroken(f"told of {what}: {error}") from error


def what_the_run_wrote_stays_as_it_was(component: Component, case: Case) -> None:
    """It writes to files of its own, and changes none of those that the run has written."""
    changed = list[str]()

    def look(folder: Path) -> None:
        changed.extend(name for name in _WRITTEN if _content(folder / name) != name.encode())

    _told(component, _ordinary_run, then=look)
    demand(not changed, f"it changed what the run had written: {', '.join(changed)}")


def it_joins_a_run_that_goes_on(component: Component, case: Case) -> None:
    """A run that goes on tells it again in the same folder, where it finds what it left there before."""
    again = list[Path]()

    def twice(folder: Path) -> None:
        again.append(folder)
        _tell(component, folder, _ordinary_run, "finished")

    try:
        _told(component, _ordinary_run, outcome="interrupted", then=twice)
    except PluginError as error:
        if not again:
            raise
        raise LawBroken(f"when the run goes on: {error}") from error


def tell_of_a_run(observer: Observer) -> None:
    """Tells an observer of an ordinary run, from its beginning to its end. Raises PluginError where it fails."""
    _told(observer, _ordinary_run)


def _ordinary_run(writer: Writer, folder: Path) -> None:
    """Numbers, a picture and a file."""
    picture = folder / _WRITTEN[2]
    for step in (0, 100):
        writer.scalars(_line(step, generator_loss=0.5))
        writer.image(step, "samples", _black(1, 8, 8))
        writer.file(step, picture)


def _ordinary_run_and_more(writer: Writer, folder: Path) -> None:
    """Now and then there are others among the numbers, as after an evaluation."""
    _ordinary_run(writer, folder)
    writer.scalars({"step": 100, "kimg": 6.4, "seconds": 60.0, "fd-random": 12.5})


def _told(
    component: Component,
    tale: Callable[[Writer, Path], None],
    outcome: Outcome = "finished",
    then: Callable[[Path], None] = lambda _: None,
) -> None:
    with TemporaryDirectory(prefix="gancore-testing-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for path in _WRITTEN:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(path.encode())
        try:
            _tell(component, folder, tale, outcome)
            then(folder)
        except PluginError as error:  # read the same whatever the folder
            error.message = error.message.replace(name, "RUN")
            raise


def _tell(component: Component, folder: Path, tale: Callable[[Writer, Path], None], outcome: Outcome) -> None:
    with blame(f"observer {component.name!r}"):
        writer = cast(Observer, component).build(RunInfo(folder, {"schema": 1, "batch_size": 64}))
        if not isinstance(writer, Writer):
            raise TypeError(f"it must build a Writer; received {writer!r}")
        tale(writer, folder)
        writer.end(outcome)


def _line(step: int, **numbers: float) -> dict[str, float]:
    return {"step": step, "kimg": step * 0.064, "seconds": 0.5 * step, **numbers}


def _black(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
