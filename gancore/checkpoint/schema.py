"""The schema of the document in the checkpoint of a run, so that its readers find every field with its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Size = Annotated[int, Field(ge=1, le=2**31)]
_Shown = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]


def _vector_or_image(shape: list[int]) -> list[int]:
    if len(shape) not in (1, 3):
        raise ValueError("a shape is [F] or [C, H, W]")
    return shape


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Progress(_Form):
    step: _Count
    images_seen: _Count
    seconds: Annotated[float, Field(ge=0)]


class _MadeWith(_Form):
    plugins: dict[_Shown, _Shown]


class _Run(_Form):
    """The fields that the checkpoint of a run must have; it may have more."""

    config: dict[str, Any]  # Any: validated when the config is resolved
    shape: Annotated[list[_Size], AfterValidator(_vector_or_image)]
    num_classes: _Size | None
    progress: _Progress
    made_with: _MadeWith


def problem(about: Mapping[str, Any]) -> str | None:  # Any: JSON
    """Return what is wrong with the document, or None if it describes a run."""
    try:
        _Run.model_validate(about)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place[:100]!a}: {first['msg']}"
    return None
