import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest itself fills the cores; subprocesses inherit it
CACHE = tempfile.TemporaryDirectory(prefix="gancore-cache-")  # gone with the process
os.environ["GANCORE_CACHE"] = CACHE.name
os.environ["GANCORE_SETTINGS"] = os.devnull  # whoever runs the tests may have switched plugins off
os.environ.pop("GANCORE_DISABLE_PLUGINS", None)

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
    named = os.environ.get("GANCORE_TEST_DATA")
    if not named or not (Path(named) / "MNIST" / "raw").is_dir():
        pytest.skip(f"GANCORE_TEST_DATA must name a folder that holds MNIST/raw; it is {named!r}")
    return Path(named)
