"""Each family does its job: one seed, few steps. Docstrings give the number measured, and what it is compared with."""

import math

import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from gancore_families.orthogonal import products
from gancore_families.pix2pix import edges_of


def mse(one, other):
    return float((one - other).square().mean())


def distance(one, other):
    return float((one - other).abs().mean())


def shuffled(values):
    """The values (N, …), none at its place."""
    return values.roll(1, dims=0)


def explained(images, codes):
    """R² of each code (N, F), read from images by least squares on the first half, on the second half."""
    pixels = torch.cat([images.flatten(1), torch.ones(len(images), 1)], dim=1)
    half = len(images) // 2
    weights = torch.linalg.lstsq(pixels[:half], codes[:half], driver="gelsd").solution  # edge pixels are always black
    errors = (pixels[half:] @ weights - codes[half:]).square().mean(dim=0)
    return 1 - errors / codes[half:].var(dim=0)


def test_infogan_codes_can_be_read_from_images(trained):
    """R² of a linear reader that knows nothing of Q: 0.95 and 0.97; with weight 0: 0.55 and 0.45."""

    def lowest_and_highest(weight):
        gan = trained("infogan", loss={"name": "infogan", "weight": weight})
        latent = torch.randn(2000, 16)
        with torch.no_grad():
            found = explained(gan.sampler()(latent), latent[:, :2])
        return float(found.min()), float(found.max())

    lowest, _ = lowest_and_highest(1.0)
    _, without = lowest_and_highest(0.0)
    assert lowest > 0.8
    assert without < lowest - 0.15


def rebuilt(gan, images, name):
    """Images (N, …) after encoder and generator."""
    with torch.no_grad():
        made = gan.sampler()(gan.sampler().encode(images)[name])
    return made if isinstance(made, torch.Tensor) else made.images


def test_bigan_reconstructs_digits_better_than_the_mean_image(trained, digits):
    """MSE after 1000 steps: 0.172; of the mean image: 0.293; to another digit: 0.567."""
    gan, images = trained("bigan", duration="1000 steps"), digits()
    made = rebuilt(gan, images, "latent")
    own, other, mean = mse(made, images), mse(shuffled(made), images), mse(images.mean(dim=0), images)
    assert own < 0.8 * mean
    assert own < 0.5 * other


@pytest.mark.long
def test_bigan_reconstructs_digits_well_after_its_whole_recipe(trained, digits):
    """MSE after 3000 steps: 0.146; of the mean image: 0.293; to another digit: 0.581."""
    gan, images = trained("bigan"), digits()
    made = rebuilt(gan, images, "latent")
    assert mse(made, images) < 0.6 * mse(images.mean(dim=0), images)


def test_vae_gan_reconstructs_digits(trained, digits):
    """MSE of reconstructions: 0.046; of the mean image: 0.293; to another digit: 0.572."""
    gan, images = trained("vae-gan", duration="400 steps"), digits()
    made = rebuilt(gan, images, "mean")
    assert mse(made, images) < 0.25 * mse(images.mean(dim=0), images)


def test_pix2pix_follows_the_edges_of_held_out_digits(trained, digits):
    """L1 on the test digits: 0.141; with the edges of another: 0.466; of the mean image: 0.381."""
    gan, images = trained("pix2pix", duration="250 steps"), digits("test")
    edges = edges_of(((images + 1) * 127.5).round().byte()) / 127.5 - 1
    with torch.no_grad():
        latent = torch.randn(len(images), 4)
        own, wrong = (gan.sampler()(latent, condition) for condition in (edges, shuffled(edges)))
    mean = distance(digits("train").mean(dim=0), images)
    assert distance(own, images) < 0.5 * mean
    assert distance(own, images) < 0.4 * distance(wrong, images)


