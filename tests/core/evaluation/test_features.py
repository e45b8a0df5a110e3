import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.errors import DataError, PluginError
from gancore.evaluation.features import ChannelByChannel, FeatureExtractor, digest_of
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


def loaded(module):
    return FeatureExtractor("tried", module, CPU, digest_of(module, {}))


@given(st.integers(1, 600))
@settings(max_examples=8)
def test_features_do_not_depend_on_the_number_of_images(count):
    images = pictures(count)
    read = loaded(Linear()).read(images)
    expected = Linear()(images)
    torch.testing.assert_close(read.features, expected.features)
    torch.testing.assert_close(read.logits, expected.logits)
    assert read.images is images
    assert not read.features.requires_grad


def test_extractor_without_classes_has_no_logits():
    read = loaded(Returns(lambda count: Features(torch.zeros(count, 2)))).read(pictures(3))
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
def test_extractor_output_that_breaks_the_contract_is_a_plugin_error(value, words):
    with pytest.raises(PluginError, match=words):
        loaded(Returns(value)).read(pictures(3))


def test_features_that_are_not_finite_are_rejected():
    with pytest.raises(DataError, match="not finite"):
        loaded(Returns(lambda count: Features(torch.full((count, 2), torch.nan)))).read(pictures(3))


def test_digest_covers_settings_weights_buffers_and_names():
    first, second, renamed = Linear(), Linear(), Linear()
    digest = digest_of(first, {"side": 2})
    assert digest == digest_of(second, {"side": 2})
    assert digest != digest_of(first, {"side": 3})
    renamed.other = renamed.logits
    del renamed.logits
    assert digest_of(renamed, {"side": 2}) != digest
    for tensor in second.state_dict().values():
        before = tensor.flatten()[0].clone()
        tensor.flatten()[0] += 1e-3
        assert digest_of(second, {"side": 2}) != digest
        tensor.view(-1)[0] = before
    assert digest_of(second, {"side": 2}) == digest


def test_channel_by_channel_concatenates_features_and_combines_classes():
    module, images = Linear(), pictures(6, channels=3)
    read = ChannelByChannel(module)(images)
    outputs = [module(images[:, channel : channel + 1]) for channel in range(3)]
    assert torch.equal(read.features, torch.cat([output.features for output in outputs], dim=1))
    assert read.logits.shape == (6, 27)
    torch.testing.assert_close(read.logits.exp().sum(dim=1), torch.ones(6))
    expected = sum(output.logits.argmax(dim=1) * factor for output, factor in zip(outputs, (9, 3, 1), strict=True))
    assert torch.equal(read.logits.argmax(dim=1), expected)
