"""Processes that load data: what becomes of a run when they end."""

import errno
import multiprocessing
import os
import signal
import time
import traceback

import pytest
import torch
from torch.utils.data import Dataset

from gancore.data.loader import _started, loaded
from gancore.errors import DataError, PluginError, WorkerError


class Numbers(Dataset):
    """Items 0, 1, 2, …; a number that it is told of raises what it is told."""

    def __init__(self, raises=None, at=None, holds=None):
        self._raises, self._at, self._holds = raises, at, holds

    def __getitem__(self, number):
        if number == self._at:
            raise self._raises
        return torch.full((1,), number)


def batches(dataset, workers):
    asked = ((4 * batch, list(range(4 * batch, 4 * batch + 4))) for batch in range(1_000_000))
    return loaded(dataset, asked, seed=0, workers=workers)


@pytest.fixture
def killed():
    """Batches of which the first has been read, and one of whose two workers has been killed since."""
    others = set(multiprocessing.active_children())
    read = batches(Numbers(), workers=2)
    next(read)
    worker = min(set(multiprocessing.active_children()) - others, key=lambda process: process.pid)
    os.kill(worker.pid, signal.SIGKILL)
    yield read
    read.close()


def test_what_the_process_does_is_not_disturbed_by_the_end_of_a_worker(killed):
    until = time.monotonic() + 0.5
    while time.monotonic() < until:  # a handler of signals would come between two of these
        pass


def test_whoever_asks_for_a_batch_is_told_of_the_end_of_a_worker(killed):
    with pytest.raises(WorkerError, match="a process that loads data is gone"):
        for _ in killed:  # those that were read ahead may come yet
            pass


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "error", [ConnectionResetError("by peer"), EOFError("cut short"), RuntimeError("odd")], ids=repr
)
def test_what_a_dataset_raises_is_its_own_failure(workers, error):
    read = batches(Numbers(raises=error, at=9), workers)
    with pytest.raises(PluginError, match=type(error).__name__) as raised:
        list(read)
    assert raised.value.part == "dataset"
    assert "Traceback" not in str(raised.value)
    assert type(error).__name__ in "".join(traceback.format_exception(raised.value.__cause__))


def test_there_may_be_more_processes_than_cores():
    read = batches(Numbers(), workers=os.cpu_count() + 2)
    assert [next(read)[0].flatten().tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_error_leaves_no_process_behind():
    others = set(multiprocessing.active_children())
    with pytest.raises(PluginError) as raised:
        list(batches(Numbers(raises=OSError("gone"), at=9), workers=2))
    assert raised.value.__traceback__
    assert set(multiprocessing.active_children()) == others


@pytest.mark.parametrize("workers", [0, 1])
def test_a_hint_comes_from_any_process(workers):
    with pytest.raises(DataError) as raised:
        list(batches(Numbers(raises=DataError("items must be one", "unite them"), at=9), workers))
    assert (raised.value.message, raised.value.hint) == ("items must be one", "unite them")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("at", [0, 9])
def test_an_item_is_no_end_of_the_data(workers, at):
    with pytest.raises(PluginError, match="StopIteration was raised where an item was asked for"):
        list(batches(Numbers(raises=StopIteration(), at=at), workers))


def test_processes_that_cannot_be_started_are_told_of():
    class Full:
        def __iter__(self):
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with pytest.raises(WorkerError, match="cannot be started: BlockingIOError") as raised:
        _started(Full())
    assert raised.value.hint == "set training.workers lower"


def test_what_a_process_cannot_be_handed_is_the_datasets_failure(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")  # where processes are not forked
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with pytest.raises(PluginError, match="on its way to a process that loads data") as raised:
            next(batches(Numbers(holds=lambda: None), workers=1))
    finally:
        multiprocessing.set_start_method(usual, force=True)
    assert raised.value.part == "dataset"


def test_handlers_of_the_end_of_children_are_as_they_were():
    heard = []
    before = signal.signal(signal.SIGCHLD, lambda *of: heard.append(of))
    try:
        mine = signal.getsignal(signal.SIGCHLD)
        read = batches(Numbers(), workers=1)
        next(read)
        assert signal.getsignal(signal.SIGCHLD) is mine
        read.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
