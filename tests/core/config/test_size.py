"""The key `size`: by name or as a number, and what networks receive of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.config.layers import ConfigLayer
from gancore.config.run import Options, resolve
from gancore.distributed.ranks import SINGLE_RANK
from gancore.errors import ConfigError
from gancore.training.assembly import feed_of, spec_of
from helpers.tiny_components import PARTS, catalog

NAMES = {"small": 0.5, "base": 1.0, "large": 2.0}


@pytest.mark.parametrize(("name", "factor"), NAMES.items())
def test_size_by_name_equals_its_number(name, factor):
    assert Options(size=name) == Options(size=factor)
    assert Options(size=factor).size == name
    assert Options(size=name).width_factor == factor


@given(st.floats(0.05, 16))
@settings(max_examples=10)
def test_size_as_a_number_is_the_factor(factor):
    assert Options(size=factor).width_factor == factor


@given(st.floats(0.05, 16) | st.sampled_from(sorted(NAMES)))
@settings(max_examples=10)
def test_size_survives_a_config_file(size):
    run = resolve([ConfigLayer("run", {**PARTS, "size": size})], catalog())
    assert resolve([ConfigLayer("run", run.to_data(catalog()))], catalog()) == run


@pytest.mark.parametrize("size", ["huge", 0, 0.01, 17, -1, True, None, [1.0]])
def test_size_out_of_range_is_one_error_with_the_names_and_the_range(size):
    with pytest.raises(ConfigError) as error:
        resolve([ConfigLayer("run", {**PARTS, "size": size})], catalog())
    message = "wrong config: size: must be small, base, large, or a multiplier of widths from 0.05 to 16; received"
    assert error.value.message.startswith(message)


@given(st.floats(0.05, 16))
@settings(max_examples=10)
def test_size_reaches_the_spec(size):
    options = Options(size=size, batch_size=2)
    feed = feed_of(torch.utils.data.TensorDataset(torch.zeros(4, 2)), options, torch.device("cpu"), SINGLE_RANK)
    assert spec_of(feed, options).width_factor == size
