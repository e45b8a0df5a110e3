"""Resuming in one process: a run that is closed at any step and resumed, and what is refused."""

from contextlib import closing
from pathlib import Path

import pytest
import torch

import gancore
from gancore.checkpoint import store as checkpoint
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.errors import CheckpointError, ConfigError, StorageError
from gancore.run.changes import changes
from gancore.run.directory import RunDirectory
from gancore.run.progress import Display
from gancore.run.resume import find
from gancore.training.gan import GAN
from helpers.small_runs import lines, recorded, small_run
from helpers.tiny_components import Hinge, catalog, equal

CHANGES = {
    "dataset": {"name": "noise", "shape": [2], "count": 30},
    "discriminator": {"name": "tiny", "dropout": 0.5},
    "ema": {"more_kimg": [0.01, 2.5]},
    "metrics": {"kid-random": {"subsets": 3}},
    "evaluate": {"every_kimg": 0.008, "samples": 20},
    "sample": {"every_kimg": 0.01},
    "checkpoint": {"best": "kid-random"},
}
CLOCK = {"seconds", "images_per_second"}


def left(directory):
    saved = checkpoint.select(directory.path).checkpoint
    log = [{key: value for key, value in line.items() if key not in CLOCK} for line in lines(directory)]
    pictures = {path.name: path.read_bytes() for path in directory.samples.iterdir()}
    return saved.tensors, log, pictures, saved.about["recorded"]


@pytest.mark.parametrize(
    ("cuts", "every", "logged"), [((3,), 2, 1), ((0, 1, 4), 3, 2), ((2, 2), 8, 3), ((5, 1, 1), 1, 2), ((7,), 4, 1)]
)
def test_resume_ends_as_a_run_that_was_not_closed(tmp_path, cuts, every, logged):
    changes = {**CHANGES, "checkpoint": {"every_steps": every, "best": "kid-random"}, "log": {"every_steps": logged}}
    whole, _, _ = recorded(tmp_path / "whole", changes)
    directory = RunDirectory(tmp_path / "cut")
    for cut in (*cuts, 99):
        with closing(small_run(directory.path, changes).train(resume=True)) as records:
            for _ in range(cut):
                if next(records, None) is None:
                    break
    (tensors, *rest), (others, *expected) = left(directory), left(whole)
    assert equal(tensors, others)
    assert rest == expected


class Notes(Display):
    def __init__(self):
        self.texts = []

    def note(self, message):
        self.texts.append(message)


@pytest.mark.parametrize("total", ["9 minutes", "9 steps"])
def test_resume_says_that_a_total_in_minutes_is_not_repeated_exactly(tmp_path, total):
    notes = Notes()
    with closing(small_run(tmp_path / "run", {"duration": total}).train()) as records:
        next(records)
    with closing(small_run(tmp_path / "run", {"duration": total}).train(resume=True, progress=notes)) as records:
        next(records)
    said = [text for text in notes.texts if text.startswith("note: ")]
    expected = ["note: the total is in minutes, so the resumed run is not repeated exactly"]
    assert said == (expected if total == "9 minutes" else [])


LAZY = {
    "regularizers": {"r1": {"gamma": 1.0, "interval": 4}},
    "log": {"every_steps": 1},
    "checkpoint": {"every_steps": 3},
    "duration": "11 steps",
}


@pytest.fixture(scope="module")
def lazy(tmp_path_factory):
    """What a run with a lazy regularizer leaves that was not closed."""
    return left(recorded(tmp_path_factory.mktemp("lazy") / "whole", LAZY)[0])


@pytest.mark.parametrize("cut", [2, 4, 10])
def test_resume_logs_the_most_recent_penalty_of_a_lazy_regularizer(lazy, tmp_path, cut):
    with closing(small_run(tmp_path / "cut", LAZY).train()) as records:
        for _ in range(cut):
            next(records)
    for _ in range(2):  # the second time at its end
        list(small_run(tmp_path / "cut", LAZY).train(resume=True))
    (_, log, _, state), (_, expected, _, expected_state) = left(RunDirectory(tmp_path / "cut")), lazy
    assert [list(line) for line in log] == [list(line) for line in expected]
    assert (log, state) == (expected, expected_state)
    assert len({line["penalty.r1"] for line in log}) == 3
    assert state["penalties"] == {"r1": log[-1]["penalty.r1"]}


def test_rollback_logs_the_most_recent_penalty_of_a_lazy_regularizer(tmp_path):
    class NaNOnce(Hinge):
        def generator(self, fake, real):
            fails = not failed and run.gan and run.gan.progress.step == 7
            return super().generator(fake, real) * (failed.append(1) or torch.nan if fails else 1.0)

    failed = []
    run = small_run(tmp_path, LAZY, {"training": {"on_nonfinite": "rollback"}}, loss=NaNOnce())
    list(run.train())
    penalties = {line["step"]: line["penalty.r1"] for line in run.metrics}
    assert failed
    assert list(penalties) == list(range(1, 12))
    assert penalties[5] == penalties[6] == penalties[7] == penalties[8] != penalties[9]


@pytest.mark.parametrize(
    ("text", "stays"), [('{"step": 7, "metrics": {}}', False), ('{"step": 6, "metrics": {}}', True), ("{", True)]
)
def test_resume_discards_an_evaluation_after_its_checkpoint(tmp_path, text, stays):
    directory, _, _ = recorded(tmp_path / "run", {"checkpoint": {"every_steps": 3}})
    directory.evaluation.write_text(text)
    checkpoint.kept(directory.checkpoints)[-1].write_bytes(b"damaged")
    with closing(small_run(directory.path, {"checkpoint": {"every_steps": 3}}).train(resume=True)) as records:
        assert next(records).step.step == 7
    assert directory.evaluation.exists() == stays


