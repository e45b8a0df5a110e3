import math

import pytest
import torch

from gancore.checkpoint import store as checkpoint
from gancore.errors import NonFiniteError
from gancore.training.finite import not_finite
from gancore.training.loop import train
from gancore.training.recovery import roll_back
from helpers import nan_injection
from helpers.nan_injection import PLACES, Ailment, recording
from helpers.small_runs import lines
from helpers.tiny_components import equal, weights

ROLLBACK = {
    "training": {"on_nonfinite": "rollback", "nonfinite_limit": 2},
    "checkpoint": {"every_steps": 2, "keep": 9},
    "log": {"every_steps": 1},
}
FOREVER = 10**6


@pytest.mark.parametrize("place", PLACES)
def test_rollback_restores_the_newest_checkpoint_and_completes_the_run(tmp_path, place):
    gan, directory, records = recording(tmp_path / "run", Ailment(place, math.nan, 4), **ROLLBACK)
    with records as written:
        recorded = list(written)
    assert [record.step.step for record in recorded] == [1, 2, 3, 3, 4, 5, 6, 7]
    assert [line["step"] for line in lines(directory)] == [1, 2, 3, 4, 5, 6, 7]
    (warning,) = [warning for record in recorded for warning in record.warnings]
    assert recorded[3].warnings == (warning,)
    assert warning.startswith("at step 4, the ")
    assert warning.endswith("; back at step 2 with other noise, 1 of at most 2 times")
    assert gan.progress.nonfinite == 1
    saved = [checkpoint.load(path) for path in checkpoint.kept(directory.checkpoints)]
    assert [loaded.about["progress"]["nonfinite"] for loaded in saved] == [0, 0, 1, 1, 1]
    assert not [name for loaded in saved for name in not_finite(loaded.tensors)]


def test_rollback_discards_an_evaluation_after_its_checkpoint(tmp_path):
    _, directory, records = recording(tmp_path / "run", Ailment("a gradient of D", math.nan, 4), **ROLLBACK)
    found = []
    with records as written:
        for _ in written:
            found.append(directory.evaluation.exists())
            if len(found) in (2, 3):
                directory.evaluation.write_text(f'{{"step": {len(found)}}}')
    assert found == [False, False, True, False, False, False, False, False]


def test_rollback_changes_the_noise_each_time_and_is_reproducible(tmp_path):
    noise = {}
    for attempt in range(2):
        gan, directory, records = recording(tmp_path / str(attempt), Ailment("nothing", 0.0, 1), **ROLLBACK)
        with records as written:
            list(written)
        path = checkpoint.path_of(directory.checkpoints, 2)
        for number in range(3):
            gan.progress.nonfinite = number
            if number:
                roll_back(gan, checkpoint.load(path))
            else:
                gan.restore(checkpoint.load(path).tensors, checkpoint.load(path).about["progress"])
            assert (gan.progress.step, gan.progress.nonfinite) == (2, number)
            with gan.state.randomness.lent():
                noise[attempt, number] = torch.cat([gan.latent(1).flatten(), torch.rand(9)])
    for number in range(3):
        assert torch.equal(noise[0, number], noise[1, number])
        assert all(not (noise[0, number] == noise[0, other]).any() for other in range(number))


@pytest.mark.parametrize("step", [2, 4, 6])
def test_rollback_run_is_resumed_exactly(tmp_path, step):
    """A run resumed from before the rollback rolls back again; one resumed from after it does not."""
    whole, directory, records = recording(tmp_path / "whole", Ailment("the loss of G", math.inf, 4), **ROLLBACK)
    with records as written:
        list(written)
    ailment = Ailment("the loss of G", math.inf, 4, lasting=1 if step == 2 else 0)
    gan, _, records = recording(tmp_path / "resumed", ailment, **ROLLBACK)
    saved = checkpoint.load(checkpoint.path_of(directory.checkpoints, step))
    gan.restore(saved.tensors, saved.about["progress"])
    with records as written:
        list(written)
    assert equal(weights(gan), weights(whole))
    assert gan.progress.nonfinite == 1


@pytest.mark.parametrize(("policy", "limit"), [("skip", 3), ("skip", 0), ("rollback", 2), ("rollback", 0)])
def test_recovery_stops_the_run_at_its_limit(tmp_path, policy, limit):
    training = {"on_nonfinite": policy, "nonfinite_limit": limit}
    ailment = Ailment("the loss of D", math.nan, 3, lasting=FOREVER)
    gan, directory, records = recording(tmp_path / "run", ailment, **{**ROLLBACK, "training": training})
    message = rf"this is number {limit + 1}, and training.nonfinite_limit is {limit}"
    recorded = []
    with pytest.raises(NonFiniteError, match=message), records as written:
        recorded.extend(written)
    assert gan.progress.nonfinite == limit
    assert not [
        name for path in checkpoint.kept(directory.checkpoints) for name in not_finite(checkpoint.load(path).tensors)
    ]


def test_skipped_step_is_one_warning_and_null_in_the_log(tmp_path):
    ailment = Ailment("a gradient of D", math.inf, 3)
    _, directory, records = recording(tmp_path / "run", ailment, **{**ROLLBACK, "training": {"on_nonfinite": "skip"}})
    with records as written:
        warnings = {record.step.step: record.warnings for record in written if record.warnings}
    assert list(warnings) == [3]
    (warning,) = warnings[3]
    assert warning.endswith("so its update was not made; the step is skipped, 1 of at most 3 times")
    assert [line["step"] for line in lines(directory) if line["discriminator_loss"] is None] == [3]


def test_rollback_follows_a_checkpoint_that_is_not_finite(tmp_path):
    gan, directory, records = recording(tmp_path / "run", Ailment("nothing", 0.0, 1), **ROLLBACK)
    with records as written:
        for record in written:
            if record.step.step == 3 and not gan.progress.nonfinite:
                gan.ema[0].weight.data[0, 0] = math.nan
        assert gan.progress.nonfinite == 1
    assert [line["step"] for line in lines(directory)] == [1, 2, 3, 4, 5, 6, 7]


def test_rollback_without_a_run_directory_raises():
    gan, _, _ = nan_injection.assembled(Ailment("the loss of D", math.nan, 2), **{"training": ROLLBACK["training"]})
    with pytest.raises(NonFiniteError):
        list(train(gan))
