"""The catalog: every component and recipe that the installed plugins offer, and where each comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources.abc import Traversable
from inspect import isabstract, isclass
from types import ModuleType
from typing import Any, TypeVar, get_args, get_type_hints

import pluggy

from gancore import hookspecs
from gancore.component import Component
from gancore.errors import ConfigError, PluginError, unknown
from gancore.hookspecs import ENTRY_POINTS
from gancore.layers import REMOVE

BUILT_IN = "gancore"
"""The distribution whose components keep their names when another one claims them too."""

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
    """One plugin: what it is called, where it comes from, what it offers, or why it could not be loaded."""

    name: str
    package: str
    version: str
    components: tuple[type[Component], ...] = ()
    recipes: tuple[Recipe, ...] = ()
    error: str | None = None

    @property
    def origin(self) -> str:
        """The providing package with its version."""
        return f"{self.package} {self.version}"


class Catalog:
    """Components by kind and name. A new one is made for each command; nothing is kept between them."""

    def __init__(self, plugins: Iterable[Plugin], specs: ModuleType = hookspecs) -> None:
        self.plugins = tuple(plugins)
        self.kinds = {kind.kind: kind for kind in _kinds(specs).values()}

    @classmethod
    def installed(cls) -> Catalog:
        """Everything that the installed packages announce."""
        found = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (_package(entry), entry.name))
        return cls(_load(entry) for entry in found)

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

        Raises ConfigError when there is none, PluginError when several packages offer it and none of them is gancore.
        """
        return self._pick(kind.kind, name, self.offers(kind))

    def recipe(self, name: str) -> Recipe:
        """The recipe `name` or `package:name`. Raises as `find` does."""
        return self._pick("recipe", name, self.recipes())

    def _pick(self, what: str, name: str, offers: list[tuple[N, Plugin]]) -> N:
        package, _, bare = name.rpartition(":")
        matches = [pair for pair in offers if pair[0].name == bare and package in ("", pair[1].package)]
        if len(matches) == 1 or (matches and matches[0][1].package == BUILT_IN):
            return matches[0][0]
        if matches:
            origins = " and ".join(plugin.origin for _, plugin in matches)
            choices = " or ".join(f"{plugin.package}:{bare}" for _, plugin in matches)
            raise PluginError(f"{what} {bare!r} is ambiguous: it is offered by {origins}", f"pick one: {choices}")
        message = unknown(what, name, {offered.name for offered, _ in offers})
        broken = [f"{plugin.name} ({plugin.origin}): {plugin.error}" for plugin in self.plugins if plugin.error]
        raise ConfigError(f"{message}. Not loaded: {'; '.join(broken)}" if broken else message)

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
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    components: list[type[Component]] = []
    for hook, kind in _kinds(specs).items():
        for component in _answers(manager, hook):
            if not (isclass(component) and issubclass(component, kind)) or isabstract(component):
                raise PluginError(f"{hook} must return concrete classes of {kind.__name__}; received {component!r}")
            label = getattr(component, "name", None)
            if not isinstance(label, str) or label in ("", REMOVE) or ":" in label:
                raise PluginError(
                    f"{component.__name__} must have a `name`, under which users choose it: not empty, not {REMOVE!r}, "
                    f"without a colon; received {label!r}"
                )
            if any(issubclass(other, kind) and other.name == component.name for other in components):
                raise PluginError(f"{hook} offers {component.name!r} twice")
            components.append(component)
    recipes = tuple(_recipe(file) for file in _answers(manager, "gancore_recipes"))
    return Plugin(name, package, version, tuple(components), recipes)


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


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "unknown"


def _load(entry: EntryPoint) -> Plugin:
    package, version = _package(entry), entry.dist.version if entry.dist else "unknown"
    try:
        return read_plugin(entry.load(), entry.name, package, version)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a plugin does at import, SystemExit too, is its own failure
        return Plugin(entry.name, package, version, error=f"{type(error).__name__}: {error}")
