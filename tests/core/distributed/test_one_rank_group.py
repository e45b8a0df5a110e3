"""A process group of one rank: every collective runs, with NCCL on a GPU, and changes nothing."""

import pytest
import torch
from torch import distributed

from gancore.distributed.ranks import Ranks
from helpers.tiny_components import assembled, trained

NCCL = pytest.param(
    "cuda",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
)


class OneOfOne(Ranks):
    """A single rank that communicates all the same."""

    @property
    def is_distributed(self):
        return True


@pytest.fixture(params=["cpu", NCCL])
def device(request):
    backend = "gloo" if request.param == "cpu" else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend, store=distributed.HashStore(), rank=0, world_size=1)
    yield request.param
    distributed.destroy_process_group()


def test_group_of_one_rank_trains_the_weights_of_a_single_process(device):
    changes = {"dataset": {"name": "noise", "count": 22}, "batch_size": 4, "duration": "6 steps"}
    alone, _ = trained(assembled(changes, on=device))
    grouped, _ = trained(assembled(changes, on=device, ranks=OneOfOne()))
    for name, tensor in alone.items():
        torch.testing.assert_close(grouped[name], tensor, rtol=0, atol=0 if device == "cpu" else 1e-4)


def test_collectives_of_one_rank_return_what_they_are_given(device):
    ranks, tensor = OneOfOne(), torch.arange(6.0, device=device).view(2, 3)
    assert torch.equal(ranks.all_reduce_sum({"a": (tensor, tensor)})["a"], tensor)
    assert torch.equal(ranks.broadcast_tensors({"a": tensor})["a"], tensor)
    assert torch.equal(ranks.mean_of(2)(tensor), tensor.mean(dim=0))
    averaged = tensor.clone()
    ranks.average([averaged], 1.0)
    assert torch.equal(averaged, tensor)
