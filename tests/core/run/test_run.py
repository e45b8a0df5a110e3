"""The Run object: every way to make one, own objects as parts, opening, resuming, and its errors."""

import errno
import json
import math
import os
import signal
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.distributed import TCPStore
from torch.utils.data import TensorDataset

import gancore
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer
from gancore.contracts import Loss, Spec
from gancore.errors import CheckpointError, ConfigError, DataError, NumericsError, PluginError, StorageError
from gancore.hookspecs import hookimpl
from gancore.run.interrupt import Interrupted, Interruption
from gancore.run.source import duration_of
from gancore.sampling.sheet import sheet
from gancore_plugins.losses.bce import NonSaturating
from helpers.small_runs import lines, recorded, small_run, tensors
from helpers.tiny_components import PARTS, Hinge, TinyDiscriminator, TinyGenerator, catalog, equal
from helpers.two_rank_scenarios import closed_and_resumed, in_two_processes

CLOCK = {"seconds", "images_per_second"}
SMALL = {"generator.widths": [8], "discriminator.widths": [8]}


def steps_of(records):
    return [record.step.step for record in records]


def timeless(run):
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in run.metrics]


# The example of the docstring


def test_run_trains_a_recipe_by_name_and_open_resumes_and_samples_it(tmp_path):
    run = gancore.Run("digits", out=tmp_path / "a", steps=4, set={"loss": "hinge", "log.every_steps": 2, **SMALL})
    assert steps_of(run.train()) == [1, 2, 3, 4]

    run = gancore.open(str(tmp_path / "a"))
    assert run.config.loss.name == "hinge"
    assert [line["step"] for line in run.metrics] == [2, 4]
    assert [path.name for path in run.samples] == ["step-00000000.png", "step-00000004.png"]
    assert [path.name for path in run.checkpoints] == ["step-00000000.safetensors", "step-00000004.safetensors"]
    assert run.best is None
    assert steps_of(run.resume(steps=6)) == [5, 6]
    assert [line["step"] for line in run.metrics] == [2, 4, 6]
    assert run.config.duration == "6 steps"
    samples = run.load().sample(9, seed=0)
    assert (samples.shape, samples.dtype) == ((9, 1, 8, 8), torch.uint8)
    assert samples._repr_png_().startswith(b"\x89PNG")


# What a run is made from


@pytest.mark.parametrize("kind", ["file", "path", "dict", "dict with recipe", "config", "layers"])
def test_run_source_may_be_a_file_a_dict_a_config_or_layers(tmp_path, kind):
    file = tmp_path / "mine.toml"
    file.write_text('recipe = "digits"\nbatch_size = 7\n')
    recipe = dict(Catalog.installed().recipe("digits").data)
    sources = {
        "file": lambda: str(file),
        "path": lambda: file,
        "dict": lambda: recipe | {"batch_size": 7},
        "dict with recipe": lambda: {"recipe": "digits", "batch_size": 7},
        "config": lambda: gancore.Run("digits", set={"batch_size": 7}).config,
        "layers": lambda: [ConfigLayer("one", recipe), ConfigLayer("two", {"batch_size": 7})],
    }
    expected = gancore.Run("digits", set={"batch_size": 7}).config
    assert gancore.Run(sources[kind]()).config == expected


def test_run_without_a_source_is_the_recipe_digits_unless_all_parts_are_given():
    assert gancore.Run().config == gancore.Run("digits").config
    assert gancore.Run(loss="hinge").config == gancore.Run("digits", loss="hinge").config
    assert gancore.Run(**PARTS, catalog=catalog()).config == gancore.Run(PARTS, catalog=catalog()).config


def test_run_options_win_over_the_source_and_set_wins_over_options():
    changes = {"ema": {"half_life_kimg": 2.0}, "optimizer.generator.lr": 1e-3, "checkpoint": {"keep": 5}, "seed": 9}
    config = gancore.Run({"recipe": "digits", "seed": 1}, loss={"name": "hinge"}, kimg=2.5, seed=3, set=changes).config
    assert (config.loss.name, config.duration, config.seed, config.ema.half_life_kimg) == ("hinge", "2.5 kimg", 9, 2.0)
    assert (config.optimizer.generator.lr, config.checkpoint.keep) == (1e-3, 5)
    assert gancore.Run(config, set={"ema": None}).config.ema is None


