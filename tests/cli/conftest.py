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
    """The command in a folder of the test's own. A module that says FORKED needs no new interpreter each time."""
    return Gancore(tmp_path, forker(request))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A folder with a short run at runs/0001, made by the command itself."""
    folder = tmp_path_factory.mktemp("finished")
    command = Gancore(folder, forker(request))
    command.made = command.works(
        "train", *BY_HAND, "--steps", 4, "--set", "ema.half_life_kimg=1", "--set", "log.every_steps=2"
    )
    return command
