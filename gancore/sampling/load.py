"""Sampling: image i depends on the seed and on i, and on nothing else.

Every image has noise of its own, and the generator sees chunks of one size, so that not even rounding depends on how
many images are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancore.catalog.catalog import Catalog
from gancore.checkpoint import store as checkpoint
from gancore.checkpoint.state import below
from gancore.config.layers import REMOVE, ConfigLayer
from gancore.config.requirements import attributed, catalog_for
from gancore.config.run import LatentSettings, RunConfig, resolve
from gancore.contracts import Shape
from gancore.data.feed import to_stored_range
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import CheckpointError, ConfigError, NumericsError, PluginError, blame
from gancore.training.networks import call, draw_latent, eval_mode
from gancore.utils.device import choose_device
from gancore.utils.random import derive_seed, generator_for, seeded

_CHUNK = 64
_ANOTHER = "name another checkpoint"


def latents(latent: LatentSettings, seed: int, start: int, stop: int) -> Tensor:
    """The latents (stop - start, Z) of images `start` to `stop` under a seed, on the CPU."""
    return torch.cat([draw_latent(latent, 1, generator_for(seed, "sample", index)) for index in range(start, stop)])


@torch.no_grad()
def draw(
    generator: nn.Module,
    count: int,
    *,
    latent: LatentSettings,
    seed: int,
    device: torch.device,
    num_classes: int | None = None,
    labels: Tensor | None = None,
    ranks: Ranks = SINGLE_RANK,
) -> Tensor:
    """Images (N, C, H, W) uint8, or vectors (N, F) float32, on the CPU.

    The generator is used in evaluation mode and left as it was. A conditional one draws the classes of `labels` (N,),
    or without them all classes in turn. Several `ranks` share the work, and only rank 0 gets all images.
    Raises NumericsError when it makes what is not finite.
    """
    chunks, finite, starts = [], True, range(0, count, _CHUNK)
    with eval_mode(generator):
        for start in starts[ranks.rank :: ranks.size]:
            wanted = None
            if num_classes is not None:
                wanted = torch.arange(start, start + _CHUNK) % num_classes
                if labels is not None:
                    given = labels[start : start + _CHUNK]
                    wanted[: len(given)] = given
                wanted = wanted.to(device)
            noise = latents(latent, seed, start, start + _CHUNK).to(device)
            # What the generator itself may draw depends on the seed too.
            with seeded(derive_seed(seed, "chunk", start), device), blame("generator", "in forward()"):
                images: Tensor = call(generator, noise, wanted).float()
            finite = bool(images.isfinite().all())
            if not finite:
                break
            chunks.append(to_stored_range(images).cpu())
    if ranks.all_reduce_max([not finite])[0]:  # as bytes they would look like any others
        raise NumericsError("the generator makes samples that are not finite", "go back to an older checkpoint")
    return torch.cat(ranks.gather(chunks, len(starts)))[:count]


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator: what `load` makes of a checkpoint.

    `averaged` says whether its weights are the average; `path` is the file that they come from, `digest` its SHA-256;
    `warnings` tell where what is installed is not what it was made with.
    """

    generator: nn.Module
    run: RunConfig
    shape: Shape
    num_classes: int | None
    step: int
    device: torch.device
    averaged: bool
    path: Path
    digest: str
    warnings: tuple[str, ...] = ()

    def sample(self, count: int, seed: int = 0, label: int | None = None, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, H, W) uint8, or vectors (N, F) float32, on the CPU; image i depends on the seed and i alone.

        `label` in 0..K-1 asks a conditional generator for one class, `labels` (N,) for a class of each image.
        Raises ConfigError for any other label, NumericsError when the generator makes what is not finite.
        """
        if count < 1:
            raise ConfigError(f"the number of samples must be at least 1; received {count}")
        if label is not None and (self.num_classes is None or not 0 <= label < self.num_classes):
            known = f"0..{self.num_classes - 1}" if self.num_classes else "none, since the run is not conditional"
            raise ConfigError(
                f"the class must be one that the generator was trained on: {known}; received {label}",
                "leave --class out",
            )
        return draw(
            self.generator,
            count,
            latent=self.run.latent,
            seed=seed,
            device=self.device,
            num_classes=self.num_classes,
            labels=labels if label is None else torch.full((count,), label),
        )


def load(
    path: Path | str, *, raw: bool = False, best: bool = False, device: str = "auto", catalog: Catalog | None = None
) -> TrainedGenerator:
    """The generator of a run's newest checkpoint, of its `best` one, or of one checkpoint, ready to sample.

    It is the average where the run kept one, unless `raw`. Only plugins of the catalog can build it, by default those
    that are installed and not switched off; nothing is imported because a checkpoint asks for it.
    Raises CheckpointError when there is no sound checkpoint at the path, PluginError when a plugin that it needs is not
    there.
    """
    catalog = catalog or Catalog.installed()
    file = checkpoint.newest(Path(path), best=best)
    saved = checkpoint.load_run(file)
    catalog, warnings = catalog_for(saved.about["made_with"], catalog, str(path), sampling_only=True)
    run = _resolved(saved, path, catalog)
    shape, num_classes = tuple(saved.about["shape"]), saved.about["num_classes"]
    step = saved.about["progress"]["step"]
    averaged = run.ema is not None and not raw
    weights = below("ema." if averaged else "generator.", saved.tensors)
    _refuse_another(run, shape, num_classes, weights, path)
    # These weights are replaced at once; the process's random state is none of our business.
    with attributed(run, catalog), seeded(0), blame(f"generator {run.generator.name!r}", "in build()"):
        generator = run.generator.build(shape, run.latent.dim, num_classes)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another generator: {' '.join(str(error).split())}", _ANOTHER) from error
    chosen = choose_device(device)
    trained = generator.eval().to(chosen)
    return TrainedGenerator(trained, run, shape, num_classes, step, chosen, averaged, file, saved.digest, warnings)


def _refuse_another(
    run: RunConfig, shape: Shape, num_classes: int | None, weights: Mapping[str, Tensor], path: Path | str
) -> None:
    """Builds the generator without values first: a config can ask for more memory than its file has bytes.

    A generator that cannot be built so is not judged.
    """
    needed, given = 0, sum(value.numel() for value in weights.values())
    with suppress(Exception), seeded(0), torch.device("meta"), _Unfilled():
        bare = run.generator.build(shape, run.latent.dim, num_classes)
        needed = sum(value.numel() for value in bare.state_dict().values() if value.is_meta)
    if needed > given:
        raise CheckpointError(
            f"{path} is of another generator: its config asks for {needed:,} weights, and it holds {given:,}", _ANOTHER
        )


class _Unfilled(TorchFunctionMode):
    """Nothing is drawn for what has no values; torch would import its compiler to do so, for a second or two."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _resolved(saved: checkpoint.Checkpoint, path: Path | str, catalog: Catalog) -> RunConfig:
    """The run of a checkpoint, if what is installed can build it, without metrics and observers if it must be."""
    layer = ConfigLayer("checkpoint", saved.about["config"])
    alone = {"metrics": REMOVE, "checkpoint": {"best": REMOVE}, "observers": REMOVE}
    try:
        with suppress(ConfigError, PluginError):
            return resolve([layer], catalog)
        return resolve([layer, ConfigLayer("the GAN alone", alone)], catalog)
    except (ConfigError, PluginError) as error:
        made_with = ", ".join(f"{name} {version}" for name, version in saved.about["made_with"]["plugins"].items())
        raise PluginError(
            f"{path} was made with {made_with}, and what is installed cannot build it: {error}",
            "install those versions",
        ) from error
