"""What to change when samples have lost their diversity: keys of the config, their values, and a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gancore.config.layers import ConfigLayer, merge
from gancore.config.layers import assignment as layer_of
from gancore.config.objects import KINDS, is_object
from gancore.config.picture_rules import Facts, augmentation_policy, r1_gamma
from gancore.contracts import Spec
from gancore.run.changes import changes, refused
from gancore.utils.paths import shell_quote

_MORE_GAMMA, _MOST_GAMMA = 4, 100
"""The factor by which a penalty is raised, and the value from which a lower learning rate is proposed instead."""
_GAMMA_OF_VECTORS = 1.0
"""R1's gamma for data that is no image, as in the recipes `arrays` and `table`."""
_FEW_ITEMS = 10_000
"""The number of images below which augmentation is proposed first."""


def advice(config: Mapping[str, Any], spec: Spec, items: int, run: Path) -> str:  # Any: data of a file
    """Return which values to change in the config of a collapsed run, with a command that does; empty without an idea.

    `config` is plain data, as `RunConfig.to_data` returns it. Keys that a run can change are for `gancore resume`, and
    others for a new run.
    """
    layers = [layer_of(f"{key}={value}") for key, value in _proposed(config, spec, items)]
    now = merge([ConfigLayer("config", config), *layers])[0]
    found = changes(config, now)
    if not found:
        return ""
    sets = " ".join(change.assignment for change in found)
    if any(is_object(config.get(part)) for part in KINDS):
        return f"try: {sets.replace('--set ', '')}"
    is_new = any(
        change.before is None and change.key.startswith(("regularizers.", "augmentations.")) for change in found
    )
    if is_new or refused(found, config, now):
        return f"try: gancore train {shell_quote(run / 'config.toml')} {sets} --out NEW"
    return f"try: gancore resume {shell_quote(run)} {sets}"


def continuation(config: Mapping[str, Any], run: Path) -> str:  # Any: data of a file
    """Return how to continue a run that stopped at a collapse: a command, or a setting for a run of Python objects."""
    setting = "--set evaluate.on_collapse=warn"
    if any(is_object(config.get(part)) for part in KINDS):
        return setting.replace("--set ", "")
    return f"gancore resume {shell_quote(run)} {setting}"


def _proposed(config: Mapping[str, Any], spec: Spec, items: int) -> Iterator[tuple[str, object]]:  # Any: as above
    """Yield keys and values: augmentation of few images; R1, a stronger penalty, or lower learning rates."""
    is_image, batch = len(spec.shape) == 3, config["batch_size"]
    regularizers = config.get("regularizers", {})
    if is_image and items < _FEW_ITEMS and not config.get("augmentations") and not _is_moved(spec):
        policy = augmentation_policy(Facts(spec.shape, items, mirrors=spec.mirrors))
        yield "augmentations.ada.policy", f"[{', '.join(map(repr, policy))}]"
    gamma = r1_gamma(spec.shape[1] * spec.shape[2], batch) if is_image else _GAMMA_OF_VECTORS
    weights = {label: table["gamma"] for label, table in regularizers.items() if "gamma" in table}
    # R1 is that of single images, which batch normalization in D mixes.
    if not regularizers and config["discriminator"].get("normalization") != "batch":
        yield "regularizers.r1.gamma", gamma
        return
    for label, value in weights.items():
        if isinstance(value, int | float) and value * _MORE_GAMMA <= _MOST_GAMMA:
            yield f"regularizers.{label}.gamma", float(f"{_MORE_GAMMA * value:.4g}") or gamma
            return
    for player in ("generator", "discriminator"):
        rate = config["optimizer"][player].get("lr")
        if isinstance(rate, Mapping):
            yield from ((f"optimizer.{player}.lr.{end}", rate[end] / 2) for end in ("from", "to"))
        elif isinstance(rate, int | float):
            yield f"optimizer.{player}.lr", rate / 2


def _is_moved(spec: Spec) -> bool:
    """Return whether a condition is a picture, which an augmentation of the image would no longer match."""
    return isinstance(spec.condition, tuple) and len(spec.condition) > 1
