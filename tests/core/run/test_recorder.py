import errno
import itertools
import json
import math
import os
import re
import shutil
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gancore.catalog.catalog import Catalog, read_plugin
from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Generator
from gancore.errors import CheckpointError, ConfigError, DataError, NumericsError, StorageError
from gancore.hookspecs import hookimpl
from gancore.metrics import Measurement, Metric
from gancore.observers import Observer, Writer
from gancore.run.directory import RunDirectory
from gancore.run.interrupt import Interrupted, Interruption
from gancore.run.progress import Display
from gancore.run.recorder import Session, record
from gancore.sampling.load import load
from gancore.sampling.write import save_samples
from gancore.training.finite import FiniteCheck
from gancore.training.loop import train
from helpers.small_runs import begun, lines, recorded, small_run, tensors
from helpers.tiny_components import Hinge, catalog

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


def test_run_folder_holds_config_manifest_log_pictures_and_checkpoints(tmp_path):
    directory, run, _ = recorded(tmp_path / "run", {"log": {"every_steps": 3}, "ema": {}})
    lines = [json.loads(line) for line in directory.metrics.read_text().splitlines()]
    manifest = json.loads(directory.manifest.read_text())

    assert [line["step"] for line in lines] == [3, 6, 7]
    assert all(set(line) == NUMBERS for line in lines)
    assert all(isinstance(value, int | float) for line in lines for value in line.values())
    assert resolve([ConfigLayer("file", tomllib.loads(directory.config.read_text()))], catalog()) == run
    assert manifest["plugins"] == {"gancore-worlds": "1.0", "gancore": manifest["gancore"]}
    assert manifest["torch"] == torch.__version__
    assert [path.name for path in checkpoint.kept(directory.checkpoints)] == [
        "step-00000000.safetensors",
        "step-00000007.safetensors",
    ]
    pictures = sorted(path.name for path in directory.samples.iterdir())
    assert pictures == ["real.png", "step-00000000.png", "step-00000007.png"]


def test_manifest_has_the_number_of_workers_that_was_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr("gancore.data.choose_workers._SHORT", 1.0)  # reading is fast, whatever it takes
    changes = {"training": {"data": "stream"}, "duration": "50 steps", "checkpoint": {"every_steps": 50}}
    directory, _, records = recorded(tmp_path / "run", changes)
    manifest = json.loads(directory.manifest.read_text())
    notes = [note for record in records for note in record.notes]
    assert manifest["workers"]["workers"] == 0
    assert set(manifest["workers"]["seconds_per_batch"]) == {"0"}
    assert [note.partition(" (")[0] for note in notes] == ["workers: none"]
    assert manifest.keys() > {"torch", "data"}


def test_damaged_manifest_stays_so_for_the_resume_that_restores_it(tmp_path):
    directory, _, _ = recorded(tmp_path / "run")
    directory.manifest.write_text("")
    directory.note({"workers": {}})
    assert directory.manifest.read_text() == ""


def test_manifest_names_no_person_host_or_folder(tmp_path):
    directory, _, _ = recorded(tmp_path / "a-telling-name")
    text = directory.manifest.read_text()
    for secret in (str(tmp_path), "a-telling-name", str(Path.home()), __import__("socket").gethostname()):
        assert secret not in text


@pytest.mark.parametrize(("every", "keep"), [(1, 2), (3, 4), (9, 2)])
def test_checkpoints_are_pruned_to_the_newest(tmp_path, every, keep):
    directory, _, _ = recorded(tmp_path / "run", {"checkpoint": {"every_steps": every, "keep": keep}})
    saved = [step for step in range(8) if step % every == 0 or step == 7]
    found = [int(re.findall(r"\d+", path.name)[0]) for path in checkpoint.kept(directory.checkpoints)]
    assert found == saved[-keep:]


