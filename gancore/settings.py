"""Settings: the strict, frozen pydantic base of every component and every table of a run's config.

Values are validated as Python data, the form in which `tomllib` returns them, so pydantic validators work unchanged.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from typing_extensions import TypeAliasType

from gancore.errors import unknown_name

REMOVE = "none"
"""The value that removes a key from the config below it, since TOML has no null."""


class Settings(BaseModel):
    """A table of values: immutable, comparable and hashable. All wrong keys, types and ranges are reported at once."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    def __hash__(self) -> int:
        values = (getattr(self, key) for key in type(self).model_fields)
        # Tables under labels are a dict, and dicts are equal in any order.
        return hash((type(self), *(frozenset(v.items()) if isinstance(v, Mapping) else v for v in values)))

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if isinstance(data, cls):
            return data
        try:
            return handler(_tuples(data))
        except ValidationError as error:
            raise _explained(error, cls) from None

    def head(self, name_of: Callable[[type[Settings]], str]) -> dict[str, object]:
        """Return the keys that come before the fields in a file: none here; a component adds its name."""
        return {}

    @classmethod
    def keys(cls) -> list[str]:
        """Return the keys of this table as a file spells them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def _tuples(data: object) -> object:
    """Convert lists, as in TOML and JSON, to tuples, as in the fields of a frozen model."""
    if isinstance(data, list | tuple):
        return tuple(_tuples(item) for item in data)
    if isinstance(data, Mapping):
        return {key: _tuples(value) for key, value in data.items()}
    return data


def _explained(error: ValidationError, cls: type[Settings]) -> ValidationError:
    """Return the same errors, with the nearest known keys added for an unknown key."""
    details = []
    for line in error.errors():
        kind, message = line["type"], line["msg"]
        if kind == "extra_forbidden" and len(line["loc"]) == 1:
            key = str(line["loc"][0])
            message = unknown_name("key", key, cls.keys()) + _elsewhere(key, cls)
        elif kind == "tuple_type" and len(line["loc"]) == 1:
            message += _example(cls, str(line["loc"][0]))
        details.append(error_details(kind, message, *_place(line)))
    return ValidationError.from_exception_data(cls.__name__, details)


def _example(cls: type[Settings], key: str) -> str:
    """Return the default of a list of numbers or texts as an example; empty for another one."""
    default = next((field.default for name, field in cls.model_fields.items() if key in (name, field.alias)), None)
    if isinstance(default, tuple) and default and all(isinstance(item, int | float | str) for item in default):
        return f", such as {list(default)}"
    return ""


def _place(error: ErrorDetails) -> tuple[tuple[int | str, ...], object]:
    """Return the path and the value of an error: those of the first piece of a schedule that violates a bound."""
    holds, received = _BOUNDS.get(error["type"]), error["input"]
    if holds and isinstance(received, tuple | PiecewiseSchedule):
        (bound,) = error["ctx"].values()
        pieces = PiecewiseSchedule.model_validate(received).pieces
        index = next(index for index, piece in enumerate(pieces) if not holds(piece, bound))
        return (*error["loc"], index), plain(pieces[index], str)
    return error["loc"], received


_BOUNDS: Mapping[str, Callable[[Schedule, float], bool]] = {
    "greater_than": operator.gt,
    "greater_than_equal": operator.ge,
    "less_than": operator.lt,
    "less_than_equal": operator.le,
}
"""Types of pydantic's errors, and the comparison that does not hold."""


IN_A_TABLE = ". It is a key of a table: "
"""What comes before the paths of an unknown key, from its table on."""


def _elsewhere(key: str, cls: type[Settings]) -> str:
    """Return where an unknown key belongs: in a table of these settings, or in a duration; empty if unknown."""
    if key in ("epochs", "steps", "kimg", "minutes") and "duration" in cls.model_fields:
        return f". A length is one key: duration = '10 {key}'"
    places = [place for place in _paths(cls) if place.endswith(f".{key}")]
    return f"{IN_A_TABLE}{' or '.join(places)}" if places else ""


def _paths(cls: type[Settings], prefix: str = "") -> list[str]:
    """Return the dotted paths of all keys in the tables of these settings, but not of components."""
    paths = []
    for key, field in cls.model_fields.items():
        place = f"{prefix}{field.alias or key}"
        paths.append(place)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Settings) and not hasattr(kind, "kind"):
                paths += _paths(kind, f"{place}.")
    return paths


def error_details(kind: str, message: str, loc: tuple[int | str, ...], received: object) -> InitErrorDetails:
    """Return one error for a ValidationError: its type, message, path, and the value received."""
    # Without a context pydantic does not interpolate braces that a user wrote.
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=loc, input=received)


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """A time in a run: the number of real images that D has seen, and the fraction of the run that is done, in 0..1."""

    images_seen: int
    done: float


START = TrainingTime(0, 0.0)


