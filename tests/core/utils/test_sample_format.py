"""How samples are stored and how networks see them: each mapping is undone by the other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.utils.sample_format import UINT8, SampleFormat, Scales, condition_to_network

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
ranges = st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(lambda pair: (float(pair[0]), float(sum(pair))))


def drawn(shape, seed=0):
    return torch.rand(5, *shape, generator=torch.Generator().manual_seed(seed))


@given(shapes, st.integers(0, 2**31))
def test_uint8_samples_of_any_rank_are_restored_exactly(shape, seed):
    stored = (drawn(shape, seed) * 255).round().to(torch.uint8)
    seen = UINT8.to_network(stored)
    assert seen.dtype == torch.float32
    assert -1 <= seen.min() <= seen.max() <= 1
    assert torch.equal(UINT8.to_stored(seen), stored)


def test_uint8_maps_black_to_minus_one_and_white_to_one():
    assert UINT8.to_network(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1.0, 1.0]


@given(shapes, ranges, st.integers(0, 2**31))
def test_float_samples_with_a_range_are_restored_up_to_rounding(shape, ends, seed):
    low, high = ends
    stored = low + (high - low) * drawn(shape, seed)
    before, form = stored.clone(), SampleFormat.of(stored[0], ends)
    seen = form.to_network(stored)
    assert form.bounded
    assert -1 - 1e-4 <= seen.min() <= seen.max() <= 1 + 1e-4
    torch.testing.assert_close(form.to_stored(seen), stored, rtol=1e-5, atol=1e-5 * (high - low) + 1e-5)
    assert torch.equal(stored, before), "samples that are kept on the device stay as they are"


@given(shapes, st.integers(0, 2**31))
def test_float_samples_without_a_range_are_unchanged(shape, seed):
    stored = 9 * drawn(shape, seed)
    form = SampleFormat.of(stored[0])
    assert not form.bounded
    assert torch.equal(form.to_stored(form.to_network(stored)), stored)


@given(ranges, st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=5))
def test_stored_values_lie_in_the_range(ends, values):
    for form in (UINT8, SampleFormat("float32", ends)):
        generated = torch.tensor(values)
        assert torch.equal(form.to_stored(generated), form.to_stored(generated.clamp(-1, 1)))
    assert ends[0] - 1e-3 <= form.to_stored(generated).min() <= form.to_stored(generated).max() <= ends[1] + 1e-3


def test_value_range_of_uint8_samples_is_rejected():
    with pytest.raises(DataError, match="value_range is for float32 data"):
        SampleFormat.of(torch.zeros(2, dtype=torch.uint8), (0, 1))


@pytest.mark.parametrize("ends", [(1, 0), (0, 0), (0,), (0, 1, 2), 3, "ab", (0, float("nan")), (None, 1)], ids=str)
def test_value_range_must_be_two_numbers_in_order(ends):
    with pytest.raises(DataError, match="value_range must be two finite numbers, the lower one first; received"):
        SampleFormat.of(torch.zeros(2), ends)


def test_condition_to_network_maps_uint8_only():
    labels, vectors = torch.tensor([0, 2]), torch.tensor([[0.5, 3.0]])
    assert torch.equal(condition_to_network(labels), labels)
    assert torch.equal(condition_to_network(vectors), vectors)
    assert condition_to_network(torch.tensor([[0, 255]], dtype=torch.uint8)).tolist() == [[-1.0, 1.0]]


numbers = st.floats(-1e4, 1e4)
deviations = st.floats(0.125, 1e4)
columns = st.lists(st.tuples(numbers, deviations), min_size=1, max_size=5)


@given(columns, st.integers(0, 2**31))
def test_scales_give_networks_standard_values_and_samples_in_the_units_of_the_data(columns, seed):
    means, stds = map(list, zip(*columns, strict=True))
    standard = torch.randn(6, len(columns), generator=torch.Generator().manual_seed(seed))
    stored = standard * torch.tensor(stds) + torch.tensor(means)
    before, form = stored.clone(), SampleFormat.of(stored[0], scales=(means, stds))
    assert not form.bounded
    assert torch.equal(form.to_network(stored), form.comparable(stored))
    tolerance = float((2e-7 * torch.tensor(means).abs() / torch.tensor(stds)).max()) + 1e-5
    torch.testing.assert_close(form.to_network(stored), standard, rtol=1e-5, atol=tolerance)
    torch.testing.assert_close(form.to_stored(form.to_network(stored)), stored, rtol=1e-5, atol=1e-2)
    assert torch.equal(stored, before), "samples that are kept on the device stay as they are"


def test_scales_of_channels_are_broadcast_to_images():
    images = torch.stack([torch.full((2, 2), 10.0), torch.full((2, 2), 200.0)]).unsqueeze(0)
    form = SampleFormat.of(images[0], scales=(torch.tensor([8.0, 100.0]).view(2, 1, 1), np.ones((2, 1, 1))))
    assert form.to_network(images)[0, :, 0, 0].tolist() == [2.0, 100.0]
    assert form.scales.to_data() == {"shape": [2, 1, 1], "means": [8.0, 100.0], "stds": [1.0, 1.0]}


@given(st.integers(0, 60000), st.integers(500, 5000))
def test_values_of_a_range_are_compared_as_0_to_255(low, width):
    stored = torch.tensor([[0.0, 0.2, 1.0]]) * width + low
    before, form = stored.clone(), SampleFormat.of(stored[0], (low, low + width))
    torch.testing.assert_close(form.comparable(stored), torch.tensor([[0.0, 51.0, 255.0]]), rtol=0, atol=0.02)
    torch.testing.assert_close(form.to_network(stored), form.comparable(stored) / 127.5 - 1, rtol=0, atol=1e-3)
    assert torch.equal(stored, before)


def test_scales_are_for_float_data_without_a_range():
    with pytest.raises(DataError, match="scales is for float32 data"):
        SampleFormat.of(torch.zeros(2, dtype=torch.uint8), scales=([0, 0], [1, 1]))
    with pytest.raises(DataError, match="either value_range or scales"):
        SampleFormat.of(torch.zeros(2), (0, 1), ([0, 0], [1, 1]))


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        (3, "TypeError"),
        (([0, 0],), "ValueError"),
        ((["a", "b"], [1, 1]), "Error"),
        (([0, 0, 0], [1, 1, 1]), "shape"),
        (([[0], [0]], [1, 1]), "shape"),
        (([0, 0], [1, 0]), "standard deviation 0 is not above 0"),
        (([0, 0], [1, -1]), "standard deviation -1"),
        (([0, float("nan")], [1, 1]), "not finite"),
        (([0, 1e300], [1, 1]), "not finite"),
        (([0, 0], [1, 1e-300]), "not above 0"),
    ],
    ids=str,
)
def test_scales_must_be_numbers_for_each_value(scales, words):
    with pytest.raises(DataError, match=f"`scales` of a dataset must be .*{words}"):
        SampleFormat.of(torch.zeros(2), scales=scales)


def test_scales_of_too_many_values_are_refused():
    with pytest.raises(DataError, match="20,000 of each; at most 16,384"):
        SampleFormat.of(torch.zeros(20_000), scales=(torch.zeros(20_000), torch.ones(20_000)))


def test_scales_of_many_values_are_found_without_a_hash_of_each():
    class Number(float):
        __hash__ = None

    scales = Scales((3,), (1.0, Number(2), Number(3)), (1.0, Number(2), Number(4)))
    assert scales.standardize(torch.tensor([[2.0, 6.0, 11.0]])).tolist() == [[1.0, 2.0, 2.0]]
    assert hash(scales) == hash(Scales((3,), (1.0, 2.0, 3.0), (1.0, 2.0, 4.0)))
