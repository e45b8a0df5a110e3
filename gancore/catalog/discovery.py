"""Discovery: list plugins, and those that the user has switched off, without importing them."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gancore.catalog.plugin_file import PluginFile
from gancore.errors import ConfigError, describe_error, unknown_name

if TYPE_CHECKING:
    import click

    from gancore.component import Component

API = 1
"""Version of the contract, as in the entry point group `gancore.v1`, which is known without an import."""

BUILT_IN = "gancore"
"""Distribution of the built-in plugin. It cannot be switched off, and its components keep their bare names."""

DISABLE = "GANCORE_DISABLE_PLUGINS"
"""Environment variable with a comma-separated list of plugins, or their distributions, to switch off."""

NO_PLUGINS = "--no-plugins"
"""The option that switches all plugins of other packages off."""

_GROUP = re.compile(r"gancore\.v(\d+)")


@dataclass(frozen=True)
class Recipe:
    """Named config of a run. The summary is the comment on the first line of its file.

    `rules` are the keys whose values follow from the data, see `gancore.config.picture_rules`.
    """

    name: str
    summary: str
    data: Mapping[str, object]
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginCommand:
    """A click command of a plugin, and the name under which `gancore` runs it."""

    name: str
    command: click.Command


@dataclass(frozen=True)
class Plugin:
    """One plugin: its name, origin and contents, or the reason why it is not loaded.

    `error` says why loading failed, `cause` is the exception if there was one. `off` says where the plugin is switched
    off, such as `--no-plugins`. `entry` is its entry point, as in `waves = gancore_waves`, or its file; `sha256` is the
    digest of a plugin that is a file. `source` locates its module, which is imported by `gancore.catalog.catalog.load`.
    """

    name: str
    package: str
    version: str
    components: tuple[type[Component], ...] = ()
    recipes: tuple[Recipe, ...] = ()
    commands: tuple[PluginCommand, ...] = ()
    error: str | None = None
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    off: str | None = None
    entry: str = ""
    sha256: str | None = None
    source: EntryPoint | PluginFile | None = field(default=None, compare=False, repr=False)

    @property
    def origin(self) -> str:
        """The package with its version."""
        return f"{self.package} {self.version}"

    @property
    def description(self) -> str:
        """Name, package, version and entry point, for messages."""
        return f"plugin {self.name!r} of {self.origin}" + (f" ({self.entry})" if self.entry else "")

    @property
    def names(self) -> list[tuple[str, str]]:
        """Kind and name of each component, recipe and command."""
        return [
            *((component.kind, component.name) for component in self.components),
            *(("recipe", recipe.name) for recipe in self.recipes),
            *(("command", command.name) for command in self.commands),
        ]

    @property
    def not_loaded(self) -> str | None:
        """The reason why the plugin is not loaded; None if it is."""
        return f"it is switched off by {self.off}" if self.off else self.error


@dataclass(frozen=True)
class Choice:
    """The user's choice of plugins.

    `third_parties`: whether to load plugins of other packages. `off`: names of plugins or distributions to switch off,
    each with the place that says so. `files`: plugins that are files. The built-in plugin is always loaded.
    """

    third_parties: bool = True
    off: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @classmethod
    def of_user(cls) -> Choice:
        """Read the environment and the user's settings. Raises ConfigError for settings that cannot be read."""
        path = settings_path()
        off = dict.fromkeys(_read_settings(path), str(path)) if path else {}
        off |= dict.fromkeys(os.environ.get(DISABLE, "").split(","), DISABLE)
        return cls(off={name.strip(): place for name, place in off.items() if name.strip()})

    def apply(self, plugin: Plugin) -> Plugin:
        """Return the plugin, marked as switched off if this choice says so."""
        if plugin.package == BUILT_IN or plugin.sha256:
            return plugin
        if not self.third_parties:
            return replace(plugin, off=NO_PLUGINS)
        off = {normalized(name): place for name, place in self.off.items()}
        return replace(plugin, off=off.get(normalized(plugin.name)) or off.get(normalized(plugin.package)))