def test_samples_are_drawn_at_each_interval_from_the_same_noise(tmp_path):
    # batches of 4, 4 and 2: images seen are 4, 8, 10, 14, 18, 20, 24
    directory, _, _ = recorded(tmp_path / "run", {"sample": {"every_kimg": 0.01, "count": 9}})
    names = sorted(path.name for path in directory.samples.glob("step-*"))
    assert names == [f"step-{step:08d}.png" for step in (0, 3, 6, 7)]
    frozen = {player: {"lr": 0.0} for player in ("generator", "discriminator")}
    still, _, _ = recorded(tmp_path / "still", {"sample": {"every_kimg": 0.01}, "optimizer": frozen})
    first, *rest = [path.read_bytes() for path in sorted(still.samples.glob("step-*"))]
    assert len(rest) == 3
    assert all(picture == first for picture in rest)


def test_samples_of_vectors_are_arrays(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {"dataset": {"name": "noise", "shape": [3]}, "sample": {"count": 5}})
    assert np.load(directory.samples / "step-00000007.npy").shape == (5, 3)


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


def test_config_of_a_run_trains_the_same_weights_again(tmp_path):
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

    run = small_run(tmp_path / "run", {"log": {"every_steps": 3}}, loss=Counted())
    run.assemble()
    read.clear()
    seen = list(run.train())

    assert [written.step.step for written in seen if written.metrics] == [3, 6, 7]
    assert len(read) == 3
    assert [written.metrics for written in seen if written.metrics] == [
        json.loads(line) for line in run.directory.metrics.read_text().splitlines()
    ]


# Huge weights after the first step, so that every later step is skipped.
FAST = {
    "optimizer": {player: {"name": "SGD", "lr": 1e38} for player in ("generator", "discriminator")},
    "training": {"on_nonfinite": "skip", "nonfinite_limit": 99},
}


def test_log_holds_null_for_numbers_that_are_not_finite(tmp_path):
    directory, _, seen = recorded(tmp_path / "run", FAST)
    (line,) = directory.metrics.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["discriminator_loss"] is None
    assert math.isnan(seen[-1].metrics["discriminator_loss"])


class Overflows(Generator):
    """Weights that stay finite, and samples that are infinite after the first update."""

    name = "overflows"

    def build(self, spec):
        return Overflowing(math.prod(spec.shape), spec.shape)


class Overflowing(nn.Module):
    def __init__(self, size, shape):
        super().__init__()
        self.weight, self.shape = nn.Parameter(torch.zeros(size)), shape

    def forward(self, latent):
        images = (latent[:, : len(self.weight)] * self.weight).tanh().unflatten(1, self.shape)
        return images if self.training or not self.weight.detach().any() else images * torch.inf


class Offers:
    @staticmethod
    @hookimpl
    def gancore_generators():
        return [Overflows]


@pytest.mark.parametrize("measured", [False, True], ids=["drawn", "measured"])
def test_samples_that_are_not_finite_end_a_run_and_its_checkpoint_from_before_stays(tmp_path, measured):
    known = Catalog([*catalog().plugins, read_plugin(Offers, "overflows", "gancore-overflows", "1.0")])
    often = {"checkpoint": {"every_steps": 1}, "evaluate": {"every_kimg": 0.004}}
    said = (MEASURED if measured else {}, often, {"generator": "overflows"})
    with pytest.raises(NumericsError, match=r"^at step [1-9], the generator makes samples that are not finite"):
        recorded(tmp_path / "run", *said, known=known)
    assert checkpoint.kept(RunDirectory(tmp_path / "run").checkpoints)


def test_sheet_that_cannot_be_drawn_is_a_warning(tmp_path):
    run = small_run(tmp_path / "run", {"duration": "1 steps"})

    def examples(rows, per_row):
        raise KeyError("pixels")

    run.assemble().feed.examples = examples
    (record,) = run.train()
    assert record.warnings == ("the contact sheet of the data cannot be drawn: KeyError: 'pixels'",)
    assert not (run.directory.samples / "real.png").exists()


