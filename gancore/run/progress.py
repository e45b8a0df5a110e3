"""Display of a run's progress: a progress bar in terminals and notebooks, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gancore.evaluation.evaluator import Evaluation
from gancore.evaluation.train_extractor import Preparation
from gancore.run.recorder import Record
from gancore.training.loop import Step
from gancore.utils.text import duration, short_number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_REFRESH_SECONDS, _LINE_SECONDS = 0.1, 5.0
_ESTIMATE_SECONDS = 5.0
"""Seconds of training after which plain lines show the time left, if no line of the log was due until then."""


class Display:
    """Receives the progress of a run; this base class shows nothing."""

    def note(self, message: str) -> None:
        """Show a message."""

    def notes(self, messages: Iterable[str]) -> None:
        """Show several messages."""
        for message in messages:
            self.note(message)

    def detail(self, message: str) -> None:
        """Show a message if details are wanted."""

    def prepare(self, preparations: Iterator[Preparation]) -> None:
        """Run the preparations to their end, and show their progress."""
        for _ in preparations:
            pass

    @contextmanager
    def training(self, epochs: float | None) -> Iterator[None]:
        """Show records in this block. `epochs` is the total; None for a total in minutes."""
        yield

    def show(self, record: Record) -> None:
        """Show a record, without reading more numbers from the device."""

    def warn(self, warning: str) -> None:
        """Show a warning."""
        self.note(f"warning: {warning}")


class ProgressDisplay(Display):
    """Shows a progress bar where standard error is a terminal and in notebooks with ipywidgets, else plain lines.

    `write` prints one line, by default to standard error; `verbose` also shows details.
    """

    def __init__(self, write: Callable[[str], None] | None = None, *, verbose: bool = False) -> None:
        self._write, self._verbose = write or _write_to_stderr, verbose
        self._bar: tuple[Progress, TaskID] | None = None
        self._epochs: float | None = None
        self._drawn_at = -math.inf
        self._scores = ""
        self._first_at: float | None = None
        self._has_estimate = False
        self._warned: set[str] = set()

    def note(self, message: str) -> None:
        if self._bar:
            self._bar[0].console.print(message, markup=False, highlight=False)
        else:
            self._write(message)

    def detail(self, message: str) -> None:
        if self._verbose:
            self.note(message)

    def prepare(self, preparations: Iterator[Preparation]) -> None:
        shown = ("", 0)
        with self._drawing(transient=True):
            for preparation in preparations:
                what, done = preparation.what, preparation.done
                if preparation.warning:
                    self.warn(preparation.warning)
                if self._bar:
                    bar, task = self._bar
                    bar.update(task, completed=done, description=f"{what} {done:.0%}")
                elif shown != (what, int(done * 4)):  # a line when the work changes, and for every quarter of it
                    self.note(f"{what}: {done:.0%}" if done else what)
                shown = what, int(done * 4)

    @contextmanager
    def training(self, epochs: float | None) -> Iterator[None]:
        self._epochs, self._drawn_at = epochs, -math.inf
        with self._drawing(transient=False):
            yield

    @contextmanager
    def _drawing(self, *, transient: bool) -> Iterator[None]:
        """Draw a progress bar in this block where one can be drawn; a transient one disappears after it."""
        console = _console()
        if console is None:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = BarColumn(bar_width=24), TextColumn("{task.description}")
        bar = Progress(*columns, console=console, auto_refresh=transient, transient=transient)
        self._bar = bar, bar.add_task("starting", total=1.0)
        bar.start()
        try:
            yield
        finally:
            self._bar = None
            with suppress(OSError):  # the terminal may be closed, which is no error of the run
                bar.stop()

    def show(self, record: Record) -> None:
        step, line = record.step, record.metrics
        if record.evaluation:
            self.note(f"step {step.step}  {one_line(record.evaluation)}")
            for warning in record.evaluation.warnings:
                if warning not in self._warned:
                    self.warn(warning)
                self._warned.add(warning)
            for note in record.evaluation.notes:
                if note not in self._warned:
                    self.note(f"note: {note}")
                self._warned.add(note)
        for warning in record.warnings:
            self.warn(f"step {step.step}: {warning}")
        self.notes(record.notes)
        if line:
            self._scores = (
                f"{line['images_per_second']:,.0f} img/s  "
                f"D {line['discriminator_loss']:.3f}  G {line['generator_loss']:.3f}"
            )
            if self._bar is None and step.done < 1 and step.seconds - self._drawn_at < _LINE_SECONDS:
                return
        elif self._bar is None:
            # A log line may be many minutes away; the time left is of interest at once.
            if self._first_at is None:
                self._first_at = step.seconds
            if self._has_estimate or step.seconds - self._first_at < _ESTIMATE_SECONDS:
                return
        elif step.seconds - self._drawn_at < _REFRESH_SECONDS:
            return
        self._has_estimate = True
        self._drawn_at = step.seconds
        digits = 2 if self._epochs and self._epochs < 10 else 1
        total = f"/{self._epochs:.{digits}f}" if self._epochs else ""
        place = f"epoch {step.epoch:.{digits}f}{total}  {step.images_seen / 1000:.1f} kimg"
        text = "  ".join(filter(None, [place, self._scores, f"{_time_left(step)} left"]))
        if self._bar:
            bar, task = self._bar
            bar.update(task, completed=min(step.done, 1.0), description=text, refresh=True)
        else:
            self._write(f"step {step.step}  {text}")


def one_line(evaluation: Evaluation) -> str:
    """Return the results of an evaluation in a line, each with the value of real data."""
    return "  ".join(
        f"{result.name} {short_number(result.measured.value)}"
        + (f" (real {short_number(result.real_data.value)})" if result.real_data else "")
        for result in evaluation.results
    )


def _time_left(step: Step) -> str:
    """Return the time left at the average speed so far."""
    return duration(step.seconds * (1 - step.done) / step.done if 0 < step.done < 1 else 0)


def _console() -> Console | None:
    """Return a console that can draw a progress bar; None where only lines can be shown."""
    notebook = _is_notebook()
    if not notebook and (sys.stderr is None or not sys.stderr.isatty()):
        return None
    from rich.console import Console

    return Console(force_jupyter=True) if notebook else Console(stderr=True)


def _is_notebook() -> bool:
    """Return whether this is a Jupyter kernel in which rich can draw, which takes ipywidgets."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" and find_spec("ipywidgets") is not None


def _write_to_stderr(line: str) -> None:
    with suppress(OSError):  # a closed stream is no error of the run
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
