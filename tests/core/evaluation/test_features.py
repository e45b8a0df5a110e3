import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.errors import DataError, PluginError
from gancore.evaluation.features import ChannelByChannel, Reader, digest_of
from gancore.metrics import Features

CPU = torch.device("cpu")


def pictures(count, channels=1, seed=0):
    return torch.randint(
        0, 256, (count, channels, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


class Linear(nn.Module):
    """Features and logits of flat pixels."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.features = nn.Linear(channels * 16, 5)
            self.logits = nn.Linear(5, classes)

    def forward(self, images):
        features = self.features(images.flatten(1).float() / 255)
        return Features(features, self.logits(features))


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return self.value(len(images))


def reader(module):
    return Reader("tried", module, CPU, digest_of(module, {}))


@given(st.integers(1, 600))
@settings(max_examples=8)
def test_images_are_read_one_by_one_whatever_their_number(count):
    images = pictures(count)
    read = reader(Linear()).read(images)
    expected = Linear()(images)
    torch.testing.assert_close(read.features, expected.features)
    torch.testing.assert_close(read.logits, expected.logits)
    assert read.images is images
    assert not read.features.requires_grad


def test_a_network_without_classes_has_no_logits():
    read = reader(Returns(lambda count: Features(torch.zeros(count, 2)))).read(pictures(3))
    assert (read.features.shape, read.logits) == ((3, 2), None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda count: torch.zeros(count, 2), "must return Features; 'tried' returned Tensor"),
        (lambda count: Features(torch.zeros(count)), r"features .* must have shape \(N, D\)"),
        (lambda count: Features(torch.zeros(count + 1, 2)), "features"),
        (lambda count: Features(torch.zeros(count, 0)), "features"),
        (lambda count: Features(torch.zeros(count, 2), torch.zeros(2)), "logits"),
        (lambda count: {}["missing"], "'tried' failed: KeyError"),
    ],
)
def test_what_the_contract_does_not_promise_is_the_extractors_failure(value, words):
    with pytest.raises(PluginError, match=words):
        reader(Returns(value)).read(pictures(3))


def test_features_that_are_not_finite_measure_nothing():
    with pytest.raises(DataError, match="not finite"):
        reader(Returns(lambda count: Features(torch.full((count, 2), torch.nan)))).read(pictures(3))


def test_the_digest_is_of_every_setting_weight_and_buffer_with_its_name():
    first, second, renamed = Linear(), Linear(), Linear()
    said = digest_of(first, {"side": 2})
    assert said == digest_of(second, {"side": 2})
    assert said != digest_of(first, {"side": 3})
    renamed.other = renamed.logits
    del renamed.logits
    assert digest_of(renamed, {"side": 2}) != said
    for tensor in second.state_dict().values():
        before = tensor.flatten()[0].clone()
        tensor.flatten()[0] += 1e-3
        assert digest_of(second, {"side": 2}) != said
        tensor.view(-1)[0] = before
    assert digest_of(second, {"side": 2}) == said


def test_channel_by_channel_the_features_stand_side_by_side_and_classes_are_tuples():
    module, images = Linear(), pictures(6, channels=3)
    read = ChannelByChannel(module)(images)
    apart = [module(images[:, channel : channel + 1]) for channel in range(3)]
    assert torch.equal(read.features, torch.cat([each.features for each in apart], dim=1))
    assert read.logits.shape == (6, 27)
    torch.testing.assert_close(read.logits.exp().sum(dim=1), torch.ones(6))
    likeliest = sum(each.logits.argmax(dim=1) * place for each, place in zip(apart, (9, 3, 1), strict=True))
    assert torch.equal(read.logits.argmax(dim=1), likeliest)
