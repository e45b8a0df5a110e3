"""The catalog: every component and recipe that the installed plugins offer, and where each comes from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.resources.abc import Traversable
from inspect import isabstract, isclass, isroutine, signature
from types import ModuleType
from typing import Any, TypeVar, get_args, get_type_hints

import pluggy

from gancore import hookspecs
from gancore.catalog.discovery import BUILT_IN, DISABLE, Announced, Choice, discover, normalized
from gancore.catalog.isolation import settings_kept
from gancore.component import Component
from gancore.errors import ConfigError, PluginError, describe_error, unknown_name
from gancore.settings import REMOVE

_NAME = re.compile(r"(?! )[^\x00-\x1f\x7f:/\\]{1,200}(?<! )")
"""What can be told apart from `package:name`, and written into files and on a terminal as it is."""

C = TypeVar("C", bound=Component)
N = TypeVar("N", bound="type[Component] | Recipe")
"""What is found by its name."""


@dataclass(frozen=True)
class Recipe:
    """A run's config under a name. Its summary is the first line of the file, a comment."""

    name: str
    summary: str
    data: Mapping[str, object]


@dataclass(frozen=True)
class Plugin:
    """One plugin: what it is called, where it comes from, what it offers, or why it is not loaded.

    `error` is what went wrong, with its `cause` where that is an exception; `off` is who switched the plugin off.
    `entry` is how it is announced; `sha256` is the digest of one that is a file.
    """

    name: str
    package: str
    version: str
    components: tuple[type[Component], ...] = ()
    recipes: tuple[Recipe, ...] = ()
    error: str | None = None
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    off: str | None = None
    entry: str = ""
    sha256: str | None = None

    @property
    def origin(self) -> str:
        """The providing package with its version."""
        return f"{self.package} {self.version}"

    @property
    def introduced(self) -> str:
        """The plugin with package, version and entry point, as the subject of a sentence."""
        return f"plugin {self.name!r} of {self.origin}" + (f" ({self.entry})" if self.entry else "")

    @property
    def names(self) -> list[tuple[str, str]]:
        """Kind and name of all that is offered."""
        return [(part.kind, part.name) for part in self.components] + [("recipe", part.name) for part in self.recipes]

    @property
    def absence(self) -> str | None:
        """Why nothing of the plugin is there; None if it is loaded."""
        return f"it is switched off by {self.off}" if self.off else self.error


