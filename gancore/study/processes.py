"""Workers of a study as processes on this machine, whose lines are read while they work."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

_ERROR = "error: "
"""Prefix of the line in which a command says why it failed."""


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    reader: Thread
    error: str = ""
    """The last line that says why it has failed."""


@dataclass
class WorkerProcesses:
    """Processes that run a command, from the start of a block; at its end, those that still work are interrupted.

    `devices` is the number of GPUs that are visible here. With several, each process sees one of them. Processes are in
    groups of their own: Ctrl-C in a terminal would reach them twice otherwise.
    """

    command: Sequence[str]
    count: int
    devices: int
    environment: Mapping[str, str]
    _workers: list[_Worker] = field(default_factory=list)
    _lines: SimpleQueue[tuple[int, str]] = field(default_factory=SimpleQueue)

    def __enter__(self) -> Self:
        """Start the processes."""
        try:
            for number in range(self.count):
                self._start(number)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Interrupt processes that still work, and wait until they have ended."""
        self._end()

    @property
    def are_working(self) -> bool:
        """Whether a process has not ended yet."""
        return any(worker.process.poll() is None for worker in self._workers)

    def lines(self) -> Iterator[str]:
        """Yield the lines that the processes have printed since the last call."""
        while not self._lines.empty():
            number, line = self._lines.get()
            if line.startswith(_ERROR):
                self._workers[number].error = line.removeprefix(_ERROR)
            yield line

    def failures(self) -> list[str]:
        """Return why each process has failed that has ended with an error."""
        return [
            f"worker {number} ended with code {worker.process.returncode}" + (worker.error and f": {worker.error}")
            for number, worker in enumerate(self._workers, start=1)
            if worker.process.returncode
        ]

    def _start(self, number: int) -> None:
        environment = dict(self.environment)
        if self.devices > 1:
            visible = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.devices)))
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % self.devices]
        process = subprocess.Popen(  # noqa: S603  # our own command
            self.command,
            env=environment,
            process_group=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        )
        reader = Thread(target=self._read, args=(number, process), daemon=True)
        self._workers.append(_Worker(process, reader))
        reader.start()

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        if process.stderr is not None:
            for line in process.stderr:
                self._lines.put((number, line.rstrip("\n")))

    def _end(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGHUP)  # ends a run in order, also after SIGTERM from elsewhere
        for worker in self._workers:
            worker.process.wait()
            worker.reader.join()
            if worker.process.stderr is not None:
                worker.process.stderr.close()
