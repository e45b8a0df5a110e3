"""Numbers that are not finite, seen by the real command."""

import json

import pytest

from gancore.checkpoint import store as checkpoint
from gancore.training.finite import not_finite

FORKED = True

ILL = """
import torch

from gancore import Loss, hookimpl

BATCH = 16
seen = {{"discriminator": 0, "generator": 0}}


class Ill(Loss):
    \"\"\"Not finite from a step on.\"\"\"

    name = "ill"

    def discriminator(self, real, fake):
        loss = (1 - real.logits).relu().mean() + (1 + fake.logits).relu().mean()
        return spoilt("discriminator", loss, len(real.logits))

    def generator(self, fake, real):
        return spoilt("generator", -fake.logits.mean(), len(fake.logits))


def spoilt(player, loss, count):
    seen[player] += count == BATCH  # those of the rehearsal are smaller
    step, lasting = {steps}.get(player, (10**9, 1))
    return loss * float("nan") if step <= seen[player] < step + lasting else loss


@hookimpl
def gancore_losses():
    return [Ill]
"""
PARTS = ["--generator", "mlp", "--discriminator", "mlp", "--dataset", "digits", "--batch-size", "16"]
OFTEN = ["--set", "checkpoint.every_steps=5", "--set", "log.every_steps=1", "--out", "run"]


def ill(gancore, steps):
    (gancore.folder / "ill.py").write_text(ILL.format(steps=steps))
    return ["--plugin", "ill.py", "train", *PARTS, "--loss", "ill", "--steps", "30", *OFTEN]


def kept(gancore):
    """The step of the newest checkpoint, after a look at all of them."""
    found = checkpoint.kept(gancore.folder / "run" / "checkpoints")
    saved = [checkpoint.load(path) for path in found]
    assert not [name for each in saved for name in not_finite(each.tensors)]
    return saved[-1].about["progress"]["step"]


@pytest.mark.parametrize(("player", "step"), [("discriminator", 20), ("generator", 21)])
def test_a_loss_that_is_not_finite_ends_the_run_before_its_update(gancore, player, step):
    line = gancore.fails(6, *ill(gancore, {player: (step, 10**9)}), "-q")
    assert line == f"error: at step {step}, the {player}'s loss is not finite, so its update was not made"
    assert kept(gancore) == (15 if step == 20 else 20)


def test_a_learning_rate_of_a_million_ends_the_run_in_five_steps(gancore):
    rates = [f"--set=optimizer.{player}.lr=1e6" for player in ("generator", "discriminator")]
    line = gancore.fails(6, "train", *PARTS, "--loss", "bce", "--steps", "30", *OFTEN, *rates, "-q")
    assert int(line.split("at step ")[1].split(",")[0]) <= 5
    assert kept(gancore) == 0


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_run_may_be_told_to_go_on_and_stops_at_its_limit(gancore, policy):
    going_on = ["--set", f"training.on_nonfinite={policy}", "--set", "training.nonfinite_limit=2"]
    done = gancore.works(*ill(gancore, {"discriminator": (12, 1)}), *going_on)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "1 of at most 2 times" in warnings[0]
    log = [json.loads(line)["step"] for line in (gancore.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert log == list(range(1, 31))
    assert kept(gancore) == 30

    again = ["for-ever" if word == "run" else word for word in ill(gancore, {"discriminator": (12, 10**9)})]
    assert "number 3 of its kind" in gancore.fails(6, *again, *going_on, "-q")
