"""How work is shown that takes its time: a progress bar on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from gancore_cli.options import Terminal, echo, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from gancore.evaluation.evaluator import Evaluation
    from gancore.evaluation.train_extractor import Preparation
    from gancore.run.recording import Record
    from gancore.training.loop import Step

_REFRESH = 0.1  # seconds


class Interrupted(Exception):  # noqa: N818  # it is no error
    """Ctrl-C, once there is something to keep."""

    def __init__(self, kept: str, hint: str) -> None:
        super().__init__()
        self.kept, self.hint = kept, hint


def show_preparation(terminal: Terminal, preparations: Iterator[Preparation]) -> None:
    """Goes through the work that must be done before measuring, and shows how far it is."""
    if not terminal.quiet and is_terminal(sys.stderr):
        _show_live(preparations)
        return
    shown: tuple[str, int] = ("", 0)
    for preparation in preparations:
        if preparation.warning:
            terminal.note(f"warning: {preparation.warning}")
        quarter = (preparation.what, int(preparation.done * 4))
        if quarter != shown:
            terminal.note(f"{preparation.what}: {preparation.done:.0%}" if preparation.done else preparation.what)
        shown = quarter


def _show_live(preparations: Iterator[Preparation]) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        for preparation in preparations:
            if preparation.warning:
                bar.console.print(f"warning: {preparation.warning}", markup=False, highlight=False)
            bar.update(task, description=preparation.what, completed=preparation.done)


def show_progress(terminal: Terminal, what: str, shares: Iterator[float]) -> None:
    """Goes through work of one kind, and shows how far it is."""
    from gancore.evaluation.train_extractor import Preparation

    show_preparation(terminal, (Preparation(what, share) for share in shares))


def brief(number: float | None) -> str:
    """A number with as many digits as a person compares."""
    return "-" if number is None or number != number else f"{number:.4g}"


def told(evaluation: Evaluation) -> str:
    """An evaluation in a line."""
    return "  ".join(
        f"{result.name} {brief(result.measured.value)}"
        + (f" (real {brief(result.real_data.value)})" if result.real_data else "")
        for result in evaluation.results
    )


class Display:
    """A context in which steps are shown as they come; it reads nothing from the device by itself.

    `epochs` is their total, None where only the clock knows it.
    """

    def __init__(self, *, quiet: bool, epochs: float | None) -> None:
        self._quiet, self._epochs = quiet, epochs
        self._bar: Progress | None = None
        self._shown = 0.0
        self._scores = ""
        self._warned: set[str] = set()
        if not quiet and is_terminal(sys.stderr):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
            self._task = self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            with suppress(OSError):  # the terminal may be gone, and the run is none the worse
                self._bar.stop()

    def show(self, record: Record) -> None:
        """Shows a step, with the numbers that somebody read anyway, if they were."""
        if self._quiet:
            return
        step, metrics = record.step, record.metrics
        if record.evaluation:
            self._say(f"step {step.step}  {told(record.evaluation)}")
            for warning in record.evaluation.warnings:
                if warning not in self._warned:
                    self._say(f"warning: {warning}")
                self._warned.add(warning)
        for warning in record.warnings:
            self._say(f"warning: step {step.step}: {warning}")
        if metrics:
            self._scores = (
                f"{metrics['images_per_second']:,.0f} img/s  "
                f"D {metrics['discriminator_loss']:.3f}  G {metrics['generator_loss']:.3f}"
            )
        if self._bar is None:
            if metrics:
                echo(f"step {step.step}  {self._place(step)}  {self._scores}  {_left(step)} left", err=True)
        elif metrics or step.seconds - self._shown >= _REFRESH:
            self._shown = step.seconds
            description = f"{self._place(step)}  {self._scores}  {_left(step)} left"
            self._bar.update(self._task, completed=min(step.done, 1.0), description=description, refresh=True)

    def _say(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            echo(line, err=True)

    def _place(self, step: Step) -> str:
        total = f"/{self._number(self._epochs)}" if self._epochs else ""
        return f"epoch {self._number(step.epoch)}{total}  {step.images_seen / 1000:.1f} kimg"

    def _number(self, epochs: float) -> str:
        return f"{epochs:.2f}" if self._epochs and self._epochs < 10 else f"{epochs:.1f}"


def _left(step: Step) -> str:
    """The time that is left at the speed so far, as minutes and seconds."""
    seconds = round(step.seconds * (1 - step.done) / step.done) if 0 < step.done < 1 else 0
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
