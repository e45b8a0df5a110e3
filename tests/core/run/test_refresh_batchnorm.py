"""Batch normalization of averaged weights that a run estimates anew: in what it saves and draws, and nowhere else."""

import copy
from contextlib import closing

import pytest
import torch

from gancore.errors import ConfigError
from gancore.run.directory import RunDirectory
from gancore.sampling.load import load
from gancore.training.batchnorm import batchnorms_of
from helpers.small_runs import begun, recorded, small_run, tensors
from helpers.tiny_components import catalog, equal

BASE = {
    "generator": {"name": "mlp", "normalization": "batch", "widths": [8]},
    "discriminator": {"name": "tiny", "dropout": 0.5},
    "checkpoint": {"every_steps": 3},
    "duration": "5 steps",
    "evaluate": {"on_collapse": "ignore"},
    "training": {"conditional": True},
    "dataset": {"name": "noise", "labeled": True},
}
EMA = {"half_life_kimg": 0.01, "more_kimg": [0.02]}
REFRESHED = {**BASE, "ema": {**EMA, "refresh_batchnorm": True}}


def split(saved):
    """Buffers of averages, and all other tensors."""
    is_buffer = {name: name.startswith("ema") and ("running" in name or "num_batches" in name) for name in saved}
    return [{name: value for name, value in saved.items() if is_buffer[name] == kind} for kind in (True, False)]


def test_refreshed_statistics_are_saved_and_change_nothing_in_training(tmp_path):
    plain, refreshed = (
        recorded(tmp_path / name, changes)[0]
        for name, changes in (("plain", {**BASE, "ema": EMA}), ("refreshed", REFRESHED))
    )
    (_, others), (statistics, expected) = split(tensors(plain)), split(tensors(refreshed))
    assert equal(others, expected)
    assert statistics
    for role in ("ema", "ema_0_02"):
        trained = load(refreshed.path, ema=None if role == "ema" else 0.02, device="cpu", catalog=catalog())
        (norm,) = batchnorms_of(trained.generator)
        saved = norm.running_mean.clone()
        trained.refresh_batchnorm()  # from other samples
        torch.testing.assert_close(saved, norm.running_mean, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("cut", [2, 3])
def test_resumed_run_saves_the_same_refreshed_statistics(tmp_path, cut):
    whole = recorded(tmp_path / "whole", REFRESHED)[0]
    with closing(small_run(tmp_path / "cut", REFRESHED).train()) as records:
        for _ in range(cut):
            next(records)
    list(small_run(tmp_path / "cut", REFRESHED).train(resume=True))
    assert equal(tensors(RunDirectory(tmp_path / "cut")), tensors(whole))


def test_averages_are_refreshed_once_for_their_weights_and_anew_after_a_restore(tmp_path):
    run = small_run(tmp_path / "run", REFRESHED)
    with closing(run.train()) as records:
        next(records)
        gan = run.gan
        (norm,) = batchnorms_of(gan.sampler())
        fresh = norm.running_mean.clone()
        norm.running_mean.fill_(7)
        gan.refresh_averages()
        assert (norm.running_mean == 7).all()
        gan.restore(copy.deepcopy(gan.state.tensors()), gan.state.place())
        gan.refresh_averages()
        assert torch.equal(norm.running_mean, fresh)


def test_generator_without_batch_normalization_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no batch normalization with running statistics"):
        next(begun(tmp_path, {"ema": {"refresh_batchnorm": True}})[2])
