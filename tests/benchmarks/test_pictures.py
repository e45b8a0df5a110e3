import gzip
import json
from argparse import Namespace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import pictures
from benchmarks.pictures import COLUMNS, LOOP, LOWEST, PLAIN, READ
from benchmarks.quality import REAL, Result
from gancore import load, resolve

WHERE = ["--work", "work", "--out", "out"]


@pytest.fixture
def folder(tmp_path):
    """A folder of 80 pictures of 16x16 in two classes, dark and light."""
    rng = np.random.default_rng(0)
    for number in range(80):
        name = tmp_path / "few" / ("dark", "light")[number % 2] / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8) + 155 * (number % 2)
        Image.fromarray(values.astype(np.uint8)).save(name)
    return tmp_path / "few"


def result(arm, seed, distance, **numbers):
    return Result(arm, seed, 60.0, 6000.0, 1, True, "abc", dict.fromkeys(COLUMNS, distance) | numbers)


def arguments(*words):
    return pictures.parse([*words, *WHERE])


def test_scripts_are_run_with_the_same_pixels_threads_and_minutes(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(pictures, "run_module", lambda *words, jobs: calls.append(words) or "{}")
    chosen = arguments("pictures", "--minutes", "2", "--jobs", "1")
    for arm in pictures.SCRIPTS:
        pictures.train_script(chosen, arm, 3, tmp_path / "a.npy")
    for call in calls:
        assert ("--minutes", 2.0) in pairwise(call)
        assert ("--seed", 3) in pairwise(call)
    assert [call[0] for call in calls] == ["benchmarks.plain", "benchmarks.dcgan_loop", "benchmarks.dcgan_loop"]
    assert [call[-1] == "--diffaugment" for call in calls] == [False, False, True]
    assert ("--data", chosen.work / "images.npy") in pairwise(calls[1])


def test_samples_of_conditional_recipes_have_the_classes_of_the_data(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "SAMPLES", 50)
    for picture in [*(folder / "light").iterdir()][10:]:
        picture.unlink()  # 40 dark, 10 light
    chosen = pictures.parse([str(folder), "--size", "16", "--minutes", "0.005", *WHERE[2:], "--work", str(tmp_path)])
    data = pictures.open_data(chosen)
    training = pictures.ReferenceImages.of(data.dataset, chosen.data_dir)
    out = tmp_path / "drawn.npy"
    pictures.train_recipe(chosen, [*data.options, "--set=size=0.25"], training, "pictures", 3, out)
    labels = training.draw_conditions(50, 3, "benchmark")
    assert 2 < labels.sum() < 20
    assert torch.equal(torch.from_numpy(np.load(out)), load(tmp_path / "drawn").sample(50, 3, conditions=labels))


def test_results_have_metrics_accuracy_and_real_data(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "EPOCHS", 3)
    monkeypatch.setattr(pictures, "COLUMNS", ("fd-classifier", "precision-random", "class-kl-classifier"))
    chosen = pictures.parse([str(folder), "--size", "16", "--work", str(tmp_path), "--out", str(tmp_path / "out")])
    data = pictures.open_data(chosen)
    training = pictures.ReferenceImages.of(data.dataset, chosen.data_dir)
    images = training.draw(100, 0, "all")
    assert images.shape == (80, 3, 16, 16)
    run = Result("same=1 minutes", 0, 60.0, 1000.0, 1, True, "abc", {})
    diverged = Result("diverged=1 minutes", 0, 60.0, 1000.0, 1, False, "abc", {})
    np.save(pictures.samples_of(chosen, run.arm, 0), images.numpy())
    accuracies, (real, same, other) = pictures.measure([run, diverged], chosen, data, training)
    assert len(accuracies) == 3
    assert max(accuracies) == 1, "dark and light pictures are easy"
    assert same.arm == "same"
    assert same.numbers["fd-classifier"] == pytest.approx(0, abs=1e-3)
    assert same.numbers["precision-random"] == 1
    assert READ not in same.numbers
    assert other.numbers == {}
    assert real.arm == REAL
    assert real.numbers[READ] > 0.9


def test_classes_are_read_of_conditional_runs_only(tmp_path):
    assert not pictures.is_conditional(tmp_path / "missing")
    for conditional in (True, False):
        (tmp_path / "config.toml").write_text(f"[training]\nconditional = {str(conditional).lower()}\n")
        assert pictures.is_conditional(tmp_path) == conditional


def test_published_files_are_unpacked_for_the_plain_script(tmp_path):
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "packed.gz").write_bytes(gzip.compress(b"1"))
    (raw / "plain").write_bytes(b"2")
    pictures.unpack(Namespace(data_dir=tmp_path / "data", work=tmp_path / "work"))
    unpacked = tmp_path / "work" / "FashionMNIST" / "raw"
    assert {file.name: file.read_bytes() for file in unpacked.iterdir()} == {"packed": b"1", "plain": b"2"}


