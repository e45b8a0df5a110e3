"""The real torchrun: a run of two processes that is killed, terminated, restarted and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gancore.checkpoint import store as checkpoint

FORKED = True

FALLING = '''
import os
import time

import torch
from torch import nn

from gancore import Loss, hookimpl
from gancore_plugins.losses.bce import NonSaturating


class Falling(Loss):
    """The loss bce, which is slow if SLOW is set, and ends rank 1 at step 30 if FALLS is set."""

    name = "falling"

    def build(self, spec):
        return FallingAtWork()


class FallingAtWork(nn.Module):
    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def discriminator(self, real, fake):
        self.steps += 1
        falls = os.environ.get("FALLS") and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if falls and os.environ["RANK"] == "1" and self.steps == 30:
            os._exit(13)
        if os.environ.get("SLOW"):
            time.sleep(0.05)
        return NonSaturating().discriminator(real, fake)

    def generator(self, fake, real):
        return NonSaturating().generator(fake, real)


@hookimpl
def gancore_losses():
    return [Falling]
'''
RUN = [
    *("--generator", "mlp", "--discriminator", "mlp", "--loss", "falling", "--dataset", "digits", "--steps", "40"),
    *("--set", "discriminator.dropout=0.3", "--set", "regularizers.r1.interval=2", "--set", "ema.half_life_kimg=1"),
    *("--set", "generator.widths=[32]", "--set", "discriminator.widths=[32]", "--set", "sample.every_kimg=1"),
    *("--set", "checkpoint.every_steps=10", "--set", "log.every_steps=10"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "falling.py").write_text(FALLING)
    return folder


def started(folder, *arguments, restarts=0, **environment):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    gancore = ["-m", "gancore_cli", "--plugin", "falling.py", *map(str, arguments)]
    return subprocess.Popen(
        [*command, "--max-restarts", str(restarts), *gancore],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def under_way(process, path):
    """Wait for the first checkpoint after that of step 0."""
    while process.poll() is None and len(checkpoint.kept(path / "checkpoints")) < 2:
        time.sleep(0.01)


def workers(process):
    """The processes that torchrun has started, by rank."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        said = dict(each.partition("=")[::2] for each in Path(f"/proc/{child}/environ").read_text().split("\0"))
        if "RANK" in said:
            found[int(said["RANK"])] = int(child)
    return found


def error_in(stderr):
    """The three lines of an error, which must appear once."""
    lines = stderr.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("error: "))
    assert [line.split(":")[0] for line in lines[place : place + 3]] == ["error", "kept", "next"], stderr
    return lines[place : place + 3]


def state(folder):
    newest = checkpoint.load(checkpoint.kept(folder / "checkpoints")[-1])
    return newest.about["progress"]["step"], newest.tensors


@pytest.fixture(scope="module")
def clean(folder, both):
    """The state of the uninterrupted run of two processes."""
    ranks = both(folder, "--plugin", "falling.py", "train", *RUN, "--out", "clean")
    assert [rank.returncode for rank in ranks] == [0, 0], ranks
    return state(folder / "clean")


@pytest.mark.long  # test_rank_ends ends ranks in the same ways without torchrun
def test_torchrun_restart_after_sigterm_and_a_lost_process_ends_as_an_uninterrupted_run(folder, clean):
    ended = started(folder, "train", *RUN, "--out", "ended", SLOW="1")
    under_way(ended, folder / "ended")
    both = workers(ended)
    ended.send_signal(signal.SIGTERM)
    _, err = ended.communicate(timeout=60)
    assert ended.returncode != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in both.values())
    (*_, last) = checkpoint.kept(folder / "ended" / "checkpoints")
    assert error_in(err) == [
        "error: terminated",
        f"kept: checkpoint {last.relative_to(folder)}",
        "next: gancore --plugin falling.py resume ended",
    ]
    assert 10 <= checkpoint.load_run(last).about["progress"]["step"] < 30

    restarted = started(folder, "train", *RUN, "--resume", "--out", "ended", restarts=1, FALLS="1")
    out, err = restarted.communicate(timeout=120)
    assert restarted.returncode == 0, err
    assert out.count("done: ") == 1, "only rank 0 prints"
    assert "ended resumes from step 20" in err
    step, tensors = state(folder / "ended")
    assert (step, tensors.keys()) == (clean[0], clean[1].keys())
    assert all(torch.equal(tensors[name], value) for name, value in clean[1].items())
    assert (folder / "ended" / "metrics.jsonl").read_text().count('"step": 40') == 1


@pytest.mark.long  # test_rank_ends has the same end without torchrun
def test_torchrun_process_that_is_killed_ends_the_other_and_one_process_may_resume(folder, gancore):
    process = started(folder, "train", *RUN, "--out", "killed", SLOW="1")
    under_way(process, folder / "killed")
    both = workers(process)
    os.kill(both[1], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in both.values())
    error, kept, _ = error_in(err)
    (*_, last) = checkpoint.kept(folder / "killed" / "checkpoints")
    # Between two steps rank 0 may first get SIGTERM from torchrun.
    assert error == "error: terminated" or error.startswith("error: another process of the run died: ")
    assert kept == f"kept: checkpoint {last.relative_to(folder)}"
    assert "exitcode  : 9" in err

    alone = gancore.works("--plugin", folder / "falling.py", "resume", folder / "killed")
    assert "resuming is not bit-exact: ranks was 2, now 1" in alone.stderr
    assert state(folder / "killed")[0] == 40
