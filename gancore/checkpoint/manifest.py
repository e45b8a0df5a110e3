"""The manifest of a run, manifest.json: read with care, since a power failure or an editor may have damaged it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gancore.utils.files import regular

MANIFEST = "manifest.json"
"""File name of the manifest in a run directory."""


@dataclass(frozen=True)
class Manifest:
    """The entries of a manifest that are sound, and what is wrong with the file, None if nothing is."""

    entries: Mapping[str, Any]  # Any: JSON
    problem: str | None


class _Need(BaseModel):
    model_config = ConfigDict(strict=True)

    plugin: str
    package: str
    version: str
    sha256: str | None
    components: list[str]


class _Entries(BaseModel):
    """The entries that every manifest has; it may have more."""

    model_config = ConfigDict(strict=True)

    recipe: str | None
    init_from: str | None
    plugins: dict[str, str]
    needs: list[_Need]
    data: dict[str, Any]  # Any: JSON
    resumed: list[dict[str, Any]] = []


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the run in a folder, without the entries that are damaged. Never raises."""
    path = folder / MANIFEST
    try:
        with regular(path) as file:
            found = json.loads(file.read().decode())
    except FileNotFoundError:
        return Manifest({}, f"{path} is missing")
    except OSError as error:
        return Manifest({}, f"{path} cannot be read: {error.strerror or error}")
    except (ValueError, RecursionError):
        return Manifest({}, f"{path} is damaged: it is not JSON")
    if not isinstance(found, dict):
        return Manifest({}, f"{path} is damaged: it is not a JSON object")
    return sound(found, str(path))


def sound(entries: Mapping[str, Any], of: str) -> Manifest:  # Any: JSON
    """Return the entries of a manifest that have the right types; `of` is the file that has them."""
    try:
        _Entries.model_validate(entries)
    except ValidationError as error:
        wrong = list(dict.fromkeys(str(problem["loc"][0]) for problem in error.errors()))
        kept = {key: value for key, value in entries.items() if key not in wrong}
        return Manifest(
            kept, f"{of} is damaged: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} wrong or missing"
        )
    return Manifest(entries, None)
