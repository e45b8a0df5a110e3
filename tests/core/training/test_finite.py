import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gancore.checkpoint import store as checkpoint
from gancore.config.run import Options
from gancore.errors import CheckpointError, NonFiniteError
from gancore.run.directory import RunDirectory
from gancore.run.recorder import Session, record
from gancore.training.finite import FiniteCheck, not_finite
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.regularizers import ActiveRegularizers
from gancore.training.update import Update
from helpers import nan_injection
from helpers.nan_injection import PLACES, Ailment, nothing_random, recording, state
from helpers.small_runs import begun, recorded
from helpers.tiny_components import Hinge, assembled, dataset, equal, trained, weights

FAULTS = st.builds(
    Ailment,
    place=st.sampled_from(PLACES),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
    step=st.integers(1, 7),
    weight=st.integers(0, 5),
)
UPDATES = st.integers(1, 2)


def train_until_not_finite(gan, look):
    """Train until NonFiniteError. Return the error, and `look(gan)` after the step before it."""
    observed = look(gan)
    try:
        for _ in train(gan):
            observed = look(gan)
    except NonFiniteError as error:
        return error, observed
    pytest.fail("no NonFiniteError was raised")


@given(ailment=FAULTS, updates=UPDATES, clip=st.booleans())
@settings(max_examples=40)
def test_finite_check_reports_the_step_and_prevents_the_update(ailment, updates, clip):
    training = {"discriminator_steps": updates} | ({"clip_norm": 1.0} if clip else {})
    gan, _, _ = nan_injection.assembled(ailment, training=training)
    error, before = train_until_not_finite(gan, state)
    assert str(error).startswith(f"at step {ailment.step}, the ")
    assert ailment.player in error.what
    assert (error.step, gan.progress.step) == (ailment.step, ailment.step - 1)
    after = state(gan)
    moved = {name for name in after if name not in before or not torch.equal(after[name], before[name])}
    players = {name.removeprefix("optimizer.").partition(".")[0] for name in moved}
    if ailment.place == "the projection":  # projections follow the update
        assert players == {"discriminator"}
        assert not [name for name in not_finite(after) if not name.startswith("discriminator")]
    else:
        assert players == (set() if ailment.player == "discriminator" else {"discriminator"})
        assert not not_finite(after)


@given(ailment=FAULTS, updates=UPDATES)
@settings(max_examples=25)
def test_skipped_step_changes_only_counters(ailment, updates):
    gan, _, _ = nan_injection.assembled(ailment, training={"on_nonfinite": "skip", "discriminator_steps": updates})
    before = nothing_random(gan)
    for step in train(gan):
        after = nothing_random(gan)
        if step.step == ailment.step:
            assert step.skipped.endswith("the step is skipped, 1 of at most 3 times")
            assert after.keys() == before.keys()
            assert all(torch.equal(after[name], before[name]) for name in before)
            assert math.isnan(step.scalars()["generator_loss"])
        else:
            assert step.skipped == ""
            assert not torch.equal(after["generator.0.weight"], before["generator.0.weight"])
        before = after
    assert (gan.progress.step, gan.progress.nonfinite) == (7, 1)
    assert not not_finite(gan.state.tensors())


@pytest.mark.parametrize("updates", [1, 3])
def test_skipped_step_counts_its_images_as_seen(updates):
    ailment = Ailment("the loss of D", math.nan, 2)
    gan, _, _ = nan_injection.assembled(ailment, training={"on_nonfinite": "skip", "discriminator_steps": updates})
    whole = [4 * updates * step for step in range(1, 8)]
    missing = 4 * updates - 4  # the bad batch counts; the batches of later updates were not taken
    assert [step.images_seen for step in train(gan)] == [whole[0], *(images - missing for images in whole[1:])]


