"""Every file and folder that is written follows the umask."""

import os

import pytest
import torch

from gancore.sampling.write import save_samples
from helpers.small_runs import recorded, small_run
from torture.storage import wrong_modes


@pytest.fixture(params=[0o002, 0o077], ids=["002", "077"])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_of_a_run_follow_the_umask(tmp_path, umask):
    watched = {
        "metrics": {"kid-random": {"subsets": 2}},
        "evaluate": {"samples": 20},
        "checkpoint": {"best": "kid-random"},
    }
    folder = tmp_path / "new"
    directory, _, _ = recorded(folder / "runs" / "1", watched)
    directory.manifest.write_text("")
    list(small_run(directory.path, watched).resume(steps=8))
    assert directory.evaluation.is_file()
    assert wrong_modes(tmp_path, umask) == []


@pytest.mark.parametrize("name", ["new/a.png", "new/a.npy", "new/a.safetensors", "new/folder", "new/table.csv"])
def test_files_of_samples_follow_the_umask(tmp_path, umask, name):
    samples = torch.zeros(3, 2) if name.endswith("csv") else torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    save_samples(samples, tmp_path / name)
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert wrong_modes(tmp_path, umask) == []
