"""Augmentations in the loop: inputs of D, images of losses and regularizers, and state in checkpoints."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gancore.checkpoint.weights import StoredWeights
from gancore.config.layers import ConfigLayer
from gancore.config.run import Options, resolve
from gancore.contracts import Augmentation, Spec
from gancore.errors import ConfigError, PluginError
from gancore.training.gan import GAN
from gancore.training.initialize import Initializer
from gancore.training.loop import train
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.augmentations.diffaugment import DiffAugment
from gancore_plugins.regularizers.gradients import R1
from helpers.tiny_components import (
    PARTS,
    Hinge,
    TinyDiscriminator,
    TinyGenerator,
    assembled,
    catalog,
    dataset,
    equal,
    trained,
    weights,
)


class Brighter(Augmentation):
    """Adds a constant, which shows whether an image is augmented."""

    name = "brighter"

    def build(self, spec):
        return lambda images, strength: images + 10 * strength


class RangeCheckingLoss(Hinge):
    name = "range-checking"

    def discriminator(self, real, fake):
        assert real.images.abs().max() <= 1
        assert fake.images.abs().max() <= 1
        return super().discriminator(real, fake)


class RecordingDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.seen = TinyDiscriminator().build(Spec((1, 4, 4))), []

    def forward(self, images):
        self.seen.append(images.detach())
        return self.network(images)


def gan(augmentations=None, regularizers=None, images=None, discriminator=None, options=None):
    torch.manual_seed(0)
    return GAN(
        TinyGenerator().build(Spec((1, 4, 4), 5)),
        discriminator or TinyDiscriminator().build(Spec((1, 4, 4))),
        images or dataset(12),
        RangeCheckingLoss(),
        Options(duration="6 steps", batch_size=4, latent={"dim": 5}, **options or {}),
        "cpu",
        augmentations=augmentations,
        regularizers=regularizers,
    )


class MatrixProduct(Augmentation):
    """Multiplies by a matrix, which autocast would do in bfloat16."""

    name = "matrix-product"

    def build(self, spec):
        def multiply(images, strength):
            product = images.flatten(1) @ torch.eye(16)
            assert product.dtype == torch.float32
            return product.unflatten(1, spec.shape)

        return multiply


def test_augmentation_computes_in_float32_under_bf16():
    run = gan({"matrix-product": MatrixProduct()}, options={"training": {"precision": "bf16"}})
    assert len(list(train(run))) == 6


@pytest.mark.parametrize("fakes", ["shared", "fresh"])
@pytest.mark.parametrize("joined", [True, False])
def test_augmentations_apply_to_all_discriminator_inputs_and_not_to_images_of_the_loss(joined, fakes):
    run = gan({"brighter": Brighter()}, discriminator=RecordingDiscriminator(), options={"training": {"fakes": fakes}})
    run.discriminator.seen.clear()
    run.critic.one_pass = joined
    for _ in train(run):
        pass
    assert len(run.discriminator.seen) == 6 * (2 if joined else 3)
    assert all(images.min() >= 9 for images in run.discriminator.seen)


def test_augmentation_gradients_reach_the_generator():
    class Detaching(Augmentation):
        """Returns the images with a gradient of zero."""

        name = "detaching"

        def build(self, spec):
            return lambda images, strength: images.detach() + 0 * images

    def changed_generator_weights(augmentation):
        run = gan({"tried": augmentation})
        before = weights(run)
        next(train(run))
        after = weights(run)
        return [key for key in before if key.startswith("generator") and not torch.equal(before[key], after[key])]

    assert changed_generator_weights(Detaching()) == []
    assert len(changed_generator_weights(Brighter())) == 4


def test_augmentation_with_probability_zero_changes_nothing():
    plain, _ = trained(gan())
    inactive, _ = trained(gan({"diffaugment": DiffAugment(probability=0.0)}))
    assert equal(plain, inactive)


def test_augmentation_is_reproducible_bit_for_bit():
    first, second = (trained(gan({"d": DiffAugment(policy=("color", "translation", "cutout"))}))[0] for _ in range(2))
    assert equal(first, second)


def test_r1_takes_the_gradient_at_the_image_before_augmentation():
    class Doubling(Augmentation):
        """Doubles the images, so the gradient at the image is twice the gradient at the input of D."""

        name = "doubling"

        def build(self, spec):
            return lambda images, strength: 2 * images

    linear = [nn.Sequential(nn.Flatten(), nn.Linear(16, 1)) for _ in range(2)]
    linear[1].load_state_dict(linear[0].state_dict())
    plain_step = next(train(gan(None, {"r1": R1()}, discriminator=linear[0])))
    doubled_step = next(train(gan({"doubling": Doubling()}, {"r1": R1()}, discriminator=linear[1])))
    assert doubled_step.penalties["r1"].item() == pytest.approx(4 * plain_step.penalties["r1"].item(), rel=1e-5)


def test_ada_state_is_updated_saved_and_restored():
    run = gan({"ada": ADA(interval=1, ramp_kimg=0.1, target=0.01)})
    assert run.state.tensors()["augmentation.ada.updates"] == 0  # the preflight updated copies
    list(train(run))
    assert run.state.tensors()["augmentation.ada.updates"] == 6
    assert run.state.tensors()["augmentation.ada.probability"] > 0
    other = gan({"ada": ADA(interval=1, ramp_kimg=0.1, target=0.01)})
    other.restore(run.state.tensors(), run.state.place())
    assert equal(weights(other), weights(run))


def test_numbers_that_augmentations_log_are_those_after_each_step():
    run = gan({"mine": ADA(interval=1, ramp_kimg=0.1, target=0.01), "other": Brighter()})
    for step in train(run):
        logged = step.scalars()["augmentation.mine.probability"]
        assert logged == run.state.tensors()["augmentation.mine.probability"]
    assert logged > 0
    first, *_, last = train(gan({"mine": ADA(interval=1, ramp_kimg=0.1, target=0.01)}))
    assert first.scalars()["augmentation.mine.probability"] < last.scalars()["augmentation.mine.probability"]


class Naming(Augmentation):
    """Builds a module that names a buffer it does not have."""

    name = "naming"

    def build(self, spec):
        class Named(nn.Module):
            logged = ("amount",)

            def forward(self, images, strength):
                return images

        return Named()


def test_logged_number_that_is_no_buffer_is_an_error_of_the_augmentation():
    with pytest.raises(PluginError, match=r"augmentation 'mine' names 'amount' in `logged`"):
        gan({"mine": Naming()})


def file_of(run, probability, table):
    about = {"config": {"augmentations": {"mine": table}}, "progress": run.state.place()}
    about["data_format"] = {"condition": None, "classes": []}
    tensors = run.state.tensors() | {"augmentation.mine.probability": probability}
    return StoredWeights("old", tensors, "digest", about)


@pytest.mark.parametrize(
    ("earlier", "theirs", "start", "expected", "line"),
    [
        (0.25, {"name": "ada"}, None, 0.25, "augmentation mine: probability 0.25, as in the file"),
        (0.25, {"name": "ada"}, 0.5, 0.5, "augmentation mine: starts anew"),
        (0.25, {"name": "adaptive"}, None, 0, "augmentation mine: starts anew"),
        (0.25, "ada", None, 0, "augmentation mine: starts anew"),
        (float("nan"), {"name": "ada"}, None, 0, "augmentation mine: starts anew"),
        ([0.25], {"name": "ada"}, None, 0, "augmentation mine: starts anew"),
    ],
)
def test_ada_probability_continues_that_of_the_run_of_the_weights(earlier, theirs, start, expected, line):
    table = {"name": "ada"} | ({} if start is None else {"start": start})
    config = resolve([ConfigLayer("test", PARTS | {"batch_size": 4, "augmentations": {"mine": table}})], catalog())
    run = GAN.assemble(config, Path(), "cpu")
    initializer = Initializer(file_of(run, torch.tensor(earlier), theirs), config)
    initializer.apply(run)
    assert run.state.tensors()["augmentation.mine.probability"] == expected
    assert [text.strip() for text in initializer.adapted] == [line]


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_ada_observes_an_update_once_with_accumulation(accumulate):
    run = gan({"ada": ADA(interval=4, ramp_kimg=0.1)}, options={"training": {"accumulate": accumulate}})
    list(train(run))
    assert run.state.tensors()["augmentation.ada.updates"] == 6
    assert run.state.tensors()["augmentation.ada.signs"][1] == 8  # images since the fourth


def test_augmentation_flip_needs_a_dataset_that_allows_mirroring():
    images = dataset(12)
    with pytest.raises(ConfigError, match="mirrored"):
        gan({"d": DiffAugment(policy=("flip",))}, images=images)
    images.mirrors = True
    assert len(list(train(gan({"d": DiffAugment(policy=("flip",))}, images=images)))) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, strength: images[:, :, 1:], r"of the shape, type.*'mine' returned shape \(4, 1, 3, 4\)"),
        (lambda images, strength: images.double(), "of the shape, type"),
        (lambda images, strength: None, "returned NoneType"),
        (lambda images, strength: 1 / 0, r"augmentation 'mine' failed in __call__\(\): ZeroDivisionError"),
    ],
)
def test_preflight_rejects_an_augmentation_with_wrong_outputs(change, words):
    mine = type("Mine", (Augmentation,), {"name": "mine", "build": lambda self, spec: change})
    with pytest.raises(PluginError, match=words):
        gan({"mine": mine()})


def test_config_has_tables_of_augmentations_and_regularizers_by_label():
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
