from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.contracts import Generated, Spec
from gancore.errors import ConfigError, NumericsError, PluginError
from gancore.sampling.project import distances, project
from gancore.training.networks import draw_latent
from gancore.utils.random import states_of
from gancore.utils.sample_format import UINT8, SampleFormat, Scales
from gancore_plugins.networks.mlp import MLPGenerator
from helpers.tiny_components import Constant, Faithful
from helpers.untrained import gray, untrained

Z = 4
SMALL = MLPGenerator(widths=(16, 16), normalization="batch")
"""Its initial weights make images of some contrast."""


class Inverted(nn.Module):
    """A linear generator, and an encoder that is wrong by `error`; `extras` names what the encoder returns."""

    def __init__(self, error=0.0, extras=("latent",)):
        super().__init__()
        self.weights = nn.Parameter(torch.linalg.qr(torch.randn(16, Z))[0] / 2)
        self.error, self.extras = error, extras

    def forward(self, latent, labels=None):
        images = (latent @ self.weights.T).unflatten(1, (1, 4, 4))
        return Generated(images if labels is None else images * (1 - 2 * labels.view(-1, 1, 1, 1)))

    def encode(self, images, labels=None):
        latent = images.flatten(1) @ self.weights * 4 + self.error
        return {name: latent if name == "latent" else images for name in self.extras}


def stored(trained, latents, labels=None):
    """The samples of latents, each made alone."""
    samples = []
    with torch.no_grad():
        for number, latent in enumerate(latents):
            given = [latent[None]] if labels is None else [latent[None], labels[number, None]]
            made = trained.generator(*given)
            samples.append(trained.sample_format.to_stored(made.images if isinstance(made, Generated) else made))
    return torch.cat(samples)


def drawn(trained, count, seed, labels=None):
    """Samples of random latents."""
    return stored(trained, draw_latent(trained.config.latent, count, torch.Generator().manual_seed(seed)), labels)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("seed", range(3))
def test_projection_of_a_sample_is_much_nearer_to_it_than_random_samples(seed, distribution):
    trained = untrained(SMALL, gray(Z), seed=seed, distribution=distribution)
    image, others = drawn(trained, 1, seed)[0], drawn(trained, 64, seed + 1)
    found = list(project(trained, image, steps=100, seed=seed))[-1]
    assert found.distance < 0.1 * float(distances(others, image, UINT8).mean())


@given(seed=st.integers(0, 1000), classes=st.sampled_from([None, 3]))
@settings(max_examples=5)
def test_projection_is_repeatable_and_changes_neither_the_generator_nor_the_process(seed, classes):
    trained = untrained(SMALL, gray(Z, classes), seed=seed)
    trained.generator.train()
    image = drawn(untrained(SMALL, gray(Z), seed=seed), 1, seed)[0]
    weights = {key: value.clone() for key, value in trained.generator.state_dict().items()}
    torch.manual_seed(seed)
    before = states_of(torch.device("cpu"))["cpu"]
    found = list(project(trained, image, steps=5, seed=seed))
    assert torch.equal(before, states_of(torch.device("cpu"))["cpu"])
    assert all(torch.equal(value, weights[key]) for key, value in trained.generator.state_dict().items())
    assert all(part.training for part in trained.generator.modules())
    assert all(weight.grad is None and weight.requires_grad for weight in trained.generator.parameters())
    again = list(project(trained, image, steps=5, seed=seed))
    assert [step.latent.tolist() for step in again] == [step.latent.tolist() for step in found]
    assert [step.distance for step in again] == [step.distance for step in found]
    other = list(project(trained, image, steps=5, seed=seed + 1))
    assert not torch.equal(other[-1].latent, found[-1].latent)


