"""Workers of studies: what they share, and how a study continues after an interruption or damage."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from gancore.errors import DataError, StorageError, WorkerError
from gancore.run.interrupt import Interrupted, Interruption
from gancore.study.definition import FILE, read_study
from gancore.study.processes import WorkerProcesses
from gancore.study.study import Study
from gancore.study.trials import JOURNAL
from gancore.study.work import Worker
from helpers.small_studies import FIELDS, SEARCH, StopAt, study


def newest_step(run):
    """Return the step of the newest checkpoint of a run, 0 without one."""
    return max((int(path.stem.partition("-")[2]) for path in run.glob("checkpoints/step-*.safetensors")), default=0)


def test_worker_that_began_before_a_study_grew_does_not_shrink_it(tmp_path):
    study(tmp_path / "s", seeds=1).run(workers=0)
    old = Study(out=tmp_path / "s", device="cpu")
    study(tmp_path / "s", seeds=2).run(workers=0)
    old.work()
    assert read_study(tmp_path / "s" / FILE).seeds == 2
    assert [row["state"] for row in old.results] == ["finished"] * 4


def test_study_begins_a_run_again_whose_checkpoints_are_damaged(finished, tmp_path):
    made = study(tmp_path / "s")
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(8))
    damaged = list((tmp_path / "s/runs/base-0").glob("checkpoints/*.safetensors"))
    assert damaged
    for path in damaged:
        path.write_bytes(b"damaged")
    study(tmp_path / "s").run()
    assert [row["fd-random"] for row in study(tmp_path / "s").results] == [row["fd-random"] for row in finished.results]
    assert (tmp_path / "s/runs/base-0.damaged-1/checkpoints").is_dir()


def test_study_whose_journal_was_cut_continues(finished, tmp_path):
    made = study(tmp_path / "s")
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(30))
    journal = tmp_path / "s" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])
    study(tmp_path / "s").run()
    assert [row["fd-random"] for row in study(tmp_path / "s").results] == [row["fd-random"] for row in finished.results]


def test_study_continues_after_an_interruption_with_the_same_weights(finished, tmp_path):
    made = study(tmp_path / "s")
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(22))
    assert 0 < newest_step(tmp_path / "s/runs/hinge-0") < 12, "it is interrupted within the second run"
    study(tmp_path / "s").run()
    again = Study(out=tmp_path / "s")
    numbers = [[row[key] for row in each.results for key in ("run", "step", "fd-random")] for each in (again, finished)]
    assert numbers[0] == numbers[1]


class BreakAt(StopAt):
    """Breaks the database the n-th time that it is asked."""

    def __init__(self, calls, database):
        super().__init__(calls)
        self.database = database

    def check(self):
        self.calls -= 1
        if self.calls == 0:
            self.database.write_bytes(b"no database at all" * 999)


def test_study_whose_database_breaks_keeps_its_runs_and_continues(finished, tmp_path):
    database = tmp_path / "study.db"
    made = study(tmp_path / "s", storage=f"sqlite:///{database}")
    made.run(workers=0)
    intact = database.read_bytes()
    with pytest.raises(StorageError, match=r"the storage of the study cannot be used: .*database") as caught:
        made.run(interruption=BreakAt(30, database))
    assert "continue from their newest checkpoints" in caught.value.hint
    database.write_bytes(intact)
    study(tmp_path / "s", storage=f"sqlite:///{database}").run()
    again = Study(out=tmp_path / "s")
    numbers = [[row[key] for row in each.results for key in ("run", "step", "fd-random")] for each in (again, finished)]
    assert numbers[0] == numbers[1]


def worker(folder, *options):
    command = [sys.executable, "-m", "gancore_cli", "study", "work", str(folder), "--device", "cpu", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_until_trained(process, folder, step):
    """Wait until a run of a study has a checkpoint after a step."""
    deadline = time.monotonic() + 300
    while max(map(newest_step, folder.glob("runs/*")), default=0) <= step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_share_a_study_and_take_up_the_trial_of_one_that_was_killed(tmp_path):
    base = FIELDS["base"] | {"checkpoint": {"every_steps": 20}, "ema": "none"}
    folder = tmp_path / "s"
    made = study(folder, base=base, budget="300 steps", seeds=1)
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(2))
    first = worker(folder)
    wait_until_trained(first, folder, 0)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    reached = max(map(newest_step, folder.glob("runs/*")))
    assert reached < 300
    other, lines = worker(folder), []
    wait_until_trained(other, folder, reached)
    Study(out=folder, device="cpu").work(note=lines.append)
    _, errors = other.communicate(timeout=300)
    assert other.returncode == 0, errors
    trained = [line.partition(":")[0] for line in (*errors.splitlines(), *lines) if ": fd-random " in line]
    assert sorted(trained) == ["base-0", "hinge-0"], "each run is finished by one worker"
    rows = Study(out=folder).results
    assert [(row["arm"], row["state"], row["step"]) for row in rows] == [
        ("base", "finished", 300), ("hinge", "finished", 300),
    ]  # fmt: skip
    resumed = [json.loads((folder / row["run"] / "manifest.json").read_text()).get("resumed", []) for row in rows]
    assert any(entry["step"] == reached for entries in resumed for entry in entries)


@pytest.mark.parametrize(
    ("visible", "devices", "seen"),
    [
        (None, 2, ["0", "1", "0"]),
        ("2,GPU-5f", 2, ["2", "GPU-5f", "2"]),
        ("0,1,2,3", 4, ["0", "1", "2"]),
        ("3", 1, ["3", "3", "3"]),
        (None, 0, ["all", "all", "all"]),
    ],
)
def test_workers_have_one_of_the_visible_gpus_each(visible, devices, seen):
    code = "import os, sys; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'), file=sys.stderr)"
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    with WorkerProcesses([sys.executable, "-c", code], 3, devices, environment) as processes:
        while processes.are_working:
            time.sleep(0.02)
    assert sorted(processes.lines()) == sorted(seen)


def test_workers_of_one_command_finish_a_study(tmp_path):
    made = study(tmp_path / "s", seeds=2, storage=f"sqlite:///{tmp_path}/study.db")
    made.run(workers=2)
    assert {row["state"] for row in made.results} == {"finished"}
    assert len(made.results) == 4
    assert not any("study.db" in word for word in made._command())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # hidden for one thread at a time
def test_workers_that_choose_at_the_same_time_take_each_setting_of_a_grid_once(tmp_path):
    sizes = [8, 16, 24, 32, 40, 48, 56, 64]
    changes = {"space": {"batch_size": {"choice": sizes}}, "trials": len(sizes), "sampler": "BruteForceSampler"}
    study(tmp_path / "s", SEARCH, **changes).run(workers=0)
    together = Barrier(len(sizes), timeout=60)

    def choose(made):
        worker = Worker(made.config, made.path, made.measure, made._sources, Interruption())
        trials = made._stages["search"]
        with trials.claim() as trial:
            together.wait()
            return worker._choose(trials, trial)["batch_size"]

    with ThreadPoolExecutor(len(sizes)) as threads:
        chosen = threads.map(choose, [Study(out=tmp_path / "s", device="cpu") for _ in sizes])
    assert sorted(chosen) == sizes


def test_study_without_workers_is_begun_and_trains_nothing(tmp_path):
    made = study(tmp_path / "s")
    assert {row["state"] for row in made.run(workers=0)} == {"waiting"}
    assert made.report.conclusions() == []
    assert [line[0] for line in made.report.table()] == ["arm", "base", "hinge"]
    Study(out=tmp_path / "s", device="cpu").work()
    assert {row["state"] for row in made.results} == {"finished"}


def test_workers_that_all_die_are_reported(tmp_path, monkeypatch):
    made = study(tmp_path / "s")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError, match="finished: worker 1 ended with code 1; worker 2 ended with code 1"):
        made.run(workers=2)


def test_trial_that_is_interrupted_at_one_step_again_and_again_is_finished(tmp_path):
    made = study(tmp_path / "s", seeds=1, budget="1 steps")
    for _ in range(4):
        with pytest.raises(Interrupted):
            made.run(interruption=StopAt(2))
    made.run()
    assert [row["state"] for row in made.results] == ["finished"] * 2


class DeleteAfter(Interruption):
    """Deletes a file once a run has been evaluated."""

    def __init__(self, path, run):
        super().__init__()
        self.path, self.run = path, run

    def check(self):
        if (self.run / "evaluation.json").exists():
            self.path.unlink(missing_ok=True)


def test_study_whose_data_is_away_stops_and_continues_when_it_is_back(tmp_path):
    points = tmp_path / "points.npy"
    np.save(points, np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32))
    base = {"recipe": "arrays", "batch_size": 32, "dataset": {"name": "array", "path": str(points)}}
    made = study(tmp_path / "s", base=base, seeds=1, budget="1 steps")
    content = points.read_bytes()
    with pytest.raises(DataError, match=r"points\.npy"):
        made.run(interruption=DeleteAfter(points, tmp_path / "s/runs/base-0"))
    assert [row["state"] for row in made.results] == ["finished", "running"]
    points.write_bytes(content)
    made.run()
    assert [row["state"] for row in made.results] == ["finished"] * 2


def test_trial_that_kills_its_workers_at_one_step_fails_in_the_end(tmp_path):
    made = study(tmp_path / "s", seeds=1)
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(2))
    trials = made._stages["comparison"]
    for _ in range(3):
        with trials.claim() as trial:
            assert not trials.keeps_dying(trial, 0)
    made.run()
    assert made.results[0]["state"] == "failed"
    assert "its process died several times" in made.results[0]["failure"]
    assert made.results[1]["state"] == "finished"
