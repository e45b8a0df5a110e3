"""Favorites: points with their pictures, in the folder `explore` of a run."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from filelock import Timeout
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gancore.errors import DataError, InUseError, StorageError
from gancore.explore.point import FOLDER, Point
from gancore.utils.atomic import atomic_write, writing
from gancore.utils.files import regular
from gancore.utils.lock import lock_file

_MOST = 1000
_MOST_BYTES = 4 << 20
_MOST_BYTES_OF_PICTURE = 64 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_SECONDS_FOR_LOCK = 5


class Favorite(BaseModel):
    """A saved point; `name` is also that of its picture."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    name: Annotated[str, StringConstraints(pattern=r"^[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$")]
    title: Annotated[str, StringConstraints(max_length=200)]
    point: Point


class _Document(BaseModel):
    schema_: int = Field(alias="schema", ge=1, le=1)
    favorites: Annotated[list[Favorite], Field(max_length=_MOST)]


class Favorites:
    """The favorites of a run. Every change reads the file anew, since another explorer may have changed it."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self.path = self.folder / "favorites.json"

    def read(self) -> list[Favorite]:
        """Return the favorites, oldest first. Raise DataError when the file is damaged; it is never replaced."""
        try:
            with regular(self.path) as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise ValueError("it is too large")
            return _Document.model_validate_json(content).favorites
        except FileNotFoundError:
            return []
        except ValidationError as error:
            first = error.errors()[0]
            raise self._damaged(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> DataError:
        return DataError(f"the favorites cannot be read: {self.path}: {reason}", "correct the file, or move it away")

    def add(self, point: Point, title: str, png: bytes) -> Favorite:
        """Save a point and its picture. Raise DataError if the file is damaged, StorageError if not writable."""
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        favorite = Favorite(name=name, title=title[:200], point=point)
        with self._locked():
            known = self.read()
            if len(known) >= _MOST:
                raise StorageError(f"the run has {_MOST:,} favorites, the most that it can have", "delete some")
            with atomic_write(self.picture_path(name)) as temporary:
                temporary.write_bytes(png)
            self._write([*known, favorite])
        return favorite

    def remove(self, name: str) -> None:
        """Delete a favorite and its picture; the file of its latent stays, since commands may name it."""
        with self._locked():
            self._write([favorite for favorite in self.read() if favorite.name != name])
            path = self.picture_path(name)
            with writing(path):
                path.unlink(missing_ok=True)

    def picture_path(self, name: str) -> Path:
        """Return the path of the picture of a favorite. Raise DataError for what is no name of one."""
        if re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", name) is None:
            raise DataError(f"there is no favorite {name!a}", "reload the page")
        return self.folder / f"favorite-{name}.png"

    def picture(self, name: str) -> bytes:
        """Return the picture of a favorite, a PNG. Raise DataError unless it is a file of the folder, and no link."""
        path = self.picture_path(name)
        try:
            if self.folder.is_symlink():
                raise OSError(f"{self.folder} is a link")
            with regular(path, links=False) as file:
                content = file.read(_MOST_BYTES_OF_PICTURE + 1)
        except OSError as error:
            raise DataError(f"the picture of favorite {name} cannot be read: {error}", "delete it") from error
        if len(content) > _MOST_BYTES_OF_PICTURE or not content.startswith(_PNG):
            raise DataError(f"the picture of favorite {name} is no PNG: {path}", "delete it")
        return content

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        try:
            with writing(self.folder), lock_file(self.folder / ".lock", timeout=_SECONDS_FOR_LOCK):
                yield
        except Timeout as error:
            raise InUseError("another program writes the favorites of this run", "try again") from error

    def _write(self, favorites: Sequence[Favorite]) -> None:
        document = {"schema": 1, "favorites": [favorite.model_dump(mode="json") for favorite in favorites]}
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
