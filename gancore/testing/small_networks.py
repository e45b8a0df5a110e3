"""Small networks for losses and regularizers, which are called on them as a training step would."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gancore.contracts import Condition, Generated, Output, Player, Scores, Shape
from gancore.testing.cases import Case
from gancore.training.adapters import DiscriminatorAdapter, GeneratorAdapter, PlayersAdapter
from gancore.training.networks import Extras, Freezer

_HIDDEN = 8


class SmallGenerator(nn.Module):
    """Latents (N, Z) to images (N, *shape) through a hidden layer and the extras that the case names."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        size, self.extras = math.prod(case.shape), dict(case.extras)
        inputs, self.condition = case.latent_dim + _condition_width(case.condition), case.condition
        self.hidden = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.Tanh())
        self.to_extras = nn.ModuleDict({name: _reshaping(_HIDDEN, shape) for name, shape in self.extras.items()})
        widths = sum(math.prod(shape) for shape in self.extras.values())
        self.to_images = nn.Sequential(nn.Linear(_HIDDEN + widths, size), nn.Tanh(), nn.Unflatten(1, case.shape))
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, _HIDDEN), nn.Tanh())

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        """Return images (N, *shape), with extras; that of the name "" is the hidden layer (N, 8)."""
        hidden = self.hidden(_joined(latent, self.condition, condition))  # (N, _HIDDEN)
        extras = {name: layer(hidden) for name, layer in self.to_extras.items()}
        joined = torch.cat([hidden, *(extra.flatten(1) for extra in extras.values())], dim=1)
        return Generated(self.to_images(joined), {**extras, "": hidden})

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return extras of images (N, *shape); that of the name "" is a hidden layer (N, 8)."""
        hidden = self.encoder(images)
        return {**{name: layer(hidden) for name, layer in self.to_extras.items()}, "": hidden}


class SmallDiscriminator(nn.Module):
    """Images (N, *shape) to logits (N, K), one feature (N, 8), and the heads that the case names."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        inputs, self.condition = math.prod(case.shape) + _condition_width(case.condition), case.condition
        self.hidden = nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.Tanh())
        self.to_logits = nn.Linear(_HIDDEN, case.logits)
        self.heads = nn.ModuleDict({name: _reshaping(_HIDDEN, shape) for name, shape in case.heads.items()})
        self.other_head = _reshaping(_HIDDEN, _head_shape(case.condition))

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Output:
        """Return logits (N, K), a feature (N, 8), and heads; that of the name "" predicts the condition."""
        hidden = self.hidden(_joined(images.flatten(1), self.condition, condition))  # (N, _HIDDEN)
        heads = {name: layer(hidden) for name, layer in self.heads.items()}
        return Output(self.to_logits(hidden), (hidden,), {**heads, "": self.other_head(hidden)})


def _head_shape(condition: Condition | None) -> Shape:
    """Return the shape of a head whose name the case does not give: it predicts the condition."""
    return condition if isinstance(condition, tuple) else (condition or 4,)


def _reshaping(inputs: int, shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, math.prod(shape)), nn.Unflatten(1, shape))


def _condition_width(condition: Condition | None) -> int:
    return math.prod(condition) if isinstance(condition, tuple) else condition or 0


def _joined(batch: Tensor, form: Condition | None, condition: Tensor | None) -> Tensor:
    """Return the batch (N, F) with the condition appended, labels as one-hot vectors."""
    if condition is None:
        return torch.cat([batch, batch.new_zeros(len(batch), _condition_width(form))], dim=1)
    flat = one_hot(condition, form) if isinstance(form, int) else condition.flatten(1)
    return torch.cat([batch, flat.to(batch.dtype)], dim=1)


@dataclass
class Guesses:
    """What a component has read under names that the case does not give, as it would be given in a case."""

    names: set[str] = field(default_factory=set)

    def values(self, kind: str, named: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the tensors with the value of "" under any other name."""
        return _AnyName(kind, named, self.names)

    def in_scores(self, scores: Scores, extras: Extras) -> Scores:
        """Return the scores with heads and extras under any name."""
        heads = self.values("heads", scores.heads)
        return replace(scores, heads=heads, extras=self.values("extras", extras))


class _AnyName(Mapping[str, Tensor]):
    """Tensors by name; other names give the one at "", and are noted."""

    def __init__(self, kind: str, named: Mapping[str, Tensor], noted: set[str]) -> None:
        self._kind, self._noted, self._named = kind, noted, {key: value for key, value in named.items() if key}
        self._other = named[""]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._named:
            self._noted.add(f"{self._kind}={{{name!r}: ...}}")
        return self._named.get(name, self._other)

    def __iter__(self) -> Iterator[str]:
        if not self._named:
            self._noted.add(f"{self._kind}={{...}}")
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


class SmallPlayers(PlayersAdapter):
    """The small networks as a loss or a regularizer calls them, with heads and extras under any name."""

    guesses: Guesses

    def generate(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        generated = super().generate(latent, condition)
        return Generated(generated.images, self.guesses.values("extras", generated.extras))

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Extras:
        return self.guesses.values("extras", super().encode(images, condition))

    def score(self, images: Tensor, condition: Tensor | None = None, extras: Extras | None = None) -> Scores:
        named = {} if extras is None else {name: extras[name] for name in extras}
        return self.guesses.in_scores(super().score(images, condition), {"": images.new_zeros(len(images), 1), **named})


@dataclass(frozen=True)
class SmallPair:
    """Small networks, and the adapters that a training step calls them by."""

    generator: nn.Module
    discriminator: nn.Module
    generate: GeneratorAdapter
    discriminate: DiscriminatorAdapter
    guesses: Guesses
    head_shape: Shape


def small_pair(case: Case) -> SmallPair:
    """Return small networks for the case."""
    generator, discriminator, guesses = SmallGenerator(case), SmallDiscriminator(case), Guesses()
    generate = GeneratorAdapter(generator)
    discriminate = DiscriminatorAdapter(discriminator, generate)
    players: dict[Player, SmallPlayers] = {}
    for player in get_args(Player):
        players[player] = SmallPlayers(player, generate, discriminate, Freezer([generator]))
        players[player].guesses = guesses
    discriminate.players = players
    return SmallPair(generator, discriminator, generate, discriminate, guesses, _head_shape(case.condition))