def test_projection_reports_the_best_latent_so_far_and_its_distance():
    trained = untrained(SMALL, gray(Z, 3))
    image = drawn(trained, 1, 5, torch.tensor([1]))[0]
    found = list(project(trained, image, steps=20))
    assert [step.step for step in found if step.step] == list(range(1, 21))
    assert {step.steps for step in found} == {20}
    assert all(after.distance <= before.distance for before, after in pairwise(found))
    assert found[-1].distance < found[0].distance
    for step in found[:: len(found) // 3]:
        sample = stored(trained, step.latent[None], torch.tensor([step.label]))
        assert step.latent.shape == (Z,)
        assert float(distances(sample, image, UINT8)) == pytest.approx(step.distance, abs=0.1)  # rounded alone


def test_projection_can_be_stopped_after_any_step():
    trained = untrained(SMALL, gray(Z))
    image = drawn(trained, 1, 1)[0]
    trained.generator.train()
    search = project(trained, image)
    first = next(search)
    search.close()
    assert first.step == 0
    assert all(part.training for part in trained.generator.modules())


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_projection_finds_only_plausible_latents_for_an_image_out_of_reach(distribution):
    trained = untrained(Inverted(), Spec((1, 4, 4), Z, bounded=False), distribution=distribution)
    found = list(project(trained, torch.full((1, 4, 4), 100.0), steps=50))[-1].latent
    if distribution == "uniform":
        assert float(found.abs().max()) == 1
    else:
        norms = torch.randn(20_000, Z, generator=torch.Generator().manual_seed(0)).norm(dim=1)
        assert float((norms > found.norm()).float().mean()) == pytest.approx(0.001, abs=0.001)


class Toned(nn.Module):
    """Pictures that are dark in class 0, gray in class 1, bright in class 2, and a little different by the latent."""

    def forward(self, latent, labels):
        return ((labels - 1) * 0.5 + latent[:, 0].tanh() * 0.2).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


@pytest.mark.parametrize("label", range(3))
def test_projection_chooses_the_nearest_class_and_keeps_a_given_one(label):
    trained = untrained(Toned(), Spec((1, 4, 4), Z, 3))
    image = drawn(trained, 1, 1, torch.tensor([label]))[0]
    assert list(project(trained, image, steps=5))[-1].label == label
    assert list(project(trained, image, "2", steps=5))[-1].label == 2


@pytest.mark.parametrize("extras", [("latent",), ("other", "latent")])
@pytest.mark.parametrize("classes", [None, 2])
def test_projection_begins_with_the_latent_of_an_encoder(extras, classes):
    trained = untrained(Inverted(extras=extras), Spec((1, 4, 4), Z, classes))
    labels = None if classes is None else torch.tensor([0])
    first = next(project(trained, drawn(trained, 1, 3, labels)[0]))
    assert (first.step, first.start) == (0, "encoder")
    assert first.distance < 1


def test_projection_begins_with_random_latents_where_the_encoder_makes_no_latent_or_a_worse_one():
    image = drawn(untrained(Inverted(), Spec((1, 4, 4), Z), seed=1), 1, 3)[0]
    for generator in (Inverted(extras=("other",)), Inverted(error=50.0)):
        found = list(project(untrained(generator, Spec((1, 4, 4), Z)), image, steps=1))
        assert found[-1].start == "random"


class Shifted(nn.Module):
    """Pictures whose brightness is that of a condition, plus a latent."""

    def forward(self, latent, condition):
        return condition + latent[:, :1, None, None] / 4


def test_projection_takes_a_condition_as_the_dataset_stores_it():
    trained = untrained(Shifted(), Spec((1, 2, 2), Z, (1, 2, 2)))
    condition = torch.tensor([[[0, 100], [150, 200]]], dtype=torch.uint8)
    image = (condition + 20).to(torch.uint8)
    assert list(project(trained, image, condition=condition))[-1].distance < 2


@pytest.mark.parametrize(
    "sample_format",
    [
        SampleFormat("float32"),
        SampleFormat("float32", (0.0, 4.0)),
        SampleFormat("float32", scales=Scales((1,), (2.0,), (3.0,))),
    ],
)
def test_projection_finds_samples_of_other_formats(sample_format):
    spec = Spec((3,), Z, bounded=sample_format.bounded)
    trained = untrained(Faithful(scale=0.3), spec, sample_format=sample_format)
    image, others = drawn(trained, 1, 3)[0], drawn(trained, 64, 4)
    found = list(project(trained, image))[-1]
    assert found.distance < 0.05 * float(distances(others, image, sample_format).mean())


def test_distances_are_root_mean_squared_errors_in_comparable_units():
    image, samples = torch.zeros(1, 2, 2), torch.tensor([3.0, 3, 3, 3, 0, 0, 0, 6]).view(2, 1, 2, 2)
    for sample_format, unit in [(SampleFormat("float32"), 1), (SampleFormat("float32", (0.0, 6.0)), 255 / 6)]:
        torch.testing.assert_close(distances(samples, image, sample_format), torch.tensor([3.0, 3]).double() * unit)
    assert distances(samples.byte(), image.byte(), UINT8).tolist() == [3, 3]


IMAGE = torch.zeros(1, 16, 16, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"image": IMAGE[0]}, r"shape \(1, 16, 16\) and the type uint8 .*; received \(16, 16\), uint8"),
        ({"image": IMAGE.float()}, r"received \(1, 16, 16\), float32"),
        ({"label": 3}, "must be in 0..2; received 3"),
        ({"label": "cat"}, "cat"),
        ({"label": 1, "condition": torch.tensor(1)}, "cannot be used together"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_projection_refuses_what_does_not_fit_at_once(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        project(untrained(SMALL, gray(Z, 3)), **{"image": IMAGE, **arguments})


def test_projection_refuses_images_that_are_not_finite():
    trained = untrained(Faithful(), Spec((2,), Z, bounded=False))
    with pytest.raises(ConfigError, match="must be finite"):
        project(trained, torch.tensor([0.0, torch.nan]))


def test_projection_needs_the_condition_of_a_generator_that_takes_tensors():
    with pytest.raises(ConfigError, match="needs a condition"):
        project(untrained(Shifted(), Spec((1, 2, 2), Z, (1, 2, 2))), IMAGE[:, :2, :2])


def test_projection_needs_a_generator_that_uses_its_latent():
    trained = untrained(Constant(), Spec((1, 2, 2), Z))
    with pytest.raises(ConfigError, match="do not depend on its latent"):
        list(project(trained, IMAGE[:, :2, :2]))


class Broken(Inverted):
    """A generator whose encoder fails, or whose samples are not finite."""

    def __init__(self, encoder):
        super().__init__()
        self.fails = encoder

    def forward(self, latent):
        made = super().forward(latent)
        return made if self.fails else Generated(made.images * torch.nan)

    def encode(self, images):
        if self.fails:
            raise KeyError("scale")
        return {}


@pytest.mark.parametrize(("encoder", "error"), [(True, PluginError), (False, NumericsError)])
def test_projection_blames_a_broken_generator(encoder, error):
    with pytest.raises(error):
        list(project(untrained(Broken(encoder), Spec((1, 4, 4), Z)), IMAGE[:, :4, :4]))
