"""A GAN in training: its networks, its optimizers, its data, and its place in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor, nn, optim
from torch.utils.data import Dataset as TorchDataset

from gancore.checkpoint import state
from gancore.config.run import Options, RunConfig
from gancore.contracts import Augment, Augmentation, Objective, Penalty, Player, Regularizer
from gancore.data.feed import Feed
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import CheckpointError, PluginError, blame
from gancore.settings import TrainingTime
from gancore.training.augmentations import ActiveAugmentation, AugmentedDiscriminator
from gancore.training.finite import FiniteCheck, not_finite
from gancore.training.networks import Freezer, draw_latent, frozen_copy, synchronized
from gancore.training.precision import Precision
from gancore.training.preflight import run_preflight
from gancore.training.progress import Progress
from gancore.training.regularizers import ActiveRegularizer, ActiveRegularizers
from gancore.utils.random import GlobalRandomness, derive_seed, generator_for, seeded

P = TypeVar("P")


class GAN:
    """Two networks, and all that training them changes.

    `generator` maps latent (N, Z) to images (N, *shape), `discriminator` images to logits (N, K), K >= 1, both with
    labels (N,) as a second argument when `options.training.conditional`; `dataset` is map-style (see
    `contracts.Dataset`); `objective` scores both players (any `Loss`). Regularizers and augmentations go by labels.
    Modules are moved to the device. Of several `ranks` each has a GAN of its own, and they stay the same.
    Raises DataError for unfit data, PluginError for parts that do not fit the data or each other.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        dataset: TorchDataset[Any] | Feed,  # Any: an item is (image, label) or an image alone
        objective: Objective,
        options: Options | None = None,
        device: torch.device | str = "auto",
        *,
        regularizers: Mapping[str, Regularizer] | None = None,
        augmentations: Mapping[str, Augmentation] | None = None,
        ranks: Ranks = SINGLE_RANK,
    ) -> None:
        self.options = options = options or Options()
        self.ranks = ranks
        self.device = ranks.device(device) if isinstance(device, str) else device
        self.feed = dataset if isinstance(dataset, Feed) else _feed(dataset, options, self.device, ranks)
        self.precision = Precision.chosen(options.training.precision, self.device, self.feed.shape)
        self.num_classes = self.feed.class_count(options.training.conditional)
        for role, module in (("generator", generator), ("discriminator", discriminator)):
            with blame(role):
                if not isinstance(module, nn.Module):
                    raise PluginError(f"a {role} must be an nn.Module; received {type(module).__name__}")
        last = options.training.channels_last
        layout = torch.channels_last if (self.precision.channels_last if last is None else last) else None
        self.generator = _at(self.device, generator, layout).train()
        self.discriminator = _at(self.device, discriminator, layout).train()
        self.objective = _at(self.device, objective)
        self.regularizers, self.augmentations = dict(regularizers or {}), dict(augmentations or {})
        mirrors = bool(getattr(self.feed.dataset, "mirrors", False))
        self._penalties: dict[str, Penalty] = {}
        self._augments: dict[str, Augment] = {}
        for label, regularizer in self.regularizers.items():
            with _building(options, f"regularizer {label!r}"):
                self._penalties[label] = _at(self.device, regularizer.build())
        for label, augmentation in self.augmentations.items():
            with _building(options, f"augmentation {label!r}"):
                self._augments[label] = _at(self.device, augmentation.build(self.feed.shape, mirrors))
        # Found out, not asked: whether D may see real and fake in one pass.
        self.joined = not run_preflight(
            self.generator,
            self._judge(lambda augmentation: 1.0),
            self.objective,
            {player: self._turn(player, lambda regularizer: 1.0) for player in get_args(Player)},
            self.feed,
            options.latent,
            self.num_classes,
            accumulates=options.training.accumulate > 1,
        )
        if ranks.is_distributed and options.training.sync_batchnorm:
            networks = self.generator, self.discriminator
            self.generator, self.discriminator = synchronized(*networks, self.device, self.regularizers)
        self.freezer = Freezer(self.discriminator)
        self.ema = frozen_copy(self.generator) if options.ema else None
        self.optimizers: dict[str, optim.Optimizer] = {
            "generator": options.optimizer.generator.build([self.generator]),
            "discriminator": options.optimizer.discriminator.build([self.discriminator]),
        }
        self.added: dict[str, Tensor] = {}
        """What each regularizer added when it last had its say, by label."""
        self._total = options.total
        self.progress = Progress()
        self.noise = generator_for(options.seed, "noise", device=self.device)
        self.randomness = GlobalRandomness(options.seed, self.device)
        # Only CUDA is asked for so late that a step does not wait for it; to leave out a step is to know at once, and
        # several ranks must not learn it at different steps.
        at_once = self.device.type != "cuda" or options.training.on_nonfinite == "skip" or ranks.is_distributed
        self.watch = FiniteCheck(self.device, at_once=at_once)
        buffers = {
            f"{role}.{name}": each for role, part in self.modules().items() for name, each in part.named_buffers()
        }
        self._unbounded = frozenset(not_finite(buffers))  # a mask of -inf, say, is meant

    @classmethod
    def assemble(cls, run: RunConfig, root: Path, device: str = "auto", ranks: Ranks = SINGLE_RANK) -> GAN:
        """All parts of a run, built and put together. `root` is the folder with the dataset's files.

        What a part draws while it is built depends on the run's seed alone. Raises PluginError for one that fails.
        """
        chosen = ranks.device(device)
        with _building(run, f"dataset {run.dataset.name!r}", "dataset"):
            dataset = run.dataset.build(root)
        feed = _feed(dataset, run, chosen, ranks)
        num_classes = feed.class_count(run.training.conditional)
        with _building(run, f"generator {run.generator.name!r}", "generator"):
            generator = run.generator.build(feed.shape, run.latent.dim, num_classes)
        with _building(run, f"discriminator {run.discriminator.name!r}", "discriminator"):
            discriminator = run.discriminator.build(feed.shape, num_classes)
        with _building(run, f"loss {run.loss.name!r}", "loss"):
            objective = run.loss.build()
        return cls(
            generator,
            discriminator,
            feed,
            objective,
            run,
            chosen,
            regularizers=run.regularizers,
            augmentations=run.augmentations,
            ranks=ranks,
        )

    def latent(self, count: int) -> Tensor:
        """The next latents (N, Z) of the run's own stream of noise; of several ranks, each gets its share of them."""
        return self.ranks.part(draw_latent(self.options.latent, count, self.noise))

    def sampler(self) -> nn.Module:
        """The generator to draw samples from: the average where there is one."""
        return self.generator if self.ema is None else self.ema

    def judge(self) -> AugmentedDiscriminator:
        """D behind its augmentations, as they are at this place in the run."""
        critic = self._judge(lambda augmentation: augmentation.strength(self.moment()))
        return replace(critic, products=self.precision.products)

    def _judge(self, strength: Callable[[Augmentation], float]) -> AugmentedDiscriminator:
        stages = []
        for label, each in self.augmentations.items():
            with blame(f"augmentation {label!r}", "in strength()"):
                stages.append(ActiveAugmentation(label, self._augments[label], strength(each)))
        return AugmentedDiscriminator(self.discriminator, [stage for stage in stages if stage.strength])

    def turn(self, player: Player, update: int) -> ActiveRegularizers:
        """The regularizers that have a say in a player's update of this step, its `update`-th, from 0."""
        steps = self.options.training.discriminator_steps if player == "discriminator" else 1
        number = self.progress.step * steps + update
        return self._turn(player, lambda each: each.strength(self.moment()) if number % each.interval == 0 else 0.0)

    def _turn(self, player: Player, strength: Callable[[Regularizer], float]) -> ActiveRegularizers:
        due = []
        for label, each in self.regularizers.items():
            if each.player == player:
                with blame(f"regularizer {label!r}", "in strength()"):
                    due.append(ActiveRegularizer(label, each, self._penalties[label], strength(each)))
        return ActiveRegularizers(tuple(each for each in due if each.strength))

    def done(self) -> float:
        """The share of the run's total that lies behind: 1 or more when it is reached."""
        return self._done(self.progress.images_seen)

    def _done(self, images_seen: int) -> float:
        now = self.progress
        return self._total.done(
            step=now.step, images_seen=images_seen, seconds=now.seconds, dataset_size=self.feed.size
        )

    def moment(self, new_images: int = 0) -> TrainingTime:
        """The place in the run by which schedules go, or the one after so many more images."""
        images_seen = self.progress.images_seen + new_images
        return TrainingTime(images_seen, min(self._done(images_seen), 1.0))

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name, not copied; the rest is in `progress` and the config.

        Raises NonFiniteError when a device has found that an update was not finite, and nobody has read it yet.
        """
        self.watch.read()
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules().items():
            tensors |= state.of_module(name, module)
        for name, optimizer in self.optimizers.items():
            tensors |= state.of_optimizer(name, optimizer, self.modules()[name])
        tensors |= {f"penalty.{label}": value for label, value in self.added.items()}
        tensors["random.noise"] = self.noise.get_state()
        return tensors | {f"random.{name}": value for name, value in self.randomness.states.items()}

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights of both networks, and of the average, from another run; all else begins anew.

        Raises CheckpointError when names or shapes do not fit, or a weight is not finite.
        """
        weights = ("generator.", "discriminator.", "ema.")
        self._refuse({key: value for key, value in tensors.items() if key.startswith(weights)})
        state.load_module("generator", self.generator, tensors)
        state.load_module("discriminator", self.discriminator, tensors)
        if self.ema is not None:
            averaged = any(key.startswith("ema.") for key in tensors)
            state.load_module("ema" if averaged else "generator", self.ema, tensors)

    def restore(self, tensors: Mapping[str, Tensor], progress: Mapping[str, float]) -> None:
        """Puts back what `tensors` and `place` gave; they are copied.

        Random states of another kind of device mean nothing on this one: here the streams begin anew, by seed and step.
        Raises CheckpointError when a name or a shape does not fit this run, or a number is not finite.
        """
        known = tuple(f"{name}." for name in (*self.modules(), "optimizer", "penalty", "random"))
        strange = {key.partition(".")[0] for key in tensors if not key.startswith(known)}
        missing = [name for name in ("random.noise", "random.cpu") if name not in tensors]
        place = {"nonfinite": 0, **progress}
        if strange or missing or set(place) != set(self.place()):
            what = f"it holds {sorted(strange)}" if strange else f"it lacks {missing or 'the place in the run'}"
            raise CheckpointError(f"the checkpoint is of another run: {what}", "build the run from its own config")
        self._refuse(tensors)
        for name, module in self.modules().items():
            state.load_module(name, module, tensors)
        for name, optimizer in self.optimizers.items():
            state.load_optimizer(name, optimizer, self.modules()[name], tensors)
        self.added = {label: value.clone() for label, value in state.below("penalty.", tensors).items()}
        counts = {name: int(place[name]) for name in ("step", "images_seen", "nonfinite")}
        self.progress = Progress(**counts, seconds=float(place["seconds"]))
        self._restore_randomness(state.below("random.", tensors))
        self.watch.forget()

    def _restore_randomness(self, states: Mapping[str, Tensor]) -> None:
        seed, step = self.options.seed, self.progress.step
        own = {"noise": self.noise.get_state(), **self.randomness.states}
        if states.keys() != own.keys() or any(states[name].shape != own[name].shape for name in own):
            self.noise = generator_for(seed, "noise", step, device=self.device)
            self.randomness = GlobalRandomness(derive_seed(seed, "resumed", step), self.device)
            return
        try:
            self.noise.set_state(states["noise"].clone())
            torch.Generator().set_state(states["cpu"].clone())  # one that nobody has yet, to see whether it can be
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(f"the checkpoint holds no random state: {error}", "go back to another one") from error
        self.randomness.states = {name: states[name].clone() for name in self.randomness.states}

    def change_noise(self, number: int) -> None:
        """All randomness but that of the data begins at other streams, the `number`-th of the run's."""
        self.noise = generator_for(self.options.seed, "noise", number, device=self.device)
        self.randomness = GlobalRandomness(self.options.seed, self.device, number)

    def unfit(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """The names of tensors of this GAN that hold NaN or infinity, but for buffers that have always done so."""
        return [name for name in not_finite(tensors) if name not in self._unbounded]

    def _refuse(self, tensors: Mapping[str, Tensor]) -> None:
        unfit = self.unfit(tensors)
        if unfit:
            raise CheckpointError(
                f"the checkpoint holds what is not finite, and nothing can be trained from it: {unfit[0]}",
                "name an older checkpoint",
            )

    def place(self) -> dict[str, float]:
        """`progress` as plain data."""
        return asdict(self.progress)

    def modules(self) -> dict[str, nn.Module]:
        """Everything with weights or buffers, by the names that `tensors` puts before those."""
        modules: dict[str, object] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "ema": self.ema,
            "loss": self.objective,
            **{f"regularizer.{label}": each for label, each in self._penalties.items()},
            **{f"augmentation.{label}": each for label, each in self._augments.items()},
        }
        return {name: module for name, module in modules.items() if isinstance(module, nn.Module)}


@contextmanager
def _building(options: Options, part: str, stream: str | None = None) -> Iterator[None]:
    """Whatever the part draws in this block comes from the run's seed, and whatever it raises is its own failure."""
    with seeded(derive_seed(options.seed, "build", stream or part)), blame(part, "in build()"):
        yield


def _at(device: torch.device, part: P, layout: torch.memory_format | None = None) -> P:
    """The part, on the device if it is a module, its four-dimensional weights in the layout if one is given."""
    if not isinstance(part, nn.Module):
        return part
    return part.to(device) if layout is None else part.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stubs know it for tensors only


def _feed(dataset: TorchDataset[Any], options: Options, device: torch.device, ranks: Ranks) -> Feed:
    training = options.training
    return Feed(
        dataset,
        batch_size=options.batch_size,
        seed=options.seed,
        device=device,
        data=training.data,
        workers=training.workers,
        ranks=ranks,
    )