def test_log_that_cannot_be_written_ends_the_run_and_keeps_the_last_checkpoint(tmp_path):
    often = {"duration": "9 steps", "log": {"every_steps": 1}, "checkpoint": {"every_steps": 2}}
    directory, _, steps = begun(tmp_path / "run", often)
    assert [written.step.step for written in itertools.islice(steps, 4)] == [1, 2, 3, 4]
    directory.metrics.unlink()
    directory.metrics.mkdir()
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        next(steps)
    assert [path.name for path in checkpoint.kept(directory.checkpoints)][-1] == "step-00000004.safetensors"
    assert checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).about["progress"]["step"] == 4


def test_checkpoint_is_not_saved_once_the_device_has_found_a_number_that_is_not_finite(tmp_path):
    class Breaks(Hinge):
        def generator(self, fake, real):
            return super().generator(fake, real) * (math.nan if run.gan and run.gan.progress.step == 3 else 1.0)

    run = small_run(tmp_path / "run", {"checkpoint": {"every_steps": 2}}, loss=Breaks())
    gan = run.assemble()
    gan.finite_check = FiniteCheck(gan.device, immediate=False)
    for optimizer in gan.optimizers.values():  # skips updates by itself, so that the error is read later, as on CUDA
        optimizer._step_supports_amp_scaling = optimizer.param_groups[0]["fused"] = True
    with pytest.raises(NumericsError, match="at step 4, the generator's loss is not finite"):
        list(run.train())
    assert [path.name for path in run.checkpoints][-1] == "step-00000002.safetensors"


