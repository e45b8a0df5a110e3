"""The number of workers that is chosen for streamed data, and the batches meanwhile."""

import multiprocessing
import os
import time
from contextlib import closing
from itertools import count, islice

import pytest
import torch
from torch.utils.data import Dataset

from gancore.data.choose_workers import WorkersChooser
from gancore.data.items import ItemForm
from gancore.data.loader import Loader, Reader, Request

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


def chosen(dataset, batches=TRIED, step_seconds=0.0):
    """Return the choice, after checking that the batches are those without workers."""
    requests = (Request(start, torch.arange(start, start + 4)) for start in count(step=4))
    form = ItemForm(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), None)
    before, taken = set(multiprocessing.active_children()), []
    with closing(Loader(Reader(dataset, form, seed=0), requests, 4)) as loader:
        chooser = WorkersChooser(loader)
        read = chooser.batches()
        for samples, _ in islice(read, batches):
            taken += samples.flatten().tolist()
            time.sleep(step_seconds)
        assert len(set(multiprocessing.active_children()) - before) == chooser.choice.workers
    assert taken == list(range(4 * batches))
    return chooser.choice


def test_workers_are_chosen_for_data_that_waits():
    choice = chosen(Items(lambda: time.sleep(0.002)))
    assert choice.workers > 0
    assert set(choice.seconds_per_batch) >= {0, 1, 2}
    assert str(choice).startswith(f"workers: {choice.workers} (a batch takes ")


def test_workers_are_not_tried_where_reading_is_fast():
    choice = chosen(Items(), 46, step_seconds=0.02)
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


def test_workers_that_die_leave_the_batches_to_the_run():
    def read():
        if os.getpid() != MAIN:
            os._exit(1)
        time.sleep(0.001)

    choice = chosen(Items(read), 100)
    assert choice.workers == 0
    assert choice.reason == "a data loading worker died: it ended with exit code 1"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_workers_are_not_chosen_where_they_are_not_forked(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    choice = chosen(Items(), 10)
    assert (choice.workers, choice.seconds_per_batch) == (0, {})