def test_run_component_of_a_plugin_goes_into_the_config():
    run = gancore.Run(PARTS, catalog=catalog(), loss=NonSaturating(), generator=TinyGenerator(width=5))
    assert run.config.generator == TinyGenerator(width=5)
    assert run.config.to_data(run.catalog)["generator"] == {"name": "tiny", "width": 5}


@pytest.mark.parametrize("totals", [{"epochs": 1, "steps": 2}, {"steps": 3, "kimg": 1, "minutes": 2}])
def test_run_takes_one_total(totals):
    with pytest.raises(ConfigError, match=f"only one of {', '.join(totals)} can be the total"):
        gancore.Run("digits", **{"steps": None, **totals})


def test_duration_is_the_total_that_was_given():
    assert duration_of(epochs=None, steps=500) == "500 steps"
    assert duration_of(minutes=1e-5) == "0.00001 minutes"
    assert duration_of(steps=1e3) == "1000 steps"
    assert duration_of(kimg=2.50) == "2.5 kimg"
    assert duration_of() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": "digitz"}, ["unknown recipe 'digitz'", "did you mean 'digits'"]),
        ({"loss": "bec"}, ["unknown loss 'bec'", "[loss=]"]),
        ({"steps": -3}, ["duration", "'-3 steps'", "[steps=]"]),
        ({"steps": "a few"}, ["duration", "'a few steps'", "[steps=]"]),
        ({"set": {"generator.widht": 3}}, ["generator.widht: unknown key", "[set generator.widht]"]),
        ({"seed": -1, "set": {"batch_size": 0}}, ["seed", "[seed=]", "batch_size", "[set batch_size]"]),
        ({"source": "x" * 300}, ["unknown recipe 'xxx"]),
        ({"source": 3}, ["a recipe, a TOML file, a dict or a RunConfig; received int"]),
    ],
)
def test_run_reports_each_wrong_value_with_its_argument(arguments, words):
    with pytest.raises(ConfigError) as error:
        gancore.Run(**{"source": "digits", **arguments})
    for word in words:
        assert word in str(error.value)


# Its folder


def test_run_without_out_takes_the_next_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [small_run(None, {"duration": "1 steps"}) for _ in range(2)]
    assert [run.path for run in runs] == [None, None]
    assert [(run.metrics, run.samples, run.checkpoints) for run in runs] == [([], [], [])] * 2
    for run in runs:
        list(run.train())
    assert [str(run.path) for run in runs] == ["runs/0001", "runs/0002"]
    with pytest.raises(ConfigError, match="must be a new or empty folder; runs/0001 is not empty"):
        list(runs[0].train())


def test_run_that_is_dry_writes_nothing(tmp_path):
    run = small_run(tmp_path / "run", {"metrics": {"kid-random": {"subsets": 3}}})
    assert run.dry_run().step == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        small_run(tmp_path).dry_run()


def test_run_uses_the_gan_that_it_has_assembled(tmp_path):
    run = small_run(tmp_path / "run")
    gan = run.assemble()
    nn.init.constant_(gan.generator[0].weight, 0.25)
    next(run.train())
    assert run.gan is gan
    assert (checkpoint.load(run.checkpoints[0]).tensors["generator.0.weight"] == 0.25).all()


def test_run_may_begin_with_the_weights_of_another(tmp_path):
    first, second = small_run(tmp_path / "first"), small_run(tmp_path / "second", init_from=str(tmp_path / "first"))
    list(first.train())
    next(second.train())
    begun = checkpoint.load(second.checkpoints[0])
    assert torch.equal(begun.tensors["generator.0.weight"], tensors(first.directory)["generator.0.weight"])
    assert second.directory.read_manifest().entries["init_from"] == checkpoint.load(first.checkpoints[-1]).digest


def test_run_that_fails_before_its_first_step_leaves_nothing(tmp_path):
    with pytest.raises(DataError):
        list(small_run(tmp_path / "run", {"batch_size": 999}).train())
    assert list(tmp_path.iterdir()) == []


