"""The benchmark of conditional runs; its real figures are in benchmarks/."""

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
    """Reads the class off the first pixel."""

    def forward(self, images):
        logits = torch.eye(CLASSES)[images[:, 0, 0, 0].long().clamp(max=CLASSES - 1)]
        return Features(logits, logits)


def test_a_class_is_counted_by_what_the_classifier_reads():
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    images[:3, 0, 0, 0] = 7
    reader = FeatureExtractor("brightness", Brightness(), torch.device("cpu"), "digest")
    assert conditional.share_read_as(reader, images, 7) == 0.75
    assert conditional.share_read_as(reader, images, 3) == 0


def test_a_run_is_trained_once_and_asked_for_its_classes(tmp_path, monkeypatch):
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, *example(70), split="train")
    write(raw, *example(9), split="test")
    arguments = conditional.parsed(
        ["--data-dir", str(tmp_path / "data"), "--work", str(tmp_path), "--out", str(tmp_path / "x.md")]
    )
    real, said = conditional.called, []

    def short(*words, **named):
        said.append(words)
        return real(*words, *(["--steps", 1] if words[1] == "train" else []), **named)

    monkeypatch.setattr(conditional, "called", short)
    monkeypatch.setattr(conditional, "SAMPLES", 5)
    run = conditional.trained(arguments, 3)
    assert conditional.trained(arguments, 3) == run
    assert conditional.sampled(arguments, run, 7).shape == (5, 1, 28, 28)
    assert [words[1] for words in said] == ["train", "sample"]
    assert run.with_suffix(".commit").read_text() == commit()


def test_the_table_has_the_lowest_share_of_each_seed():
    arguments = conditional.parsed(["--data-dir", ".", "--work", ".", "--out", "x", "--seeds", "2"])
    rows = [[0.99] * 9 + [0.971], [0.99] * 9 + [0.5]]
    text = conditional.report(rows, [0.995] * 10, arguments, {"b12", "a34"})
    assert "at commit a34, b12." in text
    assert "1 of 2 seeds" in text
    assert "| 1 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 99.0 | 50.0 | 50.0 |" in text


def test_the_table_in_the_repository_has_enough_of_every_class_for_every_seed():
    text = (Path(conditional.__file__).parent / "conditional.md").read_text()
    rows = [line.split("|")[2:-1] for line in text.splitlines() if line[:3] in {f"| {seed}" for seed in range(10)}]
    assert len(rows) >= 5
    assert all(float(row[-1]) == pytest.approx(min(map(float, row[:-1]))) for row in rows)
    assert all(float(row[-1]) >= 100 * conditional.ENOUGH for row in rows)
