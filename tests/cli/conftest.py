import pytest

from helpers.cli_forkserver import Zygote
from helpers.cli_runner import BY_HAND, Gancore


def forker(request):
    return request.getfixturevalue("zygote") if getattr(request.module, "FORKED", False) else None


@pytest.fixture(scope="session")
def zygote():
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.fixture
def gancore(tmp_path, request):
    """Return the command in a temporary folder; a module with FORKED = True forks instead of starting Python."""
    return Gancore(tmp_path, forker(request))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """Return a folder with a short run at runs/0001, made by the command."""
    folder = tmp_path_factory.mktemp("finished")
    command = Gancore(folder, forker(request))
    command.made = command.works(
        "train", *BY_HAND, "--steps", 4, "--set", "ema.half_life_kimg=1", "--set", "log.every_steps=2"
    )
    return command