def test_run_says_what_it_has_kept_once_it_has_begun(tmp_path):
    run = small_run(tmp_path / "run")
    assert run.kept == ""
    records = run.train()
    next(records)
    assert run.kept == f"checkpoint {run.path}/checkpoints/step-00000000.safetensors"
    records.close()
    assert run.kept == f"checkpoint {run.path}/checkpoints/step-00000001.safetensors"
    assert repr(run) == f"<gancore.Run {run.path}, step-00000001>"


# Resuming


def test_kept_names_no_checkpoint_whose_last_flush_failed(tmp_path, monkeypatch):
    flush, saved = os.fsync, tmp_path / "run" / "checkpoints" / "step-00000004.safetensors"

    def fails(descriptor):
        if saved.exists() and os.path.samestat(os.fstat(descriptor), saved.parent.stat()):
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    run = small_run(tmp_path / "run", {"checkpoint": {"every_steps": 2}})
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError):
        list(run.train())
    assert run.kept == f"checkpoint {saved.with_name('step-00000002.safetensors')}"


def test_kept_names_no_newer_checkpoint_that_is_damaged(tmp_path):
    list(small_run(tmp_path / "run", {"checkpoint": {"every_steps": 4}}).train())
    newest = checkpoint.kept(tmp_path / "run" / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    run = gancore.open(tmp_path / "run", device="cpu", catalog=catalog())
    step = 1 + checkpoint.newest_valid(newest.parent).checkpoint.about["progress"]["step"]
    with closing(run.resume(steps=9)) as records:
        next(records)
    assert run.kept == f"checkpoint {checkpoint.path_of(newest.parent, step)}" != f"checkpoint {newest}"


def test_resume_from_an_older_checkpoint_keeps_it_when_the_next_is_saved(tmp_path):
    list(small_run(tmp_path / "run", {"checkpoint": {"every_steps": 2, "keep": 2}}).train())
    folder = tmp_path / "run" / "checkpoints"
    newest = checkpoint.kept(folder)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    run = gancore.open(tmp_path / "run", device="cpu", catalog=catalog())
    with closing(run.resume(steps=20)) as records:
        for record in records:
            if record.step.step == 8:
                break
    valid = [path for path in checkpoint.kept(folder) if checkpoint.verify(path).problem is None]
    assert [path.name for path in valid] == ["step-00000006.safetensors", "step-00000008.safetensors"]


def test_open_and_resume_end_as_a_run_that_was_not_interrupted(tmp_path):
    changes = {"ema": {}, "log": {"every_steps": 1}, "discriminator": {"name": "tiny", "dropout": 0.5}}
    whole, torn = small_run(tmp_path / "whole", changes), small_run(tmp_path / "torn", changes)
    list(whole.train())
    with closing(torn.train()) as records:
        assert steps_of(next(records) for _ in range(3)) == [1, 2, 3]
    torn = gancore.open(tmp_path / "torn", device="cpu", catalog=catalog())
    assert steps_of(torn.resume()) == [4, 5, 6, 7]
    assert equal(tensors(torn.directory), tensors(whole.directory))
    assert timeless(torn) == timeless(whole)
    assert steps_of(torn.resume()) == []


def test_resume_warns_of_what_has_changed_since_the_checkpoint(tmp_path):
    list(small_run(tmp_path / "run").train())
    path = checkpoint.select(tmp_path / "run").path
    saved = checkpoint.load(path)
    made_with = saved.about["made_with"] | {"torch": "2.11.0"}
    checkpoint.save(path, saved.tensors, dict(saved.about) | {"made_with": made_with})
    run = gancore.open(tmp_path / "run", device="cpu", catalog=catalog())
    list(run.resume(steps=8))
    assert run.warnings == [f"resuming is not bit-exact: torch was 2.11.0, now {torch.__version__}"]


def test_train_resume_starts_a_run_and_resumes_it(tmp_path):
    assert steps_of(small_run(tmp_path / "run").train(resume=True)) == [1, 2, 3, 4, 5, 6, 7]
    longer = small_run(tmp_path / "run", {"duration": "9 steps"})
    assert steps_of(longer.train(resume=True)) == [8, 9]
    with pytest.raises(CheckpointError, match="has another config: seed was 0, now 3"):
        next(small_run(tmp_path / "run", {"seed": 3}).train(resume=True))


def test_resume_of_a_run_that_was_never_trained_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not been trained yet"):
        next(small_run(None).resume())
    with pytest.raises(CheckpointError, match="there is no run in"):
        gancore.open(tmp_path)
    with pytest.raises(CheckpointError, match="there is no run in"):
        small_run(tmp_path / "run").load()


def test_interruption_ends_a_run_with_a_checkpoint_of_its_step(tmp_path):
    interruption, run = Interruption(), small_run(tmp_path / "run")

    def interrupted():
        for record in run.train(interruption=interruption):
            if record.step.step == 3:
                interruption.arrive(15)

    with pytest.raises(Interrupted):
        interrupted()
    assert run.checkpoints[-1].name == "step-00000003.safetensors"


def test_train_resume_of_a_run_that_is_assembled_is_that_of_the_config(tmp_path):
    def new():
        return small_run(tmp_path / "run", {"training": {"threads": "auto"}})

    list(new().train())
    config = (tmp_path / "run" / "config.toml").read_text()
    assert "threads = 1" in config
    (tmp_path / "run" / "config.toml").write_text(config.replace("threads = 1", "threads = 3"))
    run = new()
    run.assemble()
    assert steps_of(run.train(resume=True)) == []


def test_train_resume_takes_what_a_resume_of_this_object_has_changed(tmp_path):
    run = small_run(tmp_path / "run")
    list(run.train())
    assert steps_of(run.resume(steps=9, set={"batch_size": 5})) == [8, 9]
    assert steps_of(run.train(resume=True)) == []
    with closing(run.resume(steps=12, set={"log.every_steps": 2})) as records:
        next(records)
    assert steps_of(run.train(resume=True)) == [11, 12]
    assert steps_of(run.resume(set={"batch_size": 6})) == []
    assert steps_of(run.train(resume=True)) == []


def test_train_resume_asks_for_what_was_asked_after_a_resume_that_failed(tmp_path):
    run = small_run(tmp_path / "run")
    list(run.train())
    with pytest.raises(DataError):
        list(run.resume(steps=9, set={"batch_size": 60_000}))
    assert steps_of(run.train(resume=True)) == []


# Objects as parts


class Squares(nn.Module):
    """A loss with a state, which no plugin offers."""

    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def discriminator(self, real, fake):
        self.count += 1
        return (real.logits - 1).square().mean() + fake.logits.square().mean()

    def generator(self, fake, real):
        return (fake.logits - 1).square().mean()


def objects():
    """Own modules, an own dataset and an own loss, new ones with the same values at each call."""
    torch.manual_seed(1)
    return {
        "generator": TinyGenerator().build(Spec((1, 4, 4), 100)),
        "discriminator": TinyDiscriminator(dropout=0.5).build(Spec((1, 4, 4))),
        "dataset": TensorDataset(torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8), torch.zeros(20).long()),
        "loss": Squares(),
    }


