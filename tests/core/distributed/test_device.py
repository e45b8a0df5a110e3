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
        with pytest.raises(ConfigError, match=f"cpu; received '{name}'"):
            choose_device(name)


def test_unknown_device_lists_the_available_ones():
    with pytest.raises(ConfigError, match=r"must be one of auto, .*cpu; received 'gpu'"):
        choose_device("gpu")


def test_device_of_one_gpu_is_refused_with_what_chooses_it():
    with pytest.raises(ConfigError) as error:
        choose_device("cuda:1")
    assert ("CUDA_VISIBLE_DEVICES=1" in error.value.hint) == AVAILABLE["cuda"]
