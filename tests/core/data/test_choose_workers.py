"""The number of workers that is chosen for streamed data, and the batches meanwhile."""

import multiprocessing
import os
import time
from contextlib import closing
from itertools import count, islice

import pytest
import torch
from torch.utils.data import Dataset

from gancore.data.choose_workers import Pace, WorkersChooser, best_number, number_to_try
from gancore.data.items import ItemForm
from gancore.data.loader import Loader, Reader, Request
from gancore.errors import PluginError

MAIN = os.getpid()
TRIED = 400
"""Batches in which every number is tried."""


class Items(Dataset):
    """Items 0.0, 1.0, 2.0, …, which are read by `read`."""

    def __init__(self, read=lambda: None):
        self._read = read

    def __getitem__(self, number):
        self._read()
        return torch.full((1,), float(number))


def chosen(dataset, batches=TRIED):
    """Return the choice, after checking that the batches are those without workers."""
    requests = (Request(start, torch.arange(start, start + 4)) for start in count(step=4))
    form = ItemForm(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), None)
    before, taken = set(multiprocessing.active_children()), []
    with closing(Loader(Reader(dataset, form, seed=0), requests, 4)) as loader:
        chooser = WorkersChooser(loader)
        read = chooser.batches()
        for samples, _ in islice(read, batches):
            taken += samples.flatten().tolist()
        assert len(set(multiprocessing.active_children()) - before) == chooser.choice.workers
    assert taken == list(range(4 * batches))
    return chooser.choice


def tried(*times):
    """The numbers of workers that are tried if these are the milliseconds per batch and of waiting, and the best."""
    paces = {}
    while (number := number_to_try(paces)) is not None:
        paces[number] = Pace(*times[len(paces)])
    assert len(paces) == len(times)
    return [*paces], best_number(paces)


@pytest.mark.parametrize(
    ("times", "numbers", "best"),
    [
        ([(20, 1)], [0], 0),  # reading takes 5 % of the time
        ([(20, 1.1), (20, 0)], [0, 1], 0),
        ([(20, 9), (12, 0.5)], [0, 1], 1),
        ([(20, 9), (19.1, 9), (19.1, 9)], [0, 1, 2], 0),  # not faster by a twentieth
        ([(20, 9), (25, 9), (19, 9), (19, 9)], [0, 1, 2, 4], 2),
        ([(20, 18), (19, 17), (10, 8), (5, 4), (4, 2)], [0, 1, 2, 4, 8], 8),
        ([(20, 18), (12, 9), (11.8, 9)], [0, 1, 2], 1),
    ],
)
def test_numbers_are_tried_while_training_waits_and_becomes_faster(times, numbers, best):
    assert tried(*times) == (numbers, best)


@pytest.fixture
def waiting(monkeypatch):
    """Workers are tried, however little of the time is spent on waiting for batches."""
    monkeypatch.setattr("gancore.data.choose_workers._SHORT", -1.0)


@pytest.mark.usefixtures("waiting")
def test_batches_stay_the_same_while_workers_are_tried():
    choice = chosen(Items())
    assert set(choice.seconds_per_batch) >= {0, 1, 2, choice.workers}
    assert str(choice).startswith(f"workers: {choice.workers or 'none'} (a batch takes ")


def test_workers_are_not_tried_where_reading_is_fast(monkeypatch):
    monkeypatch.setattr("gancore.data.choose_workers._SHORT", 1.0)
    choice = chosen(Items(), 46)
    assert list(choice.seconds_per_batch) == [0]
    assert str(choice).startswith("workers: none (reading takes ")


def test_workers_do_not_share_an_open_file_of_the_dataset(tmp_path):
    (tmp_path / "data").write_bytes(bytes(1000))
    with (tmp_path / "data").open("rb", buffering=0) as file:

        def read():
            time.sleep(0.001)
            file.seek(0)
            file.read(10)
            file.seek(os.getpid() % 7 + int(time.monotonic_ns() % 13))

        choice = chosen(Items(read), 40)
    assert choice.workers == 0
    assert "keeps open" in str(choice)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(("flags", "place"), [(os.O_WRONLY, None), (os.O_RDWR, 0)])
def test_workers_are_tried_although_a_log_grows_meanwhile(tmp_path, flags, place):
    log, stdin = os.open(tmp_path / "log", flags | os.O_CREAT), os.dup(0)
    if place is not None:  # a standard stream
        os.dup2(log, place)
        os.close(log)
        log = place
    try:
        choice = chosen(Items(lambda: os.write(log, b"line")))
    finally:
        os.close(log)
        os.dup2(stdin, 0)
        os.close(stdin)
    assert 1 in choice.seconds_per_batch


@pytest.mark.usefixtures("waiting")
def test_workers_that_die_leave_the_batches_to_the_run():
    choice = chosen(Items(lambda: os.getpid() == MAIN or os._exit(1)), 100)
    assert choice.workers == 0
    assert choice.reason == "a data loading worker died: it ended with exit code 1"


@pytest.mark.usefixtures("waiting")
def test_workers_that_cannot_read_the_data_leave_the_batches_to_the_run():
    def read():
        if os.getpid() != MAIN:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    choice = chosen(Items(read), 100)
    assert choice.workers == 0
    expected = "in a worker, the dataset failed: RuntimeError: Cannot re-initialize CUDA in forked subprocess"
    assert choice.reason == expected


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("good", [3, 200])
def test_error_of_the_data_ends_the_run_also_while_workers_are_tried(good):
    class Damaged(Items):
        def __getitem__(self, number):
            if number >= good:
                raise ValueError(f"item {number} is damaged")
            return super().__getitem__(number)

    with pytest.raises(PluginError, match=f"item {good} is damaged"):
        chosen(Damaged())


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_workers_are_not_chosen_where_they_are_not_forked(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    choice = chosen(Items(), 10)
    assert (choice.workers, choice.seconds_per_batch) == (0, {})
