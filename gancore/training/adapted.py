"""What augmentations adapt: numbers that the log shows, and that a run continues from the one it starts from.

A module that an augmentation builds may name buffers of one number each, in `logged` and in `continued`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from gancore.checkpoint.weights import StoredWeights
from gancore.contracts import Augment, Augmentation
from gancore.errors import PluginError


def check_numbers(augments: Mapping[str, Augment]) -> None:
    """Raise PluginError for a name in `logged` or `continued` that is no buffer of one number."""
    for label, augment in augments.items():
        for attribute in ("logged", "continued"):
            for _ in _numbers(label, augment, attribute):
                pass


def logged_numbers(augments: Mapping[str, Augment]) -> dict[str, Tensor]:
    """Return copies () of the numbers that augmentations log, by LABEL.NAME, on their devices."""
    return {
        f"{label}.{name}": number.detach().reshape(()).clone()
        for label, augment in augments.items()
        for name, number in _numbers(label, augment, "logged")
    }


def continue_numbers(
    stored: StoredWeights, augmentations: Mapping[str, Augmentation], augments: Mapping[str, Augment]
) -> Iterator[str]:
    """Set the numbers that augmentations continue from the checkpoint of another run; yield what to tell the user.

    A number is continued if the other run had the same augmentation under the same label, with a finite value.
    """
    theirs = stored.about.get("config", {}).get("augmentations", {})
    for label, augment in augments.items():
        prefix = f"augmentation.{label}."
        if not any(name.startswith(prefix) for name in stored.tensors):
            continue
        table = theirs.get(label) if isinstance(theirs, Mapping) else None  # of a file, so it can be anything
        is_same = isinstance(table, Mapping) and table.get("name", label) == augmentations[label].name
        values = []
        for name, number in _numbers(label, augment, "continued") if is_same else ():
            value = stored.tensors.get(prefix + name)
            if value is None or (value.shape, value.dtype) != (number.shape, number.dtype):
                continue
            if value.isfinite().all():
                number.copy_(value)
                values.append(f"{name} {float(value):.3g}, as in the file")
        yield f"  augmentation {label}: {'; '.join(values) or 'starts anew'}"


def _numbers(label: str, augment: Augment, attribute: str) -> Iterator[tuple[str, Tensor]]:
    buffers = dict(augment.named_buffers()) if isinstance(augment, nn.Module) else {}
    for name in getattr(augment, attribute, ()):
        if name not in buffers or buffers[name].numel() != 1:
            raise PluginError(
                f"augmentation {label!r} names {name!r} in `{attribute}`, which is no buffer of one number"
            )
        yield name, buffers[name]
