"""The networks in a file of weights: which tensors are those of the generator, the discriminator and the average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gancore.checkpoint import state
from gancore.checkpoint.weights import StoredWeights
from gancore.contracts import Condition, Player
from gancore.training.correspondence import Conditioning, Layout

PLAYERS: tuple[Player, ...] = ("generator", "discriminator")
_WORDS = {
    "generator": {"generator", "g", "netg", "gen", "g_model", "generator_model"},
    "discriminator": {"discriminator", "d", "netd", "disc", "critic", "d_model", "discriminator_model"},
}
"""Components of names that tell the networks of a state dict apart."""


@dataclass(frozen=True)
class Source:
    """The tensors of one network in a file, by the names that the network gives them; `prefix` is what was removed."""

    prefix: str
    tensors: Mapping[str, Tensor]


def find_sources(stored: StoredWeights, own: Mapping[Player, Mapping[str, Tensor]]) -> dict[str, Source]:
    """Return the tensors of generator, discriminator and ema in a file, by role; a file may have some of them only.

    A plain state dict is searched for the names of both networks below any prefix. Prefixes such as `G.` decide which
    network it is, else names and shapes do.
    """
    if not stored.is_plain:
        by_role = {role: state.below(f"{role}.", stored.tensors) for role in (*PLAYERS, "ema")}
        found = {role: Source(f"{role}.", tensors) for role, tensors in by_role.items() if tensors}
    else:
        candidates = {player: _candidates(stored, own[player]) for player in PLAYERS}
        found = {}
        for player in sorted(PLAYERS, key=lambda each: _best(candidates[each]), reverse=True):
            for candidate in candidates[player]:
                word = _word_of(candidate.prefix)
                taken = any(_nested(candidate.prefix, other.prefix) for other in found.values())
                if word == player or (not word and not taken):
                    found[player] = Source(candidate.prefix, state.below(candidate.prefix, stored.tensors))
                    break
        for candidate in candidates["generator"]:
            if _word_of(candidate.prefix) == "ema":
                found["ema"] = Source(candidate.prefix, state.below(candidate.prefix, stored.tensors))
                found.setdefault("generator", found["ema"])
                break
        found = {role: _without(source, found.values()) for role, source in found.items()}
    if "generator" in found:
        found.setdefault("ema", found["generator"])
        shapes = {name: tensor.shape for name, tensor in found["generator"].tensors.items()}
        if {name: tensor.shape for name, tensor in found["ema"].tensors.items()} != shapes:
            found["ema"] = found["generator"]
    return found


@dataclass(frozen=True)
class _Candidate:
    """A prefix in a file, and how many tensors below it have a name, and the shape too, of one in a network."""

    prefix: str
    named: int
    equal: int
    share: float


def _candidates(stored: StoredWeights, own: Mapping[str, Tensor]) -> list[_Candidate]:
    """Return the prefixes below which a file has at least half of the names of a network, the best first."""
    named: dict[str, int] = {}
    equal: dict[str, int] = {}
    below: dict[str, int] = {}
    for full, tensor in stored.tensors.items():
        name = full
        while name:
            prefix = full[: len(full) - len(name)]
            below[prefix] = below.get(prefix, 0) + 1
            if name in own:
                named[prefix] = named.get(prefix, 0) + 1
                equal[prefix] = equal.get(prefix, 0) + (tensor.shape == own[name].shape)
            name = name.partition(".")[2]
    found = [
        _Candidate(prefix, count, equal[prefix], equal[prefix] / len(own))
        for prefix, count in named.items()
        if 2 * count >= len(own) or 2 * count >= below[prefix]
    ]
    return sorted(found, key=lambda each: (-each.equal, -each.named, len(each.prefix)))


def _best(candidates: Sequence[_Candidate]) -> float:
    return max((candidate.share for candidate in candidates), default=0.0)


def _word_of(prefix: str) -> str:
    """Return which network a prefix names: generator, discriminator, ema, or none."""
    for word in reversed(prefix.lower().split(".")):
        if "ema" in word.split("_") or word in ("gema", "g_ema"):
            return "ema"
        for player, words in _WORDS.items():
            if word in words:
                return player
    return ""


def _without(source: Source, others: Iterable[Source]) -> Source:
    """Return a source without what belongs to another one below a longer prefix."""
    inner = tuple(
        other.prefix.removeprefix(source.prefix)
        for other in others
        if other.prefix != source.prefix and other.prefix.startswith(source.prefix)
    )
    return replace(
        source,
        tensors={name: tensor for name, tensor in source.tensors.items() if not inner or not name.startswith(inner)},
    )


def _nested(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def conditioning_of(
    stored: StoredWeights, sources: Mapping[str, Source], layouts: Mapping[Player, Layout], ours: Conditioning
) -> Conditioning:
    """Return what the networks of a file are conditional on; for a plain state dict, what fits most of its shapes."""
    if not stored.is_plain:
        data = stored.about["data_format"]
        condition = data["condition"]
        return Conditioning(tuple(condition) if isinstance(condition, list) else condition, tuple(data["classes"]))
    candidates: list[Condition | None] = [ours.condition, None]
    pairs = [
        (layouts[player], name, tensor.shape)
        for player in PLAYERS
        if player in sources
        for name, tensor in sources[player].tensors.items()
    ]
    for layout, name, shape in pairs:
        target = layout.shape(name, ours.condition) or ()
        if len(target) == len(shape):
            more = (size - own + ours.count for own, size in zip(target, shape, strict=True) if size != own)
            candidates += [count for count in more if 1 <= count <= 2**16 and len(candidates) < 8]

    def fitting(condition: Condition | None) -> int:
        return sum(layout.shape(name, condition) == tuple(shape) for layout, name, shape in pairs)

    best = max(dict.fromkeys(candidates), key=fitting)
    return Conditioning(best)