@given(ailment=FAULTS)
@settings(max_examples=8)
def test_checkpoints_of_a_failing_run_are_finite(tmp_path_factory, ailment):
    path = tmp_path_factory.mktemp("runs") / "run"
    _, directory, records = recording(path, ailment, checkpoint={"every_steps": 1, "keep": 9})
    with pytest.raises(NonFiniteError), records as written:
        list(written)
    paths = checkpoint.kept(directory.checkpoints)
    assert paths == [checkpoint.path_of(directory.checkpoints, step) for step in range(ailment.step)]
    assert not [name for path in paths for name in not_finite(checkpoint.load(path).tensors)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_finite_check_names_the_weight_with_and_without_clipping(value, clip):
    ailment = Ailment("a gradient of D", value, 3, weight=2)
    gan, _, _ = nan_injection.assembled(ailment, training={"clip_norm": clip} if clip else {})
    name = [name for name, _ in gan.discriminator.named_parameters()][2]
    message = rf"(?m)^at step 3, the gradient of the discriminator's {name} is not finite, so its update was not made$"
    with pytest.raises(NonFiniteError, match=message):
        list(train(gan))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("the loss of D", "the discriminator's loss is not finite"),
        ("the loss of G", "the generator's loss is not finite"),
        ("the penalty", "the discriminator's penalty ill is not finite"),
        ("the projection", "the discriminator's weight 0.weight is not finite after its regularizers projected it"),
    ],
)
def test_finite_check_names_loss_penalty_and_projected_weight(place, message):
    gan, _, _ = nan_injection.assembled(Ailment(place, math.nan, 2))
    with pytest.raises(NonFiniteError, match=message):
        list(train(gan))


def test_finite_check_rejects_a_gradient_whose_square_overflows():
    gan, _, _ = nan_injection.assembled(Ailment("a gradient of G", 1e20, 2))
    with pytest.raises(NonFiniteError, match=r"the generator's 0.weight is too large to be squared"):
        list(train(gan))
    assert not not_finite(weights(gan))


def test_clipping_with_the_norms_of_the_finite_check_equals_torch(monkeypatch):
    changes = {"training": {"clip_norm": 0.01}, "optimizer": {"discriminator": {"name": "SGD", "lr": 0.1}}}
    ours, steps = trained(assembled(**changes))
    gan, clipped = assembled(**changes), []

    def clipped_again(parameters, limit, norm):
        clipped.append(limit)
        assert torch.equal(norm, nn.utils.get_total_norm([parameter.grad for parameter in parameters]))
        nn.utils.clip_grad_norm_(parameters, limit)

    monkeypatch.setattr(nn.utils, "clip_grads_with_norm_", clipped_again)
    theirs, _ = trained(gan)
    assert clipped == [0.01] * 2 * len(steps)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_clipping_leaves_a_player_without_gradients_as_it_is():
    gan = assembled(training={"clip_norm": 0.01})
    before, update = weights(gan), Update(gan, "discriminator")
    update.backward(torch.ones((), requires_grad=True) * 2, {}, 1)
    update.step(4)
    assert equal(weights(gan), before)


# Deferred checks, as on a GPU: the fused optimizers of the CPU take the same flag.


def deferred(gan):
    """Make the finite check of a GAN keep its results until they are read."""
    gan.finite_check = FiniteCheck(gan.device, gan.state, immediate=False)
    return gan