class BaseSchedule(Settings, ABC):
    """Base of schedules: values that depend only on the time in the run and have no state.

    So a resumed run continues them exactly. `ends` are the values at the start and the end of each piece, in order.
    """

    @abstractmethod
    def _pieces(self) -> tuple[Schedule, ...]: ...

    @property
    def ends(self) -> tuple[float, ...]:
        return tuple(end for piece in self._pieces() for end in (piece.start, piece.to))

    # Let pydantic check the bounds of a Schedulable field: they hold everywhere if they hold at all ends.
    def __ge__(self, bound: float) -> bool:
        return min(self.ends) >= bound

    def __gt__(self, bound: float) -> bool:
        return min(self.ends) > bound

    def __le__(self, bound: float) -> bool:
        return max(self.ends) <= bound

    def __lt__(self, bound: float) -> bool:
        return max(self.ends) < bound

    def at(self, time: TrainingTime) -> float:
        """Return the value at this time in the run."""
        first_image = 0.0
        for piece in self._pieces():
            share = _share(piece, time, first_image)
            if share < 1 or piece.kimg is None:
                break
            first_image += 1000 * piece.kimg
        return _value(piece, share)

    def then(
        self,
        to: float,
        *,
        start: float | None = None,
        kimg: float | None = None,
        shape: Literal["linear", "cosine"] = "linear",
    ) -> PiecewiseSchedule:
        """Return this schedule followed by one more piece. Without `start` it starts where this schedule ends."""
        piece = {"from": self.ends[-1] if start is None else start, "to": to, "kimg": kimg, "shape": shape}
        return PiecewiseSchedule.model_validate((*self._pieces(), piece))


class Schedule(BaseSchedule):
    """A value that moves from one number to another during training, and then stays."""

    start: float = Field(alias="from", description="value at the start of the schedule")
    to: float = Field(description="value at the end of the schedule")
    kimg: float | None = Field(
        default=None, gt=0, description="length of the schedule in thousands of real images; absent: the whole run"
    )
    shape: Literal["linear", "cosine"] = Field(default="linear", description="interpolation between the two values")

    def _pieces(self) -> tuple[Schedule, ...]:
        return (self,)


class PiecewiseSchedule(BaseSchedule):
    """Schedules one after another, such as a warm-up and a decay: a list of tables in a file.

    A piece without `from` starts where the previous one ends. All but the last need `kimg`; without it the last one
    lasts until the end of the run. At a boundary the next piece has begun.
    """

    pieces: tuple[Schedule, ...]

    def _pieces(self) -> tuple[Schedule, ...]:
        return self.pieces

    @model_validator(mode="before")
    @classmethod
    def _fill_starts(cls, data: object) -> object:
        """Convert a list of pieces to the fields of this class, and let each start where the previous one ends."""
        if not isinstance(data, list | tuple):
            return data
        pieces, end = list[object](), None
        for piece in data:
            if isinstance(piece, Mapping):
                if end is not None and not piece.keys() & {"from", "start"}:
                    piece = {"from": end, **piece}
                # A wrong value is reported once, not as the start of the next piece too.
                end = piece.get("to") if isinstance(piece.get("to"), int | float) else 0.0
            elif isinstance(piece, Schedule):
                end = piece.to
            pieces.append(piece)
        return {"pieces": tuple(pieces)}

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not self.pieces:
            raise PydanticCustomError("no_pieces", "a list of schedules must have at least 1 item")
        message = "needs kimg; only the last piece may last until the end of the run"
        problems = [
            error_details("kimg", message, ("pieces", index), plain(piece, str))
            for index, piece in enumerate(self.pieces[:-1])
            if piece.kimg is None
        ]
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self


def _share(piece: Schedule, time: TrainingTime, first_image: float) -> float:
    """Return the finished share of a piece that begins after `first_image` images, 1 or more when it is done.

    Without `kimg` it lasts from there until the end of the run. A run that has seen i images and is done to the share d
    ends after i / d images, if it continues as it did so far.
    """
    images_seen = max(time.images_seen - first_image, 0.0)
    if piece.kimg is not None:
        return images_seen / (1000 * piece.kimg)
    if first_image == 0 or time.done >= 1:
        return time.done
    return time.done * images_seen / (time.images_seen - time.done * first_image) if images_seen else 0.0


def _value(piece: Schedule, share: float) -> float:
    share = min(share, 1.0)
    if piece.shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return (1 - share) * piece.start + share * piece.to


def _form(value: object) -> str:
    if isinstance(value, Mapping | Schedule):
        return "schedule"
    return "pieces" if isinstance(value, list | tuple | PiecewiseSchedule) else "number"


# With a named alias pydantic applies a field's bounds to the whole union, not to its members.
Schedulable = TypeAliasType(
    "Schedulable",
    Annotated[
        Annotated[float, Tag("number")]
        | Annotated[Schedule, Tag("schedule")]
        | Annotated[PiecewiseSchedule, Tag("pieces")],
        Discriminator(_form),
    ],
)
"""Type of a field that takes a number, a schedule `{from, to, kimg, shape}`, or a list of these, one after another.

Read it with `value_at`.
"""


def value_at(value: float | BaseSchedule, time: TrainingTime) -> float:
    """Return the value of a `Schedulable` field at this time in the run."""
    return value.at(time) if isinstance(value, BaseSchedule) else value


def plain(value: object, name_of: Callable[[type[Settings]], str]) -> Any:  # Any: data of a shape that varies
    """Return settings as the data of a TOML file: without None and empty tables, and with tuples as lists.

    Validating that data gives equal settings. `name_of` maps a component's class to its name.
    """
    if isinstance(value, PiecewiseSchedule):
        return plain(value.pieces, name_of)
    if isinstance(value, Settings):
        fields = {field.alias or key: getattr(value, key) for key, field in type(value).model_fields.items()}
        return plain(value.head(name_of) | fields | (value.model_extra or {}), name_of)
    if isinstance(value, Mapping):
        return {key: plain(item, name_of) for key, item in value.items() if item is not None and item != {}}
    if isinstance(value, tuple):
        return [plain(item, name_of) for item in value]
    return value
