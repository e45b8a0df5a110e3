import shutil

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

    def run(folder, *arguments, trap="::"):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's, which outlives both
        port, mine = store.port, {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "none"}
        ranks = environment(0, 2, port), environment(1, 2, port) | {"GANCORE_TRAP": trap}
        processes = [zygote.start(folder, *arguments, LOCAL_WORLD_SIZE="2", **mine, **rank) for rank in ranks]
        return [zygote.wait(process) for process in processes]

    return run


@pytest.fixture
def gancore(tmp_path, request):
    """Return the command in a temporary folder; a module with FORKED = True forks instead of starting Python."""
    return Gancore(tmp_path, forker(request))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory, zygote):
    """Return a function that copies a trained run of digits to a path, and returns the ended command that trained it.

    `trained_run(path, *options)`: tests that ask for the same options of `train` share one training. `path` must not
    exist. The output of the command names the run runs/0001.
    """
    trained = {}

    def copy(path, *options):
        words = tuple(map(str, options))
        if words not in trained:
            command = Gancore(tmp_path_factory.mktemp("trained"), zygote)
            trained[words] = command, command.works("train", *BY_HAND, *words)
        command, made = trained[words]
        shutil.copytree(command.folder / "runs" / "0001", path)
        return made

    return copy


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request, trained_run):
    """Return a folder with a short run at runs/0001, made by the command."""
    command = Gancore(tmp_path_factory.mktemp("finished"), forker(request))
    command.made = trained_run(
        command.folder / "runs" / "0001", "--steps", 4, "--set", "ema.half_life_kimg=1", "--set", "log.every_steps=2"
    )
    return command
