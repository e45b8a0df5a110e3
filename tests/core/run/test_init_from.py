"""A run that begins with other weights: where they may come from, what is shown when, and how it is repeated."""

import json
from contextlib import closing

import pytest
import torch
from torch import nn

import gancore
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.checkpoint import store as checkpoint
from gancore.contracts import Outline
from gancore.errors import CheckpointError
from gancore.hookspecs import hookimpl
from gancore.run.progress import Display
from helpers.small_runs import recorded, small_run, tensors
from helpers.tiny_components import Noise, catalog


class Seen(Display):
    """Keeps what a run shows."""

    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


class Late(Noise):
    """A dataset that says its form at once, and whose data is not there."""

    name = "late"

    def outline(self):
        names = ("zero", "one", "two", "three") if self.labeled else ()
        return Outline(self.count, self.shape, names)

    def build(self, root):
        raise AssertionError("the data is read")


class LatePlugin:
    """Plugin with the dataset above."""

    @staticmethod
    @hookimpl
    def gancore_datasets():
        return [Late]


def with_late():
    plugins = [*catalog().plugins, read_plugin(LatePlugin, "late", "gancore-late", "1.0")]
    return Catalog(plugins)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run with classes and an average."""
    layer = {"dataset": {"name": "noise", "labeled": True}, "training": {"conditional": True}, "ema": {}}
    directory, *_ = recorded(tmp_path_factory.mktemp("first") / "run", layer)
    return directory


def begun_from(path, origin, *layers, **more):
    """Take no step; return what was shown, and the tensors of step 0."""
    run = small_run(path, *layers, init_from=origin, **more)
    seen = Seen()
    records = run.train(progress=seen)
    next(records)
    records.close()
    return run, seen.lines, checkpoint.load(run.checkpoints[0]).tensors


CLASSES = {"dataset": {"name": "noise", "labeled": True}, "training": {"conditional": True}, "ema": {}}


@pytest.mark.parametrize("form", ["run", "checkpoint", "safetensors", "pth", "pt of both"])
def test_init_from_takes_every_form_of_weights(tmp_path, first, form):
    import safetensors.torch

    saved = dict(tensors(first))
    networks = {
        player: {k.removeprefix(f"{player}."): v for k, v in saved.items() if k.startswith(f"{player}.")}
        for player in ("generator", "discriminator")
    }
    origin = {"run": first.path, "checkpoint": checkpoint.kept(first.checkpoints)[-1]}.get(form, tmp_path / "weights")
    if form == "safetensors":
        safetensors.torch.save_file({k: v.clone() for k, v in saved.items() if not k.startswith("random")}, origin)
    elif form == "pth":
        torch.save(networks["generator"], origin)
    elif form == "pt of both":
        torch.save({"G": networks["generator"], "D": networks["discriminator"], "epoch": 3}, origin)
    run, lines, after = begun_from(tmp_path / "run", str(origin), CLASSES)
    assert torch.equal(after["generator.0.weight"], saved["generator.0.weight"])
    is_loaded = torch.equal(after["discriminator.0.weight"], saved["discriminator.0.weight"])
    assert is_loaded is (form != "pth")
    expected = saved["ema.0.weight"] if form in ("run", "checkpoint", "safetensors") else saved["generator.0.weight"]
    assert torch.equal(after["ema.0.weight"], expected)
    assert any(line.startswith("loaded from ") for line in lines)
    assert len(json.loads(run.directory.manifest.read_text())["init_from"]) == 64


def test_init_from_shows_what_fits_before_the_data_is_read(tmp_path, first):
    layer = {"dataset": {"name": "late", "labeled": True}, "training": {"conditional": True}}
    run, seen = small_run(tmp_path / "run", layer, init_from=first.path, known=with_late()), Seen()
    with pytest.raises(gancore.GancoreError, match="the data is read"):
        list(run.train(progress=seen))
    text = "\n".join(seen.lines)
    assert "classes: 3 in the file, 4 here; 3 loaded by name; new: three" in text
    assert "loaded partly" in text


def test_init_from_of_nothing_that_fits_ends_before_the_data_is_read(tmp_path, first):
    layer = {"dataset": {"name": "late"}, "generator": {"name": "tiny", "width": 3}}
    layer["discriminator"] = {"name": "tiny", "width": 3}
    run = small_run(tmp_path / "run", layer, init_from=first.path, known=with_late())
    with pytest.raises(CheckpointError, match=r"trained with generator\.width=8, discriminator\.width=8"):
        list(run.train())
    assert not (tmp_path / "run").exists()


def test_init_from_lists_layers_once(tmp_path, first):
    _, lines, _ = begun_from(tmp_path / "run", first.path, {"generator": {"name": "tiny", "width": 9}})
    assert sum(line.startswith("loaded from") for line in lines) == 1
    assert sum(line.split()[:1] == ["generator"] for line in lines) == 1


@pytest.mark.parametrize("plain", [False, True])
def test_init_from_is_repeated_by_a_run_without_a_checkpoint(tmp_path, first, plain):
    origin = tmp_path / "weights.pth" if plain else first.path
    if plain:
        torch.save({k: v for k, v in tensors(first).items() if k.startswith("generator.")}, origin)
    run, _, before = begun_from(tmp_path / "run", origin, CLASSES)
    for path in (*run.directory.path.rglob("step-*"), run.directory.metrics):
        path.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="was to begin from the weights of a checkpoint of digest") as error:
        list(small_run(tmp_path / "run", CLASSES).train(resume=True))
    again = f"gancore train … --init-from CHECKPOINT --out {tmp_path / 'run'} --resume"
    assert error.value.hint == f"repeat the command that started it: {again}"
    again = small_run(tmp_path / "run", CLASSES, init_from=origin)
    records = again.train(resume=True)
    next(records)
    records.close()
    after = checkpoint.load(again.checkpoints[0]).tensors
    assert all(torch.equal(before[name], after[name]) for name in before if name.split(".")[0] != "random")


def test_run_without_a_checkpoint_that_began_with_its_own_weights_takes_no_others(tmp_path, first):
    run = small_run(tmp_path / "run", CLASSES)
    with closing(run.train()) as records:
        next(records)
    for path in (*run.directory.path.rglob("step-*"), run.directory.metrics):
        path.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="was to begin from weights of its own") as error:
        list(small_run(tmp_path / "run", CLASSES, init_from=first.path).train(resume=True))
    assert error.value.hint == "leave --init-from out"


def test_init_from_with_frozen_layers_keeps_them_as_loaded(tmp_path, first):
    layer = {**CLASSES, "training": {"conditional": True, "freeze": ["generator.0", "discriminator.0"]}}
    run = small_run(tmp_path / "run", layer, init_from=first.path)
    list(run.train())
    after, before = tensors(run.directory), tensors(first)
    for name in ("generator.0.weight", "discriminator.0.bias"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["generator.2.weight"], before["generator.2.weight"])


def test_init_from_fills_modules_of_the_user(tmp_path):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))

        def forward(self, latent):
            return self.main(latent)

    old, mine = Mine(), Mine()
    torch.save({"netG": old.state_dict()}, tmp_path / "old.pth")
    run = gancore.Run(
        {"batch_size": 4, "duration": "1 steps", "discriminator": "tiny", "loss": "bce", "dataset": "noise"},
        generator=mine,
        init_from=tmp_path / "old.pth",
        out=tmp_path / "run",
        device="cpu",
        catalog=catalog(),
    )
    next(run.train())
    begun = checkpoint.load(run.checkpoints[0]).tensors
    assert torch.equal(begun["generator.main.0.weight"], old.main[0].weight)
