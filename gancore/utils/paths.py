"""Default folders: the cache, and the files of datasets."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder for files that can be made again: GANCORE_CACHE, or the cache folder of the user."""
    named = os.environ.get("GANCORE_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("gancore")


def data_root(given: Path | str | None = None) -> Path:
    """Return the folder with the files of datasets: `given`, or GANCORE_DATA, or `data` in the cache."""
    named = given or os.environ.get("GANCORE_DATA")
    return Path(named) if named else cache_root() / "data"
