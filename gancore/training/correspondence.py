"""Which part of a stored tensor corresponds to which part of a tensor of a network, by layers and classes.

Which dimensions count classes is found by building the network for one more class, not by names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from gancore.contracts import Condition, Shape, Spec
from gancore.utils.meta import without_memory

Build = Callable[[Spec], nn.Module]
State = Literal["loaded", "partly", "new"]


@dataclass(frozen=True)
class Conditioning:
    """What a network is conditional on: nothing, classes or a tensor; and the names of the classes, if known."""

    condition: Condition | None = None
    classes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """The number of classes, 0 without."""
        return self.condition if isinstance(self.condition, int) else 0


def shared_classes(ours: Conditioning, theirs: Conditioning) -> list[tuple[int, int]]:
    """Return the numbers of each class in both, matched by name; without names, equal counts match by number."""
    if not ours.count or not theirs.count:
        return []
    if not theirs.classes or not ours.classes:
        return [(number, number) for number in range(ours.count)] if ours.count == theirs.count else []
    numbers = {name: number for number, name in reversed(list(enumerate(theirs.classes)))}
    return [(number, numbers[name]) for number, name in enumerate(ours.classes) if name in numbers]


class Layout:
    """Weights and buffers of a network for any condition, without memory; none where it cannot be built so."""

    def __init__(self, build: Build, spec: Spec) -> None:
        self._build, self._spec = build, spec
        self._states: dict[Condition | None, dict[str, Tensor]] = {}
        self._inputs: dict[str, int] = {}
        self.elsewhere = set[str]()
        """The weights whose last input columns are not those of the condition, as far as that was found out."""

    def build(self, condition: Condition | None) -> nn.Module:
        """Return the network for this condition, with memory."""
        return self._build(replace(self._spec, condition=condition))

    def state(self, condition: Condition | None) -> dict[str, Tensor]:
        """Return the tensors by name, without values, of the network that is built for this condition."""
        if condition not in self._states:
            self._states[condition] = {}
            with suppress(Exception), without_memory():  # a plugin may raise anything
                network = self.build(condition)
                self._states[condition] = dict(network.state_dict())
                self._inputs |= _input_dimensions(network)
        return self._states[condition]

    def shape(self, name: str, condition: Condition | None) -> Shape | None:
        """Return the shape of a tensor of the network for this condition; None if it has no such tensor."""
        tensor = self.state(condition).get(name)
        return None if tensor is None else tuple(tensor.shape)

    def classes_in(self, name: str, condition: Condition | None) -> tuple[int, ...]:
        """Return by how much each dimension of a tensor grows with one more class; zeros without classes."""
        shape = self.shape(name, condition) or ()
        more = (self.shape(name, condition + 1) or ()) if isinstance(condition, int) else shape
        return tuple(b - a for a, b in zip(shape, more, strict=True)) if len(more) == len(shape) else (0,) * len(shape)

    def columns_in(self, name: str, condition: Condition | None) -> tuple[tuple[int, int], ...]:
        """Return for each dimension how many of its last entries depend on the condition, and on one class each.

        The latter is 0 where they do not correspond to single classes, such as columns for an embedding.
        """
        shape, plain = self.shape(name, condition) or (), self.shape(name, None) or ()
        found = []
        for dimension, (size, per_class) in enumerate(zip(shape, self.classes_in(name, condition), strict=True)):
            if per_class > 0 and isinstance(condition, int):
                found.append((per_class * condition, per_class))
            elif len(plain) == len(shape) and plain[dimension] < size and self.is_input(name, dimension):
                found.append((size - plain[dimension], 0))
            else:
                found.append((0, 0))
        return tuple(found)

    def input_columns(self, condition: Condition | None) -> dict[str, int]:
        """Return how many input columns of each weight depend on the condition, for weights that have such columns."""
        return {
            name: count
            for name in self.state(condition)
            for dimension, (count, _) in enumerate(self.columns_in(name, condition))
            if count and self.is_input(name, dimension)
        }

    def is_input(self, name: str, dimension: int) -> bool:
        """Return whether this dimension of a weight is that of the layer's inputs."""
        return self._inputs.get(name) == dimension


def _input_dimensions(network: nn.Module) -> dict[str, int]:
    """Return which dimension of each weight is that of the layer's inputs: 1, or 0 in transposed convolutions."""
    modules = dict(network.named_modules())
    found = {}
    for name, parameter in network.named_parameters():
        owner = modules.get(layer_of(name))
        if parameter.ndim >= 2 and owner is not None and not isinstance(owner, nn.Embedding):
            found[name] = 0 if isinstance(owner, _ConvTransposeNd) else 1
    return found


