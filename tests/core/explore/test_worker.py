"""The thread that computes: order, replacement, and what becomes of errors."""

import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.explore.worker import GRID, PICTURE, SEARCH, BusyError, Worker, at_once
from helpers.blocked_worker import blocked


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    assert worker.end(60)


def counted(log, name, steps):
    for step in range(steps):
        log.append((name, step))
        yield
    return name


@given(jobs=st.lists(st.tuples(st.sampled_from([PICTURE, GRID, SEARCH]), st.integers(0, 4)), max_size=8))
def test_worker_runs_urgent_jobs_first_and_all_to_their_ends(jobs):
    worker, log = Worker(), []
    free = blocked(worker)
    futures = [
        worker.submit(str(number), priority, counted(log, (priority, number), steps))
        for number, (priority, steps) in enumerate(jobs)
    ]
    free.set()
    assert [future.result(60) for future in futures] == [(job[0], number) for number, job in enumerate(jobs)]
    assert [name for name, _ in log] == sorted(name for name, _ in log)
    assert len(log) == sum(steps for _, steps in jobs)
    assert worker.end(60)


def test_picture_interrupts_a_search_between_its_steps(worker):
    log, begun, go = [], threading.Event(), threading.Event()

    def search():
        for step in range(3):
            log.append(step)
            begun.set()
            go.wait(60)
            yield

    found = worker.submit("search", SEARCH, search())
    begun.wait(60)
    picture = worker.submit("picture", PICTURE, at_once(lambda: log.append("picture")))
    go.set()
    picture.result(60)
    found.result(60)
    assert log == [0, "picture", 1, 2]


def test_newest_job_with_a_key_replaces_the_one_before(worker):
    log, free = [], blocked(worker)
    futures = [worker.submit("picture", PICTURE, counted(log, number, 1)) for number in range(5)]
    free.set()
    assert futures[-1].result(60) == 4
    for future in futures[:-1]:
        with pytest.raises(CancelledError):
            future.result(0)
    assert log == [(4, 0)]


def test_job_whose_reader_has_left_is_not_computed(worker):
    log, free = [], blocked(worker)
    left = worker.submit("left", PICTURE, counted(log, "left", 1))
    left.cancel()
    free.set()
    assert worker.submit("next", GRID, at_once(lambda: 7)).result(60) == 7
    assert log == []


def test_error_of_a_job_is_that_of_its_future(worker):
    with pytest.raises(ZeroDivisionError):
        worker.submit("bad", PICTURE, at_once(lambda: 1 / 0)).result(60)
    assert worker.submit("good", PICTURE, at_once(lambda: 1)).result(60) == 1


def test_worker_refuses_more_jobs_than_any_page_asks_for(worker):
    free = blocked(worker)
    for number in range(63):
        worker.submit(str(number), GRID, at_once(lambda: 1))
    with pytest.raises(BusyError, match="too many requests"):
        worker.submit("more", GRID, at_once(lambda: 1))
    free.set()


def test_canceled_job_is_closed_and_ends_with_the_worker():
    worker, closed = Worker(), threading.Event()
    begun = threading.Event()

    def search():
        try:
            while True:
                begun.set()
                yield
        finally:
            closed.set()

    worker.submit("search", SEARCH, search())
    begun.wait(60)
    worker.cancel("search")
    assert closed.wait(60)
    assert worker.end(60)
    with pytest.raises(BusyError):
        worker.submit("late", PICTURE, at_once(lambda: 1))
