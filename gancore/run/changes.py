"""Differences between two configs of one run: which a resumed run can take, and which change its weights."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gancore.config.layers import REMOVE, flattened, parse_value
from gancore.config.toml import literal
from gancore.utils.paths import shell_quote

_RECORDING = ("log", "report", "sample", "evaluate", "metrics", "observers", "checkpoint")
"""Tables that are about what a run records; its weights do not depend on them."""
_EXACT_TRAINING = {"workers", "data", "on_nonfinite", "nonfinite_limit", "threads"}
"""Weights do depend on the number of threads, which is compared as a fact of the machine, with what it was."""
_CHOSEN = {"training.precision", "training.threads"}
_INEXACT_TRAINING = {
    "accumulate",
    "channels_last",
    "clip_norm",
    "cuda_graph",
    "discriminator_steps",
    "fakes",
    "generator_steps",
    "precision",
    "sync_batchnorm",
}
_STATE_OF_OPTIMIZER = {"name", "amsgrad", "centered", "initial_accumulator_value", "momentum"}
"""Arguments that decide which tensors an optimizer keeps; `momentum` does where it is 0."""


class Change(NamedTuple):
    """A key of the config, and its values before and now, None where it is absent."""

    key: str
    before: Any  # Any: data of a file
    now: Any  # Any: as above

    def __str__(self) -> str:
        before, now = ("absent" if value is None else value for value in (self.before, self.now))
        return f"{self.key} was {before}, now {now}"

    @property
    def is_exact(self) -> bool:
        """Whether the weights do not depend on it, or on anything of it that is not checked by itself, as data is."""
        parts = self.key.split(".")
        if parts[0] in ("training", "ema"):
            return parts[1] in (_EXACT_TRAINING if parts[0] == "training" else {"refresh_batchnorm"})
        return parts[0] in (*_RECORDING, "dataset")

    @property
    def assignment(self) -> str:
        """The change as an option of a command: `--set batch_size=32`."""
        is_plain = isinstance(self.now, str) and parse_value(self.now) == self.now
        value = REMOVE if self.now is None else self.now if is_plain else literal(self.now)
        return f"--set {shlex.quote(f'{self.key}={value}')}"

    @property
    def asks_to_choose(self) -> bool:
        """Whether the value now lets the run choose, see `gancore.training.choose`; the value before is a choice."""
        return self.key in _CHOSEN and self.now == "auto"

    def recorded(self) -> list[Any]:  # Any: JSON
        """Return both values for the manifest, which holds no paths: None stands for them."""
        return [None if isinstance(value, str) and ("/" in value or "\\" in value) else value for value in self[1:]]


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:  # Any: data of a file
    """Return how two configs differ in more than their totals."""
    old, new = (flattened({key: value for key, value in data.items() if key != "duration"}) for data in (before, now))
    return [
        Change(key, old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)
    ]


def refused(
    found: Iterable[Change],
    before: Mapping[str, Any],  # Any: data of a file
    now: Mapping[str, Any],  # Any: as above
) -> list[Change]:
    """Return the changes that a run cannot take when it is resumed: its state would not fit, or mean something else."""
    return [change for change in found if not _is_possible(change, before, now)]


def _is_possible(change: Change, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:  # Any: as above
    table, *keys = change.key.split(".")
    if table in (*_RECORDING, "dataset", "batch_size"):
        return True
    if table == "training":
        return keys[0] in _EXACT_TRAINING | _INEXACT_TRAINING
    if table == "optimizer":
        return not any(map(_is_state, _arguments(change, keys[1:])))
    if table == "ema":
        # It cannot be added or removed, and a further half-life has no average in the checkpoint.
        return table in before and table in now and (keys[0] != "more_kimg" or not (change.before or change.now))
    return table == "regularizers" and keys[-1] != "name"


def _arguments(change: Change, keys: list[str]) -> Iterator[tuple[str, Any, Any]]:  # Any: as above
    """Yield the arguments of an optimizer that a change is about, with their values."""
    if keys[0] != "groups":
        yield keys[0], change.before, change.now
        return
    old, new = ({group["prefix"]: group for group in groups or ()} for groups in (change.before, change.now))
    for prefix in {**old, **new}:
        of_old, of_new = old.get(prefix, {}), new.get(prefix, {})
        for key in {**of_old, **of_new}:
            if of_old.get(key) != of_new.get(key):
                yield key, of_old.get(key), of_new.get(key)


def _is_state(argument: tuple[str, Any, Any]) -> bool:  # Any: as above
    key, before, now = argument
    return key in _STATE_OF_OPTIMIZER and not (key == "momentum" and before and now)


def command_of_new_run(run: Path, found: Iterable[Change] = ()) -> str:
    """Return the command that trains a new run with these changes, from the weights of this one, if they can fit."""
    found = list(found)
    origin = [] if any(change.key == "size" for change in found) else ["--init-from", shell_quote(run)]
    words = ["gancore train", shell_quote(run / "config.toml"), *(change.assignment for change in found)]
    return " ".join([*words, *origin, "--out NEW"])


def with_removed_tables(found: Iterable[Change], now: Mapping[str, Any]) -> list[Change]:  # Any: data of a file
    """Return changes with one for each table that is gone, in place of those of its keys, which would keep it."""
    result: dict[str, Change] = {}
    for change in found:
        parts, table = change.key.split("."), now
        for depth, part in enumerate(parts, start=1):
            if not isinstance(table, Mapping) or table.get(part) is None:
                key = ".".join(parts[:depth])
                result.setdefault(key, change if key == change.key else Change(key, {}, None))
                break
            table = table[part]
        else:
            if change.now not in ({}, None):  # an empty table, before or now, changes nothing
                result[change.key] = change
    return list(result.values())
