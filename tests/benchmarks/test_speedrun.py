from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import speedrun
from benchmarks.speedrun import Run
from gancore import GAN, Catalog, ConfigLayer, resolve
from gancore.config.run import read_layers


@pytest.fixture
def config():
    catalog = Catalog.installed()
    small = {"generator": {"widths": [8]}, "discriminator": {"widths": [8]}, "duration": "1 kimg", "batch_size": 100}
    return resolve([*read_layers("digits", catalog), ConfigLayer("test", small)], catalog)


class Distances:
    """Evaluates any samples as the next of the given distances."""

    def __init__(self, *distances):
        self.distances = iter(distances)

    def evaluate(self, samples):
        assert samples.shape[1:] == (1, 8, 8)
        return self

    @property
    def results(self):
        distance = next(self.distances)
        return [SimpleNamespace(measured=SimpleNamespace(value=distance + step)) for step in (-0.5, 0, 0.5)]


def test_run_ends_at_the_first_mark_that_reaches_the_target(config, tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "EVERY_KIMG", 0.3)
    monkeypatch.setattr(speedrun, "SAMPLES", 5)
    done = speedrun.race(config, "a", tmp_path, Distances(3.0, 1.0, 0.5))
    assert (done.kimg, done.distances) == (0.6, [3.0, 1.0])
    assert done.seconds > 0
    missed = speedrun.race(config, "a", tmp_path, Distances(3.0, 2.0, 1.5))
    assert (missed.seconds, missed.kimg, missed.distances) == (None, None, [3.0, 2.0, 1.5])


def test_time_counts_steps_and_not_what_happens_between_them(config, tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "EVERY_KIMG", 0.5)
    clock = iter(range(1000))
    monkeypatch.setattr(speedrun, "perf_counter", lambda: float(next(clock)))  # a second between any two readings
    assert [*speedrun.marks(GAN.assemble(config, tmp_path, "cpu"))] == [(5.0, 0.5), (10.0, 1.0)]


def test_samples_are_those_of_the_averaged_weights(config, tmp_path, monkeypatch):
    monkeypatch.setattr(speedrun, "SAMPLES", 5)
    gan = GAN.assemble(config, tmp_path, "cpu")
    before = speedrun.drawn(gan)
    with torch.no_grad():
        gan.generator.parameters().__next__().fill_(1.0)
    assert speedrun.drawn(gan).equal(before)


def test_table_has_the_median_of_each_entry_the_fastest_first():
    run = Run("slow", 0, 120.0, 200.0, [1.0], "abc", "two cores")
    slow = [run, replace(run, seed=1, seconds=None, kimg=None), replace(run, seed=2, seconds=180.0)]
    fast = [replace(run, entry="fast", seconds=60.0)]
    rows = [line for line in speedrun.report([*slow, *fast]).splitlines() if line.startswith(("| slow", "| fast"))]
    assert rows[0].startswith("| fast | 1 (1 to 1) | 200 (200 to 200) | 1 of 1 | abc | two cores |")
    assert rows[1].startswith("| slow | 3 (2 to inf) | 200 (200 to inf) | 2 of 3 |")


@pytest.mark.parametrize(("config", "message"), [("digits", "received digits"), ("vanilla", "50 epochs")])
def test_parser_accepts_only_mnist_for_a_number_of_kimg(config, message, capsys):
    with pytest.raises(SystemExit):
        speedrun.parse([config, "--data-dir", ".", "--work", ".", "--out", "x"])
    assert message in capsys.readouterr().err


def test_entries_of_the_folder_are_valid():
    entries = [*Path(speedrun.__file__).parent.glob("speedrun-*.toml")]
    assert entries
    for entry in entries:
        speedrun.parse([str(entry), "--data-dir", ".", "--work", ".", "--out", "x"])
