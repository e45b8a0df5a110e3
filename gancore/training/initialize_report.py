"""What a user reads of the weights that a run starts with: what was loaded, what was not, and how classes match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from shlex import quote

from torch import Tensor

from gancore.checkpoint.weights import StoredWeights
from gancore.config.run import RunConfig
from gancore.config.toml import literal
from gancore.contracts import Player
from gancore.errors import CheckpointError
from gancore.settings import plain
from gancore.training.correspondence import NEW, Conditioning, Transfer, layer_of, shared_classes
from gancore.training.stored_networks import PLAYERS, Source

_NAMED = 6
"""Number of classes that a message names."""


@dataclass(frozen=True)
class _Row:
    layer: str
    stored: str
    own: str
    what: str


def report(
    stored: StoredWeights,
    sources: Mapping[str, Source],
    own: Mapping[Player, Mapping[str, Tensor]],
    transfers: Mapping[Player, Mapping[str, Transfer]],
) -> Iterator[str]:
    """Yield one line if everything fits, else also a table of the layers that are not loaded as they are."""
    rows = [row for player in PLAYERS for row in _rows(player, sources.get(player), own[player], transfers[player])]
    counts = []
    for player in PLAYERS:
        layers = {layer_of(name) for name in own[player]}
        other = {layer_of(name) for name, transfer in transfers[player].items() if transfer.state != "loaded"}
        fit = f"all {len(layers)}" if not other else f"{len(layers) - len(other)} of {len(layers)}"
        counts.append(f"{fit} layers of the {player}")
    step = "" if stored.is_plain else f", step {stored.about['progress']['step']:,}"
    yield f"loaded from {stored.path}{step}: {' and '.join(counts)}"
    if stored.is_plain:
        yield from _prefix_lines(stored, sources)
    if rows:
        header = _Row("layer", "file", "this network", "")
        widths = [max(len(getattr(row, key)) for row in (header, *rows)) for key in ("layer", "stored", "own")]
        for row in (header, *rows):
            cells = (row.layer, row.stored, row.own)
            text = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            yield f"  {text}  {row.what}".rstrip()


def _rows(
    player: Player, source: Source | None, own: Mapping[str, Tensor], transfers: Mapping[str, Transfer]
) -> Iterator[_Row]:
    layers: dict[str, list[str]] = {}
    for name in own:
        layers.setdefault(layer_of(name), []).append(name)
    theirs = {} if source is None else source.tensors
    if all(transfer == NEW for transfer in transfers.values()):
        what = "new: not in the file" if source is None else "new: nothing of the file fits"
        yield _Row(
            player,
            f"{len({layer_of(name) for name in theirs})} layers" if theirs else "-",
            f"{len(layers)} layers",
            what,
        )
        return
    for layer, names in layers.items():
        states = {transfers[name].state for name in names}
        if states == {"loaded"}:
            continue
        changed = [name for name in names if transfers[name].state != "loaded"]
        shown = max(changed, key=lambda name: (name in theirs, own[name].numel()))
        what = "new" if states == {"new"} else "loaded partly"
        yield _Row(f"{player}.{layer}" if layer else player, _shape(theirs.get(shown)), _shape(own[shown]), what)
    unknown: dict[str, list[str]] = {}
    for name in theirs:
        if name not in own:
            unknown.setdefault(name if layer_of(name) in layers else layer_of(name), []).append(name)
    for layer, names in unknown.items():
        shown = max(names, key=lambda name: theirs[name].numel())
        yield _Row(_printable(f"{player}.{layer}"), _shape(theirs[shown]), "-", "not in this network")


def _part(name: str) -> str:
    """Return the first two components of a name, such as regularizer.r1."""
    return ".".join(name.split(".")[:2])


def _shape(tensor: Tensor | None) -> str:
    return "-" if tensor is None else "x".join(map(str, tensor.shape)) or "()"


def _prefix_lines(stored: StoredWeights, sources: Mapping[str, Source]) -> Iterator[str]:
    """Yield where each network was found in a plain state dict, and what belongs to neither."""
    for role, source in sources.items():
        if role in PLAYERS or source is not sources.get("generator"):
            where = f"names that begin with {_printable(source.prefix)!r}" if source.prefix else "the whole file"
            yield f"  {role}: {where}"
    rest = [name for name in stored.tensors if not any(name.startswith(each.prefix) for each in sources.values())]
    if rest:
        yield f"  not used: {len(rest)} other tensors, such as {_printable(rest[0])}"


def other_lines(stored: StoredWeights, sources: Mapping[str, Source], config: RunConfig) -> Iterator[str]:
    """Yield what happens to regularizers, the average (EMA) and the network of the loss, for a file that has them."""
    theirs = sorted({_part(name) for name in stored.tensors if name.startswith("regularizer.")})
    own = {f"regularizer.{label}" for label in config.regularizers}
    for what, parts in (
        ("starts anew", [part for part in theirs if part in own]),
        ("left out, since this run has none", [part for part in theirs if part not in own]),
    ):
        if parts:
            yield f"  {what}: {_printable(', '.join(parts))}"
    if "ema" in sources and sources["ema"].prefix != sources["generator"].prefix:
        yield "  average (EMA): " + (
            "the generator begins with the weights of the file, its average with their average"
            if config.ema is not None
            else "not loaded, since this run has none; the generator begins with the weights that are not averaged"
        )
    if count := sum(name.startswith("loss.") for name in stored.tensors):
        yield f"  loss: {count} tensors, which a loss with a network of the same shapes takes"


def class_lines(ours: Conditioning, theirs: Conditioning) -> Iterator[str]:
    """Yield how classes correspond, if they are not the same in the same order."""
    if ours.condition == theirs.condition and (ours.classes == theirs.classes or not isinstance(ours.condition, int)):
        return
    if not ours.count or not theirs.count:
        yield f"  condition: {_described(theirs)} in the file, {_described(ours)} here"
        return
    if not theirs.classes:
        how = "classes are matched by number" if ours.count == theirs.count else "all classes start anew"
        yield f"  classes: {theirs.count} without names in the file, {ours.count} here; {how}"
        return
    shared = {ours.classes[own] for own, _ in shared_classes(ours, theirs)}
    moved = any(own != their for own, their in shared_classes(ours, theirs))
    new, gone = ([name for name in names if name not in shared] for names in (ours.classes, theirs.classes))
    yield (
        f"  classes: {theirs.count} in the file, {ours.count} here; "
        f"{len(shared)} loaded by name{', in another order' if moved else ''}"
        + (f"; new: {_some(new)}" if new else "")
        + (f"; only in the file: {_some(gone)}" if gone else "")
    )


def _described(conditioning: Conditioning) -> str:
    if conditioning.condition is None:
        return "unconditional"
    if isinstance(conditioning.condition, int):
        return f"{conditioning.condition} classes"
    return f"tensors of shape {conditioning.condition}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(_printable, names[:_NAMED])) + more


def _printable(text: str) -> str:
    """Return the text without what moves the cursor of a terminal, since it comes from a file."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]