class Catalog:
    """Components by kind and name. A new one is made for each command; nothing is kept between them."""

    def __init__(self, plugins: Iterable[Plugin], specs: ModuleType = hookspecs) -> None:
        self.plugins = tuple(plugins)
        self.kinds = {kind.kind: kind for kind in _kinds(specs).values()}
        self._specs = specs

    @classmethod
    def installed(cls, choice: Choice | None = None) -> Catalog:
        """What the installed packages announce, and the files that are chosen, less what is switched off.

        Without a choice it is that of the user's environment and settings. Raises PluginError for a file that cannot
        be loaded, ConfigError for settings that cannot be read.
        """
        return cls(load(plugin) for plugin in discover(choice or Choice.of_user()))

    def only(self, plugins: Iterable[Plugin]) -> Catalog:
        """The same kinds, and of the plugins these alone."""
        return Catalog(plugins, self._specs)

    def warnings(self) -> list[str]:
        """What a user should know of third parties' plugins, a line each: not loaded, or claiming built-in names."""
        remarks = (_not_loaded(plugin) or self._claims(plugin) for plugin in self.plugins if not plugin.off)
        return [remark for remark in remarks if remark]

    def _claims(self, plugin: Plugin) -> str:
        """Says so if a third party offers what has the name of a built-in."""
        if plugin.package == BUILT_IN:
            return ""
        taken = {name for each in self.plugins if each.package == BUILT_IN for name in each.names}
        claimed = [name for name in plugin.names if name in taken]
        if not claimed:
            return ""
        names, pick = ", ".join(map(" ".join, claimed)), f"{plugin.package}:{claimed[0][1]}"
        return f"{plugin.introduced} offers {names}, as gancore does, whose own keeps the name; {pick} picks the other"

    def offers(self, kind: type[C]) -> list[tuple[type[C], Plugin]]:
        """The components of one kind, each with its plugin, in the order of their names, built-ins first."""
        return _in_order(
            (component, plugin)
            for plugin in self.plugins
            for component in plugin.components
            if issubclass(component, kind)
        )

    def recipes(self) -> list[tuple[Recipe, Plugin]]:
        """All recipes, each with its plugin, in the same order."""
        return _in_order((recipe, plugin) for plugin in self.plugins for recipe in plugin.recipes)

    def find(self, kind: type[C], name: str) -> type[C]:
        """The component `name` or `package:name`.

        Raises ConfigError when there is none, PluginError when it may be that of a plugin that is not loaded, or when
        several packages offer it and none of them is gancore.
        """
        return self._pick(kind.kind, name, self.offers(kind))

    def recipe(self, name: str) -> Recipe:
        """The recipe `name` or `package:name`. Raises as `find` does."""
        return self._pick("recipe", name, self.recipes())

    def _pick(self, what: str, name: str, offers: list[tuple[N, Plugin]]) -> N:
        package, _, bare = name.rpartition(":")

        def of_package(plugin: Plugin) -> bool:
            return not package or normalized(package) == normalized(plugin.package)

        matches = [pair for pair in offers if pair[0].name == bare and of_package(pair[1])]
        if len(matches) == 1 or (matches and matches[0][1].package == BUILT_IN):
            return matches[0][0]
        if matches:
            origins = " and ".join(plugin.origin for _, plugin in matches)
            choices = {f"{plugin.package}:{bare}": None for _, plugin in matches}
            hint = f"pick one: {' or '.join(choices)}"
            if len(choices) < len(matches):  # two plugins of one package
                hint = f"switch one off: {DISABLE}={matches[0][1].name}"
            raise PluginError(f"{what} {bare!r} is ambiguous: it is offered by {origins}", hint)
        message = unknown_name(what, name, {offered.name for offered, _ in offers})
        absent = [plugin for plugin in self.plugins if plugin.absence and of_package(plugin)]
        if not absent:
            raise ConfigError(message)
        reasons = "; ".join(f"{plugin.introduced}: {plugin.absence}" for plugin in absent)
        cause = next((plugin.cause for plugin in absent if plugin.cause), None)
        broken = ",".join(plugin.name for plugin in absent if plugin.error)
        hint = f"mend it, or switch it off: {DISABLE}={broken}" if broken else "gancore plugins list"
        raise PluginError(f"{message}. Not loaded: {reasons}", hint) from cause

    def name_of(self, component: type[Any]) -> str:  # Any: pydantic's own walk hands over any settings class
        """The name that finds this very class: bare where that suffices, else `package:name`."""
        kind = next(kind for kind in self.kinds.values() if issubclass(component, kind))
        sharing = [(offered, plugin) for offered, plugin in self.offers(kind) if offered.name == component.name]
        for position, (offered, plugin) in enumerate(sharing):
            if offered is component:
                bare = len(sharing) == 1 or (position == 0 and plugin.package == BUILT_IN)
                return offered.name if bare else f"{plugin.package}:{offered.name}"
        raise PluginError(f"{component.__name__} is offered by no installed plugin, so no file can name it")

    def origin_of(self, component: type[Component]) -> Plugin:
        """The plugin that offers this class."""
        return next(plugin for plugin in self.plugins if component in plugin.components)


def _in_order(pairs: Iterable[tuple[N, Plugin]]) -> list[tuple[N, Plugin]]:
    return sorted(pairs, key=lambda pair: (pair[0].name, pair[1].package != BUILT_IN, pair[1].package))


