import pytest
import torch

from gancore.distributed.ranks import choose_device
from gancore.errors import ConfigError

AVAILABLE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def test_auto_is_the_best_available_device():
    assert choose_device("auto").type == next(name for name in ("cuda", "mps", "cpu") if AVAILABLE[name])


@pytest.mark.parametrize("name", AVAILABLE)
def test_device_by_name_is_returned_or_an_error(name):
    if AVAILABLE[name]:
        assert choose_device(name).type == name
    else:
        with pytest.raises(ConfigError, match=f"received '{name}'.*cpu"):
            choose_device(name)


def test_unknown_device_lists_the_available_ones():
    with pytest.raises(ConfigError, match=r"received 'gpu'\. Known: auto, .*cpu"):
        choose_device("gpu")
