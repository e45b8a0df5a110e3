import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import busy
from benchmarks.busy import ARMS, CHOSEN, DEFAULT, LOOP, WHOLE, Measured


def test_step_is_timed_with_the_threads_that_the_run_chooses(tmp_path):
    found = busy.steps(DEFAULT, "auto", tmp_path, 0.01)
    assert found["threads"] == 1  # torch has no more in tests
    assert found["cpu_seconds"] > 0
    assert found["seconds"] > 0


def test_whole_run_is_timed_with_its_cpu_time(tmp_path):
    found = busy.whole_run(tmp_path, busy=False, more=["--steps", "1"])
    assert (found.recipe, found.arm, found.busy, found.threads) == (DEFAULT, WHOLE, False, 1)
    assert found.cpu_seconds > 0
    assert found.seconds > 0


def test_load_ends_with_its_block():
    with busy.load(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.poll() is not None for process in processes)


def test_report_compares_busy_with_idle():
    rows = [
        Measured(recipe, arm, is_busy, 0.01 * (1 + 2 * is_busy), 0.01 * (1 + is_busy), 1 + (arm == CHOSEN))
        for recipe, arm in [("", LOOP), (DEFAULT, WHOLE), *(("ring", arm) for arm in ARMS)]
        for is_busy in (False, True)
    ]
    text = busy.report(rows, busy.parse(["ring", "--data-dir", "data"]))
    assert "takes 3.00 times its idle time on the busy machine" in text
    assert "| time | 0.0 s | 0.0 s | 3.00 | 4 |" in text
    assert "| CPU time | 0.0 s | 0.0 s | 2.00 | 1.6 |" in text
    assert "| ring | one thread: 1 | 10.0 | 10.0 | 30.0 | 20.0 | 3.0 |" in text
    assert "| ring | chosen: 2 idle, 2 busy | 10.0 | 10.0 | 30.0 | 20.0 | 3.0 |" in text
    assert json.dumps([asdict(row) for row in rows])


def test_committed_report_is_within_the_limits():
    path = Path(busy.__file__).with_suffix(".json")
    rows = [Measured(**row) for row in json.loads(path.read_text())]
    idle, loaded = (busy.median_of(rows, DEFAULT, WHOLE, busy=is_busy) for is_busy in (False, True))
    assert loaded.seconds <= busy.LIMITS[0] * idle.seconds
    assert loaded.cpu_seconds <= busy.LIMITS[1] * idle.cpu_seconds
