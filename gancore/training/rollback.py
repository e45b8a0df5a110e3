"""Going back: a run whose numbers were not finite goes on from its newest sound checkpoint, with other noise."""

from __future__ import annotations

from gancore.checkpoint.store import Checkpoint
from gancore.training.gan import GAN


def roll_back(gan: GAN, saved: Checkpoint) -> None:
    """Puts the GAN back to a checkpoint of this run, but for how often it went back, on which the noise depends.

    Noise, and whatever modules draw, then come from streams that depend on the seed and on that number, so that the
    run does not meet the same fate. The data keep their order.
    """
    number = gan.progress.nonfinite
    gan.restore(saved.tensors, saved.about["progress"])
    gan.progress.nonfinite = number
    gan.change_noise(number)