def discover(choice: Choice) -> list[Plugin]:
    """Return the installed plugins, sorted by distribution, then those that are files."""
    installed = sorted(_installed(), key=lambda plugin: (plugin.package, plugin.name))
    files = [PluginFile.read(path) for path in {path.resolve(): path for path in choice.files}.values()]
    from_files = (
        Plugin(file.path.stem, file.path.name, file.sha256[:12], entry=str(file.path), sha256=file.sha256, source=file)
        for file in files
    )
    return [choice.apply(plugin) for plugin in (*installed, *from_files)]


def _installed() -> Iterator[Plugin]:
    found: list[EntryPoint] = []
    try:
        installed = entry_points()
        groups = filter(_GROUP.fullmatch, installed.groups)
        found.extend(entry for group in groups for entry in installed.select(group=group))
    except Exception:  # one damaged entry_points.txt makes importlib fail for all; read them one by one
        seen: set[str] = set()
        for distribution in distributions():
            name = _metadata(distribution, "name")
            if name in seen:
                continue
            seen.update({name} - {_UNKNOWN})
            try:
                found.extend(distribution.entry_points)
            except Exception as error:
                damage = f"its entry_points.txt cannot be read: {describe_error(error)}"
                with suppress(ValueError):  # it is not text
                    if "gancore.v" in (distribution.read_text("entry_points.txt") or ""):
                        yield Plugin(name, name, _metadata(distribution, "version"), error=damage, entry=_UNKNOWN)
    ours = [(entry, int(match[1])) for entry in found if (match := _GROUP.fullmatch(entry.group))]
    supported = {(_metadata(entry.dist, "name"), entry.name) for entry, api in ours if api == API}
    for entry, api in ours:
        problem = None if api == API else f"it needs gancore API {api}, this is {API}"
        if problem is None and not entry.pattern.match(entry.value):
            problem = "its entry point must name a module, as in waves = gancore_waves"
        # A plugin may support several versions of the contract; ignore the others if it supports this one.
        if api == API or (_metadata(entry.dist, "name"), entry.name) not in supported:
            package, text = _metadata(entry.dist, "name"), f"{entry.name} = {entry.value}"
            yield Plugin(entry.name, package, _metadata(entry.dist, "version"), error=problem, entry=text, source=entry)


_UNKNOWN = "unknown"


def _metadata(distribution: Distribution | None, key: Literal["name", "version"]) -> str:
    with suppress(Exception):  # the metadata may be missing or not text
        return getattr(distribution, key) or _UNKNOWN
    return _UNKNOWN


def normalized(name: str) -> str:
    """Return a package name in the normalized form that package indexes compare."""
    return re.sub(r"[-_.]+", "-", name).casefold()


def settings_path() -> Path | None:
    """Return the path of the user's settings: GANCORE_SETTINGS, or `settings.toml` in the user's config folder.

    A user without a home has no such folder, and no settings.
    """
    path = os.environ.get("GANCORE_SETTINGS")
    if path:
        return Path(path)
    from platformdirs import user_config_path

    with suppress(RuntimeError):
        return user_config_path("gancore") / "settings.toml"
    return None


def _read_settings(path: Path) -> list[str]:
    """Return the names of plugins that the settings switch off: `plugins.off`."""
    hint = 'write it like: plugins.off = ["NAME"]'
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read settings {path}: {error.strerror}", "check the file's permissions") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"settings {path} are not valid TOML: {error}", hint) from error
    plugins = data.get("plugins", {})
    for table, place, known in ((data, "", "plugins"), (plugins, "plugins.", "off")):
        unknown = [key for key in table if key != known] if isinstance(table, dict) else []
        if unknown:
            raise ConfigError(f"settings {path}: {unknown_name('key', place + unknown[0], [place + known])}", hint)
    off = plugins.get("off", []) if isinstance(plugins, dict) else None
    if not isinstance(off, list) or not all(isinstance(name, str) for name in off):
        raise ConfigError(f"settings {path}: plugins.off must be a list of names; received {plugins!r}", hint)
    return off
