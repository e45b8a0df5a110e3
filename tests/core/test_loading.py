"""Processes that load data: what becomes of a run when they end."""

import multiprocessing
import os
import signal
import time

import pytest
import torch
from torch.utils.data import Dataset

from gancore.errors import PluginError, WorkerError
from gancore.loading import loaded


class Numbers(Dataset):
    """Items 0, 1, 2, …; a number that it is told of raises what it is told."""

    def __init__(self, raises=None, at=None):
        self._raises, self._at = raises, at

    def __getitem__(self, number):
        if number == self._at:
            raise self._raises
        return number


def stack(items):
    return torch.tensor(items), torch.zeros(len(items), dtype=torch.long)


def batches(dataset, workers):
    asked = ([4 * batch, *range(4 * batch, 4 * batch + 4)] for batch in range(1_000_000))
    return loaded(dataset, asked, seed=0, workers=workers, collate=stack)


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
