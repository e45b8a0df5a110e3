"""Two processes that train one GAN, for tests: `python tests/crowd.py FOLDER`, with torchrun's environment.

Each makes a run of every case in turn, in double precision, and writes what it saw to FOLDER/RANK.pt.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from gancore.config import Options
from gancore.errors import GancoreError
from gancore.gan import GAN
from gancore.penalties import Regularizer
from gancore.ranks import ALONE, joined
from gancore.sampling import draw
from gancore.training import train
from gancore_plugins.augmentations.ada import ADA
from gancore_plugins.losses.bce import NonSaturating
from gancore_plugins.losses.relativistic import RelativisticAverage
from gancore_plugins.regularizers.gradients import R1, R2
from worlds import TinyDiscriminator, TinyGenerator, dataset

SHAPE = (1, 4, 4)


def spectral():
    discriminator = TinyDiscriminator().build(SHAPE, None)
    for layer in discriminator:
        if isinstance(layer, nn.Linear):
            nn.utils.parametrizations.spectral_norm(layer)
    return discriminator


def with_a_layer_for_some():
    """D with a weight that no update gives a gradient, and one that only an update with a penalty does."""
    discriminator = TinyDiscriminator().build(SHAPE, None)
    discriminator.idle = nn.Parameter(torch.ones(3))
    return discriminator


class Doubtful(NonSaturating):
    """NaN on one rank alone, at its third update of D."""

    name = "doubtful"

    def discriminator(self, real, fake):
        loss = super().discriminator(real, fake)
        STEPS.append(1)
        return loss * torch.nan if os.environ.get("RANK") == "1" and len(STEPS) == 3 else loss


STEPS = []


class Distance(Regularizer):
    """A penalty of its own points, in G's update, that only rank 0 has."""

    name = "distance"
    player = "generator"

    def penalty(self, critic, real, fake):
        return fake.images.square().mean()


def gan(ranks=ALONE, *, objective=None, discriminator=None, size=20, batch=8, options=None, **parts):
    torch.manual_seed(0)
    training = {"discriminator_steps": 2, **(options or {}).pop("training", {})}
    said = {
        "duration": "6 steps",
        "batch_size": batch,
        "latent": {"dim": 5},
        "optimizer": {"generator": {"lr": 0.01}, "discriminator": {"lr": 0.01}},
        "ema": {"half_life_kimg": 0.05},
        **(options or {}),
    }
    return GAN(
        TinyGenerator().build(SHAPE, 5, None).double(),
        (discriminator or TinyDiscriminator().build(SHAPE, None)).double(),
        dataset(size),
        objective or NonSaturating(),
        Options(training=training, **said),
        "cpu",
        ranks=ranks,
        **parts,
    )


CASES = {
    "plain": lambda ranks: gan(ranks),
    "fresh fakes": lambda ranks: gan(ranks, options={"training": {"fakes": "fresh"}}),
    "uneven": lambda ranks: gan(ranks, size=13, batch=5),
    "streamed": lambda ranks: gan(ranks, size=13, batch=5, options={"training": {"data": "stream"}}),
    "lazy r1": lambda ranks: gan(ranks, regularizers={"r1": R1(gamma=1.0, interval=2)}, batch=5),
    "r1 and r2": lambda ranks: gan(ranks, regularizers={"r1": R1(gamma=1.0), "r2": R2(gamma=0.5, interval=3)}),
    "generator's penalty": lambda ranks: gan(ranks, regularizers={"distance": Distance(interval=2)}),
    "spectral": lambda ranks: gan(ranks, discriminator=spectral(), batch=5),
    "relativistic average": lambda ranks: gan(ranks, objective=RelativisticAverage(), size=13, batch=5),
    "relativistic average, r1": lambda ranks: gan(
        ranks, objective=RelativisticAverage(), size=13, batch=5, regularizers={"r1": R1(gamma=1.0)}
    ),
    "accumulated": lambda ranks: gan(ranks, size=13, batch=5, options={"training": {"accumulate": 2}}),
    "clipped": lambda ranks: gan(ranks, options={"training": {"clip_norm": 0.01}}),
    "idle weight": lambda ranks: gan(ranks, discriminator=with_a_layer_for_some()),
    "ada": lambda ranks: gan(ranks, augmentations={"ada": ADA(interval=2, start=0.0)} if False else None),
}
"""Where two ranks make the run of one."""


def told(run):
    """What a run is after its last step, and what its steps said."""
    steps = [{key: value for key, value in step.scalars().items() if key != "seconds"} for step in train(run)]
    tensors = {key: value.clone() for key, value in run.tensors().items() if not key.startswith("random")}
    return {"steps": steps, "tensors": tensors}


def failing(make):
    try:
        return told(make())
    except GancoreError as error:
        return type(error).__name__, str(error)


def go(ranks):
    seen = {name: told(make(ranks)) for name, make in CASES.items()}
    return seen


def crowd(folder, count=2):
    """What each of so many processes has to tell."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent),
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    with joined("cpu") as ranks:
        torch.save(go(ranks), Path(sys.argv[1]) / f"{ranks.rank}.pt")
