"""Other frameworks with the networks, batches and optimizers of the plain script, in their own loops.

They are imported when an arm starts: `pip install -e ".[benchmarks]"`. They neither log nor draw progress bars. Time
before the first step and after the last one is not counted.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks import plain
from benchmarks.speed.scripts import Loader
from benchmarks.speed.timing import Lap, Run


def lightning(loader: Loader) -> Run:
    """Use PyTorch Lightning with manual optimization; D is frozen in G's step. Raises ImportError without it."""
    with _quiet():
        from lightning import LightningModule, Trainer

    class Script(LightningModule):  # type: ignore[misc]  # it may not be installed, so its types are not read
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.discriminator = plain.Generator(), plain.Discriminator()
            self.loss = nn.BCEWithLogitsLoss()
            self.lap: Lap[list[Tensor]]

        def training_step(self, batch: list[Tensor]) -> None:
            real, _ = batch
            optimizer_g, optimizer_d = self.optimizers()
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
            fake = self.generator(torch.randn(len(real), plain.LATENT))

            loss_d = self.loss(self.discriminator(real), ones) + self.loss(self.discriminator(fake.detach()), zeros)
            optimizer_d.zero_grad()
            self.manual_backward(loss_d)
            optimizer_d.step()

            self.discriminator.requires_grad_(False)
            loss_g = self.loss(self.discriminator(fake), ones)
            optimizer_g.zero_grad()
            self.manual_backward(loss_g)
            optimizer_g.step()
            self.discriminator.requires_grad_(True)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            networks = (self.generator, self.discriminator)
            return [torch.optim.Adam(network.parameters(), lr=plain.RATE) for network in networks]

        def on_train_epoch_end(self) -> None:
            self.lap.finish()

    script = Script()

    def run(steps: int) -> float:
        script.lap = Lap(loader, steps, plain.BATCH)
        with _quiet():
            trainer = Trainer(
                accelerator="cpu",
                max_epochs=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(script, script.lap)
        return script.lap.seconds

    return run


def torchgan(loader: Loader, work: Path) -> Run:
    """Use the Trainer of torchgan with its minimax losses; G's step draws new fakes.

    After every epoch it writes a checkpoint and a picture to the folder `work`, which is not counted.
    Raises ImportError if it is not installed.
    """
    with _quiet():
        from torchgan import losses, models
        from torchgan.trainer import Trainer

    class Generator(models.Generator):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            super().__init__(encoding_dims=plain.LATENT)
            self.network = plain.Generator()

        def forward(self, noise: Tensor) -> Any:  # Any: what a module returns
            return self.network(noise)

    class Discriminator(models.Discriminator):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            super().__init__(input_dims=1)
            self.network = plain.Discriminator()

        def forward(self, images: Tensor) -> Any:  # Any: as above
            return self.network(images)

    optimizer = {"name": torch.optim.Adam, "args": {"lr": plain.RATE}}
    with _quiet():
        trainer = Trainer(
            {
                "generator": {"name": Generator, "optimizer": optimizer},
                "discriminator": {"name": Discriminator, "optimizer": optimizer},
            },
            [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()],
            device=torch.device("cpu"),
            epochs=1,
            checkpoints=str(work / "torchgan" / "gan"),
            recon=str(work / "torchgan"),
        )

    def run(steps: int) -> float:
        lap = Lap(loader, steps, plain.BATCH)
        with _quiet(), _old_make_grid():
            trainer(lap)
        return lap.seconds

    return run


@contextmanager
def _old_make_grid() -> Iterator[None]:
    """Let torchvision's `make_grid` accept the argument `range`, which torchgan 0.1 passes after an epoch.

    torchvision has renamed it to `value_range`.
    """
    original = torchvision.utils.make_grid

    def make_grid(tensor: Tensor, range: tuple[int, int] | None = None, **named: object) -> Tensor:  # noqa: A002  # its name
        grid: Tensor = original(tensor, value_range=range, **named)
        return grid

    torchvision.utils.make_grid = make_grid
    try:
        yield
    finally:
        torchvision.utils.make_grid = original


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide their output and their warnings, about few workers and deprecated calls."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
