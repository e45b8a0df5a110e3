"""Parameter groups and schedules with pieces in training: each group has its own arguments, also after a resume."""

from itertools import islice

import pytest
import torch
from torch import nn

from gancore.checkpoint import store
from gancore.config.optimizers import Name
from gancore.config.run import Options
from gancore.errors import ConfigError, NonFiniteError
from gancore.settings import TrainingTime
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import assembled, dataset, equal, trained, weights

WARM_UP = [{"from": 0.0, "to": 0.02, "kimg": 0.006}, {"to": 0.0, "shape": "cosine"}]
# The first layer of both players, so that the optimizers have another order than the networks.
GROUPS = [{"prefix": "0", "lr_factor": 0.1}, {"prefix": "0.bias", "lr": [{"from": 0.1, "to": 0.2, "kimg": 0.01}]}]


def optimizers(**values):
    return {"optimizer": {"generator": values, "discriminator": values}}


def test_groups_and_pieces_follow_their_schedules_in_training():
    gan = assembled(optimizers(lr=WARM_UP, groups=GROUPS))
    settings = gan.options.optimizer.generator
    time, seen = TrainingTime(0, 0.0), []
    for step in train(gan):
        expected = {prefix: settings.at(time, prefix)["lr"] for prefix in ("", "0", "0.bias")}
        for optimizer in gan.optimizers.values():
            assert {group["prefix"]: group["lr"] for group in optimizer.param_groups} == expected
        assert expected["0"] == 0.1 * expected[""]
        time = TrainingTime(step.images_seen, step.done)
        seen.append(expected[""])
    assert seen[0] == 0 < seen[1] < seen[2] > seen[3] > seen[4] > seen[5] > 0


@pytest.mark.parametrize("name", Name.__args__)
@pytest.mark.parametrize("steps", [1, 4])
def test_resumed_run_with_scheduled_groups_equals_the_uninterrupted_one(name, steps, tmp_path):
    config = optimizers(name=name, lr=WARM_UP, groups=GROUPS)
    expected, _ = trained(assembled(config))
    first = assembled(config)
    list(islice(train(first), steps))
    store.save(tmp_path / "saved", first.state.tensors(), {"progress": first.state.place()})
    saved = store.load(tmp_path / "saved")
    second = assembled(config)
    second.restore(saved.tensors, saved.about["progress"])
    assert equal(trained(second)[0], expected)


def test_groups_with_the_arguments_of_the_optimizer_change_no_bit():
    expected, _ = trained(assembled(optimizers(lr=0.01)))
    groups = [{"prefix": "0", "lr": 0.01}, {"prefix": "0.bias", "lr_factor": 1.0}]
    found, _ = trained(assembled(optimizers(lr=0.01, groups=groups)))
    assert list(found) == list(expected)
    assert equal(found, expected)


def test_group_with_a_learning_rate_of_zero_stays():
    gan = assembled(optimizers(lr=0.01, groups=[{"prefix": "0", "lr_factor": 0.0}]))
    before = weights(gan)
    after, _ = trained(gan)
    for player in ("generator", "discriminator"):
        for name, _ in getattr(gan, player).named_parameters():
            key = f"{player}.{name}"
            assert torch.equal(after[key], before[key]) is name.startswith("0.")


class TwoHeads(nn.Module):
    """A loss with two layers of its own, which D's optimizer trains."""

    needs_real = False

    def __init__(self):
        super().__init__()
        self.q, self.r = nn.Linear(1, 1), nn.Linear(1, 1)

    def discriminator(self, real, fake):
        hinge = (1 - real.logits).relu().mean() + (1 + fake.logits).relu().mean()
        return hinge + self.q(self.r(fake.logits)).square().mean()

    def generator(self, fake, real):
        return -fake.logits.mean()


def with_two_heads():
    torch.manual_seed(0)
    groups = [{"prefix": "loss.q", "lr": 0.0}, {"prefix": "loss", "lr_factor": 0.5}, *GROUPS]
    optimizer = {"discriminator": {"lr": WARM_UP, "groups": groups}}
    options = Options.model_validate({"duration": "6 steps", "batch_size": 4, "optimizer": optimizer})
    generator = nn.Sequential(nn.Linear(options.latent.dim, 16), nn.Tanh())
    discriminator = nn.Sequential(nn.Linear(16, 4), nn.Linear(4, 1))
    return GAN(generator, discriminator, dataset(10, (16,)), TwoHeads(), options, "cpu")


def test_groups_hold_parameters_of_the_loss_also_after_a_resume():
    gan = with_two_heads()
    before = weights(gan)
    expected, _ = trained(gan)
    assert torch.equal(expected["loss.q.weight"], before["loss.q.weight"])
    assert not torch.equal(expected["loss.r.weight"], before["loss.r.weight"])
    first, second = with_two_heads(), with_two_heads()
    list(islice(train(first), 3))
    second.restore(weights(first), first.state.place())
    assert equal(trained(second)[0], expected)


def test_group_without_parameters_is_refused_before_the_first_step():
    with pytest.raises(ConfigError, match=r"(?m)^optimizer\.discriminator\.groups\.0\.prefix: unknown .* Known: 0, 3$"):
        assembled({"optimizer": {"discriminator": {"groups": [{"prefix": "mapping", "lr": 0.1}]}}})


def test_gradient_of_a_group_that_is_not_finite_is_reported_by_its_name():
    gan = assembled(optimizers(groups=[{"prefix": "0", "lr": 0.1}]))
    gan.generator.get_parameter("0.weight").register_hook(lambda gradient: gradient * torch.nan)
    before = weights(gan)
    with pytest.raises(NonFiniteError, match=r"gradient of the generator's 0\.weight"):
        next(train(gan))
    assert torch.equal(weights(gan)["generator.2.weight"], before["generator.2.weight"])


def test_gradient_clipping_covers_all_groups():
    config = optimizers(name="SGD", lr=1.0, groups=[{"prefix": "0", "lr_factor": 1.0}])
    gan = assembled(config, training={"clip_norm": 1e-3})
    before = weights(gan)
    next(train(gan))
    after = weights(gan)
    moved = torch.cat([(after[key] - before[key]).flatten() for key in before if key.startswith("generator.")])
    assert torch.linalg.vector_norm(moved) == pytest.approx(1e-3, rel=1e-2)
