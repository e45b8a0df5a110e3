"""Sampling: image i depends only on the seed and on i.

Each image has noise of its own, and the generator always sees chunks of the same size, so that not even rounding
depends on the number of images.
"""

from __future__ import annotations

import io
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
from gancore.config.objects import check_objects
from gancore.config.requirements import attributed, catalog_for
from gancore.config.run import LatentSettings, RunConfig, resolve
from gancore.contracts import Shape
from gancore.distributed.ranks import SINGLE_RANK, Ranks, choose_device
from gancore.errors import CheckpointError, ConfigError, NumericsError, PluginError, blame
from gancore.sampling.grid import is_picture, picture
from gancore.training.networks import call, draw_latent, eval_mode
from gancore.utils.random import derive_seed, generator_for, seeded
from gancore.utils.ranges import to_stored_range

_CHUNK = 64
_ANOTHER = "name another checkpoint"


def latents(latent: LatentSettings, seed: int, start: int, stop: int) -> Tensor:
    """Return the latents (stop - start, Z) of images `start` to `stop` under a seed, on the CPU."""
    return torch.cat([draw_latent(latent, 1, generator_for(seed, "sample", index)) for index in range(start, stop)])


@torch.no_grad()
def draw(  # the keywords say all that decides which images are drawn
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
    """Return images (N, C, H, W) uint8, or vectors (N, F) float32, on the CPU.

    The generator runs in evaluation mode, and its modes are restored. A conditional one draws the classes of `labels`
    (N,), or without them all classes in turn. Several `ranks` share the work, and only rank 0 gets all images.
    Raises NumericsError when a sample is not finite.
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
            # Random numbers that the generator itself draws depend on the seed too.
            with seeded(derive_seed(seed, "chunk", start), device), blame("generator", "in forward()"):
                images: Tensor = call(generator, noise, wanted).float()
            finite = bool(images.isfinite().all())
            if not finite:
                break
            chunks.append(to_stored_range(images).cpu())
    if ranks.all_reduce_max([not finite])[0]:  # converted to bytes they would look like any other image
        raise NumericsError("the generator makes samples that are not finite", "go back to an older checkpoint")
    return torch.cat(ranks.gather(chunks, len(starts)))[:count]


class DrawnSamples(Tensor):
    """Samples that a notebook shows as a grid of images, or as a scatter plot of points.

    In every other way they are a tensor, and the results of operations on them are plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as in torch's own Parameter

    def _repr_png_(self) -> bytes | None:
        """Return the picture as a PNG; None for samples that cannot be shown."""
        if not is_picture(self):
            return None
        file = io.BytesIO()
        picture(self).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True)
class TrainedGenerator:
    """A trained generator from a checkpoint.

    `averaged` says whether its weights are the EMA; `path` is the checkpoint, `digest` its SHA-256; `warnings` say
    where the installed plugins differ from those that it was made with.
    """

    generator: nn.Module
    config: RunConfig
    shape: Shape
    num_classes: int | None
    step: int
    device: torch.device
    averaged: bool
    path: Path
    digest: str
    warnings: tuple[str, ...] = ()

    def sample(self, count: int, seed: int = 0, label: int | None = None, labels: Tensor | None = None) -> Tensor:
        """Return images (N, C, H, W) uint8, or vectors (N, F) float32, on the CPU; image i depends only on seed and i.

        `label` in 0..K-1 asks a conditional generator for one class, `labels` (N,) for a class per image. A notebook
        shows the result as a picture.
        Raises ConfigError for any other label, NumericsError when a sample is not finite.
        """
        if count < 1:
            raise ConfigError(f"the number of samples must be at least 1; received {count}")
        if label is not None and not 0 <= label < (self.num_classes or 0):
            if self.num_classes is None:
                raise ConfigError(f"the run is not conditional; received class {label}", "leave --class out")
            raise ConfigError(f"the class must be in 0..{self.num_classes - 1}; received {label}", "leave --class out")
        samples = draw(
            self.generator,
            count,
            latent=self.config.latent,
            seed=seed,
            device=self.device,
            num_classes=self.num_classes,
            labels=labels if label is None else torch.full((count,), label),
        )
        return samples.as_subclass(DrawnSamples)


def load(
    path: Path | str, *, raw: bool = False, best: bool = False, device: str = "auto", catalog: Catalog | None = None
) -> TrainedGenerator:
    """Return the generator of a run's newest checkpoint, of its `best` one, or of one checkpoint, ready to sample.

    It has the averaged weights (EMA) if the run kept them, unless `raw`. Only plugins of the catalog can build it, by
    default those that are installed and not switched off; a checkpoint cannot cause an import.
    Raises CheckpointError when there is no valid checkpoint at the path, PluginError when a plugin that it needs is
    missing, ConfigError when it needs Python objects (see `gancore.open`).
    """
    catalog = catalog or Catalog.installed()
    file = checkpoint.newest(Path(path), best=best)
    saved = checkpoint.load_run(file)
    check_objects(saved.about["config"], catalog, str(path))
    catalog, warnings = catalog_for(saved.about["made_with"], catalog, str(path), sampling_only=True)
    config = _resolved(saved, path, catalog)
    shape, num_classes, step = tuple(saved.about["shape"]), saved.about["num_classes"], saved.about["progress"]["step"]
    averaged = config.ema is not None and not raw
    weights = below("ema." if averaged else "generator.", saved.tensors)
    needed, given = _size_of(config, shape, num_classes), sum(value.numel() for value in weights.values())
    if needed > given:
        raise CheckpointError(
            f"{path} is of another generator: its config asks for {needed:,} weights, and it holds {given:,}", _ANOTHER
        )
    # The initial weights are replaced at once; they must not advance the random state of the process.
    with attributed(config, catalog), seeded(0), blame(f"generator {config.generator.name!r}", "in build()"):
        generator = config.generator.build(shape, config.latent.dim, num_classes)
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} is of another generator: {' '.join(str(error).split())}", _ANOTHER) from error
    chosen = choose_device(device)
    trained = generator.eval().to(chosen)
    return TrainedGenerator(trained, config, shape, num_classes, step, chosen, averaged, file, saved.digest, warnings)


def _size_of(config: RunConfig, shape: Shape, num_classes: int | None) -> int:
    """Return the number of weights of a generator, built without memory; 0 if it cannot be built so."""
    with suppress(Exception), seeded(0), torch.device("meta"), _SkipInit():
        bare = config.generator.build(shape, config.latent.dim, num_classes)
        return sum(value.numel() for value in bare.state_dict().values() if value.is_meta)
    return 0


class _SkipInit(TorchFunctionMode):
    """Skips drawing initial weights on the meta device, for which torch would import its compiler (1 to 2 s)."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _resolved(saved: checkpoint.Checkpoint, path: Path | str, catalog: Catalog) -> RunConfig:
    """Return the config of a checkpoint, without metrics and observers if those are not installed."""
    layer = ConfigLayer("checkpoint", saved.about["config"])
    alone = {"metrics": REMOVE, "checkpoint": {"best": REMOVE}, "observers": REMOVE}
    try:
        with suppress(ConfigError, PluginError):
            return resolve([layer], catalog)
        return resolve([layer, ConfigLayer("the GAN alone", alone)], catalog)
    except (ConfigError, PluginError) as error:
        made_with = ", ".join(f"{name} {version}" for name, version in saved.about["made_with"]["plugins"].items())
        raise PluginError(
            f"{path} was made with {made_with}, and the installed versions cannot build it: {error}",
            "install those versions",
        ) from error
