import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import CheckpointError
from gancore.report.collect import collect, expand
from gancore.report.scores import Score, ScoreDetails
from gancore.utils.paths import name_a_run
from helpers.run_folders import evaluation_line, run_folder, score, training_line
from helpers.small_runs import recorded


def details(better):
    return ScoreDetails.model_validate({**score(1.0), "better": better})


@given(st.lists(st.floats(), min_size=1), st.sampled_from(["lower", "higher"]))
def test_score_best_is_the_first_of_the_best_finite_values(values, better):
    found = Score("fd", tuple(enumerate(values)), details(better)).best
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert found is None
        return
    best = min(finite) if better == "lower" else max(finite)
    assert found == (values.index(best), best)


def test_summary_says_how_far_how_fast_and_how_good(tmp_path):
    lines = [
        evaluation_line(0, 50.0),
        training_line(100),
        evaluation_line(100, 6.5),
        training_line(150, images_per_second=7000.0),
        training_line(200, images_per_second=6000.0),
        evaluation_line(200, 7.1),
    ]
    run = collect(run_folder(tmp_path / "run", lines, config={"duration": "400 steps"}))
    assert (run.step, run.kimg, run.seconds, run.epoch, run.images_per_second) == (200, 20.0, 4.0, 2.0, 5000.0)
    assert run.done == 0.5
    found = run.scores["fd-classifier"]
    assert (found.value, found.step, found.better, found.real_data, found.best) == (7.1, 200, "lower", 0.09, (100, 6.5))
    assert run.notes == ()


@pytest.mark.parametrize(
    ("duration", "done"), [("8 epochs", 0.25), ("200 steps", 1.0), ("40 kimg", 0.5), ("1 minutes", 4 / 60), ("x", None)]
)
def test_summary_done_is_the_part_of_the_duration(tmp_path, duration, done):
    assert collect(run_folder(tmp_path / "run", config={"duration": duration})).done == done


def test_summary_of_a_real_run_is_that_of_its_log_and_checkpoint(tmp_path):
    directory, config, records = recorded(tmp_path / "run", {"duration": "5 steps", "log": {"every_steps": 2}})
    run = collect(directory.path)
    last = records[-1].step
    assert (run.step, run.kimg, run.done) == (5, last.images_seen / 1000, 1.0)
    assert run.seconds == pytest.approx(last.seconds, abs=1e-3)
    assert run.config["batch_size"] == config.batch_size
    directory.metrics.unlink()
    without_log = collect(directory.path)
    assert (without_log.step, without_log.kimg, without_log.done) == (5, last.images_seen / 1000, 1.0)
    assert without_log.seconds == pytest.approx(last.seconds)
    directory.config.write_text("")
    assert collect(directory.path).config == json.loads(json.dumps(dict(run.config)))
    assert collect(directory.path).notes == (f"{directory.config} is blank",)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("evaluation.json", "{", "evaluation.json is damaged"),
        ("evaluation.json", '{"step": 1, "metrics": {"fd": 3}}', "is damaged: 'fd' is wrong or missing"),
        ("evaluation.json", None, "evaluation.json is missing, so the scores of real data are not known"),
        ("manifest.json", "{", "manifest.json is damaged: it is not JSON"),
        (
            "metrics.jsonl",
            '{"step": 1, "kimg": 1.0, "fd-classifier": 3.0}\n{"st',
            "has 1 damaged line, which is skipped",
        ),
    ],
)
def test_summary_names_what_is_damaged_or_missing(tmp_path, name, content, problem):
    path = run_folder(tmp_path / "run")
    (path / name).unlink()
    if content is not None:
        (path / name).write_text(content)
    run = collect(path)
    assert [problem in found for found in run.notes] == [True]
    history = run.scores["fd-classifier"].history
    assert history == (((1, 3.0), (200, 7.1)) if name == "metrics.jsonl" else ((200, 7.1),))


@pytest.mark.parametrize(
    ("lines", "history"),
    [
        ([training_line(200)], [(200, 5.0)]),
        ([training_line(200), evaluation_line(100, 7.1)], [(100, 7.1), (200, 5.0)]),
        ([training_line(200), evaluation_line(200, 7.1)], [(200, 7.1), (200, 5.0)]),
        ([training_line(200), evaluation_line(200, 5.0)], [(200, 5.0)]),
        ([training_line(200), evaluation_line(200, 7.1), evaluation_line(300, 6.0)], [(200, 7.1), (300, 6.0)]),
    ],
)
def test_summary_has_a_saved_evaluation_that_the_log_lacks(tmp_path, lines, history):
    run = collect(run_folder(tmp_path / "run", lines, {"fd-classifier": score(5.0)}))
    assert list(run.scores["fd-classifier"].history) == history


def test_summary_needs_a_run(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.toml").write_text("[tool]\nx = 1\n")
    for name, message in (
        ("nowhere", "there is no run in"),
        ("empty", "there is no run in .*empty"),
        ("file", "is a file, not the folder of a run"),
        ("foreign", "is not the config of a run: it has no generator"),
    ):
        with pytest.raises(CheckpointError, match=message) as error:
            collect(tmp_path / name)
        assert error.value.hint == name_a_run()


def test_expand_replaces_a_folder_of_runs_by_its_runs(tmp_path):
    runs = [run_folder(tmp_path / "runs" / name) for name in ("0002", "0001")]
    (tmp_path / "runs" / "notes").mkdir()
    other = tmp_path / "other"
    assert expand([tmp_path / "runs", other, runs[0]]) == [runs[1], runs[0], other, runs[0]]
    assert expand([tmp_path / "runs" / "notes"]) == [tmp_path / "runs" / "notes"]
