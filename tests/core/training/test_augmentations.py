"""Augmentations in the loop: what D sees, and what losses, regularizers and checkpoints are told."""

import pytest
import torch
from torch import nn

from gancore.config.run import Options
from gancore.contracts import Augmentation
from gancore.errors import ConfigError, PluginError
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.augmentations.diffaugment import DiffAugment
from gancore_plugins.regularizers.gradients import R1
from helpers.tiny_components import Hinge, TinyDiscriminator, TinyGenerator, assembled, dataset, equal, trained, weights


class Brighter(Augmentation):
    """Adds a constant, so that D can tell what has been augmented."""

    name = "brighter"

    def build(self, shape, mirrors):
        return lambda images, strength: images + 10 * strength


class Watching(Hinge):
    name = "watching"

    def discriminator(self, real, fake):
        assert real.images.abs().max() <= 1
        assert fake.images.abs().max() <= 1
        return super().discriminator(real, fake)


class Seeing(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.seen = TinyDiscriminator().build((1, 4, 4), None), []

    def forward(self, images):
        self.seen.append(images.detach())
        return self.network(images)


def gan(augmentations=None, regularizers=None, images=None, discriminator=None, options=None):
    torch.manual_seed(0)
    return GAN(
        TinyGenerator().build((1, 4, 4), 5, None),
        discriminator or TinyDiscriminator().build((1, 4, 4), None),
        images or dataset(12),
        Watching(),
        Options(duration="6 steps", batch_size=4, latent={"dim": 5}, **options or {}),
        "cpu",
        augmentations=augmentations,
        regularizers=regularizers,
    )


class Turned(Augmentation):
    """Moves pixels by a product of matrices, which autocast would make in eight bits."""

    name = "turned"

    def build(self, shape, mirrors):
        def turn(images, strength):
            mixed = images.flatten(1) @ torch.eye(16)
            assert mixed.dtype == torch.float32
            return mixed.unflatten(1, shape)

        return turn


def test_an_augmentation_works_in_float32_whatever_networks_multiply_in():
    run = gan({"turned": Turned()}, options={"training": {"precision": "bf16"}})
    assert len(list(train(run))) == 6


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("joined", [True, False])
def test_d_sees_real_and_fake_augmented_in_both_steps_and_losses_see_them_as_they_were(joined, fakes):
    run = gan({"brighter": Brighter()}, discriminator=Seeing(), options={"training": {"fakes": fakes}})
    run.discriminator.seen.clear()
    for _ in train(run, joined=joined):
        pass
    assert len(run.discriminator.seen) == 6 * (2 if joined else 3)
    assert all(images.min() >= 9 for images in run.discriminator.seen)


def test_gradients_flow_through_augmentations_to_the_generator():
    class Wall(Augmentation):
        """Lets images through, and no gradient."""

        name = "wall"

        def build(self, shape, mirrors):
            return lambda images, strength: images.detach() + 0 * images

    def moves(augmentation):
        run = gan({"tried": augmentation})
        before = weights(run)
        next(train(run))
        after = weights(run)
        return [key for key in before if key.startswith("generator") and not torch.equal(before[key], after[key])]

    assert moves(Wall()) == []
    assert len(moves(Brighter())) == 4


def test_an_augmentation_without_strength_changes_nothing():
    plain, _ = trained(gan())
    idle, _ = trained(gan({"diffaugment": DiffAugment(probability=0.0)}))
    assert equal(plain, idle)


def test_augmented_runs_repeat_bit_for_bit():
    first, second = (trained(gan({"d": DiffAugment(policy=("color", "translation", "cutout"))}))[0] for _ in range(2))
    assert equal(first, second)


def test_penalties_ask_for_the_gradient_at_the_image_before_it_is_augmented():
    class Doubling(Augmentation):
        """Twice as bright: the gradient at the image is twice that at what D sees."""

        name = "doubling"

        def build(self, shape, mirrors):
            return lambda images, strength: 2 * images

    linear = [nn.Sequential(nn.Flatten(), nn.Linear(16, 1)) for _ in range(2)]
    linear[1].load_state_dict(linear[0].state_dict())
    once = next(train(gan(None, {"r1": R1()}, discriminator=linear[0])))
    twice = next(train(gan({"doubling": Doubling()}, {"r1": R1()}, discriminator=linear[1])))
    assert twice.penalties["r1"].item() == pytest.approx(4 * once.penalties["r1"].item(), rel=1e-5)


def test_the_controller_of_ada_watches_and_its_probability_goes_with_the_run():
    run = gan({"ada": ADA(interval=1, ramp_kimg=0.1, target=0.01)})
    assert run.tensors()["augmentation.ada.updates"] == 0  # the rehearsal was one on copies
    list(train(run))
    assert run.tensors()["augmentation.ada.updates"] == 6
    assert run.tensors()["augmentation.ada.probability"] > 0
    other = gan({"ada": ADA(interval=1, ramp_kimg=0.1, target=0.01)})
    other.restore(run.tensors(), run.place())
    assert equal(weights(other), weights(run))


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_an_update_is_observed_once_however_many_parts_it_has(accumulate):
    run = gan({"ada": ADA(interval=4, ramp_kimg=0.1)}, options={"training": {"accumulate": accumulate}})
    list(train(run))
    assert run.tensors()["augmentation.ada.updates"] == 6
    assert run.tensors()["augmentation.ada.signs"][1] == 8  # images since the fourth


def test_a_dataset_says_whether_images_may_be_mirrored():
    images = dataset(12)
    with pytest.raises(ConfigError, match="mirrored"):
        gan({"d": DiffAugment(policy=("flip",))}, images=images)
    images.mirrors = True
    assert len(list(train(gan({"d": DiffAugment(policy=("flip",))}, images=images)))) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, strength: images[:, :, 1:], r"of the shape, type.*'mine' gave shape \(4, 1, 3, 4\)"),
        (lambda images, strength: images.double(), "of the shape, type"),
        (lambda images, strength: None, "gave NoneType"),
        (lambda images, strength: 1 / 0, "augmentation 'mine' failed at work: ZeroDivisionError"),
    ],
)
def test_an_augmentation_that_breaks_its_promise_is_told_before_the_first_step(change, words):
    mine = type("Mine", (Augmentation,), {"name": "mine", "build": lambda self, shape, mirrors: change})
    with pytest.raises(PluginError, match=words):
        gan({"mine": mine()})


def test_augmentations_and_regularizers_are_tables_under_labels():
    run = assembled(
        regularizers={"r1": {"gamma": 2.0}, "late": {"name": "r1", "interval": 16}},
        augmentations={"diffaugment": {"policy": ["translation"]}},
    )
    assert list(run.regularizers) == ["r1", "late"]
    assert [step.step for step in train(run)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match=r"regularizers.r1.gamma.*greater than or equal to 0"):
        assembled(regularizers={"r1": {"gamma": -2.0}})
    with pytest.raises(ConfigError, match=r"unknown regularizer 'r3'; did you mean 'r[12]'"):
        assembled(regularizers={"r3": {}})
