import itertools
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore import checkpoint
from gancore.config import resolve
from gancore.errors import ConfigError, StorageError
from gancore.gan import GAN
from gancore.layers import Layer
from gancore.rundir import RunDirectory, next_directory, record
from gancore.training import train
from worlds import PARTS, Hinge, catalog

NUMBERS = {
    "step",
    "epoch",
    "kimg",
    "seconds",
    "images_per_second",
    "discriminator_loss",
    "generator_loss",
    "real_logit_mean",
    "fake_logit_mean",
}


def recorded(path, *layers):
    known = catalog()
    said = [Layer("test", layer) for layer in (PARTS, {"duration": "7 steps", "batch_size": 4}, *layers)]
    run = resolve(said, known)
    gan = GAN.assemble(run, Path(), "cpu")
    directory = RunDirectory(path)
    directory.create(run, known, gan.device)
    return directory, run, list(record(train(gan), gan, run, directory, known))


def tensors(directory):
    return checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).tensors


def test_a_run_directory_holds_what_it_promises(tmp_path):
    directory, run, _ = recorded(tmp_path / "run", {"log": {"every_steps": 3}, "ema": {}})
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    manifest = json.loads(directory.manifest.read_text())

    assert [line["step"] for line in lines] == [3, 6, 7]
    assert all(set(line) == NUMBERS for line in lines)
    assert all(isinstance(value, int | float) for line in lines for value in line.values())
    assert resolve([Layer("file", tomllib.loads(directory.config.read_text()))], catalog()) == run
    assert manifest["plugins"] == {"gancore-worlds": "1.0", "gancore": manifest["gancore"]}
    assert manifest["torch"] == torch.__version__
    assert [path.name for path in checkpoint.kept(directory.checkpoints)] == [
        "step-00000000.safetensors",
        "step-00000007.safetensors",
    ]
    assert sorted(path.name for path in directory.samples.iterdir()) == ["step-00000000.png", "step-00000007.png"]


def test_the_manifest_names_no_person_host_or_folder(tmp_path):
    directory, _, _ = recorded(tmp_path / "a-telling-name")
    text = directory.manifest.read_text()
    for secret in (str(tmp_path), "a-telling-name", str(Path.home()), __import__("socket").gethostname()):
        assert secret not in text


@given(every=st.integers(1, 9), keep=st.integers(2, 4))
@settings(max_examples=8)
def test_the_newest_checkpoints_are_kept(tmp_path_factory, every, keep):
    directory, _, _ = recorded(
        tmp_path_factory.mktemp("runs") / "run", {"checkpoint": {"every_steps": every, "keep": keep}}
    )
    saved = [step for step in range(8) if step % every == 0 or step == 7]
    found = [int(re.findall(r"\d+", path.name)[0]) for path in checkpoint.kept(directory.checkpoints)]
    assert found == saved[-keep:]


def test_samples_are_drawn_every_so_many_images_from_the_same_noise(tmp_path):
    # batches of 4, 4 and 2: images seen are 4, 8, 10, 14, 18, 20, 24
    directory, _, _ = recorded(tmp_path / "run", {"sample": {"every_kimg": 0.01, "count": 9}})
    names = sorted(path.name for path in directory.samples.iterdir())
    assert names == [f"step-{step:08d}.png" for step in (0, 3, 6, 7)]
    frozen = {player: {"lr": 0.0} for player in ("generator", "discriminator")}
    still, _, _ = recorded(tmp_path / "still", {"sample": {"every_kimg": 0.01}, "optimizer": frozen})
    first, *rest = [path.read_bytes() for path in sorted(still.samples.iterdir())]
    assert len(rest) == 3
    assert all(picture == first for picture in rest)


def test_samples_of_vectors_are_arrays(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {"dataset": {"name": "noise", "shape": [2]}, "sample": {"count": 5}})
    assert np.load(directory.samples / "step-00000007.npy").shape == (5, 2)


def test_recording_changes_nothing_in_the_run(tmp_path):
    changes = {
        "discriminator": {"name": "tiny", "dropout": 0.5},
        "generator": {"name": "mlp", "normalization": "batch"},
    }
    often = {"sample": {"every_kimg": 0.001}, "checkpoint": {"every_steps": 1}, "log": {"every_steps": 1}}
    rarely, _, _ = recorded(tmp_path / "rarely", changes)
    busily, _, _ = recorded(tmp_path / "busily", changes, often)
    first, second = tensors(rarely), tensors(busily)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resolved_config_replays_to_the_same_weights(tmp_path):
    first, _, _ = recorded(tmp_path / "first", {"ema": {}, "seed": 3})
    again, _, _ = recorded(tmp_path / "again", tomllib.loads(first.config.read_text()))
    before, after = tensors(first), tensors(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_losses_are_read_only_where_they_are_logged(tmp_path):
    read = []

    class Watched(torch.Tensor):
        def __float__(self):
            read.append(self)
            return super().__float__()

    class Counted(Hinge):
        def discriminator(self, real, fake):
            return super().discriminator(real, fake).as_subclass(Watched)

    known = catalog()
    changes = {"duration": "7 steps", "batch_size": 4, "log": {"every_steps": 3}}
    run = resolve([Layer("test", PARTS | changes)], known)
    gan = GAN.assemble(run, Path(), "cpu")
    gan.objective = Counted()
    directory = RunDirectory(tmp_path / "run")
    directory.create(run, known, gan.device)
    seen = list(record(train(gan), gan, run, directory, known))

    assert [step.step for step, metrics in seen if metrics] == [3, 6, 7]
    assert len(read) == 3
    assert [metrics for _, metrics in seen if metrics] == [
        json.loads(line) for line in directory.metrics.read_text().splitlines()
    ]


def test_numbers_that_are_none_are_null_in_the_log(tmp_path):
    fast = {player: {"name": "SGD", "lr": 1e38} for player in ("generator", "discriminator")}
    directory, _, _ = recorded(tmp_path / "run", {"optimizer": fast, "duration": "20 steps"})
    (line,) = directory.metrics.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["discriminator_loss"] is None


def test_a_folder_with_anything_in_it_is_left_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        recorded(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        recorded(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match="cannot write"):
        next_directory(tmp_path / "file")


def test_runs_are_numbered_and_two_at_once_get_two(tmp_path):
    (tmp_path / "runs" / "0041").mkdir(parents=True)
    (tmp_path / "runs" / "notes").mkdir()
    made = [next_directory(tmp_path / "runs").path.name for _ in range(3)]
    assert made == ["0042", "0043", "0044"]
    assert next_directory(tmp_path / "others").path.name == "0001"


def test_a_write_that_fails_in_the_middle_of_training_is_told_and_keeps_the_last_checkpoint(tmp_path):
    known = catalog()
    said = [
        Layer("test", layer) for layer in (PARTS, {"duration": "9 steps", "batch_size": 4, "log": {"every_steps": 1}})
    ]
    run = resolve([*said, Layer("test", {"checkpoint": {"every_steps": 2}})], known)
    gan = GAN.assemble(run, Path(), "cpu")
    directory = RunDirectory(tmp_path / "run")
    directory.create(run, known, gan.device)
    steps = record(train(gan), gan, run, directory, known)
    assert [step.step for step, _ in itertools.islice(steps, 4)] == [1, 2, 3, 4]
    directory.metrics.unlink()
    directory.metrics.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        next(steps)
    assert [path.name for path in checkpoint.kept(directory.checkpoints)][-1] == "step-00000004.safetensors"
    assert checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).about["progress"]["step"] == 4
