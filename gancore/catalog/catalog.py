"""Catalog: the components, recipes and commands of all plugins, found by name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from importlib.resources.abc import Traversable
from inspect import isabstract, isclass, isroutine, signature
from shlex import quote
from typing import Any, TypeVar, get_args, get_type_hints

import pluggy

from gancore import hookspecs
from gancore.catalog.discovery import BUILT_IN, DISABLE, Choice, discover, normalized
from gancore.catalog.discovery import Plugin as Plugin
from gancore.catalog.discovery import PluginCommand as PluginCommand
from gancore.catalog.discovery import Recipe as Recipe
from gancore.catalog.isolation import isolated_import
from gancore.component import Component
from gancore.contracts import Loss, Regularizer
from gancore.errors import (
    ConfigError,
    GancoreError,
    PluginError,
    ResourceError,
    describe_error,
    exhausted,
    one_line,
    unknown_command,
    unknown_name,
)
from gancore.settings import REMOVE, Settings

_NAME = re.compile(r"(?! )[^\x00-\x1f\x7f:/\\]{1,200}(?<! )")
"""A name that is not mistaken for `package:name` and is safe in file names and on a terminal."""

_COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""A name of a command that needs no quotes in a shell and is no option."""

_NO_COMPONENTS = ("gancore_recipes", "gancore_commands")
"""The hooks that return no component classes."""

C = TypeVar("C", bound=Component)
N = TypeVar("N", bound="type[Component] | Recipe | PluginCommand")
"""A thing that is found by its name."""


class Catalog:
    """Components by kind and name. Each command creates its own catalog; there is no global one.

    `built_in_commands` are the names of the commands that no plugin can replace.
    """

    def __init__(self, plugins: Iterable[Plugin], *, built_in_commands: Iterable[str] = ()) -> None:
        self.plugins = tuple(plugins)
        self.built_in_commands = tuple(built_in_commands)
        self.kinds = {kind.kind: kind for kind in _kinds().values()}

    @classmethod
    def installed(cls, choice: Choice | None = None) -> Catalog:
        """Load the plugins of installed packages and of files that `choice` names, except those switched off.

        The default choice comes from the user's environment and settings. Raises PluginError for a file that cannot be
        loaded, ConfigError for settings that cannot be read.
        """
        return cls(load(plugin) for plugin in discover(choice or Choice.of_user()))

    def warnings(self) -> list[str]:
        """Return one line per third-party plugin that is not loaded, or offers a name that is built in."""
        built_in = {name for plugin in self.plugins if plugin.package == BUILT_IN for name in plugin.names}
        built_in |= {("command", name) for name in self.built_in_commands}
        warnings = []
        for plugin in self.plugins:
            shared = [] if plugin.package == BUILT_IN else [name for name in plugin.names if name in built_in]
            if plugin.error and not plugin.off:
                switch = f"{DISABLE}={quote(plugin.name)}"
                warnings.append(f"{plugin.description} is not loaded: {plugin.error}. Switch it off with: {switch}")
            elif shared and not plugin.off:
                names, full_name = ", ".join(map(" ".join, shared)), f"{plugin.package}:{shared[0][1]}"
                keeps = f"the built-in keeps that name; use {full_name} for the plugin's"
                warnings.append(f"{plugin.description} offers {names}, but {keeps}")
        return warnings

    def offers(self, kind: type[C]) -> list[tuple[type[C], Plugin]]:
        """Return the components of a kind with their plugins, sorted by name, built-ins first."""
        pairs = ((component, plugin) for plugin in self.plugins for component in plugin.components)
        return _in_order((component, plugin) for component, plugin in pairs if issubclass(component, kind))

    def recipes(self) -> list[tuple[Recipe, Plugin]]:
        """Return all recipes with their plugins, in the same order."""
        return _in_order((recipe, plugin) for plugin in self.plugins for recipe in plugin.recipes)

    def find(self, kind: type[C], name: str) -> type[C]:
        """Return the component `name` or `package:name`.

        Raises ConfigError for an unknown name; PluginError if it may belong to a plugin that is not loaded, or if
        several plugins offer it and none of them is built in.
        """
        return self._select(kind.kind, name, self.offers(kind))

    def recipe(self, name: str) -> Recipe:
        """Return the recipe `name` or `package:name`. Raises the same errors as `find`."""
        return self._select("recipe", name, self.recipes())

    def commands(self) -> list[tuple[PluginCommand, Plugin]]:
        """Return the commands of all plugins with their plugins, in the same order."""
        return _in_order((command, plugin) for plugin in self.plugins for command in plugin.commands)

    def command(self, name: str) -> tuple[PluginCommand, Plugin]:
        """Return a plugin's command `name` or `package:name`, and the plugin. Raises the same errors as `find`."""
        offers = self.commands()
        command = self._select("command", name, offers, self.built_in_commands)
        return next(pair for pair in offers if pair[0] is command)

    def _select(self, what: str, name: str, offers: list[tuple[N, Plugin]], known: Iterable[str] = ()) -> N:
        package, _, bare = name.rpartition(":")

        def of_package(plugin: Plugin) -> bool:
            return not package or normalized(package) == normalized(plugin.package)

        matches = [pair for pair in offers if pair[0].name == bare and of_package(pair[1])]
        if len(matches) == 1 or (matches and matches[0][1].package == BUILT_IN):
            return matches[0][0]
        if matches:
            origins = " and ".join(plugin.origin for _, plugin in matches)
            choices = {quote(f"{plugin.package}:{bare}"): None for _, plugin in matches}
            hint = f"choose one: {' or '.join(choices)}"
            if len(choices) < len(matches):  # two plugins of one package
                hint = f"switch one off: {DISABLE}={quote(matches[0][1].name)}"
            raise PluginError(f"{what} {bare!r} is ambiguous: {origins} offer it", hint)
        message = unknown_name(what, name, {*known, *(offered.name for offered, _ in offers)})
        missing = [plugin for plugin in self.plugins if plugin.not_loaded and of_package(plugin)]
        if not missing:
            if what == "command":
                raise unknown_command(name, {*known, *(offered.name for offered, _ in offers)})
            raise ConfigError(message, "gancore recipes" if what == "recipe" else f"gancore list {what}")
        reasons = "; ".join(f"{plugin.description}: {plugin.not_loaded}" for plugin in missing)
        cause = next((plugin.cause for plugin in missing if plugin.cause), None)
        broken = ",".join(plugin.name for plugin in missing if plugin.error)
        hint = f"fix it, or switch it off: {DISABLE}={quote(broken)}" if broken else "gancore plugins list"
        raise PluginError(f"{message}. Not loaded: {reasons}", hint) from cause

    def name_of(self, component: type[Settings]) -> str:
        """Return the name that finds this class: the bare name if it is enough, else `package:name`."""
        offers = self.offers(next(kind for kind in self.kinds.values() if issubclass(component, kind)))
        for offered, plugin in offers:
            if offered is component:
                same_name = [other for other, _ in offers if other.name == offered.name]
                bare = len(same_name) == 1 or (same_name[0] is offered and plugin.package == BUILT_IN)
                return offered.name if bare else f"{plugin.package}:{offered.name}"
        raise PluginError(
            f"{component.__name__} is not offered by any plugin of this catalog, so a file cannot name it"
        )

    def origin_of(self, component: type[Component]) -> Plugin:
        """Return the plugin that offers this class."""
        return next(plugin for plugin in self.plugins if component in plugin.components)


