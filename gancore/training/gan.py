"""A GAN in training: its networks, loss, data and optimizers, and what is active at each point of a run."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn, optim
from torch.utils.data import Dataset as TorchDataset

from gancore.config.find import read_component, read_labeled
from gancore.config.objects import OBJECT
from gancore.config.optimizers import OptimizerSettings
from gancore.config.run import Options, RunConfig
from gancore.contracts import Augment, Augmentation, Dataset, Findings, Loss, Objective, Penalty, Player, Regularizer
from gancore.data.feed import Feed
from gancore.data.items import build_dataset
from gancore.data.summary import DataSummary, summarize_quickly
from gancore.distributed.ranks import SINGLE_RANK, Ranks
from gancore.errors import PluginError, blame
from gancore.settings import TrainingTime
from gancore.training.adapted import check_numbers
from gancore.training.adapters import (
    ActiveAugmentation,
    DiscriminatorAdapter,
    GeneratorAdapter,
    LossAdapter,
    PlayersAdapter,
)
from gancore.training.assembly import (
    building,
    check_objective,
    check_room,
    checked_options,
    feed_of,
    network_on,
    part_on,
    spec_of,
)
from gancore.training.batchnorm import FreshStatistics
from gancore.training.choose import choose
from gancore.training.ema import EMA, Averages, roles_of, step_sizes
from gancore.training.finite import FiniteCheck
from gancore.training.freeze import freeze
from gancore.training.networks import Freezer, draw_latent
from gancore.training.own_optimizers import check_parameters, check_players
from gancore.training.precision import Precision
from gancore.training.preflight import copy_parts, run_preflight
from gancore.training.regularizers import NO_REGULARIZERS, ActiveRegularizer, ActiveRegularizers
from gancore.training.state import Progress, TrainingState
from gancore.training.sync import synchronize_batchnorm
from gancore.utils.memory import free_memory
from gancore.utils.random import derive_seed
from gancore.utils.threads import computing_with


class GAN:
    """Two networks with their loss, data and optimizers; `state` holds everything that training changes.

    `generator` maps latent (N, Z) to images (N, *shape), `discriminator` images to logits (N, K), K >= 1, both with a
    condition as a second argument when `options.training.conditional`; `dataset` is map-style (see
    `contracts.Dataset`); `objective` scores both players: a `Loss`, its name, or any object with its two methods.
    Regularizers and augmentations are components, names or tables of fields, by labels that you choose. `spec`
    describes what the parts are built for. Modules are moved to the device and trained in place. A network in training
    mode keeps the modes of its parts, such as a frozen batch normalization in evaluation mode; a network that is in
    evaluation mode itself is put in training mode.
    `optimizers` are your own, by player, over the parameters of the modules; those of the discriminator also train the
    parameters of the loss, of augmentations and of D's regularizers. The loop clears gradients, clips them by
    `training.clip_norm` and steps; learning rates and groups are yours, and no schedule of the options changes them.
    Each of several `ranks` has a GAN of its own; training keeps them equal.
    Raises DataError for unfit data, PluginError for parts that do not fit the data or each other, ConfigError for an
    unknown name, and for an optimizer that does not train what the player's update must train.
    """

    def __init__(  # each argument is a part that a user brings
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        dataset: TorchDataset[Any] | Feed,  # Any: an item is (sample, condition) or a sample alone
        objective: Objective | str,
        options: Options | None = None,
        device: torch.device | str = "auto",
        *,
        regularizers: Mapping[str, Regularizer | str | Mapping[str, object]] | None = None,
        augmentations: Mapping[str, Augmentation | str | Mapping[str, object]] | None = None,
        optimizers: Mapping[Player, optim.Optimizer] | None = None,
        ranks: Ranks = SINGLE_RANK,
    ) -> None:
        self.options = options = checked_options(options)
        training = options.training
        self._own_optimizers = dict(optimizers or {})
        check_players(self._own_optimizers, options.optimizer)
        self.ranks = ranks
        self.device = ranks.device(device) if isinstance(device, str) else device
        self.feed = dataset if isinstance(dataset, Feed) else feed_of(dataset, options, self.device, ranks)
        self.precision = Precision.named("fp32" if training.precision == "auto" else training.precision, self.device)
        self.spec = spec_of(self.feed, options)
        self.averages: Averages | None = None
        self._fresh: FreshStatistics | None = None
        self.generator, self.discriminator = generator, discriminator
        self._use(self.precision)
        if training.freeze:
            freeze(training.freeze, {"generator": self.generator, "discriminator": self.discriminator})
        self.loss = LossAdapter(part_on(self.device, self._built(objective)))
        self.regularizers = read_labeled(Regularizer, regularizers or {})
        self.augmentations = read_labeled(Augmentation, augmentations or {})  # type: ignore[type-abstract]  # only validated against
        self._build_regularizers_and_augmentations()
        self._total = options.total
        self.is_preflight_copy = False
        """Whether this is the preflight's copy: all strengths are 1, and gradients of everything are taken."""
        self.preflight_leaves = set[Tensor]()
        """The leaf tensors that get a gradient in a step of the preflight's copy."""

        if self.device.type == "cpu":  # a GPU reports what it lacks
            free = free_memory(self.device, swap=True)
            check_room({"generator": self.generator, "discriminator": self.discriminator}, free)
        with computing_with(None if training.threads == "auto" else training.threads):
            preflight = run_preflight(self)
        self._warnings, self._mixes_samples = preflight.warnings, preflight.mixes_samples
        self.choice = choose(self)
        """The number of threads and the precision, which the options name from here on."""
        chosen: dict[str, object] = {"precision": self.choice.precision}
        chosen |= {} if self.choice.threads is None else {"threads": self.choice.threads}
        self.options = options.model_copy(update={"training": training.model_copy(update=chosen)})
        self._use(Precision.named(self.choice.precision, self.device))
        if ranks.is_distributed and training.sync_batchnorm:
            synchronize_batchnorm(self)
        self.optimizers: dict[str, optim.Optimizer]
        self.state: TrainingState
        self.progress: Progress
        self.finite_check: FiniteCheck
        self._begin()

    def timing_copy(self, precision: Precision) -> GAN:
        """Return a GAN before its first step that multiplies in this precision, with copies of all parts.

        It trains on this rank alone. Whatever it does, this GAN and the data stay as they are.
        """
        trial, memo = copy_parts(self)
        trial._own_optimizers = deepcopy(self._own_optimizers, memo)
        trial.ranks = SINGLE_RANK
        trial._use(precision)
        trial._begin()
        trial.apply_schedules()
        return trial

    def _use(self, precision: Precision) -> None:
        """Set the precision, and move the networks to the device in the layout that suits it."""
        self.precision, given = precision, self.options.training.channels_last
        layout = torch.channels_last if (precision.channels_last if given is None else given) else None
        self.generator = network_on(self.device, "generator", self.generator, layout)
        self.discriminator = network_on(self.device, "discriminator", self.discriminator, layout)

    def _begin(self) -> None:
        """Connect the parts, and build the optimizers and the state before the first step."""
        options, training = self.options, self.options.training
        self.connect(one_pass=not self._mixes_samples)
        if options.ema:
            self.averages = Averages(self.generator, tuple(roles_of(options.ema)))
            self._fresh = FreshStatistics(self) if options.ema.refresh_batchnorm else None
        players: dict[Player, OptimizerSettings] = {
            "generator": options.optimizer.generator,
            "discriminator": options.optimizer.discriminator,
        }
        self._scheduled = {player: settings for player, settings in players.items() if settings.scheduled}
        own = self._own_optimizers
        for player, optimizer in own.items():
            check_parameters(player, optimizer, self.trained_by[player])
        self.optimizers = {
            player: own[player] if player in own else settings.build(self.trained_by[player])
            for player, settings in players.items()
        }
        self.state = TrainingState(self._modules(), self.optimizers, self.trained_by, options.seed, self.device)
        self.progress = self.state.progress
        # Only on CUDA is the result read late, so that a step does not wait for the device. Skipping a step needs the
        # result at once, and all ranks must read it at the same step.
        immediate = self.device.type != "cuda" or training.on_nonfinite == "skip" or self.ranks.is_distributed
        self.finite_check = FiniteCheck(self.device, self.state, immediate=immediate)

    @classmethod
    def assemble(cls, config: RunConfig, root: Path | str, device: str = "auto", ranks: Ranks = SINGLE_RANK) -> GAN:
        """Build all parts of a run and connect them. `root` is the folder with the dataset's files.

        Random numbers drawn in a `build` depend only on the run's seed. Raises PluginError for a part that fails.
        """
        chosen = ranks.device(device)
        dataset = build_dataset(config.dataset, Path(root), derive_seed(config.seed, "build", "dataset"))
        feed = feed_of(dataset, config, chosen, ranks)
        spec = spec_of(feed, config)
        with building(config, f"generator {config.generator.name!r}", "generator"):
            generator = config.generator.build(spec)
        with building(config, f"discriminator {config.discriminator.name!r}", "discriminator"):
            discriminator = config.discriminator.build(spec)
        return cls(
            generator,
            discriminator,
            feed,
            config.loss,
            config,
            chosen,
            regularizers=config.regularizers,
            augmentations=config.augmentations,
            ranks=ranks,
        )

    def summarize_data(self, dataset: Dataset, findings: Findings | None = None) -> DataSummary:
        """Return what is known of the data, which is that of `dataset`, without a pass over a large dataset."""
        return summarize_quickly(self.feed, dataset, findings)

    def _built(self, objective: Objective | str) -> Objective:
        """Return the objective, built first if it is a loss component or the name of one."""
        if isinstance(objective, str):
            objective = read_component(Loss, objective)
        if not isinstance(objective, Loss):
            check_objective(objective)
            return objective
        with building(self.options, f"loss {objective.name!r}", "loss"):
            built = objective.build(self.spec)
            # A user's own object, which a run's config names `object`, is used as it is.
            is_own = objective.name == OBJECT or built is objective
            if not is_own and not isinstance(built, nn.Module):
                raise PluginError(
                    f"build() must return the loss itself, or an nn.Module; received {type(built).__name__}",
                    "derive its class from nn.Module, which keeps its parameters and buffers",
                )
            for name in ("needs_real", "whole_batch"):
                if isinstance(built, nn.Module) and not hasattr(built, name):
                    vars(built)[name] = getattr(objective, name)
        check_objective(built)
        return built

    def _build_regularizers_and_augmentations(self) -> None:
        self.penalties: dict[str, Penalty] = {}
        self.augments: dict[str, Augment] = {}
        for label, regularizer in self.regularizers.items():
            with building(self.options, f"regularizer {label!r}"):
                self.penalties[label] = part_on(self.device, regularizer.build(self.spec))
        for label, augmentation in self.augmentations.items():
            with building(self.options, f"augmentation {label!r}"):
                self.augments[label] = part_on(self.device, augmentation.build(self.spec))
        check_numbers(self.augments)

    def connect(self, *, one_pass: bool) -> None:
        """Wrap both networks in the adapters that the step calls; see `DiscriminatorAdapter` for `one_pass`."""
        autocast = self.precision.autocast
        # Under accumulation no rank has a whole batch at once, so means stay with the micro-batch.
        ranks = self.ranks if self.options.training.accumulate == 1 else SINGLE_RANK
        self.trained_by = {player: self._trained_by(player) for player in get_args(Player)}
        self.freezers = {player: Freezer(modules.values()) for player, modules in self.trained_by.items()}
        self.generate = GeneratorAdapter(self.generator, autocast)
        self.critic = DiscriminatorAdapter(
            self.discriminator, self.generate, autocast=autocast, ranks=ranks, one_pass=one_pass
        )
        self.critic.players = {
            player: PlayersAdapter(player, self.generate, self.critic, self.freezers["generator"])
            for player in get_args(Player)
        }

    def _trained_by(self, player: Player) -> dict[str, nn.Module]:
        """Return the modules whose parameters a player's optimizer trains, its network first, by role.

        A regularizer's are those of its player; those of the loss and of augmentations are trained with D.
        """
        roles = [
            player,
            *(f"regularizer.{label}" for label, each in self.regularizers.items() if each.player == player),
        ]
        if player == "discriminator":
            roles += ["loss", *(f"augmentation.{label}" for label in self.augmentations)]
        modules = self._modules()
        return {role: modules[role] for role in roles if role in modules}

    def _modules(self) -> dict[str, nn.Module]:
        parts: dict[str, object] = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            **({} if self.averages is None else self.averages.modules),
            "loss": self.loss.objective,
            **{f"regularizer.{label}": penalty for label, penalty in self.penalties.items()},
            **{f"augmentation.{label}": augment for label, augment in self.augments.items()},
        }
        return {role: part for role, part in parts.items() if isinstance(part, nn.Module)}

    def latent(self, count: int) -> Tensor:
        """Return this rank's share of the next `count` latents (n, Z) of the run's stream of noise.

        This advances the stream, so training continues with other noise. `gancore.draw_samples` does not.
        """
        latent = draw_latent(self.options.latent, count, self.state.noise)
        return self.ranks.part(latent) if self.ranks.is_distributed else latent

    def restore(self, tensors: Mapping[str, Tensor], place: Mapping[str, float]) -> None:
        """Load what `state.tensors()` and `state.place()` returned; see `TrainingState.restore`.

        Also raises DataError where the rest of the epoch does not fit the batch size, see `Feed.check_rest`.
        """
        self.state.restore(tensors, place)
        self.feed.check_rest(self.progress.images_seen)
        if self._fresh is not None:
            self._fresh.forget()
        self.finite_check.reset()

    @property
    def ema(self) -> nn.Module | None:
        """The average of G with the half-life `ema.half_life_kimg`, if there is one."""
        return None if self.averages is None else self.averages.modules[EMA]

    def sampler(self) -> nn.Module:
        """Return the generator to draw samples from: the EMA if there is one, refreshed if `ema.refresh_batchnorm`.

        Calling it in training mode updates the statistics of batch normalization. `gancore.draw_samples` does not.
        """
        if self._fresh is not None:
            self._fresh.refresh([EMA])
        return self.generator if self.ema is None else self.ema

    def refresh_averages(self) -> None:
        """Estimate the batch normalization of all averages (EMA) anew if `ema.refresh_batchnorm`, before a save."""
        if self._fresh is not None and self.averages is not None:
            self._fresh.refresh(self.averages.modules)

    def take_warnings(self) -> tuple[str, ...]:
        """Return the preflight's warnings that were not shown yet; the caller shows them."""
        taken, self._warnings = self._warnings, ()
        return taken

    def done(self, new_images: int = 0) -> float:
        """Return the finished share of the run's total, now or after `new_images` more images: 1 or more at its end."""
        now = self.progress
        return self._total.done(
            step=now.step,
            images_seen=now.images_seen + new_images,
            seconds=now.seconds,
            dataset_size=self.feed.size,
        )

    def time(self, new_images: int = 0) -> TrainingTime:
        """Return the time that schedules depend on, now or after `new_images` more images."""
        return TrainingTime(self.progress.images_seen + new_images, min(self.done(new_images), 1.0))

    def apply_schedules(self) -> None:
        """Set learning rates and strengths of augmentations to their values at this point of the run."""
        for player, settings in self._scheduled.items():
            settings.apply_schedules(self.optimizers[player], self.time())
        if self.augmentations:
            self.critic.augmentations = self.active_augmentations()

    def active_augmentations(self) -> list[ActiveAugmentation]:
        """Return the augmentations that change any images at this point of the run."""
        active = []
        for label, augmentation in self.augmentations.items():
            with blame(f"augmentation {label!r}", "in strength()"):
                strength = 1.0 if self.is_preflight_copy else augmentation.strength(self.time())
            if strength:
                active.append(ActiveAugmentation(label, self.augments[label], strength))
        return active

    def active_regularizers(self, player: Player, update: int) -> ActiveRegularizers:
        """Return the regularizers that are active in a player's update of this step, its `update`-th, from 0."""
        if not self.regularizers:
            return NO_REGULARIZERS
        training = self.options.training
        steps = training.discriminator_steps if player == "discriminator" else training.generator_steps
        number = self.progress.step * steps + update
        active = []
        for label, regularizer in self.regularizers.items():
            if regularizer.player == player and number % regularizer.interval == 0:
                with blame(f"regularizer {label!r}", "in strength()"):
                    strength = 1.0 if self.is_preflight_copy else regularizer.strength(self.time())
                if strength:
                    active.append(ActiveRegularizer(label, regularizer, self.penalties[label], strength))
        return ActiveRegularizers(active)

    def update_ema(self, new_images: int) -> None:
        """Move all averages (EMA) toward G after an update for which D has seen `new_images` more real images."""
        if self.averages is not None and self.options.ema is not None:
            self.averages.move(step_sizes(self.options.ema, self.time(new_images), new_images))
