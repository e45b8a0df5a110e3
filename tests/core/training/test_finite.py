import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.checkpoint import store as checkpoint
from gancore.config.run import Options
from gancore.errors import CheckpointError, NonFiniteError
from gancore.run.directory import RunDirectory
from gancore.run.recording import record
from gancore.training.finite import FiniteCheck, not_finite
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore.training.regularizers import ActiveRegularizers
from helpers import nan_injection as ailments
from helpers.nan_injection import PLACES, Ailment, nothing_random, recording, state
from helpers.small_runs import begun, recorded
from helpers.tiny_components import Hinge, assembled, dataset, equal, trained, weights

ILL = st.builds(
    Ailment,
    place=st.sampled_from(PLACES),
    value=st.sampled_from([math.nan, math.inf, -math.inf]),
    step=st.integers(1, 7),
    weight=st.integers(0, 5),
)
UPDATES = st.integers(1, 2)


def until_ill(gan, look):
    """Trains until something is not finite: the error, and what a look at the GAN saw after the step before."""
    seen = look(gan)
    try:
        for _ in train(gan):
            seen = look(gan)
    except NonFiniteError as error:
        return error, seen
    pytest.fail("nobody noticed")


@given(ailment=ILL, updates=UPDATES, clip=st.booleans())
@settings(max_examples=40)
def test_whatever_is_not_finite_is_told_at_its_step_and_no_update_is_made_of_it(ailment, updates, clip):
    training = {"discriminator_steps": updates} | ({"clip_norm": 1.0} if clip else {})
    gan, _, _ = ailments.assembled(ailment, training=training)
    error, before = until_ill(gan, state)
    assert str(error).startswith(f"at step {ailment.step}, the ")
    assert ailment.player in error.what
    assert (error.step, gan.progress.step) == (ailment.step, ailment.step - 1)
    after = state(gan)
    moved = {name for name in after if name not in before or not torch.equal(after[name], before[name])}
    whose = {name.removeprefix("optimizer.").partition(".")[0] for name in moved}
    if ailment.place == "the projection":  # it comes after the update
        assert whose == {"discriminator"}
        assert not [name for name in not_finite(after) if not name.startswith("discriminator")]
    else:
        assert whose == (set() if ailment.player == "discriminator" else {"discriminator"})
        assert not not_finite(after)


@given(ailment=ILL, updates=UPDATES)
@settings(max_examples=25)
def test_a_step_that_is_left_out_changes_nothing_but_counts(ailment, updates):
    gan, _, _ = ailments.assembled(ailment, training={"on_nonfinite": "skip", "discriminator_steps": updates})
    before = nothing_random(gan)
    for step in train(gan):
        after = nothing_random(gan)
        if step.step == ailment.step:
            assert step.skipped.endswith("the step is left out, 1 of at most 3 times")
            assert after.keys() == before.keys()
            assert all(torch.equal(after[name], before[name]) for name in before)
            assert math.isnan(step.scalars()["generator_loss"])
        else:
            assert step.skipped == ""
            assert not torch.equal(after["generator.0.weight"], before["generator.0.weight"])
        before = after
    assert (gan.progress.step, gan.progress.nonfinite) == (7, 1)
    assert not not_finite(gan.tensors())


@pytest.mark.parametrize("updates", [1, 3])
def test_images_of_a_step_that_is_left_out_have_been_seen(updates):
    ailment = Ailment("the loss of D", math.nan, 2)
    gan, _, _ = ailments.assembled(ailment, training={"on_nonfinite": "skip", "discriminator_steps": updates})
    whole = [4 * updates * step for step in range(1, 8)]
    lacking = 4 * updates - 4  # the batch that proved ill counts; those of later updates were not taken
    assert [step.images_seen for step in train(gan)] == [whole[0], *(seen - lacking for seen in whole[1:])]


@given(ailment=ILL)
@settings(max_examples=8)
def test_no_checkpoint_holds_what_is_not_finite(tmp_path_factory, ailment):
    path = tmp_path_factory.mktemp("runs") / "run"
    _, directory, records = recording(path, ailment, checkpoint={"every_steps": 1, "keep": 9})
    with pytest.raises(NonFiniteError), records as written:
        list(written)
    found = checkpoint.kept(directory.checkpoints)
    assert found == [checkpoint.path_of(directory.checkpoints, step) for step in range(ailment.step)]
    assert not [name for path in found for name in not_finite(checkpoint.load(path).tensors)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_clipping_does_not_hide_it_and_the_weight_is_named(value, clip):
    ailment = Ailment("a gradient of D", value, 3, weight=2)
    gan, _, _ = ailments.assembled(ailment, training={"clip_norm": clip} if clip else {})
    name = [name for name, _ in gan.discriminator.named_parameters()][2]
    told = rf"^at step 3, the gradient of the discriminator's {name} is not finite, so its update was not made$"
    with pytest.raises(NonFiniteError, match=told):
        list(train(gan))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("the loss of D", "the discriminator's loss is not finite"),
        ("the loss of G", "the generator's loss is not finite"),
        ("the penalty", "the discriminator's penalty ill is not finite"),
        ("the projection", "the discriminator's weight 0.weight is not finite after its regularizers have confined it"),
    ],
)
def test_what_was_not_finite_is_named(place, told):
    gan, _, _ = ailments.assembled(Ailment(place, math.nan, 2))
    with pytest.raises(NonFiniteError, match=told):
        list(train(gan))