@contextmanager
def plugin_in_errors(catalog: Catalog, components: Mapping[str, type[Component]]) -> Iterator[None]:
    """Prefix a PluginError in this block with the third-party plugin of the component that caused it.

    `components` maps the `part` of an error to the component's class.
    """
    try:
        yield
    except PluginError as error:
        component = components.get(error.part)
        plugin = catalog.origin_of(component) if component else None
        if component and plugin and plugin.package != BUILT_IN:
            error.message = f"{plugin.description}, {component.kind} {component.name!r}: {error.message}"
        raise


def _in_order(pairs: Iterable[tuple[N, Plugin]]) -> list[tuple[N, Plugin]]:
    return sorted(pairs, key=lambda pair: (pair[0].name, pair[1].package != BUILT_IN, pair[1].package))


def read_plugin(module: object, name: str, package: str, version: str) -> Plugin:
    """Call the hooks of one plugin and return its contents. Raises PluginError if it breaks the contract.

    Each plugin has its own plugin manager, so that components are attributed to it and a failure affects no other.
    """
    manager = pluggy.PluginManager("gancore")
    manager.add_hookspecs(hookspecs)
    _check_hooks(manager, module, [hook for hook in vars(hookspecs) if hook.startswith("gancore_")])
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    if not manager.get_hookcallers(module):
        raise PluginError("it offers nothing: no function is marked with @hookimpl")
    components: list[type[Component]] = []
    for hook, kind in _kinds().items():
        for component in _results(manager, hook):
            if not (isclass(component) and issubclass(component, kind)) or isabstract(component):
                raise PluginError(f"{hook} must return concrete classes of {kind.__name__}; received {component!r}")
            label = getattr(component, "name", None)
            if not isinstance(label, str) or label == REMOVE or not _NAME.fullmatch(label):
                raise PluginError(
                    f"{component.__name__} must have a `name` of 1 to 200 characters, not {REMOVE!r}, without colons, "
                    f"slashes, control characters, leading or trailing spaces; received {label!r}"
                )
            if component.kind != kind.kind or not isinstance(component.summary(), str):
                raise PluginError(
                    f"{component.__name__} must not change `kind`, and its summary() must return a string"
                )
            if any(issubclass(other, kind) and other.name == component.name for other in components):
                raise PluginError(f"{hook} offers {component.name!r} twice")
            if missing := _missing_methods(component):
                raise PluginError(f"{component.__name__} must define {missing}")
            components.append(component)
    recipes = tuple(_recipe(file) for file in _results(manager, "gancore_recipes"))
    return Plugin(name, package, version, tuple(components), recipes, _commands(manager))


