from argparse import Namespace
from pathlib import Path

from benchmarks import guard
from benchmarks.guard import Result


def test_collapses_are_all_detected(tmp_path):
    rows = guard.collapses(tmp_path)
    assert [what for what, _ in rows] == [
        "ring: one sample",
        "ring: one mode of eight",
        "grid: one sample",
        "digits: one sample",
    ]
    assert [detected for _, detected in rows] == [guard.TRIES] * 4


def test_run_is_trained_and_measured_once(tmp_path, monkeypatch):
    arguments = Namespace(data_dir=tmp_path, work=tmp_path, jobs=1)
    calls = []
    run_module = guard.run_module

    def short(*words, **named):
        calls.append(words)
        extra = ["--kimg", 8, "--set", "evaluate.every_kimg=2.048"] if words[1] == "train" else []
        return run_module(*words, *extra, **named)

    monkeypatch.setattr(guard, "run_module", short)
    run = guard.train(arguments, "ring", 0)
    assert len(run.diversities) == 4
    assert run.alarms == 1, "few steps draw points of one place"
    assert not run.healthy
    assert guard.train(arguments, "ring", 0) == run
    assert [words[1] for words in calls] == ["train", "evaluate"]


def test_table_counts_healthy_runs_and_alarms():
    runs = [Result("ring", 0, [0.5, 0.9], 0, True), Result("ring", 1, [0.1, 0.1, 0.7], 1, True)]
    text = guard.report(runs, [("ring: one sample", 30)], Namespace(recipes=["ring"], seeds=2, jobs=1))
    assert "| ring | 2 | 2 | 2, 3 | 0.100 | 1 | 0.70 to 0.90 |" in text
    assert "| ring: one sample | 30 | 30 |" in text


def test_committed_table_has_no_alarm_in_healthy_runs():
    text = (Path(guard.__file__).parent / "guard.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| ")}
    healthy = 0
    for recipe in ("digits", "ring"):
        runs, healthy_runs, _, _, alarms, _ = (cell.strip() for cell in rows[recipe])
        assert alarms == "0"
        healthy += int(healthy_runs)
        assert int(runs) >= int(healthy_runs)
    assert healthy >= 20
