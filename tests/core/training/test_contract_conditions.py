"""Tensors as conditions, and samples of any rank: from the dataset through the feed and the step to samples."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from gancore.contracts import Spec
from gancore.data.feed import Feed
from gancore.errors import ConfigError, DataError
from gancore.sampling.draw import draw_samples
from gancore.training.loop import train
from helpers.contract_parts import LATENT, small_gan
from helpers.tiny_components import Hinge, equal, trained, weights

SHAPE, CONDITION = (2, 3), (1, 2, 2)


class Pairs(Dataset):
    """Series of float32, each with a picture as its condition; the first value of both is the item's number."""

    def __init__(self, count=10, dtype=torch.uint8):
        self.count, self.dtype = count, dtype

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        sample, condition = torch.full(SHAPE, float(index)), torch.full(CONDITION, index, dtype=self.dtype)
        return sample, condition


class OnCondition(nn.Module):
    """A linear network on its flat input and condition."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(inputs + math.prod(CONDITION), math.prod(outputs))
        self.outputs = outputs

    def forward(self, batch, condition):
        return self.layer(torch.cat([batch.flatten(1), condition.flatten(1)], 1)).unflatten(1, self.outputs)


def conditional(objective=None, data=None, **training):
    return small_gan(
        objective,
        generator=lambda: OnCondition(LATENT, SHAPE),
        discriminator=lambda: OnCondition(6, (1,)),
        data=data or Pairs(),
        training={"conditional": True, **training},
    )


def feed(dataset, data="auto"):
    return Feed(dataset, batch_size=4, seed=0, device=torch.device("cpu"), data=data)


@pytest.mark.parametrize("data", ["device", "stream"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_feed_keeps_sample_and_condition_tensor_together(data, dtype):
    source = feed(Pairs(dtype=dtype), data)
    assert (source.shape, source.condition) == (SHAPE, CONDITION)
    batch = next(source.batches(0))
    numbers = batch.condition if dtype == torch.float32 else (batch.condition + 1) * 127.5
    assert batch.condition.dtype == torch.float32
    torch.testing.assert_close(numbers[:, 0, 0, 0], batch.images[:, 0, 0], atol=1e-4, rtol=0)


def test_spec_of_a_run_has_the_condition_only_if_it_is_conditional():
    source = feed(Pairs())
    assert source.spec(7, conditional=True) == Spec(SHAPE, 7, CONDITION, bounded=False)
    assert source.spec(7, conditional=False).condition is None


def test_spec_classes_rejects_tensors():
    assert Spec(SHAPE, 1, 3).classes() == 3
    assert Spec(SHAPE).classes() is None
    with pytest.raises(ConfigError, match=r"classes as a condition, not tensors of shape \(1, 2, 2\)"):
        Spec(SHAPE, 1, CONDITION).classes()


@pytest.mark.parametrize("data", ["device", "stream"])
def test_dataset_with_classes_and_tensors_as_conditions_is_rejected(data):
    dataset = Pairs()
    dataset.classes = ("a", "b")
    with pytest.raises(DataError, match="a dataset with `classes` must have an int as the condition of each item"):
        next(feed(dataset, data).batches(0))


def test_networks_and_loss_receive_the_conditions_of_the_real_batch():
    seen = []

    class Recording(Hinge):
        name = "recording"

        def discriminator(self, real, fake):
            seen.append((real.condition, fake.condition))
            return super().discriminator(real, fake)

    run = conditional()
    run.loss.objective = Recording()
    stream = run.feed.batches(0)
    for _ in train(run):
        expected = next(stream).condition
        assert all(torch.equal(given, expected) for given in seen[-1])


def test_accumulation_splits_conditions_with_their_samples():
    whole, split = conditional(), conditional(accumulate=2)
    for first, second in zip(train(whole), train(split), strict=True):
        torch.testing.assert_close(first.real_logits, second.real_logits, rtol=1e-4, atol=1e-5)
    for one, other in zip(weights(whole).values(), weights(split).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_conditional_run_on_tensors_resumes_bit_for_bit():
    expected, _ = trained(conditional())
    first, second = conditional(), conditional()
    next(train(first))
    second.restore(weights(first), first.state.place())
    assert equal(trained(second)[0], expected)


def test_sample_of_a_run_in_training_depends_on_its_own_condition_only():
    run = conditional()
    conditions = torch.arange(70, dtype=torch.uint8).view(-1, 1, 1, 1).expand(70, *CONDITION).clone()
    before = draw_samples(run, 70, conditions=conditions)
    conditions[1] += 100
    changed = (draw_samples(run, 70, conditions=conditions) != before).flatten(1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1]
