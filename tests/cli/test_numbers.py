"""Losses and weights that are not finite, in the command line."""

import json

import pytest

from gancore.checkpoint import store as checkpoint
from gancore.training.finite import not_finite

FORKED = True

LOSS = """
import torch

from gancore import Loss, hookimpl

BATCH = 16
updates = {{"discriminator": 0, "generator": 0}}


class NotFinite(Loss):
    \"\"\"A hinge loss that is NaN in given steps.\"\"\"

    name = "not-finite"

    def discriminator(self, real, fake):
        loss = (1 - real.logits).relu().mean() + (1 + fake.logits).relu().mean()
        return nan_in_steps("discriminator", loss, len(real.logits))

    def generator(self, fake, real):
        return nan_in_steps("generator", -fake.logits.mean(), len(fake.logits))


def nan_in_steps(player, loss, count):
    updates[player] += count == BATCH  # the preflight uses smaller batches
    first, duration = {steps}.get(player, (10**9, 1))
    return loss * float("nan") if first <= updates[player] < first + duration else loss


@hookimpl
def gancore_losses():
    return [NotFinite]
"""
PARTS = ["--generator", "mlp", "--discriminator", "mlp", "--dataset", "digits", "--batch-size", "16"]
OPTIONS = ["--set", "checkpoint.every_steps=5", "--set", "log.every_steps=1", "--out", "run"]


def arguments(gancore, steps):
    (gancore.folder / "not_finite.py").write_text(LOSS.format(steps=steps))
    return ["--plugin", "not_finite.py", "train", *PARTS, "--loss", "not-finite", "--steps", "30", *OPTIONS]


def newest_step(gancore):
    """Return the step of the newest checkpoint, and assert that all checkpoints are finite."""
    paths = checkpoint.kept(gancore.folder / "run" / "checkpoints")
    saved = [checkpoint.load(path) for path in paths]
    assert not [name for loaded in saved for name in not_finite(loaded.tensors)]
    return saved[-1].about["progress"]["step"]


@pytest.mark.parametrize(("player", "step"), [("discriminator", 20), ("generator", 21)])
def test_loss_that_is_not_finite_stops_the_run_before_the_update(gancore, player, step):
    line = gancore.fails(6, *arguments(gancore, {player: (step, 10**9)}), "-q")
    assert line == f"error: at step {step}, the {player}'s loss is not finite, so its update was not made"
    assert newest_step(gancore) == (15 if step == 20 else 20)


def test_learning_rate_of_a_million_stops_the_run_within_five_steps(gancore):
    rates = [f"--set=optimizer.{player}.lr=1e6" for player in ("generator", "discriminator")]
    line = gancore.fails(6, "train", *PARTS, "--loss", "bce", "--steps", "30", *OPTIONS, *rates, "-q")
    assert int(line.split("at step ")[1].split(",")[0]) <= 5
    assert newest_step(gancore) == 0


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_nonfinite_policy_continues_the_run_up_to_its_limit(gancore, policy):
    policy_options = ["--set", f"training.on_nonfinite={policy}", "--set", "training.nonfinite_limit=2"]
    done = gancore.works(*arguments(gancore, {"discriminator": (12, 1)}), *policy_options)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "1 of at most 2 times" in warnings[0]
    log = [json.loads(line)["step"] for line in (gancore.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert log == list(range(1, 31))
    assert newest_step(gancore) == 30

    forever = ["forever" if word == "run" else word for word in arguments(gancore, {"discriminator": (12, 10**9)})]
    assert "this is number 3" in gancore.fails(6, *forever, *policy_options, "-q")
