"""`Run.evaluate` measures what `gancore evaluate` measures."""

import json

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import gancore
from gancore.errors import CheckpointError, ConfigError
from gancore_cli.main import main


@pytest.mark.parametrize("conditional", [False, True])
def test_evaluate_of_a_run_equals_the_command(tmp_path, capsys, conditional):
    settings = {"training.conditional": conditional}
    run = gancore.Run("digits", out=tmp_path / "run", steps=3, set=settings, device="cpu")
    for _ in run.train():
        pass
    measured = run.evaluate("fd-random", count=100, seed=2)
    words = ["evaluate", str(run.path), "--metric", "fd-random", "-n", "100", "--seed", "2", "--device", "cpu"]
    with pytest.raises(SystemExit):
        main([*words, "--json", "-q"])
    printed = json.loads(capsys.readouterr().out)["metrics"]["fd-random"]
    assert measured.numbers() == {"fd-random": printed["value"]}
    again = gancore.open(run.path, device="cpu").evaluate("fd-random", count=100, seed=2)
    assert again.numbers() == measured.numbers()
    assert run.evaluate("fd-random", count=100, seed=3).numbers() != measured.numbers()


def test_evaluate_of_own_modules_compares_with_their_dataset(tmp_path):
    data = TensorDataset(torch.randint(0, 256, (128, 1, 4, 4), dtype=torch.uint8))
    parts = {
        "generator": nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))),
        "discriminator": nn.Sequential(nn.Flatten(), nn.Linear(16, 1)),
        "dataset": data,
    }
    run = gancore.Run(**parts, loss="hinge", out=tmp_path / "run", steps=2, device="cpu")
    with pytest.raises(CheckpointError, match="no run"):
        run.evaluate("fd-random")
    for _ in run.train():
        pass
    measured = run.evaluate("fd-random", count=100)
    parts["dataset"] = TensorDataset(torch.zeros(128, 1, 4, 4, dtype=torch.uint8))
    other = gancore.open(run.path, **parts, device="cpu").evaluate("fd-random", count=100)
    assert measured.numbers() != other.numbers()


def test_evaluate_names_the_known_metrics_for_an_unknown_one(tmp_path):
    run = gancore.Run("digits", out=tmp_path / "run", steps=1, device="cpu")
    for _ in run.train():
        pass
    with pytest.raises(ConfigError, match="fd-rondom"):
        run.evaluate("fd-rondom")


def test_evaluation_shows_itself_as_a_table_in_a_notebook(tmp_path):
    run = gancore.Run("ring", out=tmp_path / "run", steps=1, device="cpu")
    for _ in run.train():
        pass
    measured = run.evaluate(count=100)
    rows = [line.split(" | ") for line in measured._repr_markdown_().splitlines()]
    assert rows[0] == ["| metric", "value", "better", "real data |"]
    assert [row[0] for row in rows[2:] if row[0].startswith("|")] == [f"| {result.name}" for result in measured.results]