def read_plugin(module: object, name: str, package: str, version: str, specs: ModuleType = hookspecs) -> Plugin:
    """Calls the hooks of one plugin. Raises PluginError when it does not keep the contract.

    Each plugin has a manager of its own, so what it returns is known to be its own and what it breaks stays with it.
    """
    manager = pluggy.PluginManager("gancore")
    manager.add_hookspecs(specs)
    _check_hooks(manager, module, [hook for hook in vars(specs) if hook.startswith("gancore_")])
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    if not manager.get_hookcallers(module):
        raise PluginError("it offers nothing: it has no function marked with @hookimpl")
    components: list[type[Component]] = []
    for hook, kind in _kinds(specs).items():
        for component in _answers(manager, hook):
            if not (isclass(component) and issubclass(component, kind)) or isabstract(component):
                raise PluginError(f"{hook} must return concrete classes of {kind.__name__}; received {component!r}")
            label = getattr(component, "name", None)
            if not isinstance(label, str) or label == REMOVE or not _NAME.fullmatch(label):
                raise PluginError(
                    f"{component.__name__} must have a `name`, under which users choose it: not empty, not {REMOVE!r}, "
                    f"without colons, slashes, control characters and blanks around it; received {label!r}"
                )
            if component.kind != kind.kind or not isinstance(component.summary(), str):
                raise PluginError(f"{component.__name__} must leave `kind` as it is, and its summary must be a string")
            if any(issubclass(other, kind) and other.name == component.name for other in components):
                raise PluginError(f"{hook} offers {component.name!r} twice")
            components.append(component)
    recipes = tuple(_recipe(file) for file in _answers(manager, "gancore_recipes"))
    return Plugin(name, package, version, tuple(components), recipes)


def _check_hooks(manager: pluggy.PluginManager, module: object, hooks: list[str]) -> None:
    """What is marked as a hook is one, takes no argument, and what is called like one is marked."""
    for name in dir(module):
        marked = manager.parse_hookimpl_opts(module, name) is not None
        if marked and name not in hooks:
            raise PluginError(unknown_name("hook", name, hooks))
        if not marked and name in hooks and isroutine(getattr(module, name)):
            raise PluginError(f"{name} is not marked as a hook, so it would offer nothing; write @hookimpl above it")
        asked = signature(getattr(module, name)).parameters.values() if marked else ()
        needed = [p.name for p in asked if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        if needed:
            raise PluginError(f"{name} must take no argument; this one asks for {', '.join(map(repr, needed))}")


def _recipe(file: Traversable) -> Recipe:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except ValueError as error:
        raise PluginError(f"recipe {file.name} is not TOML: {error}") from error
    summary = text.partition("\n")[0].removeprefix("#").strip() if text.startswith("#") else ""
    return Recipe(file.name.removesuffix(".toml"), summary, data)


def _answers(manager: pluggy.PluginManager, hook: str) -> Iterator[Any]:  # Any: checked by the caller
    for answer in getattr(manager.hook, hook)():
        if not isinstance(answer, Iterable):
            raise PluginError(f"{hook} must return a list; received {answer!r}")
        yield from answer


def _kinds(specs: ModuleType) -> dict[str, type[Component]]:
    """The kind of each component hook, read off its return type: `Iterable[type[Generator]]`."""
    kinds = {}
    for hook, spec in vars(specs).items():
        if hook.startswith("gancore_"):
            (item,) = get_args(get_type_hints(spec)["return"])
            if get_args(item):
                (kinds[hook],) = get_args(item)
    return kinds


def load(announced: Announced) -> Plugin:
    """Imports a plugin and reads it, unless it is switched off or speaks another version of the contract.

    Whatever goes wrong is told in its `error`, SystemExit too. What goes wrong in a file is raised as a PluginError,
    since the user has asked for this one by name.
    """
    plugin = Plugin(
        announced.name,
        announced.package,
        announced.version,
        error=None if announced.off else announced.trouble,
        off=announced.off,
        entry=announced.entry,
        sha256=announced.sha256,
    )
    if plugin.absence or announced.source is None:
        return plugin
    try:
        with nullcontext() if announced.package == BUILT_IN else settings_kept():
            read = read_plugin(announced.source.load(), plugin.name, plugin.package, plugin.version)
        if announced.sha256 and not (read.components or read.recipes):
            raise PluginError("it offers nothing: its hooks return no component and no recipe")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = error.message if isinstance(error, PluginError) else describe_error(error)
        if announced.sha256:
            raise PluginError(f"plugin file {announced.entry} cannot be loaded: {reason}", "mend the file") from error
        return replace(plugin, error=reason, cause=error)
    return replace(plugin, components=read.components, recipes=read.recipes)


def _not_loaded(plugin: Plugin) -> str:
    if not plugin.error:
        return ""
    return f"{plugin.introduced} is not loaded: {plugin.error}. {DISABLE}={plugin.name} switches it off"
