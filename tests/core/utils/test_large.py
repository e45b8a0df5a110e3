import shutil
from collections import namedtuple

import pytest
import torch

from gancore.errors import DataError
from gancore.utils import large


@pytest.mark.parametrize("most", [0, large.MOST_IN_MEMORY])
def test_tensor_in_a_file_is_used_like_one_in_memory(monkeypatch, tmp_path, most):
    monkeypatch.setattr(large, "MOST_IN_MEMORY", most)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    values = large.empty((5, 2, 3), torch.uint8)
    values[:] = torch.arange(30).reshape(5, 2, 3)
    chosen = large.take(values, torch.tensor([4, 0, 4]))
    assert torch.equal(chosen, torch.arange(30, dtype=torch.uint8).reshape(5, 2, 3)[[4, 0, 4]])
    assert not list(tmp_path.iterdir())


def test_tensor_that_the_disk_cannot_hold_is_refused(monkeypatch):
    usage = namedtuple("usage", "free")(100)
    monkeypatch.setattr(large, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="101 images take 101 bytes, and 100 are free"):
        large.empty((101, 1), torch.uint8)