def test_find_needs_a_run_in_the_folder(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run in"):
        find(RunDirectory(tmp_path), catalog())


def test_checkpoint_without_the_state_of_the_recorder_is_refused(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {})
    newest = checkpoint.select(directory.path).path
    saved = checkpoint.load(newest)
    checkpoint.save(newest, saved.tensors, {key: value for key, value in saved.about.items() if key != "recorded"})
    with pytest.raises(CheckpointError, match="does not hold the state of the log") as error:
        _ = find(directory, catalog()).state
    path = directory.path
    assert error.value.hint == (
        f"start a new run from its weights: gancore train {path}/config.toml --init-from {path} --out NEW"
    )


def test_random_streams_start_anew_with_a_state_of_another_device(tmp_path):
    directory, run, _ = recorded(tmp_path / "run", {})
    saved = checkpoint.select(directory.path).checkpoint
    gans = [GAN.assemble(run, Path(), "cpu") for _ in range(3)]
    strange = {**saved.tensors, "random.cuda": torch.zeros(16, dtype=torch.uint8)}
    for gan, tensors in zip(gans, (saved.tensors, strange, strange), strict=True):
        gan.restore(tensors, saved.about["progress"])
    same, one, other = (gan.latent(2) for gan in gans)
    assert torch.equal(one, other)
    assert not torch.equal(one, same)


def test_differences_of_two_configs_are_all_named():
    before = resolve(
        [ConfigLayer("test", {"generator": "tiny", "discriminator": "tiny", "loss": "bce", "dataset": "noise"})],
        catalog(),
    )
    now = before.to_data(catalog()) | {"seed": 3, "duration": "9 steps", "latent": {"dim": 7, "distribution": "normal"}}
    assert list(map(str, changes(before.to_data(catalog()), now))) == ["seed was 0, now 3", "latent.dim was 100, now 7"]
    assert list(map(str, changes({"a": {"b": 1}}, {"c": 2}))) == ["a.b was 1, now absent", "c was absent, now 2"]


@pytest.mark.parametrize("name", ["random.noise", "random.cpu"])
@pytest.mark.parametrize("spoil", [lambda state: state.double(), torch.zeros_like], ids=["dtype", "zeros"])
def test_random_state_that_is_invalid_is_refused(tmp_path, name, spoil):
    directory, run, _ = recorded(tmp_path / "run", {})
    saved = checkpoint.select(directory.path).checkpoint
    gan = GAN.assemble(run, Path(), "cpu")
    with pytest.raises(CheckpointError, match="a random state is not valid"):
        gan.restore({**saved.tensors, name: spoil(saved.tensors[name])}, saved.about["progress"])


@pytest.mark.parametrize("name", ["manifest.json", "evaluation.json", "checkpoints/step-00000099.safetensors"])
def test_folder_in_the_place_of_a_file_ends_a_resume_before_it_trains(tmp_path, name):
    directory, _, _ = recorded(tmp_path / "run")
    path = directory.path / name
    path.unlink(missing_ok=True)
    path.mkdir()
    before = directory.metrics.read_bytes(), directory.config.read_bytes()
    with pytest.raises(StorageError, match=f"{path.name}: it is a folder") as caught:
        list(small_run(directory.path, {"duration": "9 steps"}).resume(steps=9))
    assert caught.value.hint == "move it away"
    assert (directory.metrics.read_bytes(), directory.config.read_bytes()) == before


def test_run_whose_checkpoints_are_links_resumes_and_replaces_no_file_that_they_point_to(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {"checkpoint": {"keep": 2}})
    moved = directory.checkpoints.rename(tmp_path / "moved")
    directory.checkpoints.mkdir()
    before = {path: path.read_bytes() for path in moved.iterdir()}
    for path in before:
        (directory.checkpoints / path.name).symlink_to(path)
    list(small_run(directory.path, {"checkpoint": {"keep": 2}}).resume(steps=9))
    assert [path.stem for path in checkpoint.kept(directory.checkpoints)] == ["step-00000007", "step-00000009"]
    assert {path: path.read_bytes() for path in moved.iterdir()} == before


@pytest.mark.parametrize("kind", ["folder", "link", "missing"])
def test_unusable_config_of_a_run_with_checkpoints_is_named(tmp_path, kind):
    directory, _, _ = recorded(tmp_path / "run")
    directory.config.unlink()
    if kind == "folder":
        directory.config.mkdir()
    elif kind == "link":
        directory.config.symlink_to(directory.config.name)
    with pytest.raises(CheckpointError, match=r"has no config: .*config\.toml is") as caught:
        gancore.open(directory.path, catalog=catalog())
    assert "put an empty file there" in caught.value.hint
    with pytest.raises((CheckpointError, ConfigError), match="not empty" if kind == "missing" else "has no config"):
        list(small_run(directory.path).train(resume=True))
    if kind == "folder":
        directory.config.rmdir()
    directory.config.unlink(missing_ok=True)
    directory.config.touch()
    assert len(list(gancore.open(directory.path, catalog=catalog(), device="cpu").resume(steps=9))) == 2


@pytest.mark.parametrize("damage", [b"", None])
def test_damaged_best_checkpoint_is_named_and_written_again(tmp_path, damage):
    directory, _, _ = recorded(tmp_path / "run", CHANGES)
    best = checkpoint.best_of(directory.checkpoints)
    best.unlink()
    if damage is None:
        best.symlink_to("nowhere")
    else:
        best.write_bytes(damage)
    run = small_run(directory.path, CHANGES)
    assert run.best is None
    assert list(run.resume()) == []
    assert run.best is None
    assert "the best checkpoint is not valid" in " ".join(run.warnings)
    list(run.resume(steps=20))
    assert run.best == best
    assert not best.is_symlink()
