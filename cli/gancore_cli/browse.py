"""Commands that tell what there is: `list`, `show`, `recipes` and `plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gancore_cli.options import Voice, print_table, say, speaks

if TYPE_CHECKING:
    from gancore.catalog import Catalog


@click.command("list")
@click.argument("kind", required=False)
@speaks
def list_components(voice: Voice, kind: str | None) -> None:
    """List components of KIND, or of all, and their packages."""
    from gancore.catalog import Catalog
    from gancore.errors import ConfigError, unknown

    catalog = Catalog.installed()
    if kind is not None and kind not in catalog.kinds:
        raise ConfigError(unknown("kind", kind, catalog.kinds), "gancore list")
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
    voice.result(rows, lambda: print_table(header, [list(row.values()) for row in rows]))
    _warn_of_broken(voice, catalog)


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@speaks
def show(voice: Voice, kind: str, name: str | None) -> None:
    """Show the fields of a component, or the keys of a run.

    `show generator mlp` tells of each field its type, default, bounds and meaning; `show run` does so for the keys of
    a run's config.
    """
    from gancore.catalog import Catalog
    from gancore.config import Run
    from gancore.describe import describe
    from gancore.errors import ConfigError, unknown
    from gancore.metrics import Metric

    catalog = Catalog.installed()
    if kind == "run" and name is not None:
        raise click.UsageError(f"show run takes no name; received {name!r}")
    if kind == "run":
        document: dict[str, Any] = {"kind": "run", "summary": "The keys of a run's config.", "fields": describe(Run)}
    elif kind not in catalog.kinds:
        raise ConfigError(unknown("kind", kind, [*catalog.kinds, "run"]), "gancore list")
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
        say(document["summary"])
        if "package" in document:
            say(f"{kind} {document['name']}, from {document['package']} {document['version']}")
        if "better" in document:
            say(f"{document['better']} is better; it needs {', '.join(document['needs'])}")
        say("")
        if document["fields"]:
            header = ["key", "type", "default", "bounds", "meaning"]
            rows = [{**field, "default": _literal(field["default"])} for field in document["fields"]]
            print_table(header, [list(row.values()) for row in rows])
        else:
            say("It has no fields.")

    voice.result(document, text)


@click.command("recipes")
@speaks
def list_recipes(voice: Voice) -> None:
    """List recipes: configs of runs, by name."""
    from gancore.catalog import Catalog

    catalog = Catalog.installed()
    rows = [
        {"name": recipe.name, "package": plugin.package, "version": plugin.version, "summary": recipe.summary}
        for recipe, plugin in catalog.recipes()
    ]
    header = ["name", "package", "version", "summary"]
    voice.result(rows, lambda: print_table(header, [list(row.values()) for row in rows]))
    _warn_of_broken(voice, catalog)


@click.group()
def plugins() -> None:
    """Tell about installed plugins."""


@plugins.command("list")
@speaks
def list_plugins(voice: Voice) -> None:
    """List installed plugins, what each offers, and why one could not be loaded."""
    from gancore.catalog import Catalog

    rows: list[dict[str, Any]] = [
        {
            "name": plugin.name,
            "package": plugin.package,
            "version": plugin.version,
            "components": [f"{component.kind} {component.name}" for component in plugin.components],
            "recipes": [recipe.name for recipe in plugin.recipes],
            "error": plugin.error,
        }
        for plugin in Catalog.installed().plugins
    ]

    def text() -> None:
        header = ["name", "package", "version", "components", "recipes", "health"]
        table = [
            [*list(row.values())[:3], ", ".join(row["components"]), ", ".join(row["recipes"]), row["error"] or "ok"]
            for row in rows
        ]
        print_table(header, table)

    voice.result(rows, text)


def _literal(default: object) -> str:
    """A default as it would stand in a file."""
    from gancore import toml

    return "" if default is None else toml.literal(default)


def _warn_of_broken(voice: Voice, catalog: Catalog) -> None:
    for plugin in catalog.plugins:
        if plugin.error:
            voice.note(f"warning: plugin {plugin.name!r} of {plugin.origin} is not loaded: {plugin.error}")
