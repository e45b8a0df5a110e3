"""The thread that computes: all work of the explorer is done here, one short step at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from gancore.errors import GancoreError

T = TypeVar("T")

PICTURE, GRID, SEARCH = 0, 1, 2
"""Priorities; the lowest number is first."""
_MOST_JOBS = 64


class BusyError(GancoreError):
    """More work waits than any page asks for."""


@dataclass(eq=False)
class _Job:
    """Work in steps: the generator yields between them and returns the result."""

    priority: int
    steps: Generator[Any, None, Any]  # Any: what it yields is for the caller, and what it returns for the future
    future: Future[Any]
    dropped: bool = False


class Worker:
    """Runs jobs in one thread. Between any two steps, a job that is more urgent gets its turn.

    A single thread keeps the random state of torch and the modes of a generator consistent.
    """

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._dropped: list[_Job] = []
        """Jobs whose generators are to be closed, by the thread that runs them."""
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="explore", daemon=True)
        self._thread.start()

    def submit(self, key: str, priority: int, steps: Generator[Any, None, T]) -> Future[T]:
        """Return the future result of a job. An unfinished job with the same key is dropped: its future is canceled.

        Raises BusyError when too many jobs wait.
        """
        job: _Job = _Job(priority, steps, Future())
        with self._changed:
            self._drop(self._jobs.pop(key, None))
            if self._ended or len(self._jobs) >= _MOST_JOBS:
                raise BusyError("too many requests wait for the generator", "close other pages of this run")
            self._jobs[key] = job
            self._changed.notify()
        return job.future

    def cancel(self, key: str) -> None:
        """Drop the job with this key, if it has not ended."""
        with self._changed:
            self._drop(self._jobs.pop(key, None))

    def end(self, timeout: float) -> bool:
        """Drop all jobs, wait for the step in progress, and return whether it has ended in time."""
        with self._changed:
            self._ended = True
            for key in list(self._jobs):
                self._drop(self._jobs.pop(key))
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _drop(self, job: _Job | None) -> None:
        """Drop a job. The caller holds the lock."""
        if job is not None:
            job.dropped = True
            job.future.cancel()
            self._dropped.append(job)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._dropped or self._ended)
                dropped, self._dropped = self._dropped, []
                waiting = sorted(self._jobs.items(), key=lambda item: item[1].priority)
                ended = self._ended
            for job in dropped:
                with suppress(Exception):  # of a generator whose result is not wanted
                    job.steps.close()
            if ended:
                return
            for key, job in waiting[:1]:
                self._step(key, job)

    def _step(self, key: str, job: _Job) -> None:
        if job.future.cancelled():  # the page has left, or a newer job has replaced it
            with self._changed:
                if not job.dropped:
                    self._drop(self._jobs.pop(key))
            return
        try:
            next(job.steps)
        except StopIteration as end:
            self._finish(key, job, result=end.value)
        except BaseException as error:
            self._finish(key, job, failure=error)

    def _finish(self, key: str, job: _Job, result: object = None, failure: BaseException | None = None) -> None:
        with self._changed:
            if job.dropped:
                return
            del self._jobs[key]
            with suppress(InvalidStateError):  # the reader of the result has left meanwhile
                if failure is None:
                    job.future.set_result(result)
                else:
                    job.future.set_exception(failure)


def at_once(compute: Callable[[], T]) -> Generator[None, None, T]:
    """Return a job of a single step."""
    yield from ()
    return compute()
