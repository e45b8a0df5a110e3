"""Settings: the strict, frozen pydantic base of every component and every table of a run's config.

Values are validated as Python data, the form in which `tomllib` returns them, so pydantic validators work unchanged.
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
            message = unknown_name("key", str(line["loc"][0]), cls.keys())
        details.append(error_details(kind, message, line["loc"], line["input"]))
    return ValidationError.from_exception_data(cls.__name__, details)


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


class Schedule(Settings):
    """A value that moves from one number to another during training, and then stays.

    It depends only on the time in the run and has no state, so a resumed run continues it exactly.
    """

    start: float = Field(alias="from", description="value at the start of the run")
    to: float = Field(description="value at the end of the schedule")
    kimg: float | None = Field(
        default=None, gt=0, description="length of the schedule in thousands of real images; absent: the whole run"
    )
    shape: Literal["linear", "cosine"] = Field(default="linear", description="interpolation between the two values")

    # Lets pydantic check the bounds of a Schedulable field: they hold everywhere if they hold at both ends.
    def __ge__(self, bound: float) -> bool:
        return min(self.start, self.to) >= bound

    def __gt__(self, bound: float) -> bool:
        return min(self.start, self.to) > bound

    def __le__(self, bound: float) -> bool:
        return max(self.start, self.to) <= bound

    def __lt__(self, bound: float) -> bool:
        return max(self.start, self.to) < bound

    def at(self, time: TrainingTime) -> float:
        """Return the value at this time in the run."""
        share = min(time.done if self.kimg is None else time.images_seen / (1000 * self.kimg), 1.0)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return (1 - share) * self.start + share * self.to


def _number_or_schedule(value: object) -> str:
    return "schedule" if isinstance(value, Mapping | Schedule) else "number"


# With a named alias pydantic applies a field's bounds to the whole union, not to its members.
Schedulable = TypeAliasType(
    "Schedulable",
    Annotated[
        Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")], Discriminator(_number_or_schedule)
    ],
)
"""Type of a field that takes a number or a schedule `{from, to, kimg, shape}`. Read it with `value_at`."""


def value_at(value: float | Schedule, time: TrainingTime) -> float:
    """Return the value of a `Schedulable` field at this time in the run."""
    return value.at(time) if isinstance(value, Schedule) else value


def plain(value: object, name_of: Callable[[type[Settings]], str]) -> Any:  # Any: data of a shape that varies
    """Return settings as the data of a TOML file: without None and empty tables, and with tuples as lists.

    Validating that data gives equal settings. `name_of` maps a component's class to its name.
    """
    if isinstance(value, Settings):
        fields = {field.alias or key: getattr(value, key) for key, field in type(value).model_fields.items()}
        return plain(value.head(name_of) | fields | (value.model_extra or {}), name_of)
    if isinstance(value, Mapping):
        return {key: plain(item, name_of) for key, item in value.items() if item is not None and item != {}}
    if isinstance(value, tuple):
        return [plain(item, name_of) for item in value]
    return value
