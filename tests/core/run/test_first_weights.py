import pytest
import torch
from safetensors.torch import save_file

from gancore.errors import CheckpointError
from gancore.run.first_weights import FirstWeights


def test_first_weights_are_read_once_until_they_are_taken(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"generator.0.weight": torch.ones(2, 2)}, path)
    weights = FirstWeights(path)
    earlier = weights.earlier()
    assert (earlier.path, earlier.config, earlier.shape) == (path, {}, None)
    path.unlink()
    assert weights.take().tensors["generator.0.weight"].sum() == 4
    with pytest.raises(CheckpointError, match="cannot read"):
        weights.take()
