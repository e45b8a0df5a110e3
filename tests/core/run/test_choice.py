"""The choice of threads and precision in a run: stored with its config, kept by resume, made anew on request."""

import json
from contextlib import closing

import pytest
import torch

from gancore.checkpoint import store as checkpoint
from gancore.distributed.ranks import Ranks
from gancore.errors import CheckpointError
from gancore.run import lockstep
from gancore.run.interrupt import Interruption
from gancore.run.progress import Display
from gancore.run.run import open as open_run
from gancore.utils.cores import usable_cores
from helpers.small_runs import recorded, small_run
from helpers.tiny_components import catalog

AUTO = {"duration": "4 steps", "training": {"threads": "auto", "precision": "auto"}}


class Notes(Display):
    """A display that keeps the lines it is given."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def note(self, line):
        self.lines.append(line)


@pytest.fixture
def two_threads():
    """Let torch use two threads in the test, as on a machine with two cores."""
    if usable_cores() < 2:
        pytest.skip("needs two cores")
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def resumed(path, **how):
    """The run of a folder, resumed to its end, and what its display shows."""
    run, notes = open_run(path, device="cpu", catalog=catalog()), Notes()
    list(run.resume(progress=notes, **how))
    return run, notes.lines


def test_choice_is_stored_in_config_manifest_and_checkpoint(tmp_path, two_threads):
    run, notes = small_run(tmp_path / "run", AUTO), Notes()
    list(run.train(progress=notes))
    choice = run.gan.choice
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["chosen"] == {
        "threads": choice.threads,
        "precision": choice.precision,
        "seconds_per_step": dict(choice.seconds_per_step),
        "failed": "",
    }
    assert manifest["threads"] == choice.threads
    assert str(choice) in notes.lines
    stored = open_run(tmp_path / "run", catalog=catalog()).config
    saved = checkpoint.newest_valid(tmp_path / "run" / "checkpoints").checkpoint.about
    for training in (run.config.training.model_dump(), stored.training.model_dump(), saved["config"]["training"]):
        assert (training["threads"], training["precision"]) == (choice.threads, choice.precision)


def test_choice_is_kept_by_resume_which_times_nothing(tmp_path, two_threads):
    with closing(small_run(tmp_path / "run", AUTO).train()) as records:
        next(records)
    again = small_run(tmp_path / "run", AUTO)
    list(again.train(resume=True))  # `auto` is not another config
    assert again.gan.progress.step == 4
    assert not again.gan.choice.seconds_per_step
    assert not [warning for warning in again.warnings if "bit-exact" in warning]


def test_threads_of_another_number_are_another_config_and_can_be_resumed_with(tmp_path):
    recorded(tmp_path / "run", AUTO)
    with pytest.raises(CheckpointError, match=r"training\.threads was 1, now 2") as error:
        list(small_run(tmp_path / "run", AUTO, {"training": {"threads": 2}}).train(resume=True))
    assert "--set training.threads=2" in error.value.hint
    run, _ = resumed(tmp_path / "run", steps=5, set={"training.threads": 2})
    assert [warning for warning in run.warnings if "exact" in warning] == [
        "resuming is not bit-exact: threads was 1, now 2"
    ]
    (entry,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["resumed"]
    assert entry == {"step": 4, "threads": 2, "changed": {"training.threads": [1, 2]}}


def test_choice_is_made_anew_where_the_user_asks_for_it(tmp_path, two_threads):
    recorded(tmp_path / "run", {"duration": "4 steps", "training": {"threads": 1}})
    assert "chosen" not in json.loads((tmp_path / "run" / "manifest.json").read_text())
    run, lines = resumed(tmp_path / "run", steps=5, set={"training.threads": "auto"})
    assert run.gan.choice.seconds_per_step
    assert str(run.gan.choice) in lines
    (entry,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["resumed"]
    assert entry["chosen"]["threads"] == run.gan.choice.threads
    expected = [] if run.gan.choice.threads == 1 else ["resuming is not bit-exact: threads was 1, now 2"]
    assert [warning for warning in run.warnings if "bit-exact" in warning] == expected


def test_threads_beyond_the_cores_are_said(tmp_path):
    run = small_run(tmp_path / "run", {"duration": "1 steps", "training": {"threads": usable_cores() + 1}})
    list(run.train())
    said = f"training.threads is {usable_cores() + 1}, and this process may use"
    assert [warning for warning in run.warnings if warning.startswith(said)]


def threads_of_draws(gan):
    """A list of the number of threads in each pass of the generator that draws samples from now on."""
    seen = []

    def note(generator, _latent):
        if not generator.training:
            seen.append(torch.get_num_threads())

    gan.generator.register_forward_pre_hook(note)
    return seen


def test_threads_apply_to_samples_and_evaluation_and_not_to_the_consumer(tmp_path):
    layers = {"duration": "2 steps", "training": {"threads": 2}, "metrics": {"kid-random": {"subsets": 2}}}
    run = small_run(tmp_path / "run", layers, {"evaluate": {"samples": 10}})
    seen = threads_of_draws(run.assemble())
    for _ in run.train():
        assert torch.get_num_threads() == 1
    assert set(seen) == {2}
    assert len(seen) >= 4
    assert torch.get_num_threads() == 1


def test_threads_apply_to_the_preparation_of_metrics(tmp_path):
    class Preparing(Display):
        def prepare(self, preparations):
            seen.extend(torch.get_num_threads() for _ in preparations)

    seen = []
    layers = {"duration": "1 steps", "training": {"threads": 2}, "metrics": {"kid-random": {"subsets": 2}}}
    run = small_run(tmp_path / "run", layers, {"evaluate": {"samples": 10}})
    list(run.train(progress=Preparing()))
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1


def test_threads_apply_to_the_samples_that_every_rank_draws(tmp_path):
    commands = [[lockstep.Command.SAMPLE, 4, 0, 0], [lockstep.Command.END, 0, 0, 0]]

    class Follower(Ranks):
        """A rank that gets the command to draw samples, and then the one to end."""

        def all_reduce_max(self, numbers):
            return commands.pop(0) if len(numbers) == 4 else super().all_reduce_max(numbers)

    gan = small_run(tmp_path / "run", {"training": {"threads": 2}}).assemble()
    seen, gan.ranks = threads_of_draws(gan), Follower()
    assert list(lockstep.follow(iter(()), gan, Interruption())) == []
    assert seen == [2]
    assert torch.get_num_threads() == 1
