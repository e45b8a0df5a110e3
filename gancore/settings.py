"""Settings: the strict, frozen model under every component and every table of a run's config.

Values are validated as Python data (what `tomllib` gives), so an author may add any pydantic validator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

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
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypeAliasType

from gancore.errors import unknown_name

REMOVE = "none"
"""The value that takes a key away, since TOML has no null."""


class Settings(BaseModel):
    """A table of values: immutable, comparable, hashable; wrong keys, types and ranges are all told at once."""

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
        # The tables under labels are a mapping, whose order says nothing.
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
        """What stands in this table before its fields; a component adds its name."""
        return {}

    @classmethod
    def keys(cls) -> list[str]:
        """The keys of this table as they are written in a file."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def _tuples(data: object) -> object:
    """TOML and JSON have lists where the fields of a frozen model are tuples."""
    if isinstance(data, list | tuple):
        return tuple(_tuples(item) for item in data)
    if isinstance(data, Mapping):
        return {key: _tuples(value) for key, value in data.items()}
    return data


def _explained(error: ValidationError, cls: type[Settings]) -> ValidationError:
    """The same errors, with the nearest right name where a key is unknown."""
    details = []
    for line in error.errors():
        kind, message = line["type"], line["msg"]
        if kind == "extra_forbidden" and len(line["loc"]) == 1:
            message = unknown_name("key", str(line["loc"][0]), cls.keys())
        # Without a context nothing in the message is interpolated, whatever a user wrote.
        custom = PydanticCustomError(kind, message)
        details.append(InitErrorDetails(type=custom, loc=line["loc"], input=line["input"]))
    return ValidationError.from_exception_data(cls.__name__, details)


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """A place in a run: the real images that D has seen, and the share of the total that lies behind, in 0..1."""

    images_seen: int
    done: float


START = TrainingTime(0, 0.0)


class Schedule(Settings):
    """A value that moves from one number to another while images are seen, and then stays.

    A pure function of the place in the run: it has no state, so an interrupted run finds its place again by itself.
    """

    start: float = Field(alias="from", description="value before the first image")
    to: float = Field(description="value at the end")
    kimg: float | None = Field(
        default=None, gt=0, description="thousands of real images over which the value moves; absent: the whole run"
    )
    shape: Literal["linear", "cosine"] = Field(default="linear", description="how the value moves")

    # A bound on a schedulable field holds at both ends, and so everywhere between them.
    def __ge__(self, bound: float) -> bool:
        return min(self.start, self.to) >= bound

    def __gt__(self, bound: float) -> bool:
        return min(self.start, self.to) > bound

    def __le__(self, bound: float) -> bool:
        return max(self.start, self.to) <= bound

    def __lt__(self, bound: float) -> bool:
        return max(self.start, self.to) < bound

    def at(self, moment: TrainingTime) -> float:
        """The value at this place in a run."""
        share = min(moment.done if self.kimg is None else moment.images_seen / (1000 * self.kimg), 1.0)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return (1 - share) * self.start + share * self.to


def _number_or_schedule(value: object) -> str:
    return "schedule" if isinstance(value, Mapping | Schedule) else "number"


# An alias with a name of its own keeps the bounds of a field outside of the choice.
Schedulable = TypeAliasType(
    "Schedulable",
    Annotated[
        Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")],
        Discriminator(_number_or_schedule),
    ],
)
"""A field that takes a number or `{from, to, kimg, shape}`."""


def value_at(value: float | Schedule, moment: TrainingTime) -> float:
    """A number as it is; a schedule at this place in a run."""
    return value.at(moment) if isinstance(value, Schedule) else value


def plain(value: object, name_of: Callable[[type[Settings]], str]) -> Any:  # Any: data of a shape that varies
    """Settings as the data that a file holds: without None and empty tables, and with tuples as lists.

    Validated again, it is equal. `name_of` gives the name under which a component's class is known.
    """
    if isinstance(value, Settings):
        fields = {field.alias or key: getattr(value, key) for key, field in type(value).model_fields.items()}
        return plain(value.head(name_of) | fields | (value.model_extra or {}), name_of)
    if isinstance(value, Mapping):
        return {key: plain(item, name_of) for key, item in value.items() if item is not None and item != {}}
    if isinstance(value, tuple):
        return [plain(item, name_of) for item in value]
    return value
