"""The commands `list`, `show`, `recipes` and `plugins list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.catalog import find_plugins, open_catalog, warn
from gancore_cli.options import OrderedGroup, Terminal, echo, output_options, print_table
from gancore_cli.show_recipe import show_recipe
from gancore_cli.show_run import show_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gancore.catalog.catalog import Plugin


@click.command("list")
@click.argument("kind", required=False, shell_complete=completers.kinds)
@output_options
def list_components(terminal: Terminal, kind: str | None) -> None:
    """List the components of KIND, or of every kind.

    KIND is generator, discriminator, loss, dataset, regularizer, augmentation, metric, extractor, observer or exporter.

    \b
    Examples:
      gancore list
      gancore list loss
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.errors import ConfigError, unknown_name

    catalog = open_catalog(terminal)
    if kind is not None and kind not in catalog.kinds:
        raise ConfigError(unknown_name("kind", kind, catalog.kinds), "gancore list")
    rows = [
        {
            "kind": name,
            "name": component.name,
            "package": plugin.package,
            "version": plugin.version,
            "summary": component.summary(),
        }
        for name, base in catalog.kinds.items()
        if kind in (None, name)
        for component, plugin in catalog.offers(base)
    ]
    header = ["kind", "name", "package", "version", "summary"]
    terminal.result(rows, lambda: print_table(header, [list(row.values()) for row in rows]))
    warn(terminal, catalog)


@click.command()
@click.argument("kind", shell_complete=completers.kinds_and_run)
@click.argument("name", metavar="[NAME|RUN]", required=False, shell_complete=completers.names_of_kind)
@output_options
def show(terminal: Terminal, kind: str, name: str | None) -> None:
    """Show a component, a recipe, the keys of a config, or a run.

    Each field of a component has a type, default, bounds and meaning. A recipe may have rules, by which values follow
    from the data. The state is how far the run is, who trains it, its newest numbers, what is damaged, and what can be
    done next.

    \b
    Examples:
      gancore show generator mlp
      gancore show recipe pictures
      gancore show run
      gancore show run runs/0001
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.config.describe import describe
    from gancore.config.run import RunConfig
    from gancore.errors import ConfigError, unknown_name
    from gancore.metrics import Metric

    if kind == "run" and name is not None:
        show_status(terminal, Path(name))
        return
    catalog = open_catalog(terminal)
    if kind == "run":
        document: dict[str, Any] = {
            "kind": "run",
            "summary": "The keys of a run's config.",
            "fields": describe(RunConfig),
        }
    elif kind == "recipe" and name is not None:
        show_recipe(terminal, catalog, name)
        warn(terminal, catalog)
        return
    elif kind == "recipe":
        raise ConfigError("show recipe needs the name of a recipe", "gancore recipes")
    elif kind not in catalog.kinds:
        raise ConfigError(unknown_name("kind", kind, [*catalog.kinds, "recipe", "run"]), "gancore list")
    elif name is None:
        raise ConfigError(f"show {kind} needs the name of a {kind}", f"gancore list {kind}")
    else:
        component = catalog.find(catalog.kinds[kind], name)
        plugin = catalog.origin_of(component)
        document = {
            "kind": kind,
            "name": component.name,
            "package": plugin.package,
            "version": plugin.version,
            "summary": component.summary(),
            **({"better": component.better, "needs": sorted(component.needs)} if issubclass(component, Metric) else {}),
            "fields": describe(component),
        }

    def text() -> None:
        echo(document["summary"])
        if "package" in document:
            echo(f"{kind} {document['name']}, from {document['package']} {document['version']}")
        if "better" in document:
            echo(f"{document['better']} is better; needs {', '.join(document['needs'])}")
        echo("")
        if document["fields"]:
            header = ["key", "type", "default", "bounds", "meaning"]
            rows = [{**field, "default": _literal(field["default"])} for field in document["fields"]]
            print_table(header, [list(row.values()) for row in rows])
        else:
            echo("It has no fields.")

    terminal.result(document, text)
    warn(terminal, catalog)


@click.command("recipes")
@output_options
def list_recipes(terminal: Terminal) -> None:
    """List recipes: configs to train from, by name.

    \b
    Example:
      gancore recipes
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    catalog = open_catalog(terminal)
    rows = [
        {"name": recipe.name, "package": plugin.package, "version": plugin.version, "summary": recipe.summary}
        for recipe, plugin in catalog.recipes()
    ]
    header = ["name", "package", "version", "summary"]
    terminal.result(rows, lambda: print_table(header, [list(row.values()) for row in rows]))
    warn(terminal, catalog)


@click.group(cls=OrderedGroup)
def plugins() -> None:
    """List, check and create plugins."""


@plugins.command("list")
@click.option("--no-load", is_flag=True, help="Import no plugin; show only what is installed and what is disabled.")
@output_options
def list_plugins(terminal: Terminal, no_load: bool) -> None:
    """List plugins with their components, recipes, commands and errors.

    \b
    Example:
      gancore plugins list
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    rows = [
        _row(plugin, loaded=not no_load) for plugin in (find_plugins() if no_load else open_catalog(terminal).plugins)
    ]

    def text() -> None:
        header = ["name", "package", "version", "components", "recipes", "commands", "status"]
        table = [
            [
                *list(row.values())[:3],
                _by_kind(row["components"] or ()),
                ", ".join(row["recipes"] or ()),
                ", ".join(row["commands"] or ()),
                row["error"] or (f"disabled by {row['off']}" if row["off"] else "not loaded" if no_load else "ok"),
            ]
            for row in rows
        ]
        print_table(header, table)

    terminal.result(rows, text)


def _by_kind(components: Iterable[str]) -> str:
    """Return components such as `loss bce` in lines, one for each kind."""
    names: dict[str, list[str]] = {}
    for component in components:
        kind, _, name = component.partition(" ")
        names.setdefault(kind, []).append(name)
    return "\n".join(f"{kind} {', '.join(names[kind])}" for kind in names)


def _row(plugin: Plugin, *, loaded: bool) -> dict[str, Any]:  # Any: JSON
    return {
        "name": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "components": [f"{component.kind} {component.name}" for component in plugin.components] if loaded else None,
        "recipes": [recipe.name for recipe in plugin.recipes] if loaded else None,
        "commands": [command.name for command in plugin.commands] if loaded else None,
        "error": plugin.error,
        "off": plugin.off,
        "entry": plugin.entry,
        "sha256": plugin.sha256,
    }


def _literal(default: object) -> str:
    """Return a default as it is written in a TOML file."""
    from gancore.config import toml

    return "" if default is None else toml.literal(default)
