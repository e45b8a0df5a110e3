import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.evaluation.features import digest_of
from gancore_plugins.extractors.random import RandomExtractor


@given(
    st.one_of(
        st.tuples(st.sampled_from([1, 3, 4]), st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 40))
    ),
    st.integers(1, 20),
)
@settings(max_examples=20)
def test_any_image_and_any_vector_is_read(shape, features):
    module = RandomExtractor(features=features, width=16).build(shape, None, None)
    images = torch.zeros(3, *shape) if len(shape) == 1 else torch.zeros(3, *shape, dtype=torch.uint8)
    read = module(images)
    assert (read.features.shape, read.logits) == ((3, features), None)


def test_one_seed_is_one_network_and_another_is_another_whatever_torch_would_draw():
    digests = []
    for seed in (0, 0, 1):
        torch.rand(1)
        digests.append(digest_of(RandomExtractor(seed=seed).build((1, 8, 8), None, None), {}))
    assert digests[0] == digests[1] != digests[2]


def test_features_are_about_as_large_as_pixels():
    images = torch.randint(0, 256, (500, 1, 28, 28), dtype=torch.uint8)
    features = RandomExtractor().build((1, 28, 28), None, None)(images).features
    assert 0.1 < float(features.square().mean().sqrt()) < 2


def test_it_has_nothing_to_train():
    assert list(RandomExtractor().build((1, 8, 8), None, None).parameters()) == []


@pytest.mark.parametrize("side", [64, 50])
def test_large_images_are_averaged_down_first(side):
    module = RandomExtractor().build((1, side, side), None, None)
    images = torch.full((1, 1, side, side), 90, dtype=torch.uint8)
    small = torch.full((1, 1, 32, 32), 90, dtype=torch.uint8)
    torch.testing.assert_close(module(images).features, module(small).features)