OWN = {"batch_size": 4, "log.every_steps": 1, "ema": {"half_life_kimg": 0.01}}


@pytest.fixture
def own_ctrl_c():
    """Python's own handler of Ctrl-C, which a process in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptedLoss(Squares):
    """Sends Ctrl-C to this process in the middle of a step, as often as asked."""

    times = 0

    def generator(self, fake, real):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)
        return super().generator(fake, real)


@pytest.mark.usefixtures("own_ctrl_c")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_script_ends_a_run_after_its_step_and_a_second_one_at_once(tmp_path, times):
    parts = objects() | {"loss": InterruptedLoss()}
    run = gancore.Run(**parts, out=tmp_path / "run", steps=5, set=OWN, device="cpu")
    records = run.train()
    assert steps_of(next(records) for _ in range(2)) == [1, 2]
    parts["loss"].times = times
    with pytest.raises(KeyboardInterrupt) as error:
        next(records)
    assert error.type is KeyboardInterrupt
    assert run.checkpoints[-1].name == f"step-0000000{3 if times == 1 else 0}.safetensors"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert list(records) == []
    parts["loss"].times = 0
    assert steps_of(run.resume()) == ([4, 5] if times == 1 else [1, 2, 3, 4, 5])


@pytest.mark.usefixtures("own_ctrl_c")
def test_ctrl_c_between_two_records_is_that_of_python(tmp_path):
    run = small_run(tmp_path / "run")
    with closing(run.train()) as records:
        next(records)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert steps_of([next(records)]) == [2]
    assert run.checkpoints[-1].name == "step-00000002.safetensors"


def test_ctrl_c_is_left_to_a_program_that_handles_it(tmp_path):
    received, parts = [], objects() | {"loss": InterruptedLoss()}
    run = gancore.Run(**parts, out=tmp_path / "run", steps=2, set=OWN, device="cpu")
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        records = run.train()
        next(records)
        parts["loss"].times = 1
        assert steps_of(records) == [2]
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGINT]


def test_own_modules_are_trained_as_they_are_and_recorded(tmp_path):
    given = objects()
    before = given["generator"][0].weight.detach().clone()
    run = gancore.Run(**given, out=tmp_path / "run", steps=5, set=OWN, device="cpu")
    assert steps_of(run.train()) == [1, 2, 3, 4, 5]
    assert (run.gan.generator, run.gan.loss.objective) == (given["generator"], given["loss"])
    assert run.gan.feed.dataset is given["dataset"]
    assert not torch.equal(given["generator"][0].weight, before)
    assert checkpoint.load(run.checkpoints[-1]).tensors["loss.count"] == 5
    assert run.config.to_data(run.catalog)["dataset"] == {
        "name": "object",
        "type": "torch.utils.data.dataset.TensorDataset",
    }
    assert len(run.metrics) == 5
    assert len(run.samples) == 2


def test_own_modules_resume_as_a_run_that_was_not_interrupted(tmp_path):
    whole = gancore.Run(**objects(), out=tmp_path / "whole", steps=6, set=OWN, device="cpu")
    list(whole.train())
    with closing(gancore.Run(**objects(), out=tmp_path / "torn", steps=6, set=OWN, device="cpu").train()) as records:
        next(records)
        next(records)
    torn = gancore.open(tmp_path / "torn", **objects(), device="cpu")
    assert steps_of(torn.resume()) == [3, 4, 5, 6]
    assert equal(tensors(torn.directory), tensors(whole.directory))
    assert timeless(torn) == timeless(whole)
    again = gancore.Run(**objects(), out=tmp_path / "torn", steps=7, set=OWN, device="cpu")
    assert steps_of(again.train(resume=True)) == [7]


def test_own_modules_may_stand_next_to_named_parts(tmp_path):
    given = {part: value for part, value in objects().items() if part != "loss"}
    run = gancore.Run(**given, loss="hinge", out=tmp_path / "run", steps=2, set=OWN, device="cpu")
    list(run.train())
    assert gancore.open(run.path, **given).config.loss.name == "hinge"


def test_own_component_that_no_plugin_offers_is_an_object(tmp_path):
    known, config = worlds_without_hinge(), PARTS | {"batch_size": 4}
    run = gancore.Run(config, loss=Hinge(), out=tmp_path / "run", steps=2, catalog=known, device="cpu")
    list(run.train())
    assert 'type = "helpers.tiny_components.Hinge"' in run.directory.config.read_text()
    opened = gancore.open(run.path, loss=Hinge(), catalog=worlds_without_hinge(), device="cpu")
    assert steps_of(opened.resume(steps=3)) == [3]


def worlds_without_hinge():
    *others, worlds = catalog().plugins
    offered = {part.kind: part for part in worlds.components if part.name in ("tiny", "noise")}
    tiny = [part for part in worlds.components if part.name == "tiny"]

    hooks = {
        "gancore_generators": lambda: [tiny[0]],
        "gancore_discriminators": lambda: [tiny[1]],
        "gancore_datasets": lambda: [offered["dataset"]],
    }
    hooks = {name: hookimpl(hook, specname=name) for name, hook in hooks.items()}
    return Catalog([*others, read_plugin(SimpleNamespace(**hooks), "worlds", "gancore-worlds", "1.0")])


def test_own_modules_are_sampled_from_a_copy(tmp_path):
    given = objects()
    run = gancore.Run(**given, out=tmp_path / "run", steps=2, set={**OWN, "ema": None}, device="cpu")
    list(run.train())
    trained = run.load()
    assert trained.generator is not given["generator"]
    assert torch.equal(trained.generator[0].weight, given["generator"][0].weight)
    with torch.no_grad():
        given["generator"][0].weight.zero_()
    assert run.load().sample(4).equal(trained.sample(4))


@pytest.mark.parametrize("left_out", [("generator",), ("dataset", "loss"), ("generator", "discriminator", "dataset")])
def test_open_names_the_objects_that_are_missing(tmp_path, left_out):
    list(gancore.Run(**objects(), out=tmp_path / "run", steps=1, set=OWN, device="cpu").train())
    given = {part: value for part, value in objects().items() if part not in left_out}
    with pytest.raises(ConfigError) as error:
        gancore.open(tmp_path / "run", **given)
    missing = str(error.value).partition("missing: ")[2]
    assert [part for part in objects() if part in missing.replace("Discriminator", "")] == [
        part for part in objects() if part in left_out
    ]
    assert "gancore.open(" in error.value.hint
    with pytest.raises(ConfigError, match="needs Python objects that no file can rebuild"):
        gancore.load(tmp_path / "run")
    with pytest.raises(ConfigError, match="needs Python objects that no file can rebuild") as error:
        gancore.Run(tmp_path / "run" / "config.toml")
    assert "gancore.Run(..., generator=..., discriminator=..., loss=..., dataset=...)" in error.value.hint


def test_object_and_a_name_for_the_same_part_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="generator is given twice: as an object, and by set"):
        gancore.Run("digits", generator=objects()["generator"], set={"generator": "mlp"})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="the data is given twice"):
        gancore.Run(tmp_path, dataset=objects()["dataset"])


def test_open_refuses_an_object_for_a_part_that_the_config_names(tmp_path):
    list(small_run(tmp_path / "run").train())
    with pytest.raises(ConfigError, match="names its generator in its config"):
        gancore.open(tmp_path / "run", generator=objects()["generator"], catalog=catalog())


def test_config_of_a_run_with_objects_can_be_trained_again(tmp_path):
    list(gancore.Run(**objects(), out=tmp_path / "run", steps=3, set=OWN, device="cpu").train())
    file = tmp_path / "run" / "config.toml"
    again = gancore.Run(file, **objects(), out=tmp_path / "again", device="cpu")
    list(again.train())
    assert again.directory.config.read_text() == file.read_text()
    first = checkpoint.select(tmp_path / "run").checkpoint.tensors
    assert equal(tensors(again.directory), first)


def test_own_modules_are_unchanged_by_a_dry_run(tmp_path):
    given = objects()
    modules = [given[part] for part in ("generator", "discriminator", "loss")]
    before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
    run = gancore.Run(**given, out=tmp_path / "run", steps=2, set=OWN, device="cpu")
    assert run.dry_run().step == 1
    assert all(equal(module.state_dict(), state) for module, state in zip(modules, before, strict=True))
    list(run.train())
    list(gancore.Run(**objects(), out=tmp_path / "other", steps=2, set=OWN, device="cpu").train())
    assert equal(tensors(run.directory), checkpoint.select(tmp_path / "other").checkpoint.tensors)


def test_own_modules_are_not_frozen_by_a_dry_run(tmp_path):
    given = objects()
    layer = given["generator"][0]
    frozen = {**OWN, "training": {"freeze": ["generator.0"]}}
    assert gancore.Run(**given, out=tmp_path / "run", steps=2, set=frozen, device="cpu").dry_run().step == 1
    assert layer.training
    assert layer.weight.requires_grad


@pytest.mark.parametrize("normalize", [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_own_modules_may_keep_weights_that_a_forward_pass_computed(tmp_path, normalize):
    given = objects()
    for network in (given["generator"], given["discriminator"]):
        normalize(next(part for part in network.modules() if isinstance(part, nn.Linear)))
    given["generator"](torch.randn(2, 100))  # leaves a weight with a graph in the module
    run = gancore.Run(**given, out=tmp_path / "run", steps=2, set=OWN, device="cpu")
    list(run.train())
    assert run.load().sample(2).shape == (2, 1, 4, 4)
    assert steps_of(run.resume(steps=3)) == [3]


def test_own_generator_must_be_a_module(tmp_path):
    with pytest.raises(PluginError, match=r"a generator must be an nn\.Module; received int"):
        gancore.Run("digits", generator=3, device="cpu").assemble()


def test_own_loss_without_needs_real_receives_no_real_scores():
    class Plain:
        def discriminator(self, real, fake):
            return fake.logits.mean() - real.logits.mean()

        def generator(self, fake, real):
            assert real is None
            return -fake.logits.mean()

    run = gancore.Run(**{**objects(), "loss": Plain()}, set=OWN, device="cpu").assemble()
    assert run.loss.needs_real is False

    class Incomplete(Plain):
        def generator(self, fake, real):
            return fake.logits.mean() - real.logits.mean()

    with pytest.raises(
        PluginError, match=r"reads the scores of real images in generator\(\), which it does not receive"
    ) as error:
        gancore.Run(**{**objects(), "loss": Incomplete()}, set=OWN, device="cpu").assemble()
    assert "set needs_real = True" in error.value.hint


@pytest.mark.parametrize("declared", [True, False])
def test_own_loss_component_says_whether_it_needs_the_whole_batch(declared):
    class Own(Loss):
        """A loss that no plugin offers."""

        name = "own"
        whole_batch = declared

        def build(self, spec):
            return Squares()

    run = gancore.Run(**{**objects(), "loss": Own()}, set=OWN | {"training.accumulate": 2}, device="cpu")
    if declared:
        with pytest.raises(ConfigError, match="in this loss the images of a batch depend on each other"):
            run.assemble()
    else:
        run.assemble()


# Errors and progress


def test_run_error_of_a_loss_that_is_not_finite_leaves_the_checkpoint_before_it(tmp_path):
    class Breaks(Hinge):
        def generator(self, fake, real):
            return super().generator(fake, real) * math.nan

    run = small_run(tmp_path / "run", loss=Breaks())
    with pytest.raises(NumericsError, match="the generator's loss is not finite"):
        list(run.train())
    assert [path.name for path in run.checkpoints] == ["step-00000000.safetensors"]


def test_progress_is_one_plain_line_an_interval_where_there_is_no_terminal(tmp_path, capsys):
    run = small_run(tmp_path / "run", {"log": {"every_steps": 3}})
    list(run.train(progress=True))
    seen = capsys.readouterr()
    assert seen.out == ""
    shown = [line.split()[:2] for line in seen.err.splitlines()]
    assert shown[0] == ["samples:", "10"]
    assert shown[-2:] == [["step", "3"], ["step", "7"]]  # the step between them is less than five seconds later
    list(small_run(tmp_path / "silent").train())
    assert capsys.readouterr() == ("", "")


def test_metrics_become_a_pandas_table_where_pandas_is_installed(tmp_path, monkeypatch):
    run = small_run(tmp_path / "run", {"log": {"every_steps": 1}})
    list(run.train())
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("table", rows)))
    assert run.metrics.to_pandas() == ("table", lines(run.directory))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="needs pandas, which is not installed") as error:
        run.metrics.to_pandas()
    assert error.value.hint == "pip install pandas"


def test_metrics_leave_out_a_torn_line_and_read_null_as_nan(tmp_path):
    run = small_run(tmp_path / "run", {"log": {"every_steps": 1}})
    list(run.train())
    with run.directory.metrics.open("a") as log:
        log.write('{"step": 8, "loss": null}\n{"step": 9, "lo')
    with pytest.warns(UserWarning, match="1 damaged line"):
        metrics = run.metrics
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert math.isnan(metrics[-1]["loss"])


# Several ranks


def test_run_on_two_ranks_is_recorded_by_rank_0_and_followed_by_the_other(tmp_path):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's, which outlives a session
    torchrun = {"TORCHELASTIC_USE_AGENT_STORE": "True", "LOCAL_WORLD_SIZE": "2"}
    ends = in_two_processes(closed_and_resumed, tmp_path / "run", port=store.port, **torchrun)
    assert ends == [([1, 2, 3, 4, 5, 6, 7], rank) for rank in range(2)]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["ranks"] == 2
    assert [line["step"] for line in gancore.open(tmp_path / "run", catalog=catalog()).metrics] == [1, 2, 3, 4, 5, 6, 7]


# Data


LABELED = {"dataset": {"labeled": True, "rare": True, "count": 20}}


def test_run_keeps_what_was_understood_of_its_data(tmp_path, capsys):
    run = small_run(tmp_path / "run", LABELED, {"duration": "1 steps"})
    list(run.train(progress=True))
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("samples: 20 of 1x4x4 (gray), uint8 in ")
    assert shown[1] == "classes: 3: zero (16), one (2), two (2)"
    counts = [{"name": "zero", "count": 16}, {"name": "one", "count": 2}, {"name": "two", "count": 2}]
    assert run.data["classes"] == counts
    assert gancore.open(tmp_path / "run", catalog=catalog()).data == run.data
    assert run.data["items"] == 20
    assert str(tmp_path) not in json.dumps(run.data)


def test_checkpoint_of_a_conditional_run_has_names_and_counts_of_classes(tmp_path):
    run = small_run(tmp_path / "run", LABELED, {"training": {"conditional": True}, "duration": "1 steps"})
    list(run.train())
    trained = run.load()
    assert (trained.classes, trained.class_counts) == (("zero", "one", "two"), (16, 2, 2))
    assert [trained.class_name(label) for label in (None, 1, "2", "two")] == [None, "one", "two", "two"]
    assert [trained.class_number(label) for label in (None, 1, "2", "two")] == [None, 1, 2, 2]
    with pytest.raises(ConfigError, match="unknown class 'tow'; did you mean 'two'"):
        trained.class_name("tow")
    with pytest.raises(ConfigError, match="unknown class '999"):
        trained.class_name("9" * 5000)


def test_run_draws_the_sheet_of_its_data_unless_that_is_no_picture(tmp_path):
    run = small_run(tmp_path / "run", LABELED, {"duration": "1 steps"})
    list(run.train())
    assert run.gan is not None
    with Image.open(run.directory.samples / "real.png") as drawn:
        assert drawn.tobytes() == sheet(run.gan.feed).tobytes()
    vectors = small_run(tmp_path / "vectors", {"dataset": {"shape": [3]}, "duration": "1 steps"})
    list(vectors.train())
    assert not (vectors.directory.samples / "real.png").exists()
    assert vectors.data["shape"] == [3]


def test_run_warns_of_a_small_dataset(tmp_path):
    small, large = (small_run(tmp_path / str(count), {"dataset": {"count": count}}) for count in (99, 100))
    small.assemble()
    large.assemble()
    assert any("only 99 samples" in warning for warning in small.warnings)
    assert large.warnings == []


def test_damaged_newest_checkpoint_is_passed_over_by_everything_that_opens_a_run(tmp_path):
    settings = {"checkpoint": {"every_steps": 3}, "duration": "6 steps"}
    directory, _, _ = recorded(tmp_path / "run", settings)
    newest = checkpoint.path_of(directory.checkpoints, 6)
    newest.write_bytes(b"")
    damage = "is no checkpoint of gancore: it is not a complete safetensors file"
    reason = f"{newest} {damage}; step-00000003.safetensors is used"
    trained = small_run(tmp_path / "run", settings).load()
    assert (trained.step, trained.warnings) == (3, (reason,))
    other = small_run(tmp_path / "other", settings, init_from=directory.path)
    list(other.train())
    assert reason in other.warnings
    run = small_run(tmp_path / "run", settings)
    list(run.resume())
    assert reason in run.warnings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample": {"count": 10_000}}, "one picture shows at most"),
        ({"metrics": {"kid-random": {}}, "evaluate": {"samples": 10**13}}, "GB of memory"),
        ({"metrics": {"fd-random": {}}, "evaluate": {"samples": 3}}, "needs more than"),
        ({"metrics": {"coverage-random": {}}, "evaluate": {"samples": 3}}, "needs more than"),
    ],
)
def test_settings_that_cannot_work_end_a_run_before_its_folder_exists(tmp_path, settings, message):
    shape = {"dataset": {"name": "noise", "shape": [3, 128, 128], "count": 16}}
    with pytest.raises((ConfigError, DataError), match=message) as found:
        list(small_run(tmp_path / "run", shape, settings).train())
    assert found.value.hint
    assert list(tmp_path.iterdir()) == []
