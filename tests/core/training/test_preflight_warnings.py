"""Warnings of the preflight: each kind of part that runs and hardly trains, and that sound parts have none."""

import sys
import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from gancore import GAN, Generated, Options, train
from gancore_plugins.augmentations.diffaugment import DiffAugment
from helpers.tiny_components import Hinge, assembled

SHAPE = (1, 4, 4)


def generator(*end):
    return nn.Sequential(nn.Linear(100, 16), *end, nn.Unflatten(1, SHAPE))


def discriminator(*end):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), *end)


def uint8_images(shape=SHAPE):
    return TensorDataset(torch.randint(0, 256, (12, *shape), dtype=torch.uint8))


def warnings_of(generator=None, discriminator_=None, dataset=None, loss=None, **training):
    options = Options.model_validate({"batch_size": 4, "training": training})
    parts = (generator or globals()["generator"](nn.Tanh()), discriminator_ or discriminator())
    return GAN(*parts, dataset or uint8_images(), loss or Hinge(), options, "cpu").take_warnings()


class Constant(nn.Module):
    """Ignores its latent."""

    def __init__(self):
        super().__init__()
        self.images = nn.Parameter(torch.randn(SHAPE))

    def forward(self, latent):
        return self.images.tanh().expand(len(latent), *SHAPE)


class Gated(nn.Module):
    """Depends on its latent through a gate that starts at zero."""

    def __init__(self):
        super().__init__()
        self.layer, self.gate = nn.Linear(100, 16), nn.Parameter(torch.zeros(()))

    def forward(self, latent):
        return (self.gate * self.layer(latent)).tanh().unflatten(1, SHAPE)


class WithUnused(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.unused = network, nn.Linear(3, 3)

    def forward(self, batch):
        return self.network(batch)


class Unbounded(nn.Sequential):
    unbounded = True


class RandomItems(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.randint(0, 256, SHAPE, dtype=torch.uint8)


def test_warnings_of_sound_parts_are_empty():
    assert warnings_of() == ()
    assert assembled().take_warnings() == ()
    assert warnings_of(Gated()) == ()
    assert warnings_of(Unbounded(*generator())) == ()


class Translator(nn.Module):
    """Depends on the picture that is its condition, and not on its latent."""

    def __init__(self, *end):
        super().__init__()
        layers = [nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)]
        self.layers = nn.Sequential(*layers, *end)

    def forward(self, latent, condition):
        return self.layers(condition)


class OfPairs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = discriminator()

    def forward(self, images, condition):
        return self.layers(images + condition)


def test_warnings_of_a_translation_are_those_of_its_picture():
    pairs = TensorDataset(*torch.randint(0, 256, (2, 12, *SHAPE), dtype=torch.uint8))
    assert warnings_of(Translator(nn.Tanh()), OfPairs(), pairs, conditional=True) == ()
    (found,) = warnings_of(Translator(nn.Sigmoid()), OfPairs(), pairs, conditional=True)
    assert "end the generator with tanh" in found


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"generator": generator(nn.Sigmoid())}, "no generated value is below 0.*end the generator with tanh"),
        ({"generator": generator()}, r"not limited to \[-1, 1\].*end it with tanh"),
        ({"generator": Constant()}, "do not depend on the latent"),
        (
            {"generator": WithUnused(generator(nn.Tanh()))},
            "'unused.weight' and 1 more of the generator have no gradient in a step, so they are never trained",
        ),
        ({"discriminator_": discriminator(nn.Sigmoid())}, r"all logits of the discriminator are in \[0, 1\]"),
        ({"discriminator_": WithUnused(discriminator())}, "'unused.weight' and 1 more of the discriminator"),
        ({"dataset": RandomItems()}, "two reads of the first item of the dataset differ"),
    ],
)
def test_warning_says_what_is_suspicious_and_how_to_fix_it(parts, message):
    found = warnings_of(**parts)
    assert len(found) == 1
    with pytest.raises(UserWarning, match=message):
        warnings.warn(found[0], stacklevel=1)


