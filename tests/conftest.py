import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest itself fills the cores; subprocesses inherit it

from pathlib import Path

import pytest
import torch
from hypothesis import register_random, settings


class TorchRandom:
    """torch's global generator, in the form that Hypothesis knows how to seed before every example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


register_random(TORCH := TorchRandom())
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True, max_examples=50)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def mnist_root():
    """The folder that holds MNIST/raw with the published files."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("GANCORE_TEST_DATA") or beside)
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip(f"{root} holds no MNIST/raw; name a folder that does in GANCORE_TEST_DATA")
    return root
