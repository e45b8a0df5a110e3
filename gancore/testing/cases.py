"""What a component is tried on, and how a broken law reads."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from gancore.contracts import Shape


class LawBroken(AssertionError):  # noqa: N818  # it reads as what it says
    """A component does not keep a law: the message is one sentence, with what was expected and received."""


class Untried(Exception):  # noqa: N818  # no error: the law has nothing to say here
    """A law cannot be tried on this component and case."""


class Inapplicable(Untried):
    """It cannot be tried on this component, whatever the case."""


def demand(holds: object, otherwise: str) -> None:
    """Raises LawBroken with this sentence unless it holds."""
    if not holds:
        raise LawBroken(otherwise)


@dataclass(frozen=True)
class Case:
    """What a component is tried on.

    `shape` of an image (C, H, W) or vector (F,), `latent_dim` Z, `count` N, `num_classes` or None, `logits` K and their
    size `scale`, whether data `mirrors`, and the `seed` of weights, inputs and whatever else is random. Files are
    looked for below `root`; by default there can be none.
    """

    shape: Shape = (1, 8, 8)
    latent_dim: int = 1
    count: int = 2
    num_classes: int | None = None
    logits: int = 1
    scale: float = 1.0
    mirrors: bool = False
    seed: int = 0
    root: Path = Path(os.devnull)

    def __repr__(self) -> str:
        """As it is written: what is as usual is left out, and so is the root, which lasts no longer than a trial."""
        said = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "root"}
        usual = {field.name: field.default for field in fields(self)}
        return f"Case({', '.join(f'{key}={value!r}' for key, value in said.items() if value != usual[key])})"
