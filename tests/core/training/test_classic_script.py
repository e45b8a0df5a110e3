"""The recipe `vanilla` gives the same steps as the classic script, of which this file has a literal copy."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from gancore.catalog.catalog import Catalog
from gancore.config.layers import ConfigLayer
from gancore.config.run import read_layers, resolve
from gancore.training.gan import GAN
from gancore.training.loop import train
from helpers.tiny_components import catalog

STEPS = 12  # an epoch of 11 batches, of which the last is short, and one step of the next epoch
FLOAT32_SEED = 3


class ClassicGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(100, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 784),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.model(z).view(-1, 1, 28, 28)


class ClassicDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
        )

    def forward(self, x):
        return self.model(x.view(x.size(0), -1))


def classic_script(generator, discriminator, batches, noise):
    """Train like the script, and yield the losses of D and G in each step."""
    bce = nn.BCEWithLogitsLoss()
    opt_g = torch.optim.Adam(generator.parameters(), lr=2e-4)
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4)
    for real, z in zip(batches, noise, strict=True):
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        fake = generator(z)

        d_loss = bce(discriminator(real), ones) + bce(discriminator(fake.detach()), zeros)
        opt_d.zero_grad()
        d_loss.backward()
        opt_d.step()

        g_loss = bce(discriminator(fake), ones)
        opt_g.zero_grad()
        g_loss.backward()
        opt_g.step()
        yield d_loss.item(), g_loss.item()


def vanilla(seed=0):
    # 28x28 noise instead of MNIST: the arithmetic is the same. With 650 images the last batch of an epoch is short.
    data = {"dataset": {"name": "noise", "shape": [1, 28, 28], "count": 650}, "duration": f"{STEPS} steps"}
    layers = [*read_layers("vanilla", catalog()), ConfigLayer("test", data | {"seed": seed})]
    return GAN.assemble(resolve(layers, catalog()), Path(), "cpu")


@pytest.fixture
def precision(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


# Adam divides a gradient by its magnitude. The sign of a gradient close to zero depends on rounding, so its weight may
# differ by the learning rate after some steps. No seed is known to show this in double precision. In single precision
# some seeds do; FLOAT32_SEED does not.
@pytest.mark.parametrize(
    ("precision", "seed"),
    [(torch.float64, 0), (torch.float32, FLOAT32_SEED)],
    indirect=["precision"],
    ids=str,
)
@pytest.mark.parametrize("joined", [True, False], ids=["joined", "apart"])
@pytest.mark.usefixtures("precision")
def test_vanilla_recipe_equals_the_classic_script_step_by_step(seed, joined):
    gan = vanilla(seed)
    assert type(gan.optimizers["generator"]) is torch.optim.Adam
    assert gan.optimizers["generator"].defaults["fused"] is True
    generator, discriminator = ClassicGenerator(), ClassicDiscriminator()
    weights = [copy.deepcopy(module.state_dict()) for module in (gan.generator, gan.discriminator)]
    for module, state in zip((generator, discriminator), weights, strict=True):
        module.model.load_state_dict(state)

    stream = gan.feed.batches(0)
    batches = [next(stream).images for _ in range(STEPS)]
    assert {len(batch) for batch in batches} == {64, 650 % 64}
    rng = torch.Generator()
    rng.set_state(gan.state.noise.get_state())
    noise = [torch.randn(len(batch), 100, generator=rng) for batch in batches]

    expected = list(classic_script(generator, discriminator, batches, noise))
    gan.critic.one_pass = joined
    actual = [(float(step.discriminator_loss), float(step.generator_loss)) for step in train(gan)]

    torch.testing.assert_close(torch.tensor(actual), torch.tensor(expected), rtol=1e-5, atol=0)
    for ours, theirs in ((gan.generator, generator.model), (gan.discriminator, discriminator.model)):
        torch.testing.assert_close(dict(ours.state_dict()), dict(theirs.state_dict()), rtol=0, atol=1e-5)


def test_vanilla_recipe_has_the_sizes_and_settings_of_the_classic_script():
    run = resolve(read_layers("vanilla", Catalog.installed()), Catalog.installed())
    gan = vanilla()

    assert sum(parameter.numel() for parameter in gan.generator.parameters()) == 559_632
    assert sum(parameter.numel() for parameter in gan.discriminator.parameters()) == 533_505
    assert [type(layer).__name__ for layer in gan.generator] == [
        "Linear", "LeakyReLU", "Linear", "LeakyReLU", "Linear", "Tanh", "Unflatten",
    ]  # fmt: skip
    assert [type(layer).__name__ for layer in gan.discriminator] == [
        "Linear", "LeakyReLU", "Linear", "LeakyReLU", "Linear",
    ]  # fmt: skip
    assert {layer.negative_slope for layer in gan.generator.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}
    for optimizer in gan.optimizers.values():
        assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (2e-4, (0.9, 0.999))
    assert (run.dataset.name, run.loss.name, run.duration, run.batch_size) == ("mnist", "bce", "50 epochs", 64)
    assert (run.training.fakes, run.training.discriminator_steps, run.ema) == ("shared", 1, None)


@pytest.mark.mnist
def test_vanilla_recipe_scales_mnist_to_minus_one_and_one(mnist_root):
    run = resolve(read_layers("vanilla", Catalog.installed()), Catalog.installed())
    gan = GAN.assemble(run, mnist_root, "cpu")
    batches = gan.feed.batches(0)
    epoch = [len(next(batches).images) for _ in range(938)]

    assert gan.feed.shape == (1, 28, 28)
    assert (sum(epoch), epoch[-1]) == (60_000, 32)
    images = next(batches).images
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
