"""Other frameworks at the work of the plain script: the same networks, batches and optimizers, in their own loops.

They are imported when an arm begins, and are no part of gancore: `pip install -e ".[benchmarks]"`. Nothing is logged,
and no bar is drawn. What they do before the first step and after the last is not counted.
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
from benchmarks.speed.timing import Lap, RunConfig


def lightning(loader: Loader) -> RunConfig:
    """PyTorch Lightning with manual optimization; D is frozen in G's step. Raises ImportError without it."""
    with _hushed():
        from lightning import LightningModule, Trainer

    class Script(LightningModule):  # type: ignore[misc]  # its types are not read, since it need not be there
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
            players = (self.generator, self.discriminator)
            return [torch.optim.Adam(player.parameters(), lr=plain.RATE) for player in players]

        def on_train_epoch_end(self) -> None:
            self.lap.finish()

    script = Script()

    def run(steps: int) -> float:
        script.lap = Lap(loader, steps, plain.BATCH)
        with _hushed():
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


def torchgan(loader: Loader, work: Path) -> RunConfig:
    """The Trainer of torchgan with its minimax losses; G's step draws fakes of its own. Raises ImportError without it.

    It keeps a checkpoint and a picture in the folder `work` after every epoch, which is not counted.
    """
    with _hushed():
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
    with _hushed():
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
        with _hushed(), _make_grid_of_old():
            trainer(lap)
        return lap.seconds

    return run


@contextmanager
def _make_grid_of_old() -> Iterator[None]:
    """Gives torchvision's `make_grid` the argument `range` back, which torchgan 0.1 uses after an epoch.

    torchvision has renamed it to `value_range`, and no longer knows the old name.
    """
    made = torchvision.utils.make_grid

    def make_grid(tensor: Tensor, range: tuple[int, int] | None = None, **named: object) -> Tensor:  # noqa: A002  # its
        grid: Tensor = made(tensor, value_range=range, **named)
        return grid

    torchvision.utils.make_grid = make_grid
    try:
        yield
    finally:
        torchvision.utils.make_grid = made


@contextmanager
def _hushed() -> Iterator[None]:
    """What they print and warn of is theirs: of few workers, of calls that torch has other names for now."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
