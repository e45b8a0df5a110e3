"""Data loading workers: errors, signals, and how they end."""

import errno
import multiprocessing
import os
import signal
import time
import traceback

import pytest
import torch
from torch.utils.data import Dataset

from gancore.data.loader import load_batches
from gancore.errors import DataError, PluginError, WorkerError


class Numbers(Dataset):
    """Items 0, 1, 2, …; item `at` raises `raises`. `holds` is only kept."""

    def __init__(self, raises=None, at=None, holds=None):
        self._raises, self._at, self._holds = raises, at, holds

    def __getitem__(self, number):
        if number == self._at:
            raise self._raises
        return torch.full((1,), number)


def batches(dataset, workers):
    requests = ((4 * batch, list(range(4 * batch, 4 * batch + 4))) for batch in range(1_000_000))
    return load_batches(dataset, requests, seed=0, workers=workers)


@pytest.fixture
def killed():
    """Batches with two workers, of which one was killed after the first batch."""
    others = set(multiprocessing.active_children())
    read = batches(Numbers(), workers=2)
    next(read)
    worker = min(set(multiprocessing.active_children()) - others, key=lambda process: process.pid)
    os.kill(worker.pid, signal.SIGKILL)
    yield read
    read.close()


def test_worker_death_does_not_interrupt_unrelated_code(killed):
    until = time.monotonic() + 0.5
    while time.monotonic() < until:  # a SIGCHLD handler would raise between two of these
        pass


def test_worker_death_is_raised_by_the_next_batches(killed):
    with pytest.raises(WorkerError, match="a data loading worker died"):
        for _ in killed:  # batches that were prefetched may still arrive
            pass


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error", [ConnectionResetError("by peer"), EOFError("cut short"), RuntimeError("unexpected")], ids=repr
)
def test_dataset_error_is_not_taken_for_a_worker_death(workers, error):
    read = batches(Numbers(raises=error, at=9), workers)
    with pytest.raises(PluginError, match=type(error).__name__) as raised:
        list(read)
    assert raised.value.part == "dataset"
    assert "Traceback" not in str(raised.value)
    assert type(error).__name__ in "".join(traceback.format_exception(raised.value.__cause__))


def test_workers_may_outnumber_cores():
    read = batches(Numbers(), workers=os.cpu_count() + 2)
    assert [next(read)[0].flatten().tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_workers_end_after_an_error():
    others = set(multiprocessing.active_children())
    with pytest.raises(PluginError) as raised:
        list(batches(Numbers(raises=OSError("gone"), at=9), workers=2))
    assert raised.value.__traceback__
    assert set(multiprocessing.active_children()) == others


@pytest.mark.parametrize("workers", [0, 1])
def test_dataset_error_keeps_its_hint_across_processes(workers):
    with pytest.raises(DataError) as raised:
        list(batches(Numbers(raises=DataError("items must be even", "round them"), at=9), workers))
    assert (raised.value.message, raised.value.hint) == ("items must be even", "round them")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [0, 9])
def test_dataset_stop_iteration_does_not_end_the_batches(workers, at):
    with pytest.raises(PluginError, match="StopIteration was raised while an item was read"):
        list(batches(Numbers(raises=StopIteration(), at=at), workers))


def test_worker_that_cannot_be_started_is_a_worker_error(monkeypatch):
    class Full:
        def __iter__(self):
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("gancore.data.loader.DataLoader", lambda *_, **__: Full())
    with pytest.raises(WorkerError, match="cannot be started: BlockingIOError") as raised:
        next(batches(Numbers(), workers=1))
    assert raised.value.hint == "set training.workers lower"


def test_dataset_that_cannot_be_pickled_is_a_plugin_error(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")  # workers are not forked there
    previous = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with pytest.raises(PluginError, match="while it was sent to a data loading worker") as raised:
            next(batches(Numbers(holds=lambda: None), workers=1))
    finally:
        multiprocessing.set_start_method(previous, force=True)
    assert raised.value.part == "dataset"


def test_sigchld_handler_is_restored():
    received = []
    before = signal.signal(signal.SIGCHLD, lambda *arguments: received.append(arguments))
    try:
        own = signal.getsignal(signal.SIGCHLD)
        read = batches(Numbers(), workers=1)
        next(read)
        assert signal.getsignal(signal.SIGCHLD) is own
        read.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