class CountingNorms(TorchDispatchMode):
    """Counts the calls in which torch computes the norms of several tensors."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._foreach_norm.Scalar
        return func(*args, **(kwargs or {}))


def test_clipping_after_a_deferred_check_computes_the_norms_once():
    gan = deferred(assembled(training={"clip_norm": 0.01}))
    with CountingNorms() as norms:
        next(train(gan))
    assert norms.count == 2  # an update of each player


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD", "Adagrad"])
@given(ailment=FAULTS.filter(lambda ailment: ailment.place != "the projection"))
@settings(max_examples=6)
def test_deferred_finite_check_skips_updates_until_it_is_read(optimizer, ailment):
    changes = {"optimizer": {player: {"name": optimizer} for player in ("generator", "discriminator")}}
    copy = dataclasses.replace(ailment)
    expected, _ = train_until_not_finite(nan_injection.assembled(copy, **changes)[0], parameters_and_moments)
    gan = deferred(nan_injection.assembled(ailment, **changes)[0])
    states = [parameters_and_moments(gan)]

    def look(gan):
        states.append(parameters_and_moments(gan))

    error, _ = train_until_not_finite(gan, look)
    assert gan.progress.step == 7  # the result was read only at the end
    assert str(error).replace("not finite, or too large to be squared", "not finite") == str(expected)
    states = states[1:]
    before, first = states[ailment.step - 1], states[ailment.step]
    assert all(
        torch.equal(first[name], before[name]) for name in before if ailment.player in name or "generator" in name
    )
    assert all(equal(later, first) for later in states[ailment.step :])
    assert not not_finite(first)
    with pytest.raises(NonFiniteError, match=f"^at step {ailment.step}, "):
        gan.finite_check.raise_if_found()


def test_deferred_finite_check_raises_when_the_scalars_of_a_step_are_read():
    gan = deferred(nan_injection.assembled(Ailment("a gradient of G", math.inf, 3))[0])
    steps = train(gan)
    for _ in range(2):
        next(steps).scalars()
    step = next(steps)
    with pytest.raises(NonFiniteError, match=r"^at step 3, the gradient of the generator's 0.weight"):
        step.scalars()


def parameters_and_moments(gan):
    """Return the same as `state`, for a GAN whose `tensors()` raises."""
    return {
        f"{role}.{name}": value.detach().clone()
        for role, module in gan.state.modules.items()
        for name, value in module.named_parameters()
        if role != "ema"  # the EMA still moves toward weights that do not
    } | {
        f"{player}.{number}.{key}": value.clone()
        for player, optimizer in gan.optimizers.items()
        for number, moments in enumerate(optimizer.state.values())
        for key, value in moments.items()
        if isinstance(value, torch.Tensor)
    }


def test_finite_check_reads_at_once_for_an_optimizer_without_found_inf():
    rmsprop = {player: {"name": "RMSprop"} for player in ("generator", "discriminator")}
    gan = deferred(nan_injection.assembled(Ailment("the loss of G", math.nan, 4), optimizer=rmsprop)[0])
    with pytest.raises(NonFiniteError, match=r"^at step 4, the generator's loss"):
        list(train(gan))
    assert gan.progress.step == 3


def test_finite_check_reports_a_deferred_result_of_the_other_player():
    gan = deferred(
        nan_injection.assembled(Ailment("the loss of D", math.nan, 3), optimizer={"generator": {"name": "RMSprop"}})[0]
    )
    with pytest.raises(NonFiniteError, match=r"^at step 3, the discriminator's loss"):
        list(train(gan))


@pytest.mark.parametrize(
    ("unfused", "place", "message", "steps"),
    [  # both updates of step 3 are bad; the update of G in step 3, then that of D in step 4
        ("generator", "a fake", "^at step 3, the discriminator's loss", 2),
        ("discriminator", "the loss of G", "^at step 3, the generator's loss", 3),
    ],
)
def test_finite_check_reports_the_first_bad_update_of_mixed_optimizers(unfused, place, message, steps):
    """An optimizer that is read at once first reads the deferred result of the other one."""
    ailment = Ailment(place, math.nan, 3, lasting=9)
    gan = deferred(nan_injection.assembled(ailment, optimizer={unfused: {"name": "RMSprop"}})[0])
    with pytest.raises(NonFiniteError, match=message):
        list(train(gan))
    assert gan.progress.step == steps


def test_deferred_finite_check_reports_a_projection_and_is_reset_by_restore():
    gan = deferred(nan_injection.assembled(Ailment("the projection", math.inf, 2))[0])
    finite, place = weights(gan), gan.state.place()
    with pytest.raises(NonFiniteError, match=r"^at step 2, the discriminator's weight"):
        list(train(gan))
    gan.restore(finite, place)
    assert [step.step for step in train(gan)] == list(range(1, 8))


# Before saving, and after loading.


def test_finite_check_after_an_update_runs_only_for_regularizers_that_project():
    gan, _, _ = nan_injection.assembled(Ailment("nothing", 0.0, 1))
    assert gan.active_regularizers("discriminator", 0).projects
    assert not ActiveRegularizers(()).projects
    assert not assembled(regularizers={"r1": {}}).active_regularizers("discriminator", 0).projects
    assert assembled(regularizers={"weight-clipping": {}}).active_regularizers("discriminator", 0).projects


TENSORS = {
    "parameter": lambda gan: next(gan.generator.parameters()),
    "average": lambda gan: next(gan.ema.parameters()),
    "buffer": lambda gan: gan.discriminator[1].running_var,
    "moment": lambda gan: next(iter(gan.optimizers["discriminator"].state.values()))["exp_avg_sq"],
}


@pytest.mark.parametrize("what", TENSORS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_checkpoint_is_not_written_when_state_is_not_finite(tmp_path, what, value):
    gan, run, known = nan_injection.assembled(Ailment("nothing", 0.0, 1), checkpoint={"every_steps": 2, "keep": 9})
    directory = RunDirectory(tmp_path / "run")
    directory.create(run, known, gan.device)

    def steps_with_bad_tensor():
        for step in train(gan):
            if step.step == 4:
                with torch.no_grad():
                    TENSORS[what](gan).view(-1)[0] = value
            yield step

    with pytest.raises(NonFiniteError, match=r"(?m)^at step 4, .* is not finite, so no checkpoint was written$"):
        list(record(steps_with_bad_tensor(), Session(run, known, directory, gan)))
    assert [path.name[5:13] for path in checkpoint.kept(directory.checkpoints)] == ["00000000", "00000002"]


@pytest.mark.parametrize("immediate", [True, False])
@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("moment", "the moment exp_avg of the discriminator's 0.weight"),
        ("parameter", "the generator's weight 0.weight"),
    ],
)
def test_error_names_the_moment_or_weight_that_was_not_finite_before(immediate, what, name):
    gan = assembled(duration="4 steps")
    if not immediate:
        deferred(gan)
    steps = train(gan)
    next(steps)
    with torch.no_grad():
        moments = next(iter(gan.optimizers["discriminator"].state.values()))
        tensor = moments["exp_avg"] if what == "moment" else next(gan.generator.parameters())
        tensor.view(-1)[0] = math.nan
    with pytest.raises(NonFiniteError, match=rf"^at step 2, {name} is not finite since an earlier update; then the "):
        list(steps)


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 200.0), (torch.complex64, 1j), (torch.float64, 1e30)])
def test_finite_check_accepts_finite_gradients_of_every_type(dtype, value):
    """The sum of squares of these 16 numbers is beyond the range of float16."""
    weight = nn.Parameter(torch.zeros(4, 4, dtype=dtype))
    weight.grad = torch.full_like(weight, value)
    check = FiniteCheck(torch.device("cpu"), immediate=True)
    check.check_gradients("generator", {}, torch.optim.SGD([weight]), {"loss": torch.tensor(1e30)}, [weight])


def test_nonfinite_tensors_exclude_integers_and_sums_that_overflow():
    big = torch.full((3,), 3e38)
    assert not_finite({"big": big, "count": torch.tensor([2**60]), "none": torch.empty(0)}) == []
    assert not_finite({"big": big, "ill": torch.tensor([1.0, math.nan]), "half": torch.tensor([math.inf]).half()}) == [
        "ill",
        "half",
    ]


def test_checkpoint_that_is_not_finite_is_rejected():
    gan = assembled(ema={})
    list(train(gan))
    tensors, place = weights(gan), gan.state.place()
    tensors["discriminator.0.weight"][0, 0] = math.nan
    for load in (
        lambda: assembled(ema={}).restore(tensors, place),
        lambda: assembled(ema={}).state.init_weights(tensors),
    ):
        with pytest.raises(
            CheckpointError, match=r"holds NaN or infinity and cannot be trained from: discriminator.0.weight"
        ):
            load()
    tensors = weights(gan)
    tensors["optimizer.generator.exp_avg.0.weight"][0, 0] = math.inf
    with pytest.raises(CheckpointError, match="exp_avg"):
        assembled(ema={}).restore(tensors, place)
    assembled(ema={}).state.init_weights(tensors)  # ignores the moments


def test_infinite_mask_is_accepted_and_infinite_statistics_are_not():
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    gan = GAN(generator, nan_injection.Masked(), dataset(), Hinge(), Options(duration="2 steps"), "cpu")
    list(train(gan))
    assert gan.state.not_finite(gan.state.tensors()) == []
    gan.restore(weights(gan), gan.state.place())
    gan.discriminator.seen.fill_(math.inf)
    assert gan.state.not_finite(gan.state.tensors()) == ["discriminator.seen"]


@pytest.mark.parametrize("players", [("generator", "discriminator"), ("discriminator",)])
def test_exploding_weights_stop_the_run_in_its_first_steps(tmp_path, players):
    rates = {player: {"lr": 1e6} for player in players}
    config = {"optimizer": rates, "generator": "mlp", "discriminator": "mlp", "duration": "200 steps"}
    directory, _, records = begun(tmp_path / "run", config, {"checkpoint": {"every_steps": 1}})
    with pytest.raises(NonFiniteError) as error:
        list(records)
    assert error.value.step <= 5
    assert not not_finite(checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).tensors)


def test_samples_that_overflow_are_an_error_with_the_step(tmp_path):
    config = {"generator": {"name": "faithful", "scale": 3e38}, "dataset": {"name": "noise", "shape": [2]}}
    with pytest.raises(NonFiniteError, match=r"^at step 0, the generator makes samples that are not finite"):
        recorded(tmp_path / "run", config)
