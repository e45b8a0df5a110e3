"""Two ranks of a run, each with an end of its own: what torchrun is told by either, and what is left behind.

They are started as torchrun starts them, which itself would take longer than all that is asked here.
"""

import os
import subprocess
import sys

import pytest
import torch
from interruptions import TRAPS
from torch.distributed import TCPStore

from gancore.checkpoint import store as checkpoint
from helpers.cli_forkserver import Zygote
from helpers.cli_runner import BY_HAND
from helpers.two_rank_scenarios import environment

RUN = (
    *("--plugin", TRAPS, "train", *BY_HAND, "--steps", 12, "--batch-size", 8, "--device", "cpu", "--out", "run"),
    *("--set", 'loss={name = "trapped", loss = {name = "bce"}}', "--set", "generator.widths=[8]"),
    *("--set", "discriminator.widths=[8]", "--set", "discriminator.dropout=0.3", "--set", "checkpoint.every_steps=5"),
    *("--set", "log.every_steps=1", "--set", "regularizers.r1.interval=2", "--set", "ema.half_life_kimg=1"),
)


@pytest.fixture(scope="module")
def both(zygote):
    """Runs a command as rank 0 and as rank 1, which alone goes into the trap; how each has ended."""
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


def codes(ranks):
    return [rank.returncode for rank in ranks]


def told(ranks):
    """What the ranks say that went wrong. None says more than its three lines."""
    for rank in ranks:
        heads = [line.split(":")[0] for line in rank.stderr.splitlines()]
        assert [head for head in heads if head in ("error", "kept", "next")] in ([], ["error", "kept", "next"])
        assert "Traceback" not in heads
    return [line for rank in ranks for line in rank.stderr.splitlines() if line.startswith("error: ")]


def newest(folder):
    return checkpoint.load(checkpoint.kept(folder / "run" / "checkpoints")[-1])


@pytest.fixture(scope="module")
def whole(both, tmp_path_factory):
    """What the run leaves that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    ranks = both(folder, *RUN)
    assert codes(ranks) == [0, 0]
    assert told(ranks) == []
    return newest(folder)


ENDS = {
    "discriminator:7:TERM": ([143, 143], ["error: terminated"], 7),
    "generator:7:NAN": ([6, 6], ["error: at step 7, the generator's loss is not finite"], 5),
    "generator:7:KILL": ([9, -9], ["error: another process of the run died"], 5),
    "generator:7:ERROR": (
        [9, 5],
        ["error: another process of the run died", "error: process 1: plugin 'traps'"],
        5,
    ),
}
"""What becomes of a trap at rank 1: the ranks' codes, how the errors that are told begin, and the newest step kept."""
GOES_ON = {"discriminator:7:TERM", "generator:7:KILL"}  # one that saved before it ended, and one that could not


@pytest.mark.parametrize("trap", ENDS)
def test_either_rank_ends_with_its_code_and_both_go_on_to_the_same_bits(both, whole, tmp_path, trap):
    expected, begins, step = ENDS[trap]
    ranks = both(tmp_path, *RUN, "-q", trap=trap)
    assert codes(ranks) == expected
    for said, begin in zip(told(ranks), begins, strict=True):
        assert said.startswith(begin)
    assert newest(tmp_path).about["progress"]["step"] == step
    if trap not in GOES_ON:
        return
    assert codes(both(tmp_path, *RUN, "-q", "--resume")) == [0, 0]
    last = newest(tmp_path)
    assert last.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(tensor, whole.tensors[name]) for name, tensor in last.tensors.items())


def test_nothing_comes_after_the_end_of_a_rank(tmp_path):
    (tmp_path / "late.py").write_text("import atexit, os\natexit.register(os._exit, 77)\ngancore_losses = None\n")
    command = [sys.executable, "-m", "gancore_cli", "--plugin", "late.py", "list", "loss"]
    codes = [
        subprocess.run(command, cwd=tmp_path, env=os.environ | more, capture_output=True, timeout=60).returncode
        for more in ({}, {"TORCHELASTIC_RUN_ID": "none"})
    ]
    assert codes[0] == 77, "the end of Python has its say where nobody waits for other ranks"
    assert codes[1] != 77


def test_a_rank_that_would_be_left_without_an_image_is_refused_by_both(both, tmp_path):
    streamed = 'dataset={name = "trapped", dataset = {name = "digits"}, count = 33}'
    ranks = both(tmp_path, *RUN, "-q", "--set", streamed)
    assert codes(ranks) == [3, 3]
    (said,) = set(told(ranks))
    assert "every batch needs at least one image per process" in said
    assert not (tmp_path / "run").exists()
