"""Checks of what a part is given, with errors that say what to change."""

from typing import TypeVar

from gancore import ConfigError, Spec

T = TypeVar("T")


def required(value: T | None, what: str) -> T:
    """Return the value. Raise ConfigError if it is absent."""
    if value is None:
        raise ConfigError(f"{what} are needed and were not given", "train with training.conditional and needs_real")
    return value


def picture_condition(spec: Spec, part: str) -> tuple[int, int, int]:
    """Return the shape of the picture that is the condition. Raise ConfigError for any other, or of another size."""
    if not isinstance(spec.condition, tuple) or len(spec.condition) != 3 or spec.condition[1:] != spec.shape[1:]:
        raise ConfigError(
            f"{part} needs pictures (C, H, W) with a picture of the same size as the condition; received "
            f"samples of shape {spec.shape} and condition {spec.condition}",
            "--dataset paired --set training.conditional=true",
        )
    channels, height, width = spec.condition
    return channels, height, width
