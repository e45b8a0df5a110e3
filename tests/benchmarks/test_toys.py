import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

import gancore_plugins as plugins
from benchmarks import toys
from benchmarks.toys import MODES, REAL, Result


def run(arm, dataset, seed, modes, **changes):
    numbers = {"high_quality": 0.9, "reverse_kl": 0.01, "rarest_share": 0.02, "seconds": 5.0, "kimg": 100.0}
    return Result(arm, dataset, seed, modes=modes, commit="abc", **numbers | changes)


def test_run_is_trained_and_measured_once(tmp_path):
    first = toys.train_and_measure(tmp_path, "vanilla", "ring", 1, 1.0)
    assert (first.arm, first.dataset, first.seed) == ("vanilla on ring", "ring", 1)
    assert first.kimg == pytest.approx(1, abs=0.1)
    assert not first.complete
    assert toys.train_and_measure(tmp_path, "vanilla", "ring", 1, 1.0) is not first
    assert toys.train_and_measure(tmp_path, "vanilla", "ring", 1, 1.0) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_run_that_diverges_counts_as_failed(tmp_path, monkeypatch):
    recipe = (Path(plugins.__file__).parent / "recipes" / "ring.toml").read_text()
    (tmp_path / "diverging.toml").write_text(re.sub(r"(?m)^lr = .*$", "lr = 1e30", recipe))
    monkeypatch.chdir(tmp_path)
    diverged = toys.train_and_measure(tmp_path, "diverging.toml", "ring", 0, 10.0)
    assert diverged.failed(0.01)
    assert math.isnan(diverged.reverse_kl)
    assert toys.train_and_measure(tmp_path, "diverging.toml", "ring", 0, 10.0).seconds == diverged.seconds
    normal = replace(diverged, seed=1, modes=8, reverse_kl=0.01, high_quality=0.9, rarest_share=0.1)
    (row,) = (
        line
        for line in toys.report([diverged, normal], toys.parse(["--work", ".", "--out", "x"])).splitlines()
        if line.startswith("| diverging.toml")
    )
    assert row.startswith("| diverging.toml on ring | 1 of 2 | 1 | 4 ± 4 | 90 | 0.01 | 0.01 | 0.01 | 10 | ")


@pytest.mark.parametrize("dataset", MODES)
def test_real_points_have_every_mode(dataset):
    real = toys.real_points(dataset, 0)
    assert real.complete
    assert real.high_quality == pytest.approx(0.9889, abs=0.01)


def test_table_counts_complete_runs_and_has_published_results():
    arguments = toys.parse(["--work", ".", "--out", "x", "--seeds", "2"])
    runs = [run("ring", "ring", 0, 8), run("ring", "ring", 1, 7, high_quality=0.8), run(REAL, "grid", 0, 25)]
    lines = toys.report(runs, arguments).splitlines()
    assert "| ring | 1 of 2 | 0 | 7.5 ± 0.5 | 85 ± 5 | 0.01 ± 0 | 0.01 | 0.01 | 2 ± 0 | 100 | 5 |" in lines
    assert next(line for line in lines if line.startswith(f"| {REAL} |")).startswith(f"| {REAL} | 1 of 1 | 0 | 25 ")
    assert sum("published" in line for line in lines) >= 4


def test_result_failed_by_the_criteria_in_the_table():
    failures = [{}, {"rarest_share": 0.009}, {"reverse_kl": 0.031}, {"reverse_kl": float("nan")}, {"reverse_kl": 0.03}]
    assert [run("ring", "ring", 0, 8, **each).failed(0.01) for each in failures] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_mean_leaves_out_numbers_that_are_not_finite():
    assert toys.mean([1.0, float("nan"), 3.0]) == "2 ± 1"
    assert toys.mean([float("nan")]) == "none"
    assert toys.mean([1.0]) == "1"


@pytest.mark.parametrize("dataset", MODES)
def test_committed_table_shows_recipes_with_every_mode(dataset):
    root = Path(toys.__file__).parent
    runs = [Result(**row) for row in json.loads((root / "toys.json").read_text())]
    own = [run for run in runs if run.arm == dataset]
    assert len({run.seed for run in own}) == len(own) >= 30
    assert sum(run.complete for run in own) >= 28
    baseline = [run for run in runs if run.arm == f"vanilla on {dataset}"]
    assert len({run.seed for run in baseline}) >= 4
    assert not any(run.complete for run in baseline)
    arguments = toys.parse(["--work", ".", "--out", "x"])
    rows = [line for line in toys.report(runs, arguments).splitlines() if line.startswith("|")]
    assert rows == [line for line in (root / "toys.md").read_text().splitlines() if line.startswith("|")]
