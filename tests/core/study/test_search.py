"""Searches of studies: the samplers, the checks after which runs end early, and the comparison of what was found."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

import gancore
from gancore.errors import ConfigError, NumericsError
from gancore.run.interrupt import Interrupted
from gancore.study.measure import Half
from gancore.study.page import page_of_study
from gancore.study.results import Outcome, StudyReport
from gancore.study.trials import Job, Trials, sampler_of
from helpers.small_studies import SEARCH, StopAt, study


def test_search_retries_an_error_with_the_setting_that_it_had(tmp_path):
    made = study(tmp_path / "s", SEARCH, seeds=1, trials=1)
    made.run(workers=0)
    trials = made._stages["search"]
    with trials.claim() as trial:
        rate = trial.suggest_float("optimizer.generator.lr", 1e-4, 1e-1, log=True)
        trials.tell(trial, None, {"failure": "killed", "is_error": True}, pruned=False)
    made.run(retry=True)
    (searched,) = (row for row in made.results if row["stage"] == "search")
    assert (searched["state"], searched["optimizer.generator.lr"]) == ("finished", rate)


class FailAt(StopAt):
    """Fails the n-th time that it is asked."""

    def check(self):
        self.calls -= 1
        if self.calls == 0:
            raise RuntimeError("no luck today")


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
def test_search_with_a_pruner_retries_an_error_with_the_checks_that_the_run_has_passed(tmp_path, storage):
    pruner = {"name": "SuccessiveHalvingPruner", "min_resource": 25, "reduction_factor": 2}
    changes = {"seeds": 1, "trials": 1, "pruner": pruner, "checks": [25, 50]}
    made = study(tmp_path / "s", SEARCH, **changes, storage=storage and storage.format(tmp_path))
    with pytest.raises(NumericsError, match="no run of the search has ended with a finite metric"):
        made.run(interruption=FailAt(13))
    assert [row["failure"] for row in made.results] == ["RuntimeError: no luck today"]
    made.run(retry=True)
    failed, retried = made._stages["search"].study.get_trials()
    assert (failed.state.name, retried.state.name) == ("FAIL", "COMPLETE")
    assert list(failed.intermediate_values) == [25, 50]
    for key in ("params", "intermediate_values", "system_attrs"):
        assert getattr(retried, key) == getattr(failed, key)
    assert retried.user_attrs["result"]["step"] == 12


def test_search_compares_its_best_setting_with_the_base_by_other_seeds_and_other_points(tmp_path):
    made = study(tmp_path / "s", SEARCH)
    made.run()
    rows = made.results
    searched = [row for row in rows if row["stage"] == "search"]
    assert [row["seed"] for row in searched] == [2] * 4
    rates = {row["optimizer.generator.lr"] for row in searched}
    assert len(rates) == 4
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    best = min(searched, key=lambda row: row["fd-random"])
    compared = [row for row in rows if row["stage"] == "comparison"]
    assert [(row["arm"], row["seed"]) for row in compared] == [("base", 0), ("best", 0), ("base", 1), ("best", 1)]
    for row in compared[1::2]:
        config = gancore.open(made.path / row["run"]).config
        assert config.optimizer.generator.lr == best["optimizer.generator.lr"] == row["optimizer.generator.lr"]
    report = made.report
    assert (report.chosen_by, report.reported_by) == ("the training part of ring", "the test part of ring")
    assert f"({Path(best['run']).name})" in made.report.conclusions()[1]
    with pytest.raises(ConfigError, match="the search has seed 2, which cannot be a seed of the comparison"):
        study(tmp_path / "s", SEARCH, seeds=3).run()
    with pytest.raises(ConfigError, match="is over"):
        study(tmp_path / "s", SEARCH, trials=9).run()


def test_search_chooses_a_setting_that_lacks_a_class_only_without_others(tmp_path):
    made = study(tmp_path / "s", SEARCH, trials=3)
    searched = [
        Outcome(
            "search", f"search-{number}", "search", 2, "finished", {}, {"fd-random": value, "modes.rarest_share": share}
        )
        for number, (value, share) in enumerate(((1.0, 0.0), (None, 0.1), (3.0, 0.1), (2.0, 0.1)))
    ]
    report = StudyReport(made.config, searched, {"fd-random": "lower"}, "", "", "")
    assert report.best_searched() is searched[3]
    assert replace(report, outcomes=searched[:2]).best_searched() is searched[0]
    assert replace(report, outcomes=searched[1:2]).best_searched() is None


def test_search_with_a_pruner_ends_runs_early(tmp_path):
    pruner = {"name": "SuccessiveHalvingPruner", "min_resource": 25, "reduction_factor": 2}
    made = study(tmp_path / "s", SEARCH, seeds=1, trials=5, pruner=pruner, checks=[25, 50])
    made.run()
    searched = [row for row in made.results if row["stage"] == "search"]
    pruned = [row for row in searched if row["state"] == "pruned"]
    assert pruned
    for row in searched:
        assert row["step"] == {"ended after 25 % of the budget": 3, "ended after 50 % of the budget": 6}.get(
            row["failure"], 12
        )


def test_search_by_halving_continues_the_best_third_after_all_have_reached_a_check(tmp_path):
    changes = {"seeds": 1, "trials": 9, "pruner": "Halving", "checks": [25, 50]}
    made, lines = study(tmp_path / "s", SEARCH, **changes), []
    made.run(note=lines.append)
    searched = made._stages["search"].all()
    for check, count in ((25, 9), (50, 3)):
        values = [each.intermediate_values[check] for each in searched if check in each.intermediate_values]
        assert len(values) == count
        kept = [each for each in searched if each.state.name == "COMPLETE" or max(each.intermediate_values) > check]
        assert len(kept) == count // 3
        assert sorted(each.intermediate_values[check] for each in kept) == sorted(values)[: count // 3]
    assert [each.state.name for each in searched].count("COMPLETE") == 1
    waited = [line for line in lines if line.endswith("waits for the other runs at a check")]
    assert len(waited) == 9 + 3
    assert all(len(each.user_attrs["starts"]) == 1 for each in searched), "a wait is not a death"


@pytest.mark.parametrize(("better", "failed", "best"), [("lower", 0.0, {2, 3}), ("higher", 9.0, {0, 4})])
def test_trials_survive_a_check_by_their_rank_among_those_that_have_not_failed(tmp_path, better, failed, best):
    """Numbers that are not finite come last."""
    trials = Trials(optuna.storages.InMemoryStorage(), "s", tmp_path, "identity", {"better": {"fd": better}})
    trials.add([Job(f"search-{number}", "search", 0, {}) for number in range(6)])
    begun = [trials.study.ask() for _ in range(6)]
    for trial, value in zip(begun, (3.0, math.nan, 1.0, 2.0, 4.0, failed), strict=True):
        trial.report(value, 25)
    trials.tell(begun[5], None, {"failure": "killed", "is_error": True}, pruned=False)
    assert {trial.number for trial in begun if trials.survives(trial, 25, factor=2)} == best


def test_search_by_halving_continues_after_an_interruption(tmp_path):
    changes = {"seeds": 1, "trials": 4, "pruner": {"name": "Halving", "factor": 2}, "checks": [25, 50]}
    made = study(tmp_path / "s", SEARCH, **changes)
    with pytest.raises(Interrupted):
        made.run(interruption=StopAt(20))
    assert not made._is_finished
    study(tmp_path / "s", SEARCH, **changes).run()
    searched = [row for row in made.results if row["stage"] == "search"]
    assert sorted(row["state"] for row in searched) == ["finished", "pruned", "pruned", "pruned"]
    with pytest.raises(ConfigError, match="Halving has the argument factor, a whole number from 2"):
        study(tmp_path / "t", SEARCH, pruner={"name": "Halving", "factor": 1})


def test_search_with_shortened_runs_trains_each_check_to_its_own_end(tmp_path):
    pruner = {"name": "SuccessiveHalvingPruner", "min_resource": 25, "reduction_factor": 2}
    changes = {"seeds": 1, "trials": 5, "pruner": pruner, "checks": [25, 50], "shortened": True}
    made = study(tmp_path / "s", SEARCH, **changes)
    made.run()
    searched = [row for row in made.results if row["stage"] == "search"]
    assert {row["state"] for row in searched} == {"finished", "pruned"}
    for row in searched:
        ended = {"ended after 25 % of the budget": 1, "ended after 50 % of the budget": 2}.get(row["failure"], 3)
        runs = [made.path / f"{row['run']}{at}" for at in ("-at-25", "-at-50", "")]
        assert [run.exists() for run in runs] == [place < ended for place in range(3)]
        durations = [gancore.open(run).config.duration for run in runs[:ended]]
        assert durations == ["3 steps", "6 steps", "12 steps"][:ended]
        assert row["kimg"] == pytest.approx(sum((3, 6, 12)[:ended]) * 32 / 1000)
    with pytest.raises(ConfigError, match="needs a budget, of which each check is a share, if shortened is true"):
        study(tmp_path / "t", SEARCH, **changes, budget=None)


def test_search_in_data_without_parts_chooses_by_one_half_and_reports_by_the_other(tmp_path):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(301, 2)).astype(np.float32))
    base = {"recipe": "arrays", "batch_size": 32, "dataset": {"name": "array", "path": str(tmp_path / "points.npy")}}
    made = study(tmp_path / "s", SEARCH, base=base, seeds=1, trials=1, samples=100)
    made.run()
    assert made.report.chosen_by == "one half of array, at random"
    assert made.report.reported_by == "the other half of array, at random"
    chosen, reported = made.measure.selection.images, made.measure.report.images
    assert (len(chosen), len(reported)) == (151, 150)
    assert len(torch.cat([chosen, reported]).unique(dim=0)) == 301


def test_search_refuses_the_sampler_that_cannot_wait_for_workers(tmp_path):
    with pytest.raises(ConfigError, match="GridSampler cannot"):
        study(tmp_path / "s", SEARCH, sampler="GridSampler").check()


def test_search_is_checked_without_lines_of_optuna(tmp_path, caplog):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)  # Optuna's default, which an earlier study has changed
    optuna.logging.enable_propagation()  # to caplog
    try:
        study(tmp_path / "s", SEARCH).check()
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(before)
    assert caplog.records == []


def test_search_refuses_a_sampler_that_cannot_search_the_space(tmp_path):
    with pytest.raises(ConfigError, match="the sampler BruteForceSampler cannot search this space: "):
        study(tmp_path / "s", SEARCH, sampler="BruteForceSampler").check()


def test_sampler_with_a_seed_suggests_other_settings_in_each_trial():
    samplers = [sampler_of({"name": "RandomSampler", "seed": 5}, number) for number in range(3)]
    begun = [optuna.create_study(sampler=sampler).ask() for sampler in samplers]
    assert len({trial.suggest_float("x", 0, 1) for trial in begun}) == 3


def test_sampler_of_a_sequence_takes_its_next_point_in_each_trial(tmp_path):
    changes = {"seeds": 1, "trials": 9, "budget": "2 steps", "pruner": "Halving", "checks": [50]}
    changes["storage"] = f"sqlite:///{tmp_path}/study.db"  # which Optuna does not read anew by itself
    made = study(tmp_path / "s", SEARCH, sampler={"name": "QMCSampler", "scramble": True}, **changes)
    made.run()
    _, *rates = (row["optimizer.generator.lr"] for row in made.results if row["stage"] == "search")
    eighths = [int(8 * (math.log10(rate) + 4) / 3) for rate in rates]  # of the range from 1e-4 to 1e-1
    assert sorted(eighths) == list(range(8))


def test_sampler_of_a_sequence_begins_with_other_numbers_if_the_first_trials_fail():
    begun = [optuna.create_study(sampler=sampler_of("QMCSampler", number)).ask() for number in range(3)]
    assert len({trial.suggest_float("x", 0, 1) for trial in begun}) == 3


def test_search_of_a_grid_tries_each_combination_once(tmp_path):
    space = {"loss": {"choice": ["bce", "hinge"]}, "batch_size": {"choice": [16, 32]}}
    with pytest.raises(ConfigError, match="the space has 4 settings, fewer than the 99 trials") as caught:
        study(tmp_path / "s", SEARCH, seeds=1, space=space, trials=99, budget="2 steps").run()
    assert "BruteForceSampler" in caught.value.hint
    made = study(tmp_path / "s", SEARCH, seeds=1, space=space, trials=99, sampler="BruteForceSampler", budget="2 steps")
    made.run()
    tried = [(row["loss"], row["batch_size"]) for row in made.results if row["stage"] == "search"]
    assert sorted(tried) == [("bce", 16), ("bce", 32), ("hinge", 16), ("hinge", 32)]
    page = page_of_study(made.report, made.path)
    drawn = re.findall(r'aria-label="(fd-random over [^"]*)"', page)
    assert [text.partition(":")[0] for text in drawn] == ["fd-random over loss", "fd-random over batch_size"]


def test_halves_of_a_dataset_have_every_item_once():
    whole = torch.utils.data.TensorDataset(torch.arange(11).unsqueeze(1))
    whole.classes = ("a", "b")
    halves = [Half(whole, number) for number in (0, 1)]
    assert sorted(int(half[place][0]) for half in halves for place in range(len(half))) == list(range(11))
    assert halves[0].classes == ("a", "b")
