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


@pytest.fixture(scope="session")
def both(zygote):
    """Runs a command as rank 0 and as rank 1, of which rank 1 has the trap; returns how each has ended."""
    from torch.distributed import TCPStore

    from helpers.two_rank_scenarios import environment

    other = Zygote()

    def run(folder, *arguments, trap="::"):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's, which outlives both
        port, mine = store.port, {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "none"}
        pair = (zygote, environment(0, 2, port)), (other, environment(1, 2, port) | {"GANCORE_TRAP": trap})
        for rank, said in pair:
            rank.start(folder, *arguments, LOCAL_WORLD_SIZE="2", **mine, **said)
        return [rank.wait() for rank, _ in pair]

    yield run
    other.close()


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
