"""Studies of short runs on toy data: pairing, growth, failures, reports, and what is refused before any run."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch

import gancore
from gancore.checkpoint import store as checkpoint
from gancore.errors import ConfigError
from gancore.run.interrupt import Interrupted
from gancore.study.arms import Sources, make_run
from gancore.study.definition import FILE, read_study, without_password
from gancore.study.page import page_of_study
from gancore.study.results import Outcome, StudyReport
from gancore.study.study import Study
from gancore.study.trials import JOURNAL
from helpers.small_studies import FIELDS, RING, SEARCH, StopAt, catalog_with, study
from helpers.tiny_components import equal


def test_study_trains_every_arm_with_every_seed_as_ordinary_runs(finished):
    rows = finished.results
    assert [(row["arm"], row["seed"], row["state"]) for row in rows] == [
        ("base", 0, "finished"), ("hinge", 0, "finished"), ("base", 1, "finished"), ("hinge", 1, "finished"),
    ]  # fmt: skip
    for row in rows:
        run = gancore.open(finished.path / row["run"])
        assert (run.config.seed, run.config.loss.name) == (row["seed"], "hinge" if row["arm"] == "hinge" else "bce")
        assert row["step"] == 12
        assert row["kimg"] == pytest.approx(12 * 32 / 1000)
        assert row["fd-random"] > 0


def test_study_measures_as_evaluate_does(finished):
    row = finished.results[1]
    trained = gancore.load(finished.path / row["run"], device="cpu")
    samples = torch.cat([*trained.stream(200, seed=0)])
    paths = gancore.EvaluationPaths(Path(), Path(), torch.device("cpu"))
    evaluator = gancore.evaluator_for_run(
        trained.config, paths, gancore.Catalog.installed(), metrics=["fd-random"], count=200, seed=0
    )
    for _ in evaluator.prepare():
        pass
    assert evaluator.evaluate(samples).numbers()["fd-random"] == row["fd-random"]


def first_weights(run):
    """Return the weights of both players before the first step of a run."""
    tensors = checkpoint.load(checkpoint.path_of(run / "checkpoints", 0)).tensors
    return {key: value for key, value in tensors.items() if key.startswith(("generator.", "discriminator."))}


def test_study_pairs_arms_by_their_seeds(finished):
    """Both arms of a seed begin from the same weights and see the same data, so equal losses give equal runs."""
    same = study(finished.path.parent / "same", variants={"a": {"loss": "hinge"}, "b": {"loss": "hinge"}}, baseline="a")
    with pytest.raises(ConfigError, match=r"b is the same as a: leave out \[variants\.b\]\n"):
        same.check()
    base, paired, other = (first_weights(finished.path / f"runs/{name}") for name in ("base-0", "hinge-0", "base-1"))
    assert equal(base, paired)
    different = {key.partition(".")[0] for key in base if not torch.equal(base[key], other[key])}
    assert different == {"generator", "discriminator"}
    hinge = gancore.load(finished.path / "runs/hinge-0", device="cpu")
    again = gancore.Run(
        FIELDS["base"], set={"loss": "hinge", "duration": "12 steps", "training.threads": 1}, seed=0, device="cpu",
        out=finished.path.parent / "single",
    )  # fmt: skip
    for _ in again.train():
        pass
    weights = gancore.load(again.path, device="cpu").generator.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in hinge.generator.state_dict().items())


def test_study_that_is_finished_trains_nothing_again(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*.safetensors")}
    study(finished.path).run()
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("*.safetensors")} == before


def test_study_grows_by_seeds_and_variants(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "s")
    grown = study(tmp_path / "s", seeds=3, variants=FIELDS["variants"] | {"lsgan": {"loss": "lsgan"}})
    grown.run(workers=0)
    states = {(row["arm"], row["seed"]): row["state"] for row in grown.results}
    assert states == {
        (arm, seed): "waiting" if arm == "lsgan" or seed == 2 else "finished"
        for arm in ("base", "hinge", "lsgan")
        for seed in (0, 1, 2)
    }


@pytest.mark.parametrize("changes", [{"budget": "13 steps"}, {"seeds": 1}, {"variants": {"hinge": {"loss": "lsgan"}}}])
def test_study_refuses_a_folder_with_another_study(finished, changes):
    (key,) = changes
    other = study(finished.path, **changes)
    for use in (other.check, lambda: other.results):
        with pytest.raises(ConfigError, match=f"has another study: {key} is"):
            use()


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
def test_study_is_worked_on_where_its_folder_has_another_name(tmp_path, storage):
    study(tmp_path / "s", seeds=1, storage=storage and storage.format(tmp_path)).run(workers=0)
    (tmp_path / "s").rename(tmp_path / "renamed")
    Study(out=tmp_path / "renamed", device="cpu").work()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "renamed")
    assert {row["state"] for row in Study(out=tmp_path / "elsewhere").results} == {"finished"}


def test_study_that_was_edited_in_its_folder_is_refused(tmp_path):
    study(tmp_path / "s", seeds=1).run(workers=0)
    file = tmp_path / "s" / FILE
    file.write_text(file.read_text().replace("12 steps", "13 steps"))
    with pytest.raises(ConfigError, match="has another study: budget is '12 steps' there, and '13 steps' here"):
        Study(file, out=tmp_path / "s", device="cpu").run()


def test_study_that_was_checked_may_still_change(tmp_path):
    study(tmp_path / "s").check()
    made = study(tmp_path / "s", metric="modes")
    made.run(workers=0)
    assert made.report.better == {"modes": "higher"}


@pytest.mark.parametrize("name", ["run", "file"])
def test_study_refuses_what_is_no_folder_for_it(tmp_path, finished, name):
    (tmp_path / "file").write_text("mine")
    target = finished.path / "runs/base-0" if name == "run" else tmp_path / "file"
    with pytest.raises(ConfigError, match=r"is (the folder of a run|a file)"):
        study(target).run()


def test_study_refuses_a_further_number_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'reverse_kl'"):
        study(tmp_path / "s", metric="modes.reverse_kll", better="lower").run()


def test_study_writes_its_evaluations_into_runs(finished):
    saved = json.loads((finished.path / "runs/base-0/evaluation.json").read_text())
    assert saved["metrics"]["fd-random"]["value"] == finished.results[0]["fd-random"]
    assert saved["step"] == 12


def test_study_says_how_many_runs_are_left_and_whether_seeds_are_too_few(tmp_path):
    lines = []
    study(tmp_path / "s", seeds=3).run(workers=0, note=lines.append)
    assert lines[0].startswith("begun: 6 runs wait; train them with: gancore study work ")
    assert lines[1] == "warning: no difference can be shown with fewer than 4 seeds"
    with pytest.raises(Interrupted):
        study(tmp_path / "s", seeds=4).run(workers=1, interruption=StopAt(1), note=(again := []).append)
    assert again == ["8 of 8 runs to train, 1 at a time"]


@pytest.mark.parametrize(
    ("threads", "message"), [(None, "the study in .* has not begun"), (1, "the storage has no study 's'")]
)
def test_study_that_has_not_begun_has_no_work(tmp_path, threads, message):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path / "s", threads=threads).work()


def test_page_of_a_study_has_no_password(finished):
    config = finished.config.model_copy(update={"storage": "postgresql://me:secret@host/db"})
    page = page_of_study(replace(finished.report, config=config), finished.path)
    assert "postgresql://me@host/db" in page
    assert "secret" not in page


def test_study_in_a_relative_database_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study(tmp_path / "s", seeds=1, storage="sqlite:///a.db").run(workers=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(Study(out=tmp_path / "s").results) == 2
    assert not (tmp_path / "elsewhere" / "a.db").exists()


def test_study_in_a_database_that_has_moved_is_found_by_the_environment(tmp_path, monkeypatch):
    study(tmp_path / "s", seeds=1, storage=f"sqlite:///{tmp_path}/a.db").run(workers=0)
    (tmp_path / "a.db").rename(tmp_path / "b.db")
    monkeypatch.setenv("GANCORE_STUDY_STORAGE", f"sqlite:///{tmp_path}/b.db")
    assert len(Study(out=tmp_path / "s").results) == 2
    elsewhere = study(tmp_path / "t", seeds=1, storage=f"sqlite:///{tmp_path}/c.db")
    assert elsewhere.config.storage == f"sqlite:///{tmp_path}/b.db"


def test_study_opens_its_folder_without_its_file(finished):
    opened = Study(out=finished.path)
    assert opened.results == finished.results
    assert opened.report.conclusions() == finished.report.conclusions()
    with pytest.raises(ConfigError, match="there is no study in"):
        Study(out=finished.path / "runs")


def test_report_of_a_study_has_the_rule_and_a_row_for_each_arm(finished):
    report = finished.report
    heading, *lines = report.table()
    assert heading[:2] == ["arm", "seeds"]
    assert [line[0] for line in lines] == ["real data", "base", "hinge"]
    assert all(len(line) == len(heading) for line in lines)
    assert "too few to tell hinge and base apart" in report.conclusions()[0]
    assert report.reported_by == "the test part of ring"
    document = json.loads(json.dumps(report.document(), allow_nan=False))
    assert document["finished"]
    assert [each["arm"] for each in document["comparisons"]] == ["hinge"]


@pytest.mark.parametrize(
    ("fields", "changes", "scope"),
    [
        (FIELDS, {}, "After 12 steps, with the settings of the base"),
        (FIELDS, {"base": "ring"}, "After 12 steps, with the settings of ring"),
        (FIELDS, {"base": "ring", "budget": None}, "With the settings of ring"),
        (FIELDS, {"variants": {"a": {"recipe": "vanilla"}}}, "After 12 steps, with the settings of each arm"),
        (SEARCH, {"base": "ring"}, "After 12 steps, with the other settings of ring"),
    ],
)
def test_report_of_a_study_says_for_which_budget_and_settings_its_conclusions_hold(fields, changes, scope):
    report = StudyReport(read_study(fields | changes), [], {"fd-random": "lower"}, "", "", "")
    assert report.scope() == report.document()["scope"] == scope


@pytest.mark.parametrize(
    ("seeds", "legend"),
    [
        (1, ""),
        (3, "medians over the seeds (lowest to highest)"),
        (4, "medians over the seeds (lowest to highest); ratio of the medians (95 % interval)"),
    ],
)
def test_report_of_a_study_says_what_its_table_has_in_parentheses(seeds, legend):
    outcomes = [
        Outcome("comparison", f"{arm}-{seed}", arm, seed, "finished", {}, {"fd-random": 1.0 + seed})
        for arm in ("base", "hinge")
        for seed in range(seeds)
    ]
    report = StudyReport(read_study(FIELDS | {"seeds": seeds}), outcomes, {"fd-random": "lower"}, "", "", "")
    assert report.legend() == legend
    assert any("(" in cell for line in report.table()[1:] for cell in line) == bool(legend)


def test_variant_with_a_recipe_is_made_from_that_recipe_for_the_same_data(tmp_path):
    variants = {"vanilla": {"recipe": "vanilla", "dataset": RING}}
    made = study(tmp_path / "s", seeds=1, variants=variants)
    made.run()
    config = gancore.open(tmp_path / "s/runs/vanilla-0").config
    assert (config.generator.name, config.dataset.name, config.duration) == ("mlp", "ring", "12 steps")
    assert config.generator.widths != gancore.open(tmp_path / "s/runs/base-0").config.generator.widths
    with pytest.raises(ConfigError, match="vanilla has other data than base"):
        study(tmp_path / "t", variants={"vanilla": {"recipe": "vanilla"}}).check()
    with pytest.raises(ConfigError, match="vanilla runs for 50 epochs, base for 10240 kimg: set budget"):
        study(tmp_path / "t", variants=variants, budget=None).check()


@pytest.mark.parametrize(
    ("base", "arm", "threads"), [(1, None, 1), ("auto", None, 2), (4, None, 2), (1, 3, 3), (1, "auto", "auto")]
)
def test_run_has_the_threads_of_the_study_unless_its_config_has_fewer_or_the_arm_sets_them(
    tmp_path, base, arm, threads
):
    made = study(tmp_path, base=FIELDS["base"] | {"training": {"threads": base}}, threads=2)
    keys = {} if arm is None else {"training": {"threads": arm}}
    sources = Sources(gancore.Catalog.installed(), "cpu")
    assert make_run(made.config, keys, 0, sources).config.training.threads == threads


def test_study_of_the_base_alone_says_how_often_it_fails(tmp_path):
    made = study(tmp_path / "s", variants={})
    made.run()
    report = made.report
    assert report.is_finished
    assert [line[0] for line in report.table()] == ["arm", "real data", "base"]
    assert report.conclusions() == ["base failed with 0 of 2 seeds, so with 0% to 84% of all seeds (95 % interval)."]
    study(tmp_path / "s").run()
    assert [line[0] for line in made.report.table()] == ["arm", "real data", "base", "hinge"]


def test_study_reports_metrics_with_settings_by_their_labels(tmp_path):
    metrics = {"modes": {}, "fd-other-random": {"name": "fd", "extractor": {"name": "random", "seed": 1}}}
    made = study(tmp_path / "s", variants={}, seeds=1, metrics=metrics)
    made.run()
    (row,) = made.results
    assert row["fd-other-random"] != row["fd-random"]
    assert "modes" in row
    assert Study(out=tmp_path / "s").config == made.config
    with pytest.raises(ConfigError, match=r"wrong study: metrics\.fd-other must end with its extractor") as caught:
        study(tmp_path / "t", metrics={"fd-other": metrics["fd-other-random"]}).check()
    assert caught.value.hint == "name it fd-other-random"
    with pytest.raises(ConfigError, match=r"metrics\.fd-random\.extractor\.sed: unknown key 'sed'"):
        study(tmp_path / "t", metrics={"fd-random": {"extractor": {"sed": 1}}}).check()


def test_study_counts_a_diverged_run_as_failed_and_continues(tmp_path):
    wild = {"optimizer": {"generator": {"lr": 1e30}, "discriminator": {"lr": 1e30}}}
    made = study(tmp_path / "s", seeds=1, variants={"wild": wild})
    made.run()
    states = {row["arm"]: (row["state"], row["failure"]) for row in made.results}
    assert states["base"] == ("finished", "")
    assert states["wild"][0] == "failed"
    assert "not finite" in states["wild"][1]
    assert made.report.comparisons()[0].failed == 1


def test_study_counts_a_run_whose_metric_is_not_a_number_as_failed_without_an_error(tmp_path):
    changes = {"metric": "modes.reverse_kl", "better": "lower", "variants": {}, "seeds": 1, "budget": "1 steps"}
    made = study(tmp_path / "s", **changes)
    made.run()  # no point of a generator after one step is near a mode
    (outcome,) = made.report.outcomes
    assert (outcome.state, outcome.is_error) == ("failed", False)
    assert outcome.failure == "modes.reverse_kl is not a number"


def test_study_leaves_an_arm_whose_plugin_fails_to_itself(tmp_path):
    plugin = tmp_path / "broken.py"
    source = """
        class Own(gancore.Loss):
            '''Fails.'''
            name = 'broken'
            def build(self, spec):
                raise RuntimeError('no luck today')
    """
    catalog = catalog_with(plugin, "losses", source)
    fields = FIELDS | {"seeds": 1, "variants": {"broken": {"loss": "broken"}}}
    made = Study(fields, out=tmp_path / "s", device="cpu", catalog=catalog)
    made.run()
    rows = {row["arm"]: row for row in made.results}
    assert rows["base"]["state"] == "finished"
    assert rows["broken"]["state"] == "failed"
    assert "no luck today" in rows["broken"]["failure"]


def test_study_retries_runs_that_an_error_has_ended_and_no_others(tmp_path):
    plugin, fixed = tmp_path / "fragile.py", tmp_path / "fixed"
    source = f"""
        from pathlib import Path
        from gancore_plugins.losses.bce import NonSaturating
        class Own(NonSaturating):
            '''Fails at first.'''
            name = 'fragile'
            def build(self, spec):
                if not Path({str(fixed)!r}).exists():
                    raise RuntimeError('no luck today')
                return super().build(spec)
    """
    catalog = catalog_with(plugin, "losses", source)
    wild = {"optimizer": {"generator": {"lr": 1e30}, "discriminator": {"lr": 1e30}}}
    fields = FIELDS | {"seeds": 1, "variants": {"fragile": {"loss": "fragile"}, "wild": wild}}

    def states(**options):
        made = Study(fields, out=tmp_path / "s", device="cpu", catalog=catalog)
        made.run(**options)
        assert [each.arm for each in made.report.outcomes if each.is_error] == ["fragile"] * (not fixed.exists())
        return {row["arm"]: row["state"] for row in made.results}

    assert states() == {"base": "finished", "fragile": "failed", "wild": "failed"}
    fixed.touch()
    assert [row["state"] for row in Study(out=tmp_path / "s", catalog=catalog).results].count("failed") == 2
    lines = []
    assert states(retry=True, note=lines.append) == {"base": "finished", "fragile": "finished", "wild": "failed"}
    assert lines[0] == "1 of 3 runs to train, 1 at a time"


def test_study_says_what_its_runs_warned_of(tmp_path):
    made = study(tmp_path / "s", seeds=1, variants={"last": {"training": {"channels_last": True}}})
    made.run()
    (warning,) = made.report.warnings()
    assert warning == "last: training.channels_last has no effect: the data are not images"
    assert warning in page_of_study(made.report, made.path).replace("&#39;", "'")


def test_study_keeps_what_a_run_warned_of_when_only_its_measurement_is_retried(tmp_path):
    plugin, fixed = tmp_path / "fragile.py", tmp_path / "fixed"
    trained = tmp_path / "s" / "runs" / "last-0" / "checkpoints" / "step-00000012.safetensors"
    source = f"""
        from pathlib import Path
        from gancore.metrics import Measurement, Metric
        class Own(Metric):
            '''Fails at first.'''
            name = 'fragile'
            needs = frozenset(["images"])
            better = 'lower'
            def measure(self, evidence):
                if Path({str(trained)!r}).exists() and not Path({str(fixed)!r}).exists():
                    raise RuntimeError('no luck today')
                return Measurement(1.0)
    """
    catalog = catalog_with(plugin, "metrics", source)
    last = {"last": {"training": {"channels_last": True}}}
    fields = FIELDS | {"seeds": 1, "metric": "fragile", "variants": last}

    def outcome(**options):
        made = Study(fields, out=tmp_path / "s", device="cpu", catalog=catalog)
        made.run(**options)
        return made.results[1]["state"], made.report.warnings()

    warning = "last: training.channels_last has no effect: the data are not images"
    assert outcome()[0] == "failed"
    fixed.touch()
    assert outcome(retry=True) == ("finished", [warning])


def test_ctrl_c_in_a_script_ends_a_study_after_the_step_of_its_run(tmp_path):
    plugin, folder = tmp_path / "hasty.py", tmp_path / "s" / "runs" / "base-0" / "checkpoints"
    source = f"""
        import signal
        from pathlib import Path
        from gancore_plugins.losses.bce import NonSaturating
        calls = []
        class Own(NonSaturating):
            '''Sends Ctrl-C in the fifth step.'''
            name = 'hasty'
            def generator(self, fake, real):
                calls.extend(Path({str(folder)!r}).glob('step-00000000.safetensors'))
                if len(calls) == 5:
                    signal.raise_signal(signal.SIGINT)
                return super().generator(fake, real)
    """
    catalog = catalog_with(plugin, "losses", source)
    fields = FIELDS | {"seeds": 1, "variants": {"hasty": {"loss": "bce"}}}
    fields["base"] = {**FIELDS["base"], "loss": "hasty"}
    made = Study(fields, out=tmp_path / "s", device="cpu", catalog=catalog)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as error:
            made.run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert error.type is KeyboardInterrupt
    assert sorted(path.name for path in folder.iterdir())[-1] == "step-00000005.safetensors"


def test_study_reports_wrong_keys_metrics_samplers_and_storages_at_once(tmp_path):
    changes = {
        "metric": "class-agreement-classifier",
        "sampler": "TPSampler",
        "pruner": "MedianPrune",
        "storage": "sqlite:////nowhere/at/all.db",
        "space": {"optimizer": {"generator": {"rate": {"log": [1e-4, 1e-1]}}}},
    }
    with pytest.raises(ConfigError) as caught:
        study(tmp_path / "s", SEARCH, **changes).run()
    texts = re.split(r"(?:^wrong study:|;) \(\d\) ", str(caught.value))
    expected = ("MedianPrune", "TPSampler", "cannot be opened", "class-agreement", "unknown Adam argument 'rate'")
    for text, part in zip(texts[1:], expected, strict=True):
        assert part in text
    assert not (tmp_path / "s").exists()


def test_study_refuses_an_arm_that_is_not_conditional_for_a_metric_of_conditions(tmp_path):
    base = {"recipe": "digits", "training": {"conditional": True}}
    changes = {"base": base, "metric": "class-agreement-classifier", "samples": 100}
    arms = {"without": {"training": {"conditional": False}}, "hinge": {"loss": "hinge"}}
    with pytest.raises(ConfigError, match="study: without is not conditional, as a metric of the study needs it\n"):
        study(tmp_path / "s", variants=arms, **changes).check()


def test_study_with_a_variant_for_the_base_takes_it_as_the_baseline(tmp_path):
    variants = FIELDS["variants"] | {"bce": {"loss": "bce"}}
    with pytest.raises(ConfigError, match=r'\[variants\.bce\], or name the base: baseline = "bce"\n'):
        study(tmp_path / "s", variants=variants).check()
    study(tmp_path / "s", variants=variants, baseline="bce").check()
    with pytest.raises(ConfigError, match=r"leave out \[variants\.bce\]\n"):
        study(tmp_path / "t", variants={"bce": {"loss": "bce"}}).check()


def test_study_reports_everything_wrong_with_its_arms_before_any_run(tmp_path):
    variants = {
        "typo": {"loss": "hnige"},
        "same": {"batch_size": 32},
        "seeded": {"seed": 3},
        "longer": {"duration": "99 steps"},
        "drawn": {"sample": {"every_kimg": 1.0}},
        "kept": {"checkpoint": {"best": "fd-random"}},
    }
    with pytest.raises(ConfigError) as caught:
        study(tmp_path / "s", variants=variants).run()
    text = str(caught.value)
    for expected in (
        "did you mean 'hinge'",
        'same is the same as base: leave out [variants.same], or name the base: baseline = "same"',
        "seeded sets seed",
        "longer sets duration",
        "drawn sets sample",
        "kept sets checkpoint.best",
    ):
        assert expected in text
    assert not (tmp_path / "s" / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "fd-clasifier"}, "did you mean"),
        ({"metric": "fd-classifier"}, "labels|image"),
        ({"sampler": "TPSampler"}, "did you mean 'TPESampler'"),
        ({"pruner": {"name": "MedianPruner", "warmup": 1}}, "pruner MedianPruner: .*warmup"),
        ({"storage": "sqlite:////nowhere/at/all.db"}, "cannot be opened"),
        ({"storage": "nonsense://user:secret@host/db"}, "the storage nonsense://user@host/db cannot be opened"),
    ],
)
def test_study_refuses_what_cannot_work_before_any_run(tmp_path, changes, message):
    with pytest.raises(gancore.GancoreError, match=message) as caught:
        study(tmp_path / "s", SEARCH if {"sampler", "pruner"} & changes.keys() else FIELDS, **changes).run()
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "s" / "runs").exists()


def test_study_in_a_database_is_read_by_the_tools_of_optuna(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    changes = {"seeds": 1, "trials": 2, "budget": "1 steps", "storage": url}
    made = study(tmp_path / "s", SEARCH, **changes)
    made.run()
    frame = optuna.load_study(study_name="s-search", storage=url)
    assert len(frame.trials) == 2
    assert frame.best_value == min(row["fd-random"] for row in made.results if row["stage"] == "search")
    with pytest.raises(ConfigError, match="whose runs are in another folder"):
        study(tmp_path / "other" / "s", SEARCH, **changes).run()


def test_study_keeps_no_password(tmp_path):
    assert without_password("postgresql://me:secret@host:5432/db") == "postgresql://me@host:5432/db"
    assert without_password("sqlite:///a@b.db") == "sqlite:///a@b.db"
    assert without_password("sqlite:////home/a:b/c@d.db") == "sqlite:////home/a:b/c@d.db"
    assert (
        without_password("mysql://host/db?user=me&password=secret&ssl=1") == "mysql://host/db?user=me&password=&ssl=1"
    )


def test_study_has_its_state_in_a_journal(finished):
    assert (finished.path / JOURNAL).stat().st_size
    assert read_study(finished.path / FILE) == finished.config


def test_study_without_optuna_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'optuna' else find(name, *more)\n"
        "import gancore; gancore.Study(out='s')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "ConfigError: a study needs optuna, which is not installed" in done.stderr
    assert "pip install 'gancore[study]'" in done.stderr
