import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.machine import threads_per_job
from benchmarks.quality import COLUMNS, PLAIN, REAL, Result
from helpers.idx_files import example, write


@pytest.fixture
def arguments(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(70), split="train")
    write(raw, *example(9), split="test")
    arms = [PLAIN, "vanilla=images", "vanilla=seconds"]
    where = {"data_dir": tmp_path / "data", "work": tmp_path}
    return Namespace(arms=arms, **where, epochs=2, seeds=4, seeds_of_first=None, jobs=2)


@pytest.mark.long
def test_arms_of_a_seed_are_trained_and_sampled_once(arguments, capsys):
    unfinished = quality.samples_of(arguments, "vanilla=images", 3).with_suffix("")
    (unfinished / "checkpoints").mkdir(parents=True)
    results = quality.train_all(arguments, 3)
    assert [result.arm for result in results] == [PLAIN, "vanilla=images", "vanilla=seconds"]
    assert results[0].images == results[1].images == 140
    assert results[2].seconds == pytest.approx(results[0].seconds, abs=1)
    for result in results:
        assert result.finite
        assert result.commit
        assert result.threads == threads_per_job(2)
        samples = np.load(quality.samples_of(arguments, result.arm, 3))
        assert (samples.shape, samples.dtype) == ((10_000, 1, 28, 28), np.uint8)
        assert samples.std() > 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert quality.train_all(arguments, 3) == results
    assert capsys.readouterr().out == ""
    arguments.epochs = 1
    assert quality.samples_of(arguments, PLAIN, 3) != quality.samples_of(
        Namespace(**vars(arguments) | {"epochs": 2}), PLAIN, 3
    )


def test_run_that_diverges_counts_as_failed(arguments, monkeypatch):
    recipe = arguments.work / "diverging.toml"
    lines = [f"[optimizer.{player}]\nname = 'SGD'\nlr = 1e38" for player in ("generator", "discriminator")]
    recipe.write_text("recipe = 'vanilla'\n" + "\n".join(lines))
    took = quality.run(arguments, str(recipe), "--steps=5", 0, arguments.work / "a.npy")
    assert took["finite"] is False
    diverged = Result("diverging", 0, 1.0, 320.0, 1, False, "abc", {})
    assert diverged.failed(4.0)
    text = quality.report([*(result(arm, 0, 4.0) for arm in (REAL, PLAIN)), diverged], arguments)
    assert "1 of 1" in next(line for line in text.splitlines() if line.startswith("| diverging |"))


def result(arm, seed, distance, **changes):
    numbers = dict.fromkeys(COLUMNS, 0.5) | {"class-kl-classifier.rarest_share": 0.08}
    return Result(arm, seed, 10.0, 6000.0, 1, True, "abc", numbers | {"fd-classifier": distance} | changes)


def test_table_has_medians_all_results_failures_and_real_data(arguments):
    results = [result(REAL, seed, 0.1 + seed / 100) for seed in range(3)]
    results += [result(PLAIN, seed, 4.0 + seed) for seed in range(3)]
    results += [result("vanilla=images", seed, distance) for seed, distance in enumerate((5.0, 5.5, 40.0))]
    text = quality.report(results, arguments)
    assert "0.11 (0.1 to 0.12)" in next(line for line in text.splitlines() if line.startswith(f"| {REAL} |"))
    table = [line for line in text.splitlines() if line.startswith("| vanilla=images |")]
    assert "5.5 (5 to 40)" in table[0]
    assert "1 of 3" in table[0], "40 is more than three times the script's median"
    assert "1.10 (" in table[0], "the ratio of the medians"
    assert len(table) == 1 + 3
    assert "Mann-Whitney" in text
    assert "at commit abc" in text


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, False),
        ({"fd-classifier": 12.1}, True),
        ({"fd-classifier": float("nan")}, True),
        ({"class-kl-classifier.rarest_share": 0.009}, True),
        ({"precision-classifier": 0.09}, True),
    ],
)
def test_result_failed_by_the_criteria_in_the_table(changes, failed):
    assert result("any", 0, 4.0, **changes).failed(4.0) is failed


def test_parser_accepts_only_recipes_that_train_on_mnist(capsys, monkeypatch):
    for arm, message in (
        ("ring=1 steps", "ring trains on ring"),
        ("vanilla", "RECIPE=DURATION"),
        ("vanilla=images", "images and seconds need plain"),
    ):
        monkeypatch.setattr("sys.argv", ["quality", arm, "--data-dir", ".", "--work", ".", "--out", "x"])
        with pytest.raises(SystemExit):
            quality.parse()
        assert message in capsys.readouterr().err


@pytest.mark.long
def test_arms_may_differ_in_duration_and_seeds(arguments):
    arguments.arms, arguments.seeds, arguments.seeds_of_first = ["vanilla=3 steps", "vanilla=2 epochs"], 2, 1
    results = [each for seed in range(2) for each in quality.train_all(arguments, seed)]
    assert [(result.arm, result.seed, result.images) for result in results] == [
        ("vanilla=3 steps", 0, 134),
        ("vanilla=2 epochs", 0, 140),
        ("vanilla=2 epochs", 1, 140),
    ]
    assert quality.script_pace(arguments) > 0
    text = quality.report([result(each.arm, each.seed, 2.0) for each in results], arguments, 7.0)
    assert "The plain script takes 7.0 s per epoch" in text
    assert '"vanilla=3 steps" "vanilla=2 epochs" --seeds 2 --seeds-of-first 1' in text


TABLES = {
    "quality": {PLAIN, "vanilla=images", "vanilla=seconds"},
    "zoo": {*(f"{recipe}=10 epochs" for recipe in ("vanilla", "dcgan", "lsgan", "wgan-gp")), "conditional=400 kimg"},
}


@pytest.mark.parametrize("name", TABLES)
def test_committed_tables_are_complete(name):
    root = Path(quality.__file__).parent
    results = json.loads((root / f"{name}.json").read_text())
    assert {REAL, *TABLES[name]} == {each["arm"] for each in results}
    text = (root / f"{name}.md").read_text()
    for each in results:
        assert f"{each['numbers']['fd-classifier']:.4g}" in text


@pytest.mark.parametrize(
    ("table", "arm", "seeds", "share"),
    [
        ("mnist", "mnist=1 minutes", 10, 1 / 4),
        ("mnist-long", "mnist=800 kimg", 3, 1 / 15),
    ],
)
def test_committed_tables_show_recipe_mnist_far_ahead_of_the_plain_script(table, arm, seeds, share):
    root = Path(quality.__file__).parent
    plain = [each["numbers"] for each in json.loads((root / "quality.json").read_text()) if each["arm"] == PLAIN]
    results = [each for each in json.loads((root / f"{table}.json").read_text()) if each["arm"] == arm]
    ours = [each["numbers"] for each in results]
    assert len({each["seed"] for each in results}) >= seeds
    assert max(each["fd-classifier"] for each in ours) <= share * min(each["fd-classifier"] for each in plain)
    assert min(each["coverage-classifier"] for each in ours) > max(each["coverage-classifier"] for each in plain)
    assert max(each["class-kl-classifier"] for each in ours) < min(each["class-kl-classifier"] for each in plain)


def test_plain_script_is_short_and_independent_of_gancore():
    text = (Path(quality.__file__).parent / "plain.py").read_text()
    assert "gancore" not in text.partition('"""\n\n')[2]
    assert len(text.splitlines()) <= 125
