"""An observer that logs runs to Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from PIL import Image
from pydantic import Field
from torch import Tensor

from gancore import Observer, RunInfo, Writer, hookimpl
from gancore.errors import ConfigError
from gancore.observers import Outcome

if TYPE_CHECKING:
    import wandb

ID = "wandb-id"
"""File in the run folder with the ID of the run at the service, so that a resumed run continues it."""


class WandB(Observer):
    """Log numbers, pictures and the paths of checkpoints to Weights & Biases; files stay in the folder of the run."""

    name = "wandb"
    project: str = Field(default="gancore", min_length=1, description="project that the run belongs to")
    entity: str = Field(default="", description="user or team that owns the project; empty: the account's default")
    mode: Literal["online", "offline"] | None = Field(
        default=None,
        description="offline: write to the run folder only, for a later `wandb sync`; absent: WANDB_MODE, else online",
    )

    def check(self) -> None:
        wandb = _package()
        # Otherwise the package asks for a key at the terminal.
        if self._is_online() and not wandb.login(prompt=False, verify=False):
            raise ConfigError(
                "no key of Weights & Biases was found", "run: wandb login, or choose --set observers.wandb.mode=offline"
            )

    def _is_online(self) -> bool:
        return (self.mode or os.environ.get("WANDB_MODE") or "online") == "online"

    def build(self, run: RunInfo) -> Writer:
        self.check()
        wandb = _package()
        path = run.folder / ID
        if not path.exists():
            path.write_text(uuid4().hex, encoding="utf-8")
        settings = wandb.Settings(
            console="off",  # it would replace standard output, to which the progress bar is drawn
            disable_code=True,
            finish_timeout=60,
            init_timeout=30,  # until the service answers
            silent=True,
        )
        return _WandBWriter(
            wandb.init(
                project=self.project,
                entity=self.entity or None,
                mode=self.mode,
                id=path.read_text(encoding="utf-8").strip(),
                name=run.folder.name,
                config=dict(run.config),
                allow_val_change=True,  # of a resumed run
                dir=str(run.folder),
                resume="allow" if self._is_online() else None,  # offline, `wandb sync` joins runs of one ID
                reinit="create_new",  # another run in this process stays as it is
                settings=settings,
            ),
            wandb.Image,
        )


class _WandBWriter(Writer):
    def __init__(self, run: wandb.Run, image: type[wandb.Image]) -> None:
        self._run, self._image = run, image
        # The service refuses steps that are smaller than an earlier one, as a resumed run logs them. So the step is a
        # number like any other, over which the others are drawn.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers))

    def image(self, step: int, name: str, image: Tensor) -> None:
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        self._run.log({"step": step, name: self._image(Image.fromarray(pixels.numpy()))})

    def file(self, step: int, path: Path) -> None:
        if path.suffix == ".safetensors":
            self._run.summary[path.stem if path.stem == "best" else "checkpoint"] = str(path.absolute())

    def end(self, outcome: Outcome) -> None:
        self._run.summary["outcome"] = outcome
        self._run.finish(exit_code=0 if outcome == "finished" else 1)


def _package() -> ModuleType:
    """Return the package, which takes a while to import. Raise ConfigError without it."""
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("the package wandb is not installed", "install it with: pip install wandb") from error
    package: ModuleType = wandb
    return package


@hookimpl
def gancore_observers() -> Iterable[type[Observer]]:
    return [WandB]
