import pytest
import torch

from gancore.errors import ConfigError
from gancore.utils.device import choose_device

THERE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def test_auto_is_the_best_that_is_there():
    assert choose_device("auto").type == next(name for name in ("cuda", "mps", "cpu") if THERE[name])


@pytest.mark.parametrize("name", THERE)
def test_a_device_by_name_is_that_device_or_an_error(name):
    if THERE[name]:
        assert choose_device(name).type == name
    else:
        with pytest.raises(ConfigError, match=f"received '{name}'.*cpu"):
            choose_device(name)


def test_an_unknown_device_is_told_with_those_that_are_there():
    with pytest.raises(ConfigError, match=r"received 'gpu'\. Known: auto, .*cpu"):
        choose_device("gpu")
