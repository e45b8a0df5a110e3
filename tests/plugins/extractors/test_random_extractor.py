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
def test_random_extractor_accepts_any_image_and_vector(shape, features):
    module = RandomExtractor(features=features, width=16).build(shape, None, None)
    images = torch.zeros(3, *shape) if len(shape) == 1 else torch.zeros(3, *shape, dtype=torch.uint8)
    output = module(images)
    assert (output.features.shape, output.logits) == ((3, features), None)


def test_random_extractor_depends_on_its_seed_and_not_on_the_global_rng():
    digests = []
    for seed in (0, 0, 1):
        torch.rand(1)
        digests.append(digest_of(RandomExtractor(seed=seed).build((1, 8, 8), None, None), {}))
    assert digests[0] == digests[1] != digests[2]


def test_random_extractor_features_have_the_scale_of_pixels():
    images = torch.randint(0, 256, (500, 1, 28, 28), dtype=torch.uint8)
    features = RandomExtractor().build((1, 28, 28), None, None)(images).features
    assert 0.1 < float(features.square().mean().sqrt()) < 2


def test_random_extractor_has_no_parameters():
    assert list(RandomExtractor().build((1, 8, 8), None, None).parameters()) == []


@pytest.mark.parametrize("side", [64, 50])
def test_random_extractor_pools_large_images(side):
    module = RandomExtractor().build((1, side, side), None, None)
    images = torch.full((1, 1, side, side), 90, dtype=torch.uint8)
    small = torch.full((1, 1, 32, 32), 90, dtype=torch.uint8)
    torch.testing.assert_close(module(images).features, module(small).features)


@pytest.mark.parametrize("shape", [(1, 50), (2, 1000), (1, 40, 4, 5), (3, 33, 64, 40), (2, 3), (1, 2, 40, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_random_extractor_pools_long_series_and_volumes(shape, dtype):
    samples = torch.full((2, *shape), 90, dtype=dtype)
    small = tuple(min(side, 32) for side in shape[1:]) if len(shape) < 5 else shape[1:]
    given, wanted = (RandomExtractor(width=16).build((shape[0], *sides), None, None) for sides in (shape[1:], small))
    expected = wanted(torch.full((2, shape[0], *small), 90, dtype=dtype)).features
    torch.testing.assert_close(given(samples).features, expected)


def test_random_extractor_keeps_the_features_of_images_and_float_values():
    images = torch.randint(0, 256, (2, 3, 40, 20), dtype=torch.uint8)
    pooled = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, (32, 20))
    vectors = torch.randn(2, 5)
    for samples, inputs in ((images, pooled), (vectors, vectors)):
        module = RandomExtractor(width=16).build(samples.shape[1:], None, None)
        expected = (inputs.flatten(1) @ module.hidden).relu() @ module.out
        assert torch.equal(module(samples).features, expected)
