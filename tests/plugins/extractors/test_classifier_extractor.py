import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gancore.errors import ConfigError
from gancore_plugins.extractors.classifier import ClassifierExtractor, _shift


def built(shape=(1, 28, 28), classes=10):
    return ClassifierExtractor().build(shape, classes, None).eval()


def multiply_adds(module, images):
    counted = []

    def count(layer, inputs, output):
        counted.append(output[0].numel() * layer.weight[0].numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    module(images)
    return sum(counted)


def test_classifier_extractor_has_64_features_and_about_five_million_multiply_adds():
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    output = built()(images)
    assert (output.features.shape, output.logits.shape) == ((1, 64), (1, 10))
    assert 4.5e6 < multiply_adds(built(), images) < 5.5e6


def test_classifier_extractor_features_are_taken_before_the_activation():
    images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    assert (built()(images).features < 0).any()


@given(st.tuples(st.sampled_from([1, 3, 4]), st.integers(1, 33), st.integers(1, 33)), st.integers(1, 12))
@settings(max_examples=20)
def test_classifier_extractor_accepts_images_of_any_shape(shape, classes):
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    output = built(shape, classes)(images)
    assert (output.features.shape, output.logits.shape) == ((2, 64), (2, classes))
    assert ClassifierExtractor().build(shape, classes, None).train()(images).logits.shape == (2, classes)


def test_classifier_extractor_in_eval_mode_does_not_mix_images():
    images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    module = built()
    torch.testing.assert_close(module(images).features[:2], module(images[:2]).features, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("shape", "classes"), [((7,), 10), ((1, 28, 28), None)])
def test_classifier_extractor_refuses_vectors_and_unlabeled_images(shape, classes):
    with pytest.raises(ConfigError, match="extractor classifier needs labeled images"):
        ClassifierExtractor().build(shape, classes, None)


def test_classifier_extractor_shifts_each_training_image_as_a_whole():
    images = torch.zeros(200, 2, 9, 11, dtype=torch.uint8)
    images[:, 0, 4, 5], images[:, 1, 3, 5] = 1, 2
    shifted = _shift(images, 2)
    positions = shifted[:, 0].nonzero()[:, 1:]
    assert len(positions) == 200
    assert {tuple(position) for position in positions.tolist()} == {(y, x) for y in range(2, 7) for x in range(3, 8)}
    assert torch.equal(shifted[:, 1].nonzero()[:, 1:], positions - torch.tensor([1, 0]))
