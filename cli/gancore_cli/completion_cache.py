"""What completion in a shell knows of the plugins: a file that commands write after they have imported them.

It is JSON, holds only names and help texts, and is ignored when other packages are installed, or when it is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog

_FORMAT = 1
_MAX_BYTES = 2**24
_PARTS = ("generator", "discriminator", "loss", "dataset")


class Key(TypedDict):
    """A key of a table, with its type and meaning as `gancore show` prints them."""

    key: str
    type: str
    help: str


@dataclass(frozen=True)
class Component:
    """A component: its summary, and the keys of its table."""

    summary: str
    keys: list[Key]


@dataclass(frozen=True)
class Recipe:
    """A recipe: its summary, and the names of its parts, such as `generator`."""

    summary: str
    parts: dict[str, str]


@dataclass(frozen=True)
class Names:
    """What can be completed: components by kind and name, and the others by name."""

    components: dict[str, dict[str, Component]] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, catalog: Catalog) -> Names:
        """Collect the names of a catalog."""
        from gancore.config.describe import describe
        from gancore.config.run import RunConfig
        from gancore.settings import Settings

        def keys(settings: type[Settings]) -> list[Key]:
            return [Key(key=row["key"], type=row["type"], help=row["help"]) for row in describe(settings)]

        return cls(
            {
                kind: {
                    catalog.name_of(component): Component(component.summary(), keys(component))
                    for component, _ in offers
                }
                for kind, base in catalog.kinds.items()
                for offers in [catalog.offers(base)]
            },
            {recipe.name: Recipe(recipe.summary, dict(_parts(recipe.data))) for recipe, _ in catalog.recipes()},
            keys(RunConfig),
            {command.name: command.command.get_short_help_str() for command, _ in catalog.commands()},
            {plugin.name: plugin.origin for plugin in catalog.plugins},
        )


def _parts(data: Any) -> Iterator[tuple[str, str]]:  # Any: data of a file
    """Yield the parts that a config names, each with its name."""
    for part in _PARTS:
        value = data.get(part)
        name = value.get("name") if isinstance(value, dict) else value
        if isinstance(name, str):
            yield part, name


def parts_of_run(run: Path) -> dict[str, str]:
    """Return the names of the parts of a run, from its config; none if that cannot be read."""
    import tomllib

    with suppress(OSError, ValueError, RecursionError):
        return dict(_parts(tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))))
    return {}


def remember(catalog: Catalog) -> None:
    """Write the names of a catalog, unless they are known. Raises OSError."""
    path, document = _path(), {"format": _FORMAT, "of": _installed(), **asdict(Names.of(catalog))}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    with suppress(OSError, ValueError):
        if path.read_text(encoding="utf-8") == text:
            return
    from gancore.utils.atomic import replacing

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=False) as temporary:
        temporary.write_text(text, encoding="utf-8")


def recall() -> Names:
    """Return the names that the newest command has written; none if packages have changed since, or it is damaged."""
    with suppress(Exception):  # a shell asks, which cannot show an error
        path = _path()
        if path.stat().st_size <= _MAX_BYTES:
            document = json.loads(path.read_text(encoding="utf-8"))
            if (document.pop("format"), document.pop("of")) == (_FORMAT, _installed()):
                return _names(**document)
    return Names()


def _names(
    components: dict[str, dict[str, Any]],  # Any: JSON
    recipes: dict[str, Any],
    keys: list[Key],
    commands: dict[str, str],
    plugins: dict[str, str],
) -> Names:
    by_kind = {kind: {name: Component(**row) for name, row in rows.items()} for kind, rows in components.items()}
    return Names(by_kind, {name: Recipe(**row) for name, row in recipes.items()}, keys, commands, plugins)


def _path() -> Path:
    """Return the path of the file for this Python; each environment has its own."""
    from gancore.utils.paths import cache_root

    return cache_root() / "completion" / f"{_digest([sys.prefix])}.json"


def _installed() -> str:
    """Return a digest of what is installed, by the names and times of its metadata, and of what is switched off."""
    from gancore.catalog.discovery import DISABLE, settings_path

    found = [
        f"{DISABLE}={os.environ.get(DISABLE, '')}",
    ]
    if settings := settings_path():
        found += _stamp(settings)
    for folder in dict.fromkeys(sys.path):
        with suppress(OSError), os.scandir(folder or ".") as entries:
            metadata = sorted(entry.path for entry in entries if entry.name.endswith(".dist-info"))
            found += [line for path in metadata for line in _stamp(Path(path))]
    return _digest(found)


def _stamp(path: Path) -> Iterator[str]:
    with suppress(OSError):
        yield f"{path} {path.stat().st_mtime_ns}"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:32]
