from pathlib import Path

import pytest
import torch

from benchmarks import conditional
from benchmarks.conditional import CLASSES
from benchmarks.machine import commit
from gancore.evaluation.features import FeatureExtractor
from gancore.metrics import Features
from helpers.idx_files import example, write


class Brightness(torch.nn.Module):
    """Predicts the value of the first pixel as the class."""

    def forward(self, images):
        logits = torch.eye(CLASSES)[images[:, 0, 0, 0].long().clamp(max=CLASSES - 1)]
        return Features(logits, logits)


def test_accuracy_counts_images_that_the_classifier_assigns_to_the_class():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[:3, 0, 0, 0] = 7
    reader = FeatureExtractor("brightness", Brightness(), torch.device("cpu"), "digest")
    assert conditional.accuracy(reader, images, 7) == 0.75
    assert conditional.accuracy(reader, images, 3) == 0


def test_run_is_trained_once_and_sampled_by_class(tmp_path, monkeypatch):
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(70), split="train")
    write(raw, *example(9), split="test")
    arguments = conditional.parse(
        ["--data-dir", str(tmp_path / "data"), "--work", str(tmp_path), "--out", str(tmp_path / "x.md")]
    )
    run_module, calls = conditional.run_module, []

    def short(*words, **named):
        calls.append(words)
        return run_module(*words, *(["--steps", 1] if words[1] == "train" else []), **named)

    monkeypatch.setattr(conditional, "run_module", short)
    monkeypatch.setattr(conditional, "SAMPLES", 5)
    run = conditional.train(arguments, 3)
    assert conditional.train(arguments, 3) == run
    assert conditional.sample(arguments, run, 7).shape == (5, 1, 28, 28)
    assert [words[1] for words in calls] == ["train", "sample"]
    assert run.with_suffix(".commit").read_text() == commit()


def test_table_has_the_lowest_accuracy_of_each_seed():
    arguments = conditional.parse(["--data-dir", ".", "--work", ".", "--out", "x", "--seeds", "2"])
    rows = [[0.99] * 9 + [0.971], [0.99] * 9 + [0.5]]
    text = conditional.report(rows, [0.995] * 10, arguments, {"b12", "a34"})
    assert "at commit a34, b12." in text
    assert "1 of 2 seeds" in text
    assert "| 1 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 50.0 | 50.0 |" in text


def test_committed_table_reaches_the_required_accuracy_in_every_class_and_seed():
    text = (Path(conditional.__file__).parent / "conditional.md").read_text()
    rows = [line.split("|")[2:-1] for line in text.splitlines() if line[:3] in {f"| {seed}" for seed in range(10)}]
    assert len(rows) >= 5
    assert all(float(row[-1]) == pytest.approx(min(map(float, row[:-1]))) for row in rows)
    assert all(float(row[-1]) >= 100 * conditional.REQUIRED for row in rows)