def nothing_fits(
    stored: StoredWeights,
    sources: Mapping[str, Source],
    own: Mapping[Player, Mapping[str, Tensor]],
    config: RunConfig,
) -> CheckpointError:
    """Return the error, with the likely reason."""
    if settings := list(_other_settings(stored, config)):
        return CheckpointError(
            f"nothing in {stored.path} fits this run: it was trained with {', '.join(settings)}",
            "train with the networks of the file: " + " ".join(f"--set {quote(setting)}" for setting in settings),
        )
    for player in PLAYERS:
        theirs = sources[player].tensors if player in sources else {}
        for name, tensor in theirs.items():
            if name in own[player] and tensor.ndim > 1:
                return CheckpointError(
                    f"nothing in {stored.path} fits this run: its {player} has the same names and other shapes, as "
                    f"{_printable(name)} of {_shape(tensor)}, here {_shape(own[player][name])}",
                    "set the widths of the networks to those of the file, see: gancore show run",
                )
    first = {player: next(iter(own[player]), "no weights") for player in PLAYERS}
    return CheckpointError(
        f"nothing in {stored.path} fits this run: its names are others, such as "
        f"{_printable(next(iter(stored.tensors)))}; the generator has {first['generator']}, the discriminator "
        f"{first['discriminator']}",
        "choose the networks that the file is of, or rename its tensors, see docs/fine-tuning.md",
    )


def _other_settings(stored: StoredWeights, config: RunConfig) -> Iterator[str]:
    """Yield what the networks of a checkpoint's run were built with, where this run has something else."""
    size = stored.about.get("config", {}).get("size", config.size)
    if size != config.size:
        yield _printable(f"size={size}")
    for player in PLAYERS:
        ours = plain(getattr(config, player), lambda kind: getattr(kind, "name", ""))
        theirs = stored.about.get("config", {}).get(player)
        if isinstance(theirs, dict) and theirs.get("name") != ours["name"]:
            yield _printable(f"{player}={theirs.get('name')}")
        elif isinstance(theirs, dict):
            different = {key: value for key, value in theirs.items() if value != ours.get(key)}
            for key, value in different.items():
                with suppress(TypeError):  # TOML has no null
                    yield _printable(f"{player}.{key}={literal(value)}")
