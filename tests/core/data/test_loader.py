"""Data loading workers: errors, signals, and how they end."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import closing
from itertools import islice

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from gancore.data.items import ItemForm
from gancore.data.loader import Loader, Reader, Request
from gancore.errors import DataError, PluginError, WorkerError, exhausted


class Numbers(Dataset):
    """Items 0, 1, 2, …; item `at` raises `raises`. `holds` is only kept."""

    def __init__(self, raises=None, at=None, holds=None):
        self._raises, self._at, self._holds = raises, at, holds

    def __getitem__(self, number):
        if number == self._at:
            raise self._raises
        return torch.full((1,), float(number))


def loader(dataset):
    requests = (Request(start, torch.arange(start, start + 4)) for start in range(0, 4_000_000, 4))
    form = ItemForm(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), None)
    return Loader(Reader(dataset, form, seed=0), requests, 4)


def batches(dataset, workers):
    with closing(loader(dataset)) as read:
        read.start(workers)
        yield from read


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
    others, fork, left = set(multiprocessing.active_children()), os.fork, iter([True])

    def fork_once():
        if next(left, None) is None:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr("os.fork", fork_once)
    with pytest.raises(WorkerError, match="cannot be started: BlockingIOError") as raised:
        next(batches(Numbers(), workers=2))
    assert raised.value.hint == "set training.workers lower"
    assert "(ulimit -u)" in str(exhausted(raised.value))
    assert set(multiprocessing.active_children()) == others


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


@pytest.mark.long
def test_workers_can_be_spawned(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    previous = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        read = batches(TensorDataset(torch.arange(100.0).view(-1, 1)), workers=1)  # this module cannot be imported
        assert [next(read)[0].flatten().tolist() for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        read.close()
    finally:
        multiprocessing.set_start_method(previous, force=True)


@pytest.mark.parametrize("changes", [[(2, 3), (0, 2), (3, 5), (1, 1)], [(1, 0), (2, 0), (0, 5)]], ids=str)
def test_loader_yields_the_same_batches_whenever_the_number_of_workers_changes(changes):
    with closing(loader(Numbers())) as read:
        taken = []
        for workers, count in changes:
            read.start(workers)
            taken += [batch for batch, _ in islice(read, count)]  # kept, so each must be a copy
    assert len(taken) == sum(count for _, count in changes)
    assert torch.cat(taken).flatten().tolist() == list(range(4 * len(taken)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_worker_survives_a_signal_to_all_processes_of_the_run(number):
    others = set(multiprocessing.active_children())
    read = batches(Numbers(), workers=1)
    next(read)
    (worker,) = set(multiprocessing.active_children()) - others
    os.kill(worker.pid, number)
    assert [next(read)[0][0].item() for _ in range(5)] == [4, 8, 12, 16, 20]
    read.close()


def test_workers_end_when_their_run_is_killed():
    ours, theirs = multiprocessing.Pipe()
    run = multiprocessing.get_context("fork").Process(target=_train_for_ever, args=(theirs,))
    run.start()
    theirs.close()
    assert ours.recv() == "started"
    run.kill()
    run.join()
    with pytest.raises(EOFError):  # once the workers, which keep the other end open too, have ended
        ours.recv()


def _train_for_ever(connection):
    read = batches(Numbers(), workers=2)
    next(read)
    connection.send("started")
    time.sleep(60)


def test_workers_outlive_a_forked_process_that_closes_its_loader():
    with closing(loader(Numbers())) as read:
        read.start(1)
        if (child := os.fork()) == 0:
            try:
                read.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert [batch[0][0].item() for batch in islice(read, 4)] == [0, 4, 8, 12]


def test_python_exits_while_workers_are_open():
    program = """
import torch
from torch.utils.data import TensorDataset
from gancore.data.items import ItemForm
from gancore.data.loader import Loader, Reader, Request
form = ItemForm(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), None)
reader = Reader(TensorDataset(torch.zeros(4, 1)), form, seed=0)
loader = Loader(reader, (Request(position, torch.arange(4)) for position in range(100)), 4)
loader.start(2)
print(len(next(loader)[0]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("4\n", "")


class HangingInWorkers(Numbers):
    """Numbers, which a worker never reads."""

    def __getitem__(self, number):
        if multiprocessing.parent_process() is not None:
            time.sleep(1000)
        return super().__getitem__(number)


def test_worker_that_hangs_longer_than_the_patience_can_be_replaced(monkeypatch):
    monkeypatch.setattr("gancore.data.loader._SECONDS_TO_END", 0.1)
    with closing(loader(HangingInWorkers())) as read:
        read.start(1)
        read.patience = 0.1
        with pytest.raises(WorkerError, match=r"has not read a batch in 0\.1 s"):
            next(read)
        read.start(0)
        assert next(read)[0].flatten().tolist() == [0, 1, 2, 3]
