"""The benchmark of the collapse guard; its real figures are in benchmarks/."""

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.guard import RunConfig


def test_collapses_that_are_made_by_hand_are_all_noticed(tmp_path):
    rows = guard.collapses(tmp_path)
    assert [what for what, _ in rows] == [
        "ring: one thing",
        "ring: one mode of eight",
        "grid: one thing",
        "digits: one thing",
    ]
    assert [found for _, found in rows] == [guard.TRIES] * 4


def test_a_run_is_trained_measured_and_not_done_again(tmp_path, monkeypatch):
    arguments = Namespace(data_dir=tmp_path, work=tmp_path, jobs=1)
    said = []
    real = guard.called

    def short(*words, **named):
        said.append(words)
        extra = ["--kimg", 2, "--set", "evaluate.every_kimg=0.512"] if words[1] == "train" else []
        return real(*words, *extra, **named)

    monkeypatch.setattr(guard, "called", short)
    run = guard.trained(arguments, "ring", 0)
    assert len(run.diversities) == 4
    assert run.alarms == 0
    assert not run.healthy
    assert guard.trained(arguments, "ring", 0) == run
    assert [words[1] for words in said] == ["train", "evaluate"]


def test_the_table_counts_healthy_runs_and_alarms():
    runs = [RunConfig("ring", 0, [0.5, 0.9], 0, True), RunConfig("ring", 1, [0.1, 0.1, 0.7], 1, True)]
    text = guard.report(runs, [("ring: one thing", 30)], Namespace(recipes=["ring"], seeds=2, jobs=1))
    assert "| ring | 2 | 2 | 2, 3 | 0.100 | 1 | 0.70 to 0.90 |" in text
    assert "| ring: one thing | 30 | 30 |" in text


def test_the_table_in_the_repository_has_no_alarm_in_a_healthy_toy_or_digit():
    text = (Path(guard.__file__).parent / "guard.md").read_text()
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| ")}
    healthy = 0
    for recipe in ("digits", "ring"):
        runs, healthy_runs, _, _, alarms, _ = (cell.strip() for cell in rows[recipe])
        assert alarms == "0"
        healthy += int(healthy_runs)
        assert int(runs) >= int(healthy_runs)
    assert healthy >= 20


@pytest.mark.parametrize("recipe", guard.JUDGE)
def test_every_recipe_has_a_fair_share(recipe):
    assert 0 < guard.FAIR[recipe] <= 1 / 8
