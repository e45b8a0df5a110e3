"""Laws for observers: they observe simulated runs in temporary folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor

from gancore.component import Component
from gancore.errors import PluginError, blame
from gancore.observers import Observer, Outcome, RunInfo, Writer
from gancore.testing.cases import Case, CaseSkipped, LawBroken, UnsuitedComponent, require

_RUN_FILES = ("config.toml", "manifest.json", "samples/step-00000000.png", "checkpoints/step-00000000.safetensors")
"""Files that a run has written when an observer is built."""


def handles_unusual_events(component: Component, case: Case) -> None:
    """NaN, infinity, any characters in names, pictures with 1, 3 or 4 channels, and an early end cause no error."""
    names = ("penalty.a/b", "x y", "größe", "..", "fd-random:value", "")
    events: dict[str, Callable[[Writer, Path], None]] = {
        "NaN and infinity": lambda writer, _: writer.scalars(_line(1, loss=float("nan"), best=-float("inf"))),
        "unusual names of numbers": lambda writer, _: writer.scalars(_line(1, **dict.fromkeys(names, 1.0))),
        "numbers that appear later in the run": _run_with_evaluation,
        "a picture of 3 channels": lambda writer, _: writer.image(1, "samples", _black(3, 5, 7)),
        "a picture of 4 channels": lambda writer, _: writer.image(1, "samples", _black(4, 1, 1)),
        "a file that was removed": lambda writer, folder: writer.file(1, folder / "checkpoints" / "gone.safetensors"),
        "a run that ends at once": lambda *_: None,
    }
    _observe(component, lambda writer, folder: None)  # failing on any run is reported by another law
    for name, send in events.items():
        try:
            _observe(component, send, outcome="interrupted")
        except PluginError as error:
            raise LawBroken(f"it fails on {name}: {error}") from error


def run_files_are_not_modified(component: Component, case: Case) -> None:
    """Observers write to files of their own and change none that the run has written."""
    changed = list[str]()

    def compare(folder: Path) -> None:
        changed.extend(name for name in _RUN_FILES if _content(folder / name) != name.encode())

    _observe(component, _normal_run, then=compare)
    require(not changed, f"it changed files of the run: {', '.join(changed)}; write to a file of your own")


def handles_a_resumed_run(component: Component, case: Case) -> None:
    """Observers can be built again for a resumed run, in a folder that has their earlier files."""
    resumed = list[Path]()

    def resume(folder: Path) -> None:
        resumed.append(folder)
        _send(component, folder, _normal_run, "finished", step=100)

    try:
        _observe(component, _normal_run, outcome="interrupted", then=resume)
    except PluginError as error:
        if not resumed:
            raise
        raise LawBroken(f"it fails when the run is resumed: {error}") from error


def keeps_its_files_on_resume(component: Component, case: Case) -> None:
    """Observers that are built again for a resumed run continue their files, and do not begin them anew."""
    before, after = list[int](), list[int]()

    def resume(folder: Path) -> None:
        before.append(_size_of_new_files(folder))
        _send(component, folder, _short_run, "finished", step=1000)
        after.append(_size_of_new_files(folder))

    try:
        _observe(component, _long_run, outcome="interrupted", then=resume)
    except PluginError as error:
        raise CaseSkipped(f"it fails, which another law reports: {error}") from error
    if not before[0]:
        raise UnsuitedComponent("it writes no files in the run folder")
    lost = after[0] < before[0] // 2
    require(
        not lost,
        f"after 10 pictures and lines its files have {before[0]} bytes, and {after[0]} after the run was resumed: what "
        "it wrote before is lost; read it in `build` if `run.step` is not 0, or append",
    )


def writes_only_in_the_run_folder(component: Component, case: Case) -> None:
    """Observers leave no files outside of the run folder."""
    left = list[str]()

    def compare(folder: Path) -> None:
        others = {*paths, *(path for path in folder.parent.rglob("*") if path.is_file())}
        outside = [path for path in others if path.exists() and not path.is_relative_to(folder)]
        left.extend(sorted(path.name for path in outside if path.suffix != ".pyc"))

    with opened_for_writing() as paths:
        _observe(component, _normal_run, then=compare)
    require(not left, f"it leaves files outside of the run folder: {', '.join(left)}; write below `run.folder`")


class _WriteWatch:
    """Notes the paths that Python opens for writing. The interpreter can add such a hook, but not remove it."""

    def __init__(self) -> None:
        self.paths: set[Path] | None = None
        self._is_installed = False

    def install(self) -> None:
        if not self._is_installed:
            sys.addaudithook(self._note)
            self._is_installed = True

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:  # Any: arguments of any event
        if self.paths is None or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.paths.add(Path(os.path.abspath(os.fsdecode(arguments[0]))))


_WATCH = _WriteWatch()


@contextmanager
def opened_for_writing() -> Iterator[set[Path]]:
    """Yield the set of paths that are opened for writing in the block."""
    _WATCH.install()
    paths = set[Path]()
    _WATCH.paths = paths
    try:
        yield paths
    finally:
        _WATCH.paths = None


def _size_of_new_files(folder: Path) -> int:
    """Return the size in bytes of all files that the run itself has not written."""
    own = {folder / name for name in _RUN_FILES}
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path not in own)


def _long_run(writer: Writer, folder: Path) -> None:
    """Send ten lines and pictures, all different."""
    rng = torch.Generator().manual_seed(0)
    for step in range(0, 1000, 100):
        writer.scalars(_line(step, generator_loss=0.5))
        writer.image(step, "samples", torch.randint(0, 256, (1, 16, 16), dtype=torch.uint8, generator=rng))


def _short_run(writer: Writer, folder: Path) -> None:
    """Send one line and picture."""
    writer.scalars(_line(1000, generator_loss=0.5))
    writer.image(1000, "samples", _black(1, 16, 16))


def observe_normal_run(observer: Observer) -> None:
    """Let an observer observe a complete run. Raises PluginError where it fails."""
    _observe(observer, _normal_run)


def _normal_run(writer: Writer, folder: Path) -> None:
    """Send numbers, a picture and a file."""
    picture = folder / _RUN_FILES[2]
    for step in (0, 100):
        writer.scalars(_line(step, generator_loss=0.5))
        writer.image(step, "samples", _black(1, 8, 8))
        writer.file(step, picture)


def _run_with_evaluation(writer: Writer, folder: Path) -> None:
    """Send a run whose last line has other numbers, as after an evaluation."""
    _normal_run(writer, folder)
    writer.scalars({"step": 100, "kimg": 6.4, "seconds": 60.0, "fd-random": 12.5})


def _observe(
    component: Component,
    send: Callable[[Writer, Path], None],
    outcome: Outcome = "finished",
    then: Callable[[Path], None] = lambda _: None,
) -> None:
    temporary = TemporaryDirectory(prefix="gancore-testing-", ignore_cleanup_errors=True)
    with temporary as name, chdir(name):  # the working directory too, so that nothing is left behind
        folder = Path(name).resolve() / "run"
        for path in _RUN_FILES:
            (folder / path).parent.mkdir(exist_ok=True, parents=True)
            (folder / path).write_bytes(path.encode())
        try:
            _send(component, folder, send, outcome)
            then(folder)
        except PluginError as error:  # the message must not depend on the temporary folder
            error.message = error.message.replace(str(folder), "RUN")
            raise


def _send(
    component: Component, folder: Path, send: Callable[[Writer, Path], None], outcome: Outcome, step: int = 0
) -> None:
    with blame(f"observer {component.name!r}"):
        writer = cast(Observer, component).build(RunInfo(folder, {"schema": 1, "batch_size": 64}, step))
        if not isinstance(writer, Writer):
            raise TypeError(f"`build` must return a Writer; received {writer!r}")
        send(writer, folder)
        writer.end(outcome)


def _line(step: int, **numbers: float) -> dict[str, float]:
    return {"step": step, "kimg": step * 0.064, "seconds": 0.5 * step, **numbers}


def _black(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