def test_table_compares_with_the_best_script_and_has_all_results():
    results = [result(REAL, 0, 0.05, **{READ: 0.97, LOWEST: 0.9})]
    results += [result("ours", seed, distance, **{READ: 0.9, LOWEST: 0.5}) for seed, distance in enumerate((1, 2, 3))]
    results += [result(PLAIN, 0, 8.0), result(LOOP, 0, 4.0)]
    results += [Result("diverged", 0, 60.0, 6000.0, 1, False, "abc", {})]
    lines = pictures.report(results, arguments("pictures", "--seeds", "3"), [0.911]).splitlines()
    ours, *each = (line for line in lines if line.startswith("| ours |"))
    assert ours.startswith("| ours | 2 (1 to 3) | 2 (1 to 3) |")
    assert "| 0.9 (0.9 to 0.9) | 0.5 (0.5 to 0.5) | 0.50 | 0.50 | 3 of 3 | 60 | 1 | 6 |" in ours
    assert len(each) == 3
    assert next(line for line in lines if line.startswith(f"| {PLAIN} |")).count("| 2.00 |") == 1
    assert "| nan | nan | 0 of 1 |" in next(line for line in lines if line.startswith("| diverged |"))
    assert any("91.1% of the held-out images" in line for line in lines)


def test_nearest_images_are_below_the_samples_that_are_closest_to_them(monkeypatch):
    images = torch.zeros(9, 1, 4, 4, dtype=torch.uint8) + 20 * torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1)
    samples = images.flip(0).clone()
    samples[0] += 9
    shown = pictures.nearest(samples, images)
    assert shown.shape == (8 * 4, 1, 4, 4)
    assert shown[:8].equal(shown[8:16]), "copies come before the sample that is none"
    assert pictures.combined({"a": pictures.tiled(shown)}).mode == "RGB"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pictures", "--arms", PLAIN], "not on pictures"),
        (["fashion-mnist"], "needs --data-dir"),
        (["fashion-mnist", "--data-dir", ".", "--size", "32"], "has no --size"),
    ],
)
def test_parser_refuses_what_does_not_fit_the_data(words, message, capsys):
    with pytest.raises(SystemExit):
        arguments(*words)
    assert message in capsys.readouterr().err


def test_conditional_fashion_recipe_has_the_width_of_the_unconditional_one():
    catalog = pictures.Catalog.installed()
    ours, conditional = (pictures.read_layers(arm, catalog) for arm in pictures.ARMS["fashion-mnist"][:2])
    ours, conditional = (resolve(layers, catalog) for layers in (ours, conditional))
    assert conditional.training.conditional
    assert conditional.dataset == ours.dataset
    assert conditional.generator.width == ours.generator.width
    assert conditional.discriminator.width == ours.discriminator.width
    assert conditional.duration == ours.duration


@pytest.mark.long
def test_comparison_trains_once_and_writes_table_and_pictures(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "EPOCHS", 1)
    words = ["pictures", str(folder), "--size", "32", "--minutes", "0.01", "--seeds", "1", "--jobs", "1"]
    words += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    pictures.main()
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [row["arm"] for row in rows] == [REAL, *pictures.ARMS_OF_PICTURES]
    for name in ("out.png", "out-nearest.png"):
        assert Image.open(tmp_path / name).width > 500
    monkeypatch.setattr(pictures, "run_module", None)
    pictures.main()
    assert json.loads((tmp_path / "out.json").read_text()) == rows