def test_cyclegan_translates_digits_to_negatives_without_pairs(trained, digits, tmp_path):
    """L1 to the negative of held-out digits: 0.074; to that of another: 0.465; back to the digit: 0.098.

    Sources are digits with odd numbers, and targets the negatives of those with even numbers, so that there is no pair.
    """
    images = digits()
    for number, image in enumerate(((images[:1400, 0] + 1) * 127.5).round().byte().numpy()):
        folder = tmp_path / ("sources", "targets")[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image if number % 2 == 0 else 255 - image).save(folder / f"{number}.png")
    places = {name: str(tmp_path / name) for name in ("sources", "targets")}
    gan = trained(
        "cyclegan",
        duration="300 steps",
        dataset={"name": "unpaired", "size": 8, "channels": 1, **places},
        generator={"name": "translators", "width": 16},
    )
    held_out = images[1400:]
    with torch.no_grad():
        made = gan.sampler()(torch.zeros(len(held_out), 1), held_out)
        back = gan.sampler().encode(made, held_out)["source"]
    own, other = distance(made, -held_out), distance(shuffled(made), -held_out)
    assert own < 0.4 * other
    assert distance(back, held_out) < 0.2


def rms_change(discriminator, one, other):
    with torch.no_grad():
        return math.sqrt(mse(discriminator(one), discriminator(other)))


@pytest.fixture(scope="module")
def without_regularizers():
    """The results of one run for two tests."""
    return {}


WEIGHTS = {"consistency": 1.0, "zcr-d": 100.0, "zcr-g": 30.0, "orthogonal": 1e-3}
OFF = {label: {"weight": 0.0} for label in WEIGHTS}


@pytest.mark.parametrize("label", WEIGHTS)
def test_regularizer_of_a_network_does_its_job(label, trained, digits, without_regularizers):
    """With the regularizer alone, and without any; changes are root mean squares.

    consistency, D's change when a digit is shifted by a pixel: 0.046 and 0.910. zcr-d, D's change for neighboring
    latents: 0.021 and 0.075. zcr-g, G's change for neighboring latents: 0.090 and 0.071. orthogonal, sum of squared
    products: 57 and 201.
    """

    def measure(changes):
        gan = trained("consistency", duration="300 steps", regularizers=OFF | changes)
        discriminator, generator = gan.discriminator.eval(), gan.generator.eval()
        latent = torch.randn(1000, 16)
        near = latent + 0.1 * torch.randn_like(latent)
        with torch.no_grad():
            images, neighbors = generator(latent), generator(near)
        return {
            "consistency": rms_change(discriminator, digits(), digits().roll(1, dims=3)),
            "zcr-d": rms_change(discriminator, images, neighbors),
            "zcr-g": math.sqrt(mse(images, neighbors)),
            "orthogonal": float(products(discriminator).detach()),
        }

    if not without_regularizers:
        without_regularizers.update(measure({}))
    regularized, plain = measure({label: {"weight": WEIGHTS[label]}})[label], without_regularizers[label]
    if label == "zcr-g":
        assert regularized > 1.1 * plain
    else:
        assert regularized < 0.7 * plain


def test_scales_make_one_image_at_two_resolutions(trained):
    """MSE of the small image to the large one, averaged to its size: 0.061; to another large one: 0.269."""
    gan = trained("scales")
    with torch.no_grad():
        made = gan.sampler()(torch.randn(500, 16))
    small = avg_pool2d(made.images, 2)
    assert mse(made.extras["half"], small) < 0.4 * mse(made.extras["half"], shuffled(small))


def test_spots_are_at_the_angle_that_is_asked_for(trained):
    """Median error of the angle of the brightest place, in degrees: 2.7; 90 would be chance."""
    gan = trained("spots", duration="400 steps")
    angles = torch.linspace(0, 2 * math.pi, 361)[:-1]
    condition = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.no_grad():
        light = (gan.sampler()(torch.randn(360, 4), condition)[:, 0] + 1).square()  # (N, H, W)
    side = torch.linspace(-1, 1, 8)
    down, across = (light * side[:, None]).sum(dim=(1, 2)), (light * side).sum(dim=(1, 2))
    errors = (torch.atan2(down, across) - angles + math.pi).remainder(2 * math.pi) - math.pi
    assert float(errors.abs().median().rad2deg()) < 6


def test_waves_have_the_amplitude_of_the_data(trained):
    """Radius of the points of a series, mean ± standard deviation: 2.95 ± 0.39; of the data: 3 ± 0."""
    gan = trained("waves")
    with torch.no_grad():
        series = gan.sampler()(torch.randn(500, 4))
    radius = series.square().sum(dim=1).sqrt()
    assert series.shape == (500, 2, 32)
    assert float(radius.mean()) == pytest.approx(3, abs=0.4)
    assert float(radius.std()) < 0.8