def test_checkpoint_that_cannot_be_saved_leaves_the_others(tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if Path(target).name == "step-00000006.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"step-00000006.*No space left"):
        recorded(tmp_path / "run", {"checkpoint": {"every_steps": 2, "keep": 2}})
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000002.safetensors", "step-00000004.safetensors"]


# Evaluations, the best checkpoint, and the collapse guard

MEASURED = {
    "dataset": {"name": "noise", "shape": [2], "count": 100},
    "metrics": {"kid-random": {"subsets": 3}, "coverage": {"extractor": "random", "k": 2}},
    "evaluate": {"every_kimg": 0.008, "samples": 20},
    "duration": "7 steps",
}


def test_evaluations_happen_at_each_interval_and_at_the_end(tmp_path):
    directory, _, seen = recorded(tmp_path / "run", MEASURED)
    evaluated = [line for line in lines(directory) if "kid-random" in line]
    assert [line["step"] for line in evaluated] == [0, 2, 4, 6, 7]
    assert set(evaluated[1]) == {
        "step",
        "kimg",
        "seconds",
        "diversity",
        "kid-random",
        "coverage-random",
    }
    assert [written.step.step for written in seen if written.evaluation] == [2, 4, 6, 7]
    assert not {"diversity"} & {*evaluated[0], *evaluated[-1]}, "the guard looks at whole intervals"
    last = next(written.evaluation for written in reversed(seen) if written.evaluation)
    assert last.numbers().items() <= evaluated[-1].items()
    told = json.loads(directory.evaluation.read_text())
    assert told == json.loads(json.dumps({"step": 7, **last.to_data()}))


@pytest.mark.parametrize("ema", [{}, {"ema": {"half_life_kimg": 0.01}}], ids=["raw", "average"])
def test_evaluating_changes_nothing_in_the_run(tmp_path, ema):
    changes = {
        "discriminator": {"name": "tiny", "dropout": 0.5},
        "generator": {"name": "mlp", "normalization": "batch"},
        **ema,
    }
    bare = {key: value for key, value in MEASURED.items() if key not in {"metrics", "evaluate"}}
    without, _, _ = recorded(tmp_path / "without", bare, changes, {"evaluate": {"on_collapse": "ignore"}})
    measured, _, _ = recorded(tmp_path / "with", MEASURED, changes, {"evaluate": {"every_kimg": 0.001}})
    first, second = tensors(without), tensors(measured)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    pictures = [(folder.samples / "step-00000007.png").read_bytes() for folder in (without, measured)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(("name", "choose"), [("kid-random", min), ("coverage-random", max)])
def test_best_checkpoint_is_that_of_the_best_value(tmp_path, name, choose):
    fast = {player: {"lr": 0.05} for player in ("generator", "discriminator")}
    changes = {"checkpoint": {"best": name}, "optimizer": fast, "duration": "30 steps"}
    directory, _, _ = recorded(tmp_path / "run", MEASURED, changes)
    values = {line["step"]: line[name] for line in lines(directory) if name in line}
    assert len(set(values.values())) > 1
    best = checkpoint.select(directory.path, best=True).checkpoint
    first = next(step for step, value in values.items() if value == choose(values.values()))
    assert best.about["progress"]["step"] == first
    assert best.about["best"] == {"metric": name, "value": values[first]}
    assert [path.name for path in checkpoint.kept(directory.checkpoints)][-1] == "step-00000030.safetensors"


def test_best_checkpoint_is_kept_only_with_a_best_metric(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", MEASURED)
    with pytest.raises(CheckpointError, match="there is no best checkpoint in"):
        checkpoint.select(directory.path, best=True)


def test_best_checkpoint_is_not_one_whose_metric_is_not_a_number(tmp_path):
    class Undefined(Metric):
        """Is not a number for the first samples."""

        name = "undefined"
        needs = frozenset({"images"})
        better = "lower"

        def measure(self, evidence):
            if len(evidence.fake) != 20:
                return Measurement(0.0)
            measured.append(1.0 if measured else math.nan)
            return Measurement(measured[-1])

    @hookimpl
    def gancore_metrics():
        return [Undefined]

    measured = []
    plugin = read_plugin(SimpleNamespace(gancore_metrics=gancore_metrics), "one", "gancore-one", "1.0")
    changes = {"metrics": {"undefined": {}}, "checkpoint": {"best": "undefined"}}
    directory, _, _ = recorded(tmp_path / "run", MEASURED, changes, known=Catalog([*catalog().plugins, plugin]))
    best = checkpoint.select(directory.path, best=True).checkpoint
    assert math.isnan(measured[0])
    assert best.about["best"] == {"metric": "undefined", "value": 1.0}


def test_session_with_metrics_needs_an_evaluator(tmp_path):
    run = small_run(tmp_path, MEASURED)
    gan = run.assemble()
    with pytest.raises(ConfigError, match="no evaluator was given"):
        next(record(train(gan), Session(run.config, run.catalog, run.directory, gan)))


STILL = {
    "dataset": {"name": "noise", "shape": [2], "count": 100},
    "optimizer": {player: {"lr": 0.0} for player in ("generator", "discriminator")},
    "evaluate": {"every_kimg": 0.008},
}
"""The learning rate is 0, so that the samples of a constant generator keep no diversity."""


def test_collapse_to_one_image_is_reported_at_the_second_evaluation(tmp_path):
    _, _, seen = recorded(tmp_path / "run", {**STILL, "generator": {"name": "constant"}})
    warned = [(written.step.step, *written.warnings) for written in seen if written.warnings]
    assert [step for step, _ in warned] == [4]
    assert "collapse suspected: 100 samples have an effective number of 1.0 distinct ones" in warned[0][1]


def test_collapse_to_one_mode_of_eight_is_reported_at_the_second_evaluation(tmp_path):
    ring = {"dataset": "ring", "evaluate": {"every_kimg": 0.016}, "duration": "40 steps"}
    one = {"generator": {"name": "faithful", "scale": 0.01, "offset": [1.0, 0.0]}}
    _, _, seen = recorded(tmp_path / "run", STILL, ring, one)
    warned = [written for written in seen if written.warnings]
    assert [written.step.step for written in warned] == [8]
    assert "256 samples have an effective number of 1.0 distinct ones" in warned[0].warnings[0]


def test_collapse_is_not_reported_for_diverse_samples(tmp_path):
    directory, _, seen = recorded(tmp_path / "run", {**STILL, "generator": {"name": "faithful"}})
    assert not [written for written in seen if written.warnings]
    assert all(line["diversity"] > 0.5 for line in lines(directory) if "diversity" in line)


def test_collapse_stops_the_run_with_everything_of_its_last_step(tmp_path):
    stop = {"generator": {"name": "constant"}, "evaluate": {"every_kimg": 0.008, "on_collapse": "stop"}}
    with pytest.raises(NumericsError, match="stopped at step 4: collapse suspected"):
        recorded(tmp_path / "run", {**STILL, **stop})
    directory = RunDirectory(tmp_path / "run")
    assert [path.name for path in checkpoint.kept(directory.checkpoints)][-1] == "step-00000004.safetensors"
    assert (directory.samples / "step-00000004.png").is_file()
    assert [line["step"] for line in lines(directory)] == [2, 4]


def test_collapse_can_be_ignored(tmp_path):
    blind = {"generator": {"name": "constant"}, "evaluate": {"every_kimg": 0.008, "on_collapse": "ignore"}}
    directory, _, seen = recorded(tmp_path / "run", {**STILL, **blind})
    assert not [written for written in seen if written.warnings]
    assert not [line for line in lines(directory) if "diversity" in line]


def test_metrics_that_cannot_be_measured_end_the_run_before_the_first_step(tmp_path):
    with pytest.raises(DataError, match="needs more than 64 generated and real samples"):
        recorded(tmp_path / "run", MEASURED, {"metrics": {"fd-random": {}}})
    assert checkpoint.kept(RunDirectory(tmp_path / "run").checkpoints) == []


class Fails(Metric):
    """Calls `acts` when it measures samples, not when it measures real images."""

    name = "fails"
    needs = frozenset({"images"})
    better = "lower"
    acts: ClassVar = None

    def measure(self, evidence):
        if len(evidence.fake) == 20:
            type(self).acts()
        return Measurement(0.0)


class Slow(Observer):
    """Takes a quarter of a second for each picture of samples."""

    name = "slow"

    def build(self, run):
        return SlowPictures()


class SlowPictures(Writer):
    def image(self, step, name, image):
        time.sleep(0.25 if name == "samples" else 0)


def test_pictures_of_a_run_in_minutes_take_a_tenth_of_its_time_at_most(tmp_path):
    @hookimpl
    def gancore_observers():
        return [Slow]

    plugin = read_plugin(SimpleNamespace(gancore_observers=gancore_observers), "one", "gancore-one", "1.0")
    known = Catalog([*catalog().plugins, plugin])
    timed = {"duration": "0.05 minutes", "sample": {"every_kimg": None}, "observers": {"slow": {"name": "slow"}}}
    directory, _, _ = recorded(tmp_path / "run", timed, known=known)
    pictures = [path for path in directory.samples.iterdir() if path.name.startswith("step-")]
    assert 2 <= len(pictures) <= 4  # at the start and the end, and one in 2.5 seconds


class Ends(Observer):
    """Remembers how runs have ended."""

    name = "ends"
    outcomes: ClassVar = []

    def build(self, run):
        return RemembersTheEnd()


class RemembersTheEnd(Writer):
    def end(self, outcome):
        Ends.outcomes.append(outcome)


@pytest.fixture
def failing(monkeypatch):
    """A catalog with the metric and the observer above, and a function that sets `acts` of the metric."""
    monkeypatch.setattr(Ends, "outcomes", [])

    @hookimpl
    def gancore_metrics():
        return [Fails]

    @hookimpl
    def gancore_observers():
        return [Ends]

    hooks = SimpleNamespace(gancore_metrics=gancore_metrics, gancore_observers=gancore_observers)
    plugin = read_plugin(hooks, "failing", "gancore-failing", "1.0")
    known = Catalog([*catalog().plugins, plugin])
    return known, lambda acts: monkeypatch.setattr(Fails, "acts", staticmethod(acts))


def test_checkpoint_is_saved_before_the_evaluation(tmp_path, failing):
    known, act = failing
    changes = {"metrics": {"fails": {}}, "evaluate": {"every_kimg": 99.0, "samples": 20}}
    run = small_run(tmp_path / "run", MEASURED, changes, known=known)

    def interrupts_the_last():
        if run.gan.progress.step == 7:
            raise KeyboardInterrupt

    act(interrupts_the_last)
    with pytest.raises(KeyboardInterrupt):
        list(run.train())
    assert run.checkpoints[-1].name == "step-00000007.safetensors"


def resumed_for_its_last_evaluation(path, failing):
    """A run whose last evaluation was interrupted, to be resumed, after the checks that nothing follows it."""
    known, act = failing
    changes = {"metrics": {"fails": {}}, "evaluate": {"every_kimg": 99.0, "samples": 20}, "observers": {"ends": {}}}
    layers = MEASURED, changes, {"report": {"every_kimg": 99.0}}
    run = small_run(path, *layers, known=known)

    def interrupts_the_last():
        if run.gan.progress.step == 7:
            raise KeyboardInterrupt

    act(interrupts_the_last)
    with pytest.raises(KeyboardInterrupt):
        list(run.train())
    assert (Ends.outcomes, (path / "report.html").exists()) == (["interrupted"], False)
    act(lambda: None)
    return small_run(path, *layers, known=known)


def test_run_that_lacks_only_its_last_evaluation_is_finished_by_a_resume(tmp_path, failing):
    again = resumed_for_its_last_evaluation(tmp_path / "run", failing)
    assert list(again.train(resume=True)) == []
    assert (Ends.outcomes, (tmp_path / "run" / "report.html").exists()) == (["interrupted", "finished"], True)


class Notes(Display):
    """Remembers what is shown."""

    def __init__(self):
        self.lines = []

    def note(self, message):
        self.lines.append(message)


def test_resume_for_the_last_evaluation_shows_it_and_its_warnings_without_a_record(tmp_path, failing):
    again, notes = resumed_for_its_last_evaluation(tmp_path / "run", failing), Notes()
    (tmp_path / "run" / "report.html").mkdir()
    assert list(again.train(resume=True, progress=notes)) == []
    assert [line for line in notes.lines if line.startswith("step 7  ") and "  fails 0" in line]
    (warning,) = [text for text in again.warnings if text.startswith("the report was not written: cannot write ")]
    assert f"warning: {warning}" in notes.lines


@pytest.mark.parametrize("name", ["step-00000007.safetensors", "report.html"])
def test_interruption_while_the_last_files_are_written_leaves_a_finished_run(tmp_path, name):
    interruption, ended = Interruption(), []

    class Interrupting(Writer):
        def file(self, step, path):
            if path.name == name:
                interruption.arrive(15)

        def end(self, outcome):
            ended.append(outcome)

    class Interrupts(Observer):
        """Interrupts the run when a file is written."""

        name = "interrupts"

        def build(self, run):
            return Interrupting()

    @hookimpl
    def gancore_observers():
        return [Interrupts]

    plugin = read_plugin(SimpleNamespace(gancore_observers=gancore_observers), "one", "gancore-one", "1.0")
    known = Catalog([*catalog().plugins, plugin])
    layers = {"observers": {"interrupts": {}}}, {"report": {"every_kimg": 99.0}}
    with pytest.raises(Interrupted):
        list(small_run(tmp_path / "run", *layers, known=known).train(interruption=interruption))
    assert (ended, (tmp_path / "run" / "report.html").exists()) == (["finished"], True)
    assert list(small_run(tmp_path / "run", *layers, known=known).train(resume=True)) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("broken"), StorageError("full")], ids=repr)
def test_checkpoint_of_the_step_is_saved_when_its_evaluation_fails(tmp_path, failing, error):
    known, act = failing
    often = {"metrics": {"fails": {}}, "evaluate": {"every_kimg": 0.004, "on_collapse": "ignore", "samples": 20}}
    run = small_run(tmp_path / "run", MEASURED, often, known=known)

    def raises_after_five():
        if run.gan.progress.step == 5:
            raise error

    act(raises_after_five)
    with pytest.raises(BaseException):  # noqa: B017, PT011  # the evaluator may wrap it
        list(run.train())
    newest = checkpoint.select(run.path).checkpoint.about
    assert newest["progress"]["step"] == (0 if isinstance(error, StorageError) else 5)
    assert isinstance(error, StorageError) or newest["recorded"]["pending"] == ["evaluation"]


def test_signal_while_samples_are_drawn_leaves_a_checkpoint_of_the_step(tmp_path):
    def signals(module, inputs):
        if not module.training and gan.progress.step == 5 and interruption.signal is None:
            interruption.arrive(15)

    interruption = Interruption()
    run = small_run(tmp_path / "run", {"sample": {"every_kimg": 0.001}})
    gan = run.assemble()
    gan.generator.register_forward_pre_hook(signals)
    with pytest.raises(Interrupted):
        list(run.train(interruption=interruption))
    newest = checkpoint.select(run.path).checkpoint.about
    assert newest["progress"]["step"] == 5
    assert newest["recorded"]["pending"] == ["samples"]


def test_evaluation_draws_classes_as_frequent_as_in_the_data(tmp_path):
    rare = {"dataset": {"name": "noise", "count": 40, "labeled": True, "rare": True}}
    conditional = {
        "training": {"conditional": True},
        "evaluate": {"every_kimg": 0.01},
        "duration": "30 steps",
        "batch_size": 40,
    }
    run = small_run(tmp_path / "run", rare, conditional)
    seen = []
    run.assemble().generator.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    list(run.train())
    asked = torch.cat([labels for labels in seen if len(labels) == 64])
    shares = asked.bincount(minlength=3) / len(asked)
    assert shares[0] > 0.6, "most of the data is of the first class"


def test_pictures_of_points_are_scatter_plots_over_the_real_ones(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {"dataset": {"name": "noise", "shape": [2]}})
    with Image.open(directory.samples / "step-00000007.png") as plot:
        assert plot.size == (480, 480)
        assert (169, 184, 198) in {color for _, color in plot.getcolors(1 << 20)}


def test_pictures_of_samples_have_the_scale_of_the_real_ones(tmp_path):
    np.save(tmp_path / "real.npy", np.linspace(4, 6, 160, dtype=np.float32).reshape(10, 1, 4, 4))
    data = {"name": "array", "path": str(tmp_path / "real.npy"), "value_range": [0.0, 10.0]}
    directory, *_ = recorded(tmp_path / "run", {"dataset": data, "generator": {"name": "constant"}})
    for name in ("real", "step-00000007"):
        with Image.open(directory.samples / f"{name}.png") as picture:
            assert abs(np.median(np.asarray(picture.convert("L"))[10:50, 10:50]) - 128) < 40
    save_samples(load(directory.path, catalog=catalog()).stream(2), tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as picture:
        assert abs(np.median(np.asarray(picture)[20:60, 20:60]) - 128) < 40


@pytest.mark.parametrize("gone", ["samples", "checkpoints"])
def test_folder_that_is_deleted_while_the_run_trains_is_made_again(tmp_path, gone):
    directory, _, records = begun(tmp_path / "run", {"sample": {"every_kimg": 0.001}, "checkpoint": {"every_steps": 2}})
    for _ in range(3):
        next(records)
    shutil.rmtree(directory.path / gone)
    list(records)
    assert (directory.samples / "step-00000007.png").is_file()
    assert checkpoint.newest_valid(directory.checkpoints).path == checkpoint.path_of(directory.checkpoints, 7)


def test_run_folder_that_is_deleted_while_the_run_trains_is_not_made_again(tmp_path):
    directory, _, records = begun(tmp_path / "run", {"log": {"every_steps": 100}})
    next(records)
    shutil.rmtree(directory.path)
    with pytest.raises(StorageError, match="cannot write to"):
        list(records)
    assert not directory.path.exists()


def test_run_without_its_folder_of_pictures_is_resumed(tmp_path):
    directory, _, _ = recorded(tmp_path / "run")
    shutil.rmtree(directory.samples)
    list(small_run(directory.path).resume(steps=8))
    assert (directory.samples / "step-00000008.png").is_file()
