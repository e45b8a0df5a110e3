"""The benchmark of the toy worlds; its real figures are in benchmarks/."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

import gancore_plugins as plugins
from benchmarks import toys
from benchmarks.toys import MODES, REAL, RunConfig


def run(arm, world, seed, modes, **changes):
    numbers = {"high_quality": 0.9, "reverse_kl": 0.01, "rarest_share": 0.02, "seconds": 5.0, "kimg": 100.0}
    return RunConfig(arm, world, seed, modes=modes, commit="abc", **numbers | changes)


def test_a_run_is_trained_judged_and_not_done_again(tmp_path):
    first = toys.trained(tmp_path, "vanilla", "ring", 1, 1.0)
    assert (first.arm, first.world, first.seed) == ("vanilla on ring", "ring", 1)
    assert first.kimg == pytest.approx(1, abs=0.1)
    assert not first.whole
    assert toys.trained(tmp_path, "vanilla", "ring", 1, 1.0) is not first
    assert toys.trained(tmp_path, "vanilla", "ring", 1, 1.0) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_a_run_that_goes_wrong_is_a_failure_in_the_table(tmp_path, monkeypatch):
    recipe = (Path(plugins.__file__).parent / "recipes" / "ring.toml").read_text()
    (tmp_path / "wild.toml").write_text(re.sub(r"(?m)^lr = .*$", "lr = 1e30", recipe))
    monkeypatch.chdir(tmp_path)
    lost = toys.trained(tmp_path, "wild.toml", "ring", 0, 10.0)
    assert lost.failed(0.01)
    assert math.isnan(lost.reverse_kl)
    assert toys.trained(tmp_path, "wild.toml", "ring", 0, 10.0).seconds == lost.seconds
    sound = replace(lost, seed=1, modes=8, reverse_kl=0.01, high_quality=0.9, rarest_share=0.1)
    (row,) = (
        line
        for line in toys.report([lost, sound], toys.parsed(["--work", ".", "--out", "x"])).splitlines()
        if line.startswith("| wild.toml")
    )
    assert row.startswith("| wild.toml on ring | 1 of 2 | 1 | 4 ± 4 | 90 | 0.01 | 0.01 | 0.01 | 10 |")


@pytest.mark.parametrize("world", MODES)
def test_real_points_have_every_mode(world):
    real = toys.point(world, 0)
    assert real.whole
    assert real.high_quality == pytest.approx(0.9889, abs=0.01)


def test_the_table_counts_whole_runs_and_has_what_was_published():
    arguments = toys.parsed(["--work", ".", "--out", "x", "--seeds", "2"])
    runs = [run("ring", "ring", 0, 8), run("ring", "ring", 1, 7, high_quality=0.8), run(REAL, "grid", 0, 25)]
    lines = toys.report(runs, arguments).splitlines()
    assert "| ring | 1 of 2 | 0 | 7.5 ± 0.5 | 85 ± 5 | 0.01 ± 0 | 0.01 | 0.01 | 2 ± 0 | 100 |" in lines
    assert next(line for line in lines if line.startswith(f"| {REAL} |")).startswith(f"| {REAL} | 1 of 1 | 0 | 25 ")
    assert sum("published" in line for line in lines) >= 4


def test_runs_that_fail_are_counted():
    ailing = [{}, {"rarest_share": 0.009}, {"reverse_kl": 0.031}, {"reverse_kl": float("nan")}, {"reverse_kl": 0.03}]
    assert [run("ring", "ring", 0, 8, **changes).failed(0.01) for changes in ailing] == [False, True, True, True, False]


def test_what_is_not_finite_is_left_out_of_a_mean():
    assert toys.mean([1.0, float("nan"), 3.0]) == "2 ± 1"
    assert toys.mean([float("nan")]) == "none"
    assert toys.mean([1.0]) == "1"


@pytest.mark.parametrize("world", MODES)
def test_the_table_in_the_repository_has_recipes_that_keep_every_mode(world):
    root = Path(toys.__file__).parent
    runs = [RunConfig(**row) for row in json.loads((root / "toys.json").read_text())]
    mine = [run for run in runs if run.arm == world]
    assert len({run.seed for run in mine}) == len(mine) >= 30
    assert sum(run.whole for run in mine) >= 28
    baseline = [run for run in runs if run.arm == f"vanilla on {world}"]
    assert len({run.seed for run in baseline}) >= 4
    assert not any(run.whole for run in baseline)
    arguments = toys.parsed(["--work", ".", "--out", "x"])
    rows = [line for line in toys.report(runs, arguments).splitlines() if line.startswith("|")]
    assert rows == [line for line in (root / "toys.md").read_text().splitlines() if line.startswith("|")]
