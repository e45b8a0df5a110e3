"""Which plugins there are, and which of them the user has switched off: found out without importing any."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path

from gancore.catalog.plugin_file import PluginFile
from gancore.errors import ConfigError, describe_error, unknown_name

API = 1
"""The version of the contract, which the entry point group `gancore.v1` tells without an import."""

BUILT_IN = "gancore"
"""The distribution whose plugin is never switched off, and whose components keep their names when others claim them."""

DISABLE = "GANCORE_DISABLE_PLUGINS"
"""The environment variable that names plugins, or their distributions, to be left out, with commas between them."""

_GROUP = re.compile(r"gancore\.v(\d+)")


@dataclass(frozen=True)
class Announced:
    """A plugin as its distribution announces it, or as the user names it by its file; nothing of it is imported yet.

    `source` leads to its module. `trouble` says why it cannot be imported, `off` who has switched it off.
    """

    name: str
    package: str
    version: str
    source: EntryPoint | PluginFile | None
    trouble: str | None = None
    off: str | None = None

    @property
    def entry(self) -> str:
        """How the plugin is announced, for people: `waves = gancore_waves`."""
        if isinstance(self.source, EntryPoint):
            return f"{self.source.name} = {self.source.value}"
        return str(self.source.path) if self.source else "unknown"

    @property
    def sha256(self) -> str | None:
        """The digest of a plugin that is one file."""
        return self.source.sha256 if isinstance(self.source, PluginFile) else None


@dataclass(frozen=True)
class Choice:
    """Which plugins the user wants: not those of third parties, not those in `off`, and the files as well.

    `off` has names of plugins and of distributions, each with the place where it is named. The built-ins always stay.
    """

    third_parties: bool = True
    off: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @classmethod
    def of_user(cls) -> Choice:
        """What the environment and the user's settings say. Raises ConfigError for settings that cannot be read."""
        path = _settings_path()
        named = dict.fromkeys(_read_settings(path), str(path))
        named |= dict.fromkeys(os.environ.get(DISABLE, "").split(","), DISABLE)
        return cls(off={name.strip(): place for name, place in named.items() if name.strip()})

    def applied(self, plugin: Announced) -> Announced:
        """The plugin, switched off if it is to be."""
        if plugin.package == BUILT_IN or isinstance(plugin.source, PluginFile):
            return plugin
        if not self.third_parties:
            return replace(plugin, off="--no-plugins")
        named = {normalized(name): place for name, place in self.off.items()}
        return replace(plugin, off=named.get(normalized(plugin.name)) or named.get(normalized(plugin.package)))


def discover(choice: Choice) -> list[Announced]:
    """All plugins that are installed or named by their files, in the order of their distributions."""
    installed = sorted(_installed(), key=lambda plugin: (plugin.package, plugin.name))
    files = [PluginFile.read(path) for path in {path.resolve(): path for path in choice.files}.values()]
    named = [Announced(file.path.stem, file.path.name, file.sha256[:12], file) for file in files]
    return [choice.applied(plugin) for plugin in (*installed, *named)]


def _installed() -> Iterator[Announced]:
    found: list[EntryPoint] = []
    try:
        known = entry_points()
        found.extend(entry for group in known.groups for entry in known.select(group=group))
    except Exception:  # where one distribution's list is garbled, importlib gives up on those of all
        seen: set[str] = set()
        for distribution in distributions():
            name = _name(distribution)
            if name in seen:
                continue
            seen.update({name} - {_UNKNOWN})
            try:
                found.extend(distribution.entry_points)
            except Exception as error:
                if _speaks_of_us(distribution):
                    garbled = f"its entry_points.txt cannot be read: {describe_error(error)}"
                    yield Announced(name, name, _version(distribution), None, garbled)
    ours = [(entry, int(match[1])) for entry in found if (match := _GROUP.fullmatch(entry.group))]
    spoken = {(_name(entry.dist), entry.name) for entry, api in ours if api == API}
    for entry, api in ours:
        trouble = None if api == API else f"it needs gancore API {api}, this is {API}"
        if trouble is None and not entry.pattern.match(entry.value):
            trouble = "its entry point must name a module, as in waves = gancore_waves"
        # One that speaks several versions of the contract is taken by the one that is known here.
        if api == API or (_name(entry.dist), entry.name) not in spoken:
            yield Announced(entry.name, _name(entry.dist), _version(entry.dist), entry, trouble)


def _speaks_of_us(distribution: Distribution) -> bool:
    try:
        return "gancore.v" in (distribution.read_text("entry_points.txt") or "")
    except ValueError:  # not even text
        return False


_UNKNOWN = "unknown"


def _name(distribution: Distribution | None) -> str:
    with suppress(Exception):  # a distribution may lack its metadata, or they are no text
        return (distribution and distribution.name) or _UNKNOWN
    return _UNKNOWN


def _version(distribution: Distribution | None) -> str:
    with suppress(Exception):
        return (distribution and distribution.version) or _UNKNOWN
    return _UNKNOWN


def normalized(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).casefold()


def _settings_path() -> Path:
    """The user's own settings: GANCORE_SETTINGS, or `settings.toml` in the user's config folder."""
    named = os.environ.get("GANCORE_SETTINGS")
    if named:
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("gancore") / "settings.toml"


def _read_settings(path: Path) -> list[str]:
    """The plugins that the settings switch off: `plugins.off`."""
    hint = 'it may hold: plugins.off = ["NAME"]'
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read settings {path}: {error.strerror}", "mend the file") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"settings {path} are not TOML: {error}", hint) from error
    plugins = data.get("plugins", {})
    for table, place, known in ((data, "", "plugins"), (plugins, "plugins.", "off")):
        strange = [key for key in table if key != known] if isinstance(table, dict) else []
        if strange:
            raise ConfigError(f"settings {path}: {unknown_name('key', place + strange[0], [place + known])}", hint)
    off = plugins.get("off", []) if isinstance(plugins, dict) else None
    if not isinstance(off, list) or not all(isinstance(name, str) for name in off):
        raise ConfigError(f"settings {path}: plugins.off must be a list of names; received {plugins!r}", hint)
    return off
