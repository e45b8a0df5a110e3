"""Two ranks of a run that end in different ways: their exit codes, and what they leave behind.

They are started as torchrun starts them; torchrun itself would take longer than all of these tests.
"""

import os
import subprocess
import sys

import pytest
import torch
from interruptions import TRAPS

from gancore.checkpoint import store as checkpoint
from helpers.cli_runner import BY_HAND

RUN = (
    *("--plugin", TRAPS, "train", *BY_HAND, "--steps", 12, "--batch-size", 8, "--device", "cpu", "--out", "run"),
    *("--set", 'loss={name = "trapped", loss = {name = "bce"}}', "--set", "generator.widths=[8]"),
    *("--set", "discriminator.widths=[8]", "--set", "discriminator.dropout=0.3", "--set", "checkpoint.every_steps=5"),
    *("--set", "log.every_steps=1", "--set", "regularizers.r1.interval=2", "--set", "ema.half_life_kimg=1"),
)


def codes(ranks):
    return [rank.returncode for rank in ranks]


def errors_of(ranks):
    """The errors that the ranks print, each in three lines and no more."""
    for rank in ranks:
        heads = [line.split(":")[0] for line in rank.stderr.splitlines()]
        assert [head for head in heads if head in ("error", "kept", "next")] in ([], ["error", "kept", "next"])
        assert "Traceback" not in rank.stderr
    return [line for rank in ranks for line in rank.stderr.splitlines() if line.startswith("error: ")]


def newest(folder):
    return checkpoint.load(checkpoint.kept(folder / "run" / "checkpoints")[-1])


@pytest.fixture(scope="module")
def whole(both, tmp_path_factory):
    """What the uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    ranks = both(folder, *RUN)
    assert codes(ranks) == [0, 0]
    assert errors_of(ranks) == []
    return newest(folder)


ENDS = {
    "discriminator:7:TERM": ([143, 143], ["error: terminated"], 7),
    "generator:7:NAN": ([6, 6], ["error: at step 7, the generator's loss is not finite"], 5),
    "generator:7:KILL": ([9, -9], ["error: another process of the run died"], 5),
    "generator:7:ERROR": (
        [9, 5],
        ["error: another process of the run died", "error: process 1: plugin 'crash_plugin'"],
        5,
    ),
}
"""The outcome of a trap at rank 1: exit codes, the beginnings of the errors, and the newest step that is kept."""
RESUMED = {"discriminator:7:TERM", "generator:7:KILL"}  # one rank saves before it ends, the other cannot


@pytest.mark.parametrize("trap", ENDS)
def test_ranks_end_with_their_codes_and_resume_bit_exactly(both, whole, tmp_path, trap):
    expected, begins, step = ENDS[trap]
    ranks = both(tmp_path, *RUN, "-q", trap=trap)
    assert codes(ranks) == expected
    for said, begin in zip(errors_of(ranks), begins, strict=True):
        assert said.startswith(begin)
    assert newest(tmp_path).about["progress"]["step"] == step
    if trap not in RESUMED:
        return
    assert codes(both(tmp_path, *RUN, "-q", "--resume")) == [0, 0]
    last = newest(tmp_path)
    assert last.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(tensor, whole.tensors[name]) for name, tensor in last.tensors.items())


def test_rank_runs_no_exit_handler_after_its_end(tmp_path):
    (tmp_path / "late.py").write_text("import atexit, os\natexit.register(os._exit, 77)\ngancore_losses = None\n")
    command = [sys.executable, "-m", "gancore_cli", "--plugin", "late.py", "list", "loss"]
    codes = [
        subprocess.run(command, cwd=tmp_path, env=os.environ | more, capture_output=True, timeout=60).returncode
        for more in ({}, {"TORCHELASTIC_RUN_ID": "none"})
    ]
    assert codes[0] == 77, "without torchrun the exit handlers of Python run"
    assert codes[1] != 77


def test_ranks_refuse_a_batch_that_leaves_one_without_an_image(both, tmp_path):
    streamed = 'dataset={name = "trapped", dataset = {name = "digits"}, count = 33}'
    ranks = both(tmp_path, *RUN, "-q", "--set", streamed)
    assert codes(ranks) == [3, 3]
    (said,) = set(errors_of(ranks))
    assert "every batch needs at least one image per process" in said
    assert not (tmp_path / "run").exists()
