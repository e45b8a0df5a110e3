"""Two processes that train one GAN: the same run as one process makes, and the same end on both ranks."""

import math
import os
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.distributed import HashStore

from gancore.checkpoint import store as checkpoint
from gancore.contracts import Spec
from gancore.distributed.join import _new_store, join_ranks
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import ConfigError
from gancore.sampling.draw import draw
from gancore.training.sync import synchronize_batchnorm
from gancore_plugins.regularizers.gradients import R1
from gancore_plugins.regularizers.lipschitz import DRAGAN
from helpers.tiny_components import TinyDiscriminator
from helpers.two_rank_scenarios import FAMILIES, SAME, SizeOfFakes, crowd, family, gan, made, outcome


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("crowd")


@pytest.fixture(scope="module")
def seen(folder):
    return crowd(folder)


@pytest.fixture(autouse=True)
def double():
    """Use double precision, so that runs differ by rounding only."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.filterwarnings("ignore:parameter 'idle' of the discriminator has no gradient")  # one scenario is about it
@pytest.mark.parametrize("name", SAME)
def test_ranks_make_the_same_run_as_a_single_process(seen, name):
    single = outcome(made(SINGLE_RANK, **SAME[name]))
    for rank in seen:
        for step, other in zip(single["steps"], rank["same"][name]["steps"], strict=True):
            assert other == pytest.approx(step, rel=1e-9, abs=1e-12)
        assert rank["same"][name]["tensors"].keys() == single["tensors"].keys()
        for key, value in single["tensors"].items():
            torch.testing.assert_close(rank["same"][name]["tensors"][key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:parameter 'idle' of the discriminator has no gradient")  # one scenario is about it
@pytest.mark.parametrize("name", SAME)
def test_ranks_keep_bit_identical_state(seen, name):
    assert equal(*(rank["same"][name]["tensors"] for rank in seen))


@pytest.mark.parametrize("recipe", FAMILIES)
def test_ranks_train_a_family_as_a_single_process(seen, recipe):
    """Losses with networks, encoders with a gradient penalty, and pictures as conditions; batches split unevenly."""
    single = outcome(family(SINGLE_RANK, recipe))
    first, second = (rank["families"][recipe] for rank in seen)
    assert equal(first["tensors"], second["tensors"])
    for step, other in zip(single["steps"], first["steps"], strict=True):
        assert other == pytest.approx(step, rel=1e-9, abs=1e-12)
    assert first["tensors"].keys() == single["tensors"].keys()
    for key, value in single["tensors"].items():
        torch.testing.assert_close(first["tensors"][key], value, rtol=1e-9, atol=1e-12)


def test_ranks_agree_on_batch_statistics_and_ema_with_dropout_and_batch_norm(seen):
    first, second = (rank["batch norm"] for rank in seen)
    assert equal(first["tensors"], second["tensors"])
    assert first["steps"] == second["steps"]
    assert any("running_var" in key for key in first["tensors"])


def test_batch_with_fewer_images_than_ranks_is_rejected_on_all_ranks(seen):
    for rank in seen:
        kind, message = rank["empty share"]
        assert kind == "DataError"
        assert message == (
            "every batch needs at least one image per process; with 13 images in batches of 4, the last batch has 1 "
            "for 2 processes"
        )


def test_preflight_checks_a_rank_with_one_image(seen):
    for rank in seen:
        kind, message = rank["share of one"]
        assert kind == "ConfigError"
        assert "batch_size 5 leaves a last batch of 1 of 13 images for one process, and" in message


def test_synchronized_batch_norm_is_rejected_on_the_cpu(seen):
    assert {rank["no cuda"] for rank in seen} == {
        ("ConfigError", "synchronized batch normalization needs CUDA; the device is cpu")
    }


def test_ranks_take_the_threads_that_rank_0_chooses(seen):
    assert [rank["choice"] for rank in seen] == [(1, {})] * 2


def test_dry_run_takes_the_same_steps_on_all_ranks_from_the_weights_of_rank_0(seen):
    (steps, first), (others, second) = (rank["dry"] for rank in seen)
    assert steps == others == 7
    assert equal(first, second)


def test_nan_on_one_rank_stops_all_at_the_same_step(seen):
    message = "at step 2, the discriminator's loss is not finite, so its update was not made"
    assert [rank["nan"] for rank in seen] == [("NonFiniteError", message)] * 2


def test_nan_on_one_rank_is_skipped_on_all(seen):
    first, second = (rank["nan, left out"] for rank in seen)
    assert first["skipped"] == second["skipped"] == 1
    assert equal(first["tensors"], second["tensors"])


def test_ranks_end_by_the_clock_of_rank_0(seen):
    first, second = (len(rank["minutes"]["steps"]) for rank in seen)
    assert first == second > 0


def test_sampling_with_several_ranks_draws_the_same_as_with_one(seen):
    run = gan()
    expected = draw(run.sampler(), 150, latent=run.options.latent, seed=3, device=run.device)
    assert torch.equal(seen[0]["drawn"][0], expected)


def test_random_stream_differs_between_ranks_and_rank_0_has_that_of_a_single_rank(seen):
    run = gan()
    with run.state.randomness.lent():
        assert torch.equal(seen[0]["drawn"][1], torch.rand(3))
    assert not torch.equal(seen[0]["drawn"][1], seen[1]["drawn"][1])


def test_recording_writes_on_rank_0_only_and_ranks_make_the_same_steps(seen, folder):
    (end, step, tensors), (other_end, other_step, others) = (rank["recorded"] for rank in seen)
    assert (end, step) == (other_end, other_step) == ("whole", 7)
    assert equal(tensors, others)
    saved = checkpoint.load(checkpoint.kept(folder / "recorded" / "checkpoints")[-1])
    assert saved.about["made_with"]["ranks"] == 2
    assert equal({key: each for key, each in saved.tensors.items() if not key.startswith("random")}, tensors)


def test_settings_that_rank_0_changes_on_resume_are_those_of_all(seen):
    (batch_size, log, tensors), (other_batch_size, other_log, others) = (rank["changed"] for rank in seen)
    assert (batch_size, log) == (other_batch_size, other_log) == (6, 1)
    assert equal(tensors, others)
    before = seen[0]["recorded"][2]
    assert all(torch.equal(tensors[key], before[key]) for key in tensors if key.startswith("generator."))
    assert any(not torch.equal(tensors[key], before[key]) for key in tensors if key.startswith("discriminator."))


def test_run_found_on_another_rank_only_is_not_started_again(seen):
    assert [rank["there"] for rank in seen] == [(True, False, "CheckpointError")] * 2


def test_signal_at_one_rank_ends_all_after_the_same_step_with_a_checkpoint(seen, folder):
    assert [rank["stopped"][:2] for rank in seen] == [(("Interrupted", 15), 3)] * 2
    assert checkpoint.kept(folder / "stopped" / "checkpoints")[-1].stem == "step-00000003"


def test_closing_the_steps_ends_all_ranks(seen):
    assert [rank["closed"][:2] for rank in seen] == [("whole", 3)] * 2


def test_rollback_happens_on_all_ranks(seen):
    (end, step, tensors), (other_end, other_step, others) = (rank["nan, back"] for rank in seen)
    assert (end, step) == (other_end, other_step) == ("whole", 7)
    assert equal(tensors, others)


def test_nan_on_one_rank_leaves_no_checkpoint_of_its_step(seen, folder):
    kinds = {rank["nan, stop"][0][0] for rank in seen}
    assert kinds == {"NonFiniteError"}
    assert [path.stem for path in checkpoint.kept(folder / "stop" / "checkpoints")] == [
        "step-00000000",
        "step-00000002",
    ]


def test_rollback_limit_ends_all_ranks(seen):
    assert [rank["beyond the limit"][0][0] for rank in seen] == ["NonFiniteError"] * 2


def normalized(shape, latent_dim):
    generator = nn.Sequential(nn.Linear(latent_dim, 4), nn.BatchNorm1d(4), nn.Linear(4, math.prod(shape)))
    return generator, TinyDiscriminator(batch_norm=True).build(Spec(shape))


def synchronized(generator, discriminator, regularizers):
    """Return both networks as a GAN on CUDA would have them."""
    cuda = torch.device("cuda")
    gan = SimpleNamespace(generator=generator, discriminator=discriminator, device=cuda, regularizers=regularizers)
    synchronize_batchnorm(gan)
    return gan.generator, gan.discriminator


def test_synchronized_networks_have_the_same_weights_under_the_same_names():
    networks = normalized((1, 4, 4), 5)
    names = [list(network.state_dict()) for network in networks]
    converted = synchronized(*networks, {})
    assert [list(network.state_dict()) for network in converted] == names
    for network in converted:
        assert [type(part) for part in network.modules() if "BatchNorm" in type(part).__name__] == [nn.SyncBatchNorm]


@pytest.mark.parametrize("penalty", [R1(), SizeOfFakes(), DRAGAN()])
def test_synchronized_batch_norm_is_rejected_if_a_regularizer_differentiates_twice(penalty):
    generator, discriminator = normalized((1, 4, 4), 5)
    plain = TinyDiscriminator().build(Spec((1, 4, 4)))
    synchronized(generator, plain, {"mine": penalty})  # the penalty does not differentiate G
    if type(penalty) is SizeOfFakes:  # differentiates once
        synchronized(generator, discriminator, {"mine": penalty})
    else:
        with pytest.raises(ConfigError, match="regularizer 'mine' differentiates twice"):
            synchronized(generator, discriminator, {"mine": penalty})


def test_device_is_another_gpu_for_each_process_of_a_machine():
    with (
        patch("torch.cuda.is_available", return_value=True),
        patch("torch.cuda.device_count", return_value=2),
    ):
        assert [Ranks(rank, 4, rank % 2).device() for rank in range(4)] == [
            torch.device("cuda", local) for local in (0, 1, 0, 1)
        ]
        assert Ranks(3, 4, 3).device("cpu") == torch.device("cpu")
        with pytest.raises(ConfigError, match="this machine has 2, none is left for process 3"):
            Ranks(2, 4, 2).device()


def test_device_is_the_only_gpu_that_a_launcher_shows():
    with patch("torch.cuda.is_available", return_value=True), patch("torch.cuda.device_count", return_value=1):
        assert [Ranks(rank, 2, rank).device() for rank in range(2)] == [torch.device("cuda", 0)] * 2


@pytest.mark.parametrize("count", range(2, 12))
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parts_of_all_ranks_are_the_whole_batch_in_order(count, size):
    whole = torch.arange(count)
    parts = [Ranks(rank, size).part(whole) for rank in range(size)]
    assert torch.equal(torch.cat(parts), whole)
    assert [Ranks(rank, size).offset(count) for rank in range(size)] == [
        sum(len(part) for part in parts[:rank]) for rank in range(size)
    ]


def test_join_ranks_without_torchrun_yields_a_single_rank():
    with join_ranks() as ranks:
        assert ranks == SINGLE_RANK
        assert (ranks.is_distributed, ranks.is_main) == (False, True)
        assert ranks.all_reduce_max([3]) == [3]
        assert ranks.broadcast("value") == "value"


def test_store_is_empty_after_a_restart():
    store = HashStore()
    for _ in range(2):
        with ThreadPoolExecutor() as threads:
            parts = list(threads.map(lambda rank: _new_store(store, rank, 3, monotonic() + 60), range(3)))
        assert not parts[0].check(["key"])
        parts[0].set("key", "value")
        assert [part.get("key") for part in parts] == [b"value"] * 3


INCONSISTENT = [
    ("two", "2", "0", "2"),
    ("2", "2", "0", "2"),
    ("-1", "2", "0", "2"),
    ("0", "2", "1", "2"),
    ("1", "2", "1", "1"),
]


@pytest.mark.parametrize("values", INCONSISTENT)
def test_environment_with_inconsistent_ranks_is_rejected(values):
    variables = dict(zip(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), values, strict=True))
    with (
        patch.dict(os.environ, {**variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}),
        pytest.raises(ConfigError, match="must number the processes"),
        join_ranks(),
    ):
        pass
