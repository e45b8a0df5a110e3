"""Notifies observers of what a run writes. An observer that fails is left out, and the run continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from shlex import quote

from PIL.Image import Image

from gancore.catalog.catalog import Catalog
from gancore.catalog.isolation import preserve_process_state
from gancore.errors import GancoreError, describe_error
from gancore.observers import Observer, Outcome, RunInfo, Writer
from gancore.sampling.grid import pixels


class Notifier:
    """Calls the observers of a run, each with a copy of its own.

    An observer that raises, while it is built or later, is reported in `warnings` and never called again.
    """

    def __init__(self, observers: Mapping[str, Observer], run: RunInfo, catalog: Catalog) -> None:
        self._observers, self._run, self._catalog = observers, run, catalog
        self._writers: dict[str, Writer] = {}
        self._warnings: list[str] = []

    def scalars(self, line: Mapping[str, float]) -> None:
        """Pass on a line of the log."""
        self._call_each("scalars", lambda writer: writer.scalars(dict(line)))

    def image(self, step: int, name: str, picture: Image) -> None:
        """Pass on a picture of samples."""
        self._call_each("image", lambda writer: writer.image(step, name, pixels(picture)))

    def file(self, step: int, path: Path) -> None:
        """Pass on the path of a file that was written."""
        self._call_each("file", lambda writer: writer.file(step, path))

    def end(self, outcome: Outcome) -> None:
        """Pass on the end of the run, once to each observer; after it none is called."""
        for label in list(self._writers):
            writer = self._writers.pop(label)
            with self._may_fail(label, "end"):
                writer.end(outcome)

    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of observers that have failed since the last call."""
        warnings = tuple(self._warnings)
        self._warnings.clear()
        return warnings

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Build the observers for this block, and pass on the end of the run however the block is left.

        Warnings that were not collected become notes of an error.
        """
        try:
            for label, observer in self._observers.items():
                with self._may_fail(label, "build"):
                    writer = observer.build(deepcopy(self._run))
                    if not isinstance(writer, Writer):
                        raise TypeError(f"it must return a Writer; received {writer!r}")
                    self._writers[label] = writer
            yield
        except BaseException as error:
            self.end("failed" if isinstance(error, Exception) else "interrupted")
            for warning in self.warnings():
                error.add_note(f"warning: {warning}")
            raise
        self.end("interrupted")  # does nothing after the last step, which has ended the observers already

    def _call_each(self, what: str, call: Callable[[Writer], None]) -> None:
        for label, writer in list(self._writers.items()):
            with self._may_fail(label, what):
                call(writer)

    @contextmanager
    def _may_fail(self, label: str, what: str) -> Iterator[None]:
        try:
            with preserve_process_state():  # an observer must not change the run
                yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit: an observer never ends a run
            self._writers.pop(label, None)
            observer = self._observers[label]
            origin = self._catalog.origin_of(type(observer)).origin
            called = observer.name if label == observer.name else f"{label} ({observer.name})"
            hint = f"; {error.hint}" if isinstance(error, GancoreError) and error.hint else ""
            self._warnings.append(
                f"observer {called} of {origin} failed in {what} and is left out from here on: "
                f"{describe_error(error)}{hint}. Switch it off with: --set {quote(f'observers.{label}=none')}"
            )
