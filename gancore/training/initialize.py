"""The first weights of a run, taken from another run or from a state dict: what fits is loaded, and all else is named.

Layers correspond if they have the same name. See `correspondence` for other classes and for conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gancore.checkpoint.weights import StoredWeights
from gancore.config.run import RunConfig
from gancore.contracts import Player, Shape, Spec
from gancore.errors import blame
from gancore.training.adapted import continue_numbers
from gancore.training.condition_columns import weights_with_columns_elsewhere
from gancore.training.correspondence import NEW, Conditioning, Layout, Transfer, layer_of, transfer_of
from gancore.training.gan import GAN
from gancore.training.initialize_report import class_lines, nothing_fits, other_lines, report
from gancore.training.stored_networks import PLAYERS, Source, conditioning_of, find_sources
from gancore.utils.random import seeded


@dataclass(frozen=True)
class Plan:
    """What each tensor of both networks takes from a file, and what to tell the user about it."""

    sources: Mapping[str, Source]
    theirs: Conditioning
    transfers: Mapping[Player, Mapping[str, Transfer]]
    lines: tuple[str, ...]


class Initializer:
    """Gives a run its first weights. `lines` say what was loaded, once `check` or `apply` has found it out.

    `adapted` says what augmentations continue, once `apply` has built them.
    """

    def __init__(self, stored: StoredWeights, config: RunConfig) -> None:
        self.stored, self._config = stored, config
        self.lines: tuple[str, ...] = ()
        self.adapted: tuple[str, ...] = ()

    def check(self, spec: Spec, classes: Sequence[str]) -> None:
        """Find out what fits the networks of a run on data of this form, before the data is read.

        Does nothing for networks that cannot be built without memory. Raises CheckpointError if nothing fits.
        """
        layouts = self._layouts(spec)
        own = {player: layout.state(spec.condition) for player, layout in layouts.items()}
        if all(own.values()):
            self.lines = plan(
                self.stored, layouts, own, Conditioning(spec.condition, tuple(classes)), self._config
            ).lines

    def apply(self, gan: GAN) -> list[str]:
        """Load what fits into both networks and the EMA of a new run; return warnings.

        Augmentations continue what they adapt; see `adapted`. Everything else starts anew: optimizers, random streams.
        Raises CheckpointError if nothing fits, and for weights that are not finite.
        """
        own = {player: dict(gan.state.modules[player].state_dict()) for player in PLAYERS}
        ours, layouts = Conditioning(gan.spec.condition, gan.feed.classes), self._layouts(gan.spec)
        made = plan(self.stored, layouts, own, ours, self._config)
        if any(transfer.entries for transfers in made.transfers.values() for transfer in transfers.values()):
            self._find_columns(gan, layouts, made.theirs)
            made = plan(self.stored, layouts, own, ours, self._config)
        self.lines = made.lines
        tensors: dict[str, Tensor] = {}
        for player in PLAYERS:
            source = made.sources.get(player)
            tensors |= _merged(player, own[player], made.transfers[player], source)
        tensors |= _merged("ema", own["generator"], made.transfers["generator"], made.sources.get("ema"))
        tensors |= {name: value for name, value in self.stored.tensors.items() if name.startswith("loss.")}
        warning = gan.state.init_weights(tensors)
        self.adapted = tuple(continue_numbers(self.stored, gan.augmentations, gan.augments))
        return [warning] if warning else []

    def _find_columns(self, gan: GAN, layouts: Mapping[Player, Layout], theirs: Conditioning) -> None:
        """Find the weights whose columns for a condition do not come last, by calls of networks that have them."""
        shapes: dict[Player, Shape] = {"generator": (gan.options.latent.dim,), "discriminator": gan.spec.shape}
        for player, layout in layouts.items():
            network, condition = gan.state.modules[player], gan.spec.condition or theirs.condition
            if condition is None or not (columns := layout.input_columns(condition)):
                continue
            if gan.spec.condition is None:
                with seeded(0), blame(player, "in build()"):
                    network = layout.build(condition)
            layout.elsewhere = weights_with_columns_elsewhere(network, shapes[player], condition, columns)

    def _layouts(self, spec: Spec) -> dict[Player, Layout]:
        return {player: Layout(getattr(self._config, player).build, spec) for player in PLAYERS}


def _merged(
    role: str, own: Mapping[str, Tensor], transfers: Mapping[str, Transfer], source: Source | None
) -> dict[str, Tensor]:
    """Return the tensors of a network, by their names in a checkpoint, with the parts of a file."""
    return {
        f"{role}.{name}": value
        if source is None or transfers[name] == NEW
        else transfers[name].applied(value, source.tensors[name])
        for name, value in own.items()
    }


def plan(
    stored: StoredWeights,
    layouts: Mapping[Player, Layout],
    own: Mapping[Player, Mapping[str, Tensor]],
    ours: Conditioning,
    config: RunConfig,
) -> Plan:
    """Return what the networks of a run, with the tensors `own` by player and name, take from a file.

    Raises CheckpointError if nothing of the file fits.
    """
    sources = find_sources(stored, own)
    theirs = conditioning_of(stored, sources, layouts, ours)
    transfers = {
        player: _transfers(own[player], sources.get(player), layouts[player], ours, theirs) for player in PLAYERS
    }
    if all(transfer == NEW for player in PLAYERS for transfer in transfers[player].values()):
        raise nothing_fits(stored, sources, own, config)
    lines = *report(stored, sources, own, transfers), *other_lines(stored, sources, config), *class_lines(ours, theirs)
    return Plan(sources, theirs, transfers, lines)


def _transfers(
    own: Mapping[str, Tensor], source: Source | None, layout: Layout, ours: Conditioning, theirs: Conditioning
) -> dict[str, Transfer]:
    """Return what each tensor takes. A layer with a tensor of another shape starts anew as a whole."""
    if source is None:
        return dict.fromkeys(own, NEW)
    transfers: dict[str, Transfer] = {}
    mismatched = set[str]()
    for name, tensor in own.items():
        stored = source.tensors.get(name)
        transfers[name] = NEW
        if stored is not None:
            if _kind(stored) == _kind(tensor):
                transfers[name] = transfer_of(name, tuple(stored.shape), layout, ours, theirs, tuple(tensor.shape))
            if transfers[name] == NEW:
                mismatched.add(layer_of(name))
    return {name: NEW if layer_of(name) in mismatched else transfer for name, transfer in transfers.items()}


def _kind(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        return "float"
    return "complex" if tensor.is_complex() else "bool" if tensor.dtype == torch.bool else "int"
