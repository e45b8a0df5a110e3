"""The case that a component is tested on, and the exceptions of laws."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from gancore.contracts import Condition, Shape, Spec


class LawBroken(AssertionError):  # noqa: N818  # reads well in reports: LawBroken: ...
    """A component breaks a law; the message says what was expected and what was received, and how to fix it."""


class CaseSkipped(Exception):  # noqa: N818  # not an error: the law cannot be checked here
    """A law cannot be checked on this component with this case; the message says why."""


class UnsuitedCase(CaseSkipped):
    """A law does not concern this case, for example because the case has no condition."""


class UnsuitedComponent(CaseSkipped):
    """A law does not concern a component with these fields, for example because it has no dropout."""


class NotApplicable(CaseSkipped):
    """A law does not concern this component; the message says why."""


def require(condition: object, message: str) -> None:
    """Raise LawBroken with the message unless the condition holds."""
    if not condition:
        raise LawBroken(message)


@dataclass(frozen=True)
class Case:
    """The sizes, values and random seed that a component is tested with.

    `shape` of a sample, whether samples are `bounded`, in [-1, 1] for networks, `latent_dim` Z, `count` N of images,
    `condition` or None (see `Condition`), `logits` K per image with the standard deviation `scale`, whether the data
    may be mirrored (`mirrors`), the `width_factor` of networks, and the `seed` of weights, inputs and all other random
    numbers. Datasets look for files below `root`, by default none. `extras` and `heads` are the shapes of further
    tensors by name, as in `Generated` and `Output`: a component that reads others gets guessed ones.
    """

    shape: Shape = (1, 8, 8)
    latent_dim: int = 1
    count: int = 2
    condition: Condition | None = None
    logits: int = 1
    scale: float = 1.0
    bounded: bool = True
    mirrors: bool = False
    width_factor: float = 1.0
    seed: int = 0
    root: Path = Path(os.devnull)
    extras: Mapping[str, Shape] = field(default_factory=dict)
    heads: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def spec(self) -> Spec:
        """What components are built for."""
        return Spec(self.shape, self.latent_dim, self.condition, self.bounded, self.mirrors, self.width_factor)

    def __repr__(self) -> str:
        """Return the call, without defaults and without `root`, which is a temporary folder."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "root"}
        defaults = {each.name: {} if each.default is MISSING else each.default for each in fields(self)}
        return f"Case({', '.join(f'{key}={value!r}' for key, value in values.items() if value != defaults[key])})"


@dataclass(frozen=True)
class OwnCases:
    """What an author adds to the cases that are drawn.

    `shapes` replace the drawn shapes. `root` is the folder with files of datasets. Each of `cases` is tried too, with
    the component's default fields.
    """

    shapes: tuple[Shape, ...] = ()
    root: Path | None = None
    cases: tuple[Case, ...] = ()


NO_OWN_CASES = OwnCases()