def _missing_methods(component: type[Component]) -> str:
    """Return what a loss or regularizer lacks to do anything at all; empty if it lacks nothing."""

    def defines(kind: type[Component], *methods: str) -> bool:
        return all(getattr(component, name) is not getattr(kind, name) for name in methods)

    if issubclass(component, Loss) and not (defines(Loss, "discriminator", "generator") or defines(Loss, "build")):
        return "the methods `discriminator` and `generator`, or `build`"
    methods = ("penalty", "project", "build")
    if issubclass(component, Regularizer) and not any(defines(Regularizer, name) for name in methods):
        return "`penalty`, `project` or `build`"
    return ""


def _check_hooks(manager: pluggy.PluginManager, module: object, hooks: list[str]) -> None:
    """Raise PluginError if a marked function is not a hook or takes arguments, or a hook is not marked."""
    for name in dir(module):
        marked = manager.parse_hookimpl_opts(module, name) is not None
        if marked and name not in hooks:
            raise PluginError(unknown_name("hook", name, hooks))
        if not marked and name in hooks and isroutine(getattr(module, name)):
            raise PluginError(f"{name} is not marked as a hook; decorate it with @hookimpl")
        parameters = signature(getattr(module, name)).parameters.values() if marked else ()
        required = [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if required:
            raise PluginError(f"{name} must take no argument; received {', '.join(map(repr, required))}")


def _recipe(file: Traversable) -> Recipe:
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except ValueError as error:
        raise PluginError(f"recipe {file.name} is not valid TOML: {error}") from error
    summary = text.partition("\n")[0].removeprefix("#").strip() if text.startswith("#") else ""
    rules = data.pop("rules", [])
    if not isinstance(rules, list) or not all(isinstance(key, str) for key in rules):
        raise PluginError(f"recipe {file.name}: rules must be a list of keys; received {rules!r}")
    return Recipe(file.name.removesuffix(".toml"), summary, data, tuple(rules))


def _commands(manager: pluggy.PluginManager) -> tuple[PluginCommand, ...]:
    commands: dict[str, PluginCommand] = {}
    for command in _results(manager, "gancore_commands"):
        import click  # only plugins with commands need it

        if not isinstance(command, click.Command):
            raise PluginError(f"gancore_commands must return click commands; received {command!r}")
        name = command.name
        if not isinstance(name, str) or not _COMMAND.fullmatch(name):
            raise PluginError(
                "the name of a command must be 1 to 200 letters, digits, dashes, dots and underscores, and start with "
                f"a letter or digit; received {name!r}"
            )
        if name in commands:
            raise PluginError(f"gancore_commands offers {name!r} twice")
        commands[name] = PluginCommand(name, command)
    return tuple(commands.values())


def _results(manager: pluggy.PluginManager, hook: str) -> Iterator[Any]:  # Any: checked by the caller
    for result in getattr(manager.hook, hook)():
        if not isinstance(result, Iterable):
            raise PluginError(f"{hook} must return a list; received {result!r}")
        yield from result


def _kinds() -> dict[str, type[Component]]:
    """Return the kind of each component hook, from its return type: `Iterable[type[Generator]]`."""
    kinds = {}
    for hook, spec in vars(hookspecs).items():
        if hook.startswith("gancore_") and hook not in _NO_COMPONENTS:
            (item,) = get_args(get_type_hints(spec)["return"])
            (kinds[hook],) = get_args(item)
    return kinds


def load(plugin: Plugin) -> Plugin:
    """Import and read a plugin that `discover` found, unless it is switched off or cannot be imported.

    Any exception, SystemExit too, becomes the plugin's `error`. For a plugin that is a file it is raised as a
    PluginError, since the user asked for that file.
    """
    if plugin.off:
        return replace(plugin, error=None)
    if plugin.error or plugin.source is None:
        return plugin
    try:
        with nullcontext() if plugin.package == BUILT_IN else isolated_import():
            read = read_plugin(plugin.source.load(), plugin.name, plugin.package, plugin.version)
        if plugin.sha256 and not read.names:
            raise PluginError("it offers nothing: its hooks return no components, recipes or commands")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failed_to_load(plugin, error)
    return replace(plugin, components=read.components, recipes=read.recipes, commands=read.commands)


def failed_to_load(plugin: Plugin, error: BaseException) -> Plugin:
    """Return a plugin whose import has raised an error, with that as the reason why it is not loaded.

    For a plugin that is a file, raise it as a PluginError, or as a ResourceError when memory, threads or files ran out;
    that of the built-in plugin too, without which nothing works.
    """
    limit = exhausted(error)
    if limit and plugin.package == BUILT_IN:
        raise limit from error
    reason = error.message if isinstance(error, GancoreError) else describe_error(error)
    if plugin.sha256:
        what = f"plugin file {plugin.entry} cannot be loaded"
        if limit:
            raise ResourceError(f"{what}: {limit.message}", limit.hint) from error
        raise PluginError(f"{what}: {reason}", "fix the file") from error
    if limit:
        reason = limit.message
    return replace(plugin, error=one_line(reason), cause=error)
