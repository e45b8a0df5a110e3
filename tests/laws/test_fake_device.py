import broken_components as broken
import pytest
import torch

from gancore.testing import Case, LawBroken, stays_on_its_device

CASE = Case(logits=3)


def loss_with(weigh):
    """Return a loss that also weighs the logits with a tensor."""

    class Weighing(broken.CorrectLoss):
        def discriminator(self, real, fake):
            return super().discriminator(real, fake) + weigh(real.logits).mean()

    return Weighing()


def weights():
    return torch.linspace(1, 2, CASE.logits)


def move_without_using_the_result(x):
    weights().to(x.device)
    return x * weights()


def use_the_original_too(x):
    original = weights()
    return x * original.to(x.device) * original


@pytest.mark.parametrize(
    "weigh",
    [
        lambda x: x * weights().to(x.device),
        lambda x: x * weights().to(x.device, torch.float32),
        lambda x: x * weights().to(device=x.device),
        lambda x: x * weights().to(x),
        lambda x: x * weights().type_as(x),
        lambda x: x * weights().double().type_as(x),
        lambda x: x * torch.ones(CASE.logits, device=str(x.device)),
        lambda x: x.to(x.device) * x.new_tensor([1.0, 2.0, 3.0]),
    ],
)
def test_fake_device_accepts_tensors_on_the_device_of_the_input(weigh):
    stays_on_its_device(loss_with(weigh), CASE)


@pytest.mark.parametrize(
    ("weigh", "message"),
    [
        (lambda x: x * torch.ones(CASE.logits).to(x.device) * weights(), "`mul` uses a tensor"),
        (lambda x: x * torch.ones(CASE.logits).type_as(x) * weights(), "`mul` uses a tensor"),
        (lambda x: x * weights().to(torch.float32), "`mul` uses a tensor"),
        (lambda x: x * weights().to(torch.ones(1)), "`mul` uses a tensor"),
        (lambda x: x * weights().type_as(torch.ones(1)), "`mul` uses a tensor"),
        (move_without_using_the_result, "`mul` uses a tensor"),
        (use_the_original_too, "`mul` uses a tensor"),
        (lambda x: x.to(torch.device("cpu")), "`to` moves a tensor"),
        (lambda x: x.to(weights()), "`to` moves a tensor"),
        (lambda x: x.type_as(weights()), "`type_as` moves a tensor"),
    ],
)
def test_fake_device_detects_tensors_on_the_cpu(weigh, message):
    with pytest.raises(LawBroken, match=message):
        stays_on_its_device(loss_with(weigh), CASE)
