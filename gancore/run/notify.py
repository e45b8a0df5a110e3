"""The audience of a run: its observers, told one after the other, and left out once they fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

from PIL.Image import Image

from gancore.catalog.catalog import Catalog
from gancore.catalog.isolation import preserve_process_state
from gancore.errors import GancoreError, describe_error
from gancore.observers import Observer, Outcome, RunInfo, Writer
from gancore.sampling.grid import pixels


class Notifier:
    """Tells observers, by their labels, what the run writes down; each gets a copy of its own.

    One that raises, while it is built or later, is told of in `warnings` and never called again.
    """

    def __init__(
        self,
        observers: Mapping[str, Observer],
        run: RunInfo,
        catalog: Catalog,
    ) -> None:
        self._observers, self._run, self._catalog = observers, run, catalog
        self._writers: dict[str, Writer] = {}
        self._warnings: list[str] = []

    def scalars(self, numbers: Mapping[str, float]) -> None:
        """Numbers that were written to the log."""
        self._tell("scalars", lambda writer: writer.scalars(dict(numbers)))

    def image(self, step: int, name: str, picture: Image) -> None:
        """A picture that was drawn."""
        self._tell("image", lambda writer: writer.image(step, name, pixels(picture)))

    def file(self, step: int, path: Path) -> None:
        """A file that was written."""
        self._tell("file", lambda writer: writer.file(step, path))

    def end(self, outcome: Outcome) -> None:
        """The end of the run, told once to each: after it there is nobody left."""
        for label in list(self._writers):
            writer = self._writers.pop(label)
            with self._may_fail(label, "end"):
                writer.end(outcome)

    def warnings(self) -> tuple[str, ...]:
        """What there is to say of observers that have failed since this was last asked."""
        said = tuple(self._warnings)
        self._warnings.clear()
        return said

    @contextmanager
    def present(self) -> Iterator[None]:
        """A run, from building its observers to telling them of its end, however this block is left.

        An error takes along, as its notes, the warnings that nobody has asked for.
        """
        try:
            self._build()
            yield
        except BaseException as error:
            self.end("failed" if isinstance(error, Exception) else "interrupted")
            for warning in self.warnings():
                error.add_note(f"warning: {warning}")
            raise
        self.end("interrupted")  # unless it had ended before, nobody asked for the rest

    def _build(self) -> None:
        for label, observer in self._observers.items():
            with self._may_fail(label, "build"):
                writer = observer.build(deepcopy(self._run))
                if not isinstance(writer, Writer):
                    raise TypeError(f"it must return a Writer; received {writer!r}")
                self._writers[label] = writer

    def _tell(self, what: str, tell: Callable[[Writer], None]) -> None:
        for label, writer in list(self._writers.items()):
            with self._may_fail(label, what):
                tell(writer)

    @contextmanager
    def _may_fail(self, label: str, what: str) -> Iterator[None]:
        try:
            with preserve_process_state():  # an observer takes no part in the run
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: an observer ends no run
            self._writers.pop(label, None)
            observer = self._observers[label]
            origin = self._catalog.origin_of(type(observer)).origin
            called = observer.name if label == observer.name else f"{label} ({observer.name})"
            hint = f"; {error.hint}" if isinstance(error, GancoreError) and error.hint else ""
            self._warnings.append(
                f"observer {called} of {origin} failed in {what} and is left out from here on: "
                f"{describe_error(error)}{hint}. Switch it off with: --set observers.{label}=none"
            )
