import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist uses the cores; subprocesses inherit it
CACHE = tempfile.TemporaryDirectory(prefix="gancore-cache-")  # removed at exit
os.environ["GANCORE_CACHE"] = CACHE.name
os.environ["GANCORE_SETTINGS"] = os.devnull  # the developer may have switched plugins off
os.environ.pop("GANCORE_DISABLE_PLUGINS", None)

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import register_random, settings


class TorchRandom:
    """torch's global generator with the interface that Hypothesis seeds before every example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


register_random(TORCH := TorchRandom())
settings.register_profile("suite", derandomize=True, deadline=None, print_blob=True, max_examples=25)
settings.register_profile("thorough", settings.get_profile("suite"), max_examples=200)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def commands_leave_the_garbage_collection_as_it_is():
    """Keep commands that run in this process from a search of all its objects, and from hiding them from the GC."""
    with patch("gancore_cli.startup.imported"), patch("gancore_cli.startup.end"):
        yield


@pytest.fixture(scope="session")
def mnist_root():
    """Return the folder that holds MNIST/raw with the published files."""
    folder = os.environ.get("GANCORE_TEST_DATA")
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip(f"GANCORE_TEST_DATA must name a folder that holds MNIST/raw; it is {folder!r}")
    return Path(folder)


@pytest.fixture(scope="session")
def browser():
    """Return Chromium; the test is skipped where it or Playwright is not installed."""
    from helpers.browser import chromium

    with chromium() as started:
        yield started
