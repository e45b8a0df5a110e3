"""The case that a component is tested on, and the exceptions of laws."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from gancore.contracts import Condition, Shape, Spec


class LawBroken(AssertionError):  # noqa: N818  # reads well in reports: LawBroken: ...
    """A component breaks a law; the message says what was expected and what was received, and how to fix it."""


class CaseSkipped(Exception):  # noqa: N818  # not an error: the law cannot be checked here
    """A law cannot be checked on this component with this case."""


class NotApplicable(CaseSkipped):
    """A law cannot be checked on this component with any case."""


def require(condition: object, message: str) -> None:
    """Raise LawBroken with the message unless the condition holds."""
    if not condition:
        raise LawBroken(message)


@dataclass(frozen=True)
class Case:
    """The sizes, values and random seed that a component is tested with.

    `shape` of a sample, `latent_dim` Z, `count` N of images, `condition` or None (see `Condition`), `logits` K
    per image with the standard deviation `scale`, whether the data may be mirrored (`mirrors`), and the `seed` of
    weights, inputs and all other random numbers. Datasets look for files below `root`, by default none.
    """

    shape: Shape = (1, 8, 8)
    latent_dim: int = 1
    count: int = 2
    condition: Condition | None = None
    logits: int = 1
    scale: float = 1.0
    mirrors: bool = False
    seed: int = 0
    root: Path = Path(os.devnull)

    @property
    def spec(self) -> Spec:
        """What components are built for. Images are in [-1, 1], other samples are not bounded."""
        bounded = len(self.shape) == 3
        return Spec(self.shape, self.latent_dim, self.condition, bounded=bounded, mirrors=self.mirrors)

    def __repr__(self) -> str:
        """Return the call, without defaults and without `root`, which is a temporary folder."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "root"}
        defaults = {field.name: field.default for field in fields(self)}
        return f"Case({', '.join(f'{key}={value!r}' for key, value in values.items() if value != defaults[key])})"
