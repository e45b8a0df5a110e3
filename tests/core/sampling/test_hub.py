"""Addresses on the hub: which texts are refused before anything is asked of it."""

from pathlib import Path

import pytest

from gancore.errors import CheckpointError
from gancore.sampling.hub import download
from gancore.sampling.load import load


@pytest.mark.parametrize(
    "rest", ["", "a", "a/", "/b", "a/b@", "a/b@../../x", "a/b@x/../y", "a/b@x//y", "a/b@x/", "a/b@./x", "a/../b"]
)
def test_address_without_a_name_or_that_leaves_its_place_is_refused(rest):
    with pytest.raises(CheckpointError, match="is hf://USER/NAME or hf://USER/NAME@REVISION; received hf://"):
        download(f"hf://{rest}")


@pytest.mark.parametrize("address", ["hf://", Path("hf://")])
def test_beginning_of_an_address_is_no_path(address):
    with pytest.raises(CheckpointError, match="the address of a generator on the hub is hf://USER/NAME"):
        load(address)
