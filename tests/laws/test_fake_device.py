"""The pretended device: what moves as the contract asks is let through, and what stays behind is noticed."""

import broken_components as zoo
import pytest
import torch

from gancore.testing import Case, LawBroken, stays_on_its_device

CASE = Case(logits=3)


def weighing(by):
    """A sound loss, of scores that are weighed by a table."""

    class Weighing(zoo.SoundLoss):
        def discriminator(self, real, fake):
            return super().discriminator(real, fake) + by(real.logits).mean()

    return Weighing()


def table():
    return torch.linspace(1, 2, CASE.logits)


def forgetful(x):
    table().to(x.device)
    return x * table()


def half_forgetful(x):
    stays = table()
    return x * stays.to(x.device) * stays


@pytest.mark.parametrize(
    "by",
    [
        lambda x: x * table().to(x.device),
        lambda x: x * table().to(x.device, torch.float32),
        lambda x: x * table().to(device=x.device),
        lambda x: x * table().to(x),
        lambda x: x * table().type_as(x),
        lambda x: x * table().double().type_as(x),
        lambda x: x * torch.ones(CASE.logits, device=str(x.device)),
        lambda x: x.to(x.device) * x.new_tensor([1.0, 2.0, 3.0]),
    ],
)
def test_a_table_that_is_moved_to_where_the_input_is_stays_on_its_device(by):
    stays_on_its_device(weighing(by), CASE)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (lambda x: x * torch.ones(CASE.logits).to(x.device) * table(), "`mul` meets a tensor"),
        (lambda x: x * torch.ones(CASE.logits).type_as(x) * table(), "`mul` meets a tensor"),
        (lambda x: x * table().to(torch.float32), "`mul` meets a tensor"),
        (lambda x: x * table().to(torch.ones(1)), "`mul` meets a tensor"),
        (lambda x: x * table().type_as(torch.ones(1)), "`mul` meets a tensor"),
        (forgetful, "`mul` meets a tensor"),
        (half_forgetful, "`mul` meets a tensor"),
        (lambda x: x.to(torch.device("cpu")), "`to` moves a tensor"),
        (lambda x: x.to(table()), "`to` moves a tensor"),
        (lambda x: x.type_as(table()), "`type_as` moves a tensor"),
    ],
)
def test_what_stays_behind_or_is_brought_back_is_noticed(by, reason):
    with pytest.raises(LawBroken, match=reason):
        stays_on_its_device(weighing(by), CASE)
