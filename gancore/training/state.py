"""The state of training: saved as named tensors in a checkpoint, and restored from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn, optim

from gancore.checkpoint import state
from gancore.contracts import Player
from gancore.errors import CheckpointError
from gancore.training.ema import EMA, is_average
from gancore.training.finite import not_finite
from gancore.utils.random import GlobalRandomness, derive_seed, generator_for


@dataclass
class Progress:
    """Generator updates, real images that D has seen, and seconds of wall-clock time.

    `nonfinite` counts steps that were skipped, and rollbacks, because something was not finite.
    """

    step: int = 0
    images_seen: int = 0
    seconds: float = 0.0
    nonfinite: int = 0


class TrainingState:
    """Weights, buffers, optimizer state, random streams and progress of a run.

    `modules` maps prefixes of tensor names to all modules with weights or buffers: generator, discriminator, ema and
    other averages, loss, regularizer.LABEL, augmentation.LABEL. `trained_by` names the modules of each player's
    optimizer.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, optim.Optimizer],
        trained_by: Mapping[Player, Mapping[str, nn.Module]],
        seed: int,
        device: torch.device,
    ) -> None:
        self.modules, self.optimizers, self._trained_by = dict(modules), optimizers, trained_by
        self._seed, self._device = seed, device
        self.progress = Progress()
        self.noise = generator_for(seed, "noise", device=device)
        self.randomness = GlobalRandomness(seed, device)
        buffers = {
            f"{role}.{name}": buffer for role, module in self.modules.items() for name, buffer in module.named_buffers()
        }
        self._never_finite = frozenset(not_finite(buffers))  # such as a mask of -inf

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that training changes, by name, not copied."""
        tensors: dict[str, Tensor] = {}
        for role, module in self.modules.items():
            tensors |= state.of_module(role, module)
        for player, modules in self._trained_by.items():
            for role, module in modules.items():
                tensors |= state.of_optimizer(role, self.optimizers[player], module)
        tensors["random.noise"] = self.noise.get_state()
        return tensors | {f"random.{name}": value for name, value in self.randomness.states.items()}

    def place(self) -> dict[str, float]:
        """Return the progress as plain data."""
        return asdict(self.progress)

    def init_weights(self, tensors: Mapping[str, Tensor]) -> str:
        """Take the weights of both networks, of averages (EMA), and of a loss's own network from another run.

        Everything else starts anew. Returns a warning if the loss has a network that the other run does not fit.
        Raises CheckpointError if names or shapes of G or D do not fit, or a weight is not finite.
        """
        weights = ("generator.", "discriminator.", "ema.", "loss.")
        self._check_finite({name: tensor for name, tensor in tensors.items() if name.startswith(weights)})
        state.load_module("generator", self.modules["generator"], tensors)
        state.load_module("discriminator", self.modules["discriminator"], tensors)
        source = EMA if any(name.startswith(f"{EMA}.") for name in tensors) else "generator"
        for role in filter(is_average, self.modules):
            state.load_module(source, self.modules[role], tensors)
        loss = self.modules.get("loss")
        if loss is None or not any(True for _ in loss.parameters()):
            return ""
        own = state.of_module("loss", loss)
        if any(name not in tensors or tensors[name].shape != tensor.shape for name, tensor in own.items()):
            return "the network of the loss starts with new weights: those of the other run do not fit it"
        state.load_module("loss", loss, tensors)
        return ""

    def restore(self, tensors: Mapping[str, Tensor], place: Mapping[str, float]) -> None:
        """Load copies of what `tensors` and `place` returned.

        Random states of another kind of device cannot be used: random streams then start anew, from seed and step.
        Raises CheckpointError if a name or a shape does not fit this run, or a number is not finite.
        """
        known = tuple(f"{name}." for name in (*self.modules, "optimizer", "random"))
        foreign = {name.partition(".")[0] for name in tensors if not name.startswith(known)}
        missing = [name for name in ("random.noise", "random.cpu") if name not in tensors]
        place = {"nonfinite": 0, **place}
        if foreign or missing or set(place) != set(self.place()):
            what = f"it holds {sorted(foreign)}" if foreign else f"it lacks {missing or 'the progress of the run'}"
            raise CheckpointError(f"the checkpoint is of another run: {what}", "build the run from its own config")
        self._check_finite(tensors)
        for role, module in self.modules.items():
            state.load_module(role, module, tensors)
        for player, modules in self._trained_by.items():
            state.load_optimizer(self.optimizers[player], modules, tensors)
        for name in ("step", "images_seen", "nonfinite"):
            setattr(self.progress, name, int(place[name]))
        self.progress.seconds = float(place["seconds"])
        self._restore_randomness(state.below("random.", tensors))

    def _restore_randomness(self, states: Mapping[str, Tensor]) -> None:
        own = {"noise": self.noise.get_state(), **self.randomness.states}
        if states.keys() != own.keys() or any(states[name].shape != own[name].shape for name in own):
            step = self.progress.step
            self.noise = generator_for(self._seed, "noise", step, device=self._device)
            self.randomness = GlobalRandomness(derive_seed(self._seed, "resumed", step), self._device)
            return
        try:
            self.noise.set_state(states["noise"].clone())
            torch.Generator().set_state(states["cpu"].clone())  # only to find out whether it is a valid state
        except (RuntimeError, TypeError) as error:
            raise CheckpointError(f"a random state is not valid: {error}", "use another checkpoint") from error
        self.randomness.states = {name: states[name].clone() for name in self.randomness.states}

    def reseed(self, number: int) -> None:
        """Start all random streams except the data's anew: the `number`-th set of streams of the run's seed."""
        self.noise = generator_for(self._seed, "noise", number, device=self._device)
        self.randomness = GlobalRandomness(self._seed, self._device, number)

    def not_finite(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Return names of tensors that hold NaN or infinity, except buffers that did so from the start."""
        return [name for name in not_finite(tensors) if name not in self._never_finite]

    def describe_not_finite(self, *, weights: bool) -> str:
        """Describe an optimizer's moment that is not finite or, with `weights`, a weight; empty if all are finite."""
        named: dict[str, Tensor] = {}
        for player, modules in self._trained_by.items():
            for role, module in modules.items():
                prefix = "" if role == player else f"{role}."
                moments = state.of_optimizer(role, self.optimizers[player], module)
                for name in not_finite(moments):
                    kind, _, weight = name.removeprefix(f"optimizer.{role}.").partition(".")
                    return f"the moment {kind} of the {player}'s {prefix}{weight}"
                named |= {f"the {player}'s weight {prefix}{name}": weight for name, weight in module.named_parameters()}
        return next(iter(not_finite(named if weights else {})), "")

    def _check_finite(self, tensors: Mapping[str, Tensor]) -> None:
        if names := self.not_finite(tensors):
            raise CheckpointError(
                f"the checkpoint holds NaN or infinity and cannot be trained from: {names[0]}",
                "use an older checkpoint",
            )