def test_a_gradient_whose_square_overflows_would_make_an_infinite_moment_and_is_told_too():
    gan, _, _ = ailments.assembled(Ailment("a gradient of G", 1e20, 2))
    with pytest.raises(NonFiniteError, match=r"the generator's 0.weight is too large to be squared"):
        list(train(gan))
    assert not not_finite(weights(gan))


def test_clipping_after_the_look_is_that_of_torch(monkeypatch):
    changes = {"training": {"clip_norm": 0.01}, "optimizer": {"discriminator": {"name": "SGD", "lr": 0.1}}}
    ours, _ = trained(assembled(**changes))

    def clipped_again(parameters, limit, norm):
        assert torch.equal(norm, nn.utils.get_total_norm([each.grad for each in parameters]))
        nn.utils.clip_grad_norm_(parameters, limit)

    monkeypatch.setattr(nn.utils, "clip_grads_with_norm_", clipped_again)
    theirs, _ = trained(assembled(**changes))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# What a device keeps until it is asked, on the CPU: its fused optimizers take the same flag.


def held(gan):
    gan.watch = FiniteCheck(gan.device, at_once=False)
    return gan


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW", "SGD", "Adagrad"])
@given(ailment=ILL.filter(lambda ailment: ailment.place != "the projection"))
@settings(max_examples=6)
def test_a_device_leaves_out_the_update_and_all_that_follow_until_it_is_read(optimizer, ailment):
    changes = {"optimizer": {player: {"name": optimizer} for player in ("generator", "discriminator")}}
    twin = dataclasses.replace(ailment)
    expected, _ = until_ill(ailments.assembled(twin, **changes)[0], learned)
    gan = held(ailments.assembled(ailment, **changes)[0])
    states = [learned(gan)]

    def look(gan):
        states.append(learned(gan))

    error, _ = until_ill(gan, look)
    assert gan.progress.step == 7  # nothing was read but at the end
    assert str(error).replace("not finite, or too large to be squared", "not finite") == str(expected)
    states = states[1:]
    before, first = states[ailment.step - 1], states[ailment.step]
    assert all(
        torch.equal(first[name], before[name]) for name in before if ailment.player in name or "generator" in name
    )
    assert all(equal(later, first) for later in states[ailment.step :])
    assert not not_finite(first)
    with pytest.raises(NonFiniteError, match=f"^at step {ailment.step}, "):
        gan.tensors()


def test_the_numbers_of_a_step_are_not_read_past_one_that_was_not_finite():
    gan = held(ailments.assembled(Ailment("a gradient of G", math.inf, 3))[0])
    steps = train(gan)
    for _ in range(2):
        next(steps).scalars()
    step = next(steps)
    with pytest.raises(NonFiniteError, match=r"^at step 3, the gradient of the generator's 0.weight"):
        step.scalars()


def learned(gan):
    """`state` of a GAN that may not be asked for its tensors any more."""
    return {
        f"{role}.{name}": value.detach().clone()
        for role, module in gan.modules().items()
        for name, value in module.named_parameters()
        if role != "ema"  # it goes on toward weights that stay
    } | {
        f"{player}.{number}.{key}": value.clone()
        for player, optimizer in gan.optimizers.items()
        for number, each in enumerate(optimizer.state.values())
        for key, value in each.items()
        if isinstance(value, torch.Tensor)
    }


def test_a_device_is_read_at_once_for_an_optimizer_that_takes_no_flag():
    rmsprop = {player: {"name": "RMSprop"} for player in ("generator", "discriminator")}
    gan = held(ailments.assembled(Ailment("the loss of G", math.nan, 4), optimizer=rmsprop)[0])
    with pytest.raises(NonFiniteError, match=r"^at step 4, the generator's loss"):
        list(train(gan))
    assert gan.progress.step == 3


def test_of_two_players_the_one_that_was_ill_first_is_told():
    gan = held(
        ailments.assembled(Ailment("the loss of D", math.nan, 3), optimizer={"generator": {"name": "RMSprop"}})[0]
    )
    with pytest.raises(NonFiniteError, match=r"^at step 3, the discriminator's loss"):
        list(train(gan))


