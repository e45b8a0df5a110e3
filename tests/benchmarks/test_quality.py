"""The benchmark of quality, on a few images in the form of MNIST; its real figures are in benchmarks/."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.machine import ProgramError, threads
from benchmarks.quality import PLAIN, REAL, SHOWN, Point
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
def test_all_arms_of_a_seed_are_trained_and_drawn_and_not_done_again(arguments, capsys):
    unfinished = quality.samples_of(arguments, "vanilla=images", 3).with_suffix("")
    (unfinished / "checkpoints").mkdir(parents=True)
    points = quality.train_all(arguments, 3)
    assert [point.arm for point in points] == [PLAIN, "vanilla=images", "vanilla=seconds"]
    assert points[0].images == points[1].images == 140
    assert points[2].seconds == pytest.approx(points[0].seconds, abs=1)
    for point in points:
        assert point.finite
        assert point.commit
        assert point.threads == threads(2)
        samples = np.load(quality.samples_of(arguments, point.arm, 3))
        assert (samples.shape, samples.dtype) == ((10_000, 1, 28, 28), np.uint8)
        assert samples.std() > 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert quality.train_all(arguments, 3) == points
    assert capsys.readouterr().out == ""
    arguments.epochs = 1
    assert quality.samples_of(arguments, PLAIN, 3) != quality.samples_of(
        Namespace(**vars(arguments) | {"epochs": 2}), PLAIN, 3
    )


def test_what_goes_wrong_is_told_in_the_words_of_the_program(arguments):
    with pytest.raises(ProgramError, match="unknown recipe 'vanila'"):
        quality.run(arguments, "vanila", "--steps=1", 0, arguments.work / "a.npy")


def test_a_run_that_diverges_is_a_failure_and_not_the_end(arguments, monkeypatch):
    wild = arguments.work / "wild.toml"
    lines = [f"[optimizer.{player}]\nname = 'SGD'\nlr = 1e38" for player in ("generator", "discriminator")]
    wild.write_text("recipe = 'vanilla'\n" + "\n".join(lines))
    took = quality.run(arguments, str(wild), "--steps=5", 0, arguments.work / "a.npy")
    assert took["finite"] is False
    diverged = Point("wild", 0, 1.0, 320.0, 1, False, "abc", {})
    assert diverged.failed(4.0)
    text = quality.report([*(point(arm, 0, 4.0) for arm in (REAL, PLAIN)), diverged], arguments)
    assert "1 of 1" in next(line for line in text.splitlines() if line.startswith("| wild |"))


def point(arm, seed, distance, **changes):
    numbers = dict.fromkeys(SHOWN, 0.5) | {"class-kl-digits.rarest_share": 0.08}
    return Point(arm, seed, 10.0, 6000.0, 1, True, "abc", numbers | {"fd-digits": distance} | changes)


def test_the_table_has_medians_all_points_failures_and_the_real_data(arguments):
    points = [point(REAL, seed, 0.1 + seed / 100) for seed in range(3)]
    points += [point(PLAIN, seed, 4.0 + seed) for seed in range(3)]
    points += [point("vanilla=images", seed, distance) for seed, distance in enumerate((5.0, 5.5, 40.0))]
    text = quality.report(points, arguments)
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
        ({"fd-digits": 12.1}, True),
        ({"fd-digits": float("nan")}, True),
        ({"class-kl-digits.rarest_share": 0.009}, True),
        ({"precision-digits": 0.09}, True),
    ],
)
def test_a_failure_is_what_the_table_says(changes, failed):
    assert point("any", 0, 4.0, **changes).failed(4.0) is failed


def test_only_recipes_for_mnist_are_compared(capsys, monkeypatch):
    for arm, said in (("ring=1 steps", "ring is for ring"), ("vanilla", "RECIPE=TOTAL"), ("vanilla=images", "too")):
        monkeypatch.setattr("sys.argv", ["quality", arm, "--data-dir", ".", "--work", ".", "--out", "x"])
        with pytest.raises(SystemExit):
            quality.parsed()
        assert said in capsys.readouterr().err


@pytest.mark.long
def test_arms_have_totals_and_seeds_of_their_own(arguments):
    arguments.arms, arguments.seeds, arguments.seeds_of_first = ["vanilla=3 steps", "vanilla=2 epochs"], 2, 1
    points = [each for seed in range(2) for each in quality.train_all(arguments, seed)]
    assert [(point.arm, point.seed, point.images) for point in points] == [
        ("vanilla=3 steps", 0, 134),
        ("vanilla=2 epochs", 0, 140),
        ("vanilla=2 epochs", 1, 140),
    ]
    assert quality.script_pace(arguments) > 0
    text = quality.report([point(each.arm, each.seed, 2.0) for each in points], arguments, 7.0)
    assert "The plain script takes 7.0 s" in text
    assert '"vanilla=3 steps" "vanilla=2 epochs" --seeds 2 --seeds-of-first 1' in text


TABLES = {
    "quality": {PLAIN, "vanilla=images", "vanilla=seconds"},
    "zoo": {*(f"{recipe}=10 epochs" for recipe in ("vanilla", "dcgan", "lsgan", "wgan-gp")), "conditional=400 kimg"},
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_in_the_repository_are_whole(name):
    root = Path(quality.__file__).parent
    points = json.loads((root / f"{name}.json").read_text())
    assert {REAL, *TABLES[name]} == {each["arm"] for each in points}
    text = (root / f"{name}.md").read_text()
    for each in points:
        assert f"{each['numbers']['fd-digits']:.4g}" in text


@pytest.mark.parametrize(
    ("table", "arm", "seeds", "share"),
    [
        ("mnist", "mnist=1 minutes", 10, 1 / 4),
        ("mnist-long", "mnist=800 kimg", 3, 1 / 15),
    ],
)
def test_the_recipe_mnist_beats_the_plain_script_by_far_in_every_seed(table, arm, seeds, share):
    root = Path(quality.__file__).parent
    plain = [each["numbers"] for each in json.loads((root / "quality.json").read_text()) if each["arm"] == PLAIN]
    points = [each for each in json.loads((root / f"{table}.json").read_text()) if each["arm"] == arm]
    mine = [each["numbers"] for each in points]
    assert len({each["seed"] for each in points}) >= seeds
    assert max(each["fd-digits"] for each in mine) <= share * min(each["fd-digits"] for each in plain)
    assert min(each["coverage-digits"] for each in mine) > max(each["coverage-digits"] for each in plain)
    assert max(each["class-kl-digits"] for each in mine) < min(each["class-kl-digits"] for each in plain)


def test_the_plain_script_needs_nothing_of_the_project():
    text = (Path(quality.__file__).parent / "plain.py").read_text()
    assert "gancore" not in text.partition('"""\n\n')[2]
    assert len(text.splitlines()) <= 110
