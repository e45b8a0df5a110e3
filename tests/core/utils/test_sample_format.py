"""How samples are stored and how networks see them: each mapping is undone by the other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.errors import DataError
from gancore.utils.sample_format import UINT8, SampleFormat, condition_to_network

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