def test_a_device_tells_of_a_projection_too_and_forgets_once_it_is_put_right():
    gan = held(ailments.assembled(Ailment("the projection", math.inf, 2))[0])
    sound, place = weights(gan), gan.place()
    with pytest.raises(NonFiniteError, match=r"^at step 2, the discriminator's weight"):
        list(train(gan))
    gan.restore(sound, place)
    assert [step.step for step in train(gan)] == list(range(1, 8))


# Before a save, and after a load.


def test_weights_are_looked_at_after_an_update_only_where_something_confines_them():
    gan, _, _ = ailments.assembled(Ailment("nothing", 0.0, 1))
    assert gan.turn("discriminator", 0).projects
    assert not ActiveRegularizers(()).projects
    assert not assembled(regularizers={"r1": {}}).turn("discriminator", 0).projects
    assert assembled(regularizers={"weight-clipping": {}}).turn("discriminator", 0).projects


SPOILT = {
    "parameter": lambda gan: next(gan.generator.parameters()),
    "average": lambda gan: next(gan.ema.parameters()),
    "buffer": lambda gan: gan.discriminator[1].running_var,
    "moment": lambda gan: next(iter(gan.optimizers["discriminator"].state.values()))["exp_avg_sq"],
}


@pytest.mark.parametrize("what", SPOILT)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_state_that_is_not_finite_is_never_saved(tmp_path, what, value):
    gan, run, known = ailments.assembled(Ailment("nothing", 0.0, 1), checkpoint={"every_steps": 2, "keep": 9})
    directory = RunDirectory(tmp_path / "run")
    directory.create(run, known, gan.device)

    def then_spoilt():
        for step in train(gan):
            if step.step == 4:
                with torch.no_grad():
                    SPOILT[what](gan).view(-1)[0] = value
            yield step

    with pytest.raises(NonFiniteError, match=r"^at step 4, .* is not finite, so no checkpoint was written$"):
        list(record(then_spoilt(), gan, run, directory, known))
    assert [path.name[5:13] for path in checkpoint.kept(directory.checkpoints)] == ["00000000", "00000002"]


def test_integers_are_always_finite_and_a_large_sum_is_no_sign_of_infinity():
    big = torch.full((3,), 3e38)
    assert not_finite({"big": big, "count": torch.tensor([2**60]), "none": torch.empty(0)}) == []
    assert not_finite({"big": big, "ill": torch.tensor([1.0, math.nan]), "half": torch.tensor([math.inf]).half()}) == [
        "ill",
        "half",
    ]


def test_a_checkpoint_that_is_not_finite_is_not_trained_from():
    gan = assembled(ema={})
    list(train(gan))
    tensors, place = weights(gan), gan.place()
    tensors["discriminator.0.weight"][0, 0] = math.nan
    for load in (lambda: assembled(ema={}).restore(tensors, place), lambda: assembled(ema={}).begin_from(tensors)):
        with pytest.raises(
            CheckpointError, match=r"not finite, and nothing can be trained from it: discriminator.0.weight"
        ):
            load()
    tensors = weights(gan)
    tensors["optimizer.generator.exp_avg.0.weight"][0, 0] = math.inf
    with pytest.raises(CheckpointError, match="exp_avg"):
        assembled(ema={}).restore(tensors, place)
    assembled(ema={}).begin_from(tensors)  # takes no moments


def test_a_mask_of_infinity_is_meant_and_statistics_of_infinity_are_not():
    generator = nn.Sequential(nn.Linear(100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    gan = GAN(generator, ailments.Masked(), dataset(), Hinge(), Options(duration="2 steps"), "cpu")
    list(train(gan))
    assert gan.unfit(gan.tensors()) == []
    gan.restore(weights(gan), gan.place())
    gan.discriminator.seen.fill_(math.inf)
    assert gan.unfit(gan.tensors()) == ["discriminator.seen"]


@pytest.mark.parametrize("players", [("generator", "discriminator"), ("discriminator",)])
def test_weights_that_grow_beyond_measure_end_the_run_in_its_first_steps(tmp_path, players):
    rates = {player: {"lr": 1e6} for player in players}
    fast = {"optimizer": rates, "generator": "mlp", "discriminator": "mlp", "duration": "200 steps"}
    directory, _, records = begun(tmp_path / "run", fast, {"checkpoint": {"every_steps": 1}})
    with pytest.raises(NonFiniteError) as stopped:
        list(records)
    assert stopped.value.step <= 5
    assert not not_finite(checkpoint.load(checkpoint.kept(directory.checkpoints)[-1]).tensors)


def test_samples_that_overflow_are_told_with_their_step(tmp_path):
    vast = {"generator": {"name": "faithful", "scale": 3e38}, "dataset": {"name": "noise", "shape": [2]}}
    with pytest.raises(NonFiniteError, match=r"^at step 0, the generator makes samples that are not finite"):
        recorded(tmp_path / "run", vast)
