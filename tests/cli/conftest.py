import pytest

from commands import BY_HAND, Gancore


@pytest.fixture
def gancore(tmp_path):
    return Gancore(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a short run at runs/0001, made by the command itself."""
    folder = tmp_path_factory.mktemp("finished")
    command = Gancore(folder)
    command.made = command.works(
        "train", *BY_HAND, "--steps", 4, "--set", "ema.half_life_kimg=1", "--set", "log.every_steps=2"
    )
    return command