@pytest.mark.parametrize(("workers", "reopens"), [(2, False), (0, False), ("auto", False), (2, True)])
def test_warning_of_an_open_file_is_for_a_given_number_of_workers(tmp_path, workers, reopens):
    (tmp_path / "data").write_bytes(bytes(12 * 16))

    class FromFile(Dataset):
        def __init__(self, file):
            self.file = file

        def __len__(self):
            return 12

        def __getitem__(self, number):
            with (tmp_path / "data").open("rb") if reopens else nullcontext(self.file) as file:
                file.seek(16 * number)
                return torch.frombuffer(bytearray(file.read(16)), dtype=torch.uint8).reshape(SHAPE)

    with (tmp_path / "data").open("rb", buffering=0) as file:
        found = warnings_of(dataset=FromFile(file), data="stream", workers=workers)
    expected = sys.platform == "linux" and workers == 2 and not reopens
    assert ["moves the place in a file" in warning for warning in found] == [True] * expected


def test_warning_of_a_sigmoid_is_not_for_small_logits():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = discriminator()

        def forward(self, images):
            return 0.5 + 1e-4 * self.layers(images)

    assert warnings_of(discriminator_=Small()) == ()


def test_warning_of_float_images_names_a_range():
    zero_to_one = TensorDataset(torch.rand(12, *SHAPE))
    assert "such as (0, 1)" in warnings_of(dataset=zero_to_one)[0]
    assert "such as (0, 255)" in warnings_of(dataset=TensorDataset(255 * torch.rand(12, *SHAPE)))[0]
    zero_to_one.value_range = (0, 1)
    assert warnings_of(dataset=zero_to_one) == ()
    assert warnings_of(dataset=TensorDataset(torch.randn(12, *SHAPE))) == ()


def test_warning_of_channels_last_shows_the_shape():
    network = nn.Sequential(nn.Linear(100, 60), nn.Tanh(), nn.Unflatten(1, (5, 4, 3)))
    critic = nn.Sequential(nn.Flatten(), nn.Linear(60, 1))
    found = warnings_of(network, critic, uint8_images((5, 4, 3)))
    assert len(found) == 1
    assert "(5, 4, 3), which looks like (H, W, C)" in found[0]


def test_warning_of_random_items_is_for_data_in_memory_only():
    assert warnings_of(dataset=RandomItems(), data="stream") == ()


def test_warnings_are_shown_once_before_the_first_step():
    gan = GAN(generator(), discriminator(), uint8_images(), Hinge(), Options(batch_size=4), "cpu")
    with pytest.warns(UserWarning, match="not limited"):
        steps = train(gan)
    assert next(steps).step == 1
    assert gan.take_warnings() == ()


def test_warnings_leave_extras_of_a_generator_alone():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = generator(nn.Tanh())

        def forward(self, latent):
            return Generated(self.network(latent), {"latent": latent})

    assert warnings_of(Both()) == ()


def test_warning_of_augmentations_names_an_extra_input_that_they_leave_alone():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = generator(nn.Tanh())

        def forward(self, latent):
            images = self.network(latent)
            return Generated(images, {"half": images[..., ::2, ::2]})

        def encode(self, images):
            return {"half": images[..., ::2, ::2]}

    class OfPair(nn.Module):
        extra_inputs = ("half",)

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 1)

        def forward(self, images, half):
            return self.layer(torch.cat([images.flatten(1), half.flatten(1)], dim=1))

    options = Options(batch_size=4)
    for augmentations, count in (({}, 0), ({"diffaugment": DiffAugment()}, 1)):
        gan = GAN(Pair(), OfPair(), uint8_images(), Hinge(), options, "cpu", augmentations=augmentations)
        found = gan.take_warnings()
        assert len(found) == count
        assert all("extra input 'half'" in warning for warning in found)


def test_warning_of_parameters_that_belong_to_no_part():
    hidden = nn.Linear(16, 1)

    class Closed(Hinge):
        def generator(self, fake, real):
            return super().generator(fake, real) + hidden(fake.images.flatten(1)).mean()

    found = warnings_of(loss=Closed())
    assert len(found) == 1
    assert "2 parameters that no part of the run holds, of shape (1, 16), (1,)" in found[0]
    hidden.requires_grad_(False)
    assert warnings_of(loss=Closed()) == ()


def test_warning_of_samples_outside_their_range():
    dataset = TensorDataset(255 * torch.rand(12, *SHAPE))
    dataset.value_range = (0, 1)
    (found,) = warnings_of(dataset=dataset)
    assert "leave the dataset's value_range (0.0, 1.0)" in found