def layer_of(name: str) -> str:
    """Return the name of the module that a weight or buffer belongs to; a parametrization belongs to its module."""
    return name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]


@dataclass(frozen=True)
class Transfer:
    """What a tensor of a network takes from a stored one: by dimension, the entries that are set, and from which.

    Dimensions that are not in `entries` are equal. `zeros` are columns of a new condition, which start at 0, so that
    the layer computes what it did before.
    """

    state: State
    entries: Mapping[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    zeros: Mapping[int, list[int]] = field(default_factory=dict)

    @torch.no_grad()
    def applied(self, own: Tensor, stored: Tensor) -> Tensor:
        """Return a copy of the network's tensor with the part of the stored one."""
        if self.state == "new":
            return own.clone()
        if not self.entries:
            return stored.to(own.device, own.dtype).clone()
        value, taken = own.clone(), stored.to(own.device, own.dtype)
        for dimension, columns in self.zeros.items():
            value.index_fill_(dimension, torch.tensor(columns, device=own.device), 0)
        places = []
        for dimension, size in enumerate(own.shape):
            ours, theirs = self.entries.get(dimension, (list(range(size)), None))
            if theirs is not None:
                taken = taken.index_select(dimension, torch.tensor(theirs, device=own.device, dtype=torch.int64))
            place = torch.tensor(ours, device=own.device, dtype=torch.int64)
            places.append(place.view(-1, *(1,) * (own.ndim - dimension - 1)))
        value[tuple(places)] = taken
        return value


NEW = Transfer("new")
LOADED = Transfer("loaded")


def transfer_of(
    name: str, stored: Shape, layout: Layout, ours: Conditioning, theirs: Conditioning, own: Shape | None = None
) -> Transfer:
    """Return what a tensor of the network, of shape `own`, takes from a stored one of the same name."""
    target = layout.shape(name, ours.condition)
    if target is None or (own is not None and target != own):  # such as a network that was passed as an object
        return LOADED if stored == own else NEW
    source = layout.shape(name, theirs.condition)
    if len(stored) != len(target) or (source != stored and stored != target):
        return NEW
    if source != stored:  # the file has other classes than it says, or the network is not of the same kind
        return LOADED if not any(count for count, _ in layout.columns_in(name, ours.condition)) else NEW
    pairs = shared_classes(ours, theirs)
    entries: dict[int, tuple[list[int], list[int]]] = {}
    zeros: dict[int, list[int]] = {}
    ours_in, theirs_in = layout.columns_in(name, ours.condition), layout.columns_in(name, theirs.condition)
    for dimension, ((columns, each), (stored_columns, stored_each)) in enumerate(zip(ours_in, theirs_in, strict=True)):
        plain = target[dimension] - columns
        if stored[dimension] - stored_columns != plain:
            return NEW
        if not columns and not stored_columns:
            continue
        if plain and not layout.is_input(name, dimension):  # it is unknown where those that belong to no class are
            if ours.count == theirs.count and _in_order(pairs, ours.count):
                continue
            return NEW
        same = list(range(plain))
        if each == 0 == stored_each and columns == stored_columns:
            continue
        if each == 1 == stored_each:
            entries[dimension] = _by_class(plain, pairs)
        elif each and each == stored_each and ours.count == theirs.count and _in_order(pairs, ours.count):
            continue
        else:
            entries[dimension] = same, same
        if columns and not stored_columns and layout.is_input(name, dimension):
            zeros[dimension] = list(range(plain, target[dimension]))
    if all(_in_order(list(zip(*entry, strict=True)), target[d]) for d, entry in entries.items()) and stored == target:
        return LOADED
    if name in layout.elsewhere or any(not entry[0] for entry in entries.values()):
        return NEW
    whole = all(len(entry[0]) == target[dimension] for dimension, entry in entries.items())
    return Transfer("loaded" if whole else "partly", entries, zeros)


def _by_class(plain: int, pairs: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    ours, theirs = [plain + own for own, _ in pairs], [plain + their for _, their in pairs]
    return [*range(plain), *ours], [*range(plain), *theirs]


def _in_order(pairs: Sequence[tuple[int, int]], count: int) -> bool:
    return len(pairs) == count and all(own == their for own, their in pairs)
