"""The command `plugins check`: the laws of the contract, tried without pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, echo, output_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import ModuleType

    from gancore.catalog.catalog import Plugin
    from gancore.testing import Verdict

R = TypeVar("R")


@click.command("check")
@click.argument("plugin", metavar="NAME|MODULE|FILE")
@output_options
def check_plugin(terminal: Terminal, plugin: str) -> None:
    """Check whether a plugin's components keep the contract.

    NAME is that of an installed plugin or package, MODULE can be imported, FILE ends in .py. Every component is tried
    by the laws of its kind, on small cases drawn from its fields; the same cases each time.
    """
    from gancore.errors import ConfigError, PluginError

    try:
        from gancore.testing import check
    except ModuleNotFoundError as error:
        raise ConfigError(str(error), "pip install 'gancore[test]'") from error

    found = _plugin(plugin, terminal)
    if found.not_loaded is not None:
        hint = "-v shows where" if found.cause else "gancore plugins list"
        raise PluginError(f"{found.description} is not loaded: {found.not_loaded}", hint) from found.cause
    if not found.components and found.recipes:
        terminal.note(f"{found.description} offers recipes alone, which no law tries")
    rows = [_row(verdict, terminal) for verdict in check(found)]
    broken = [row for row in rows if row["breach"] is not None]
    document = {"plugin": found.name, "package": found.package, "version": found.version, "laws": rows}
    terminal.result(document, lambda: _tell(rows))
    if not broken:
        return
    if terminal.as_json:
        click.get_current_context().exit(5)
    first = broken[0]["breach"]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    raise PluginError(
        f"plugin {found.name!r} breaks a law of the contract{more}: {first}",
        "paste the call into Python; docs/testing.md",
    )


def _row(verdict: Verdict, terminal: Terminal) -> dict[str, Any]:
    component = verdict.component
    terminal.detail(f"{component.kind} {component.name}: {verdict.law}, {verdict.tried} cases")
    return {
        "kind": component.kind,
        "name": component.name,
        "law": verdict.law,
        "cases": verdict.tried,
        "breach": None if verdict.breach is None else str(verdict.breach),
    }


def _tell(rows: Iterable[dict[str, Any]]) -> None:
    """One line for every component, and below it one for every law that it breaks."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["kind"], row["name"]), []).append(row)
    for (kind, name), laws in grouped.items():
        broken = [row["breach"] for row in laws if row["breach"] is not None]
        held = sum(row["cases"] > 0 for row in laws) - len(broken)
        untried = sum(not row["cases"] for row in laws)
        holding = "1 law holds" if held == 1 else f"{held} laws hold"
        said = [holding, f"{len(broken)} broken", f"{untried} could not be tried"]
        counts = (held, len(broken), untried)
        echo(f"{kind} {name}: {', '.join(text for text, count in zip(said, counts, strict=True) if count)}")
        for breach in broken:
            echo(f"  {breach}")


def _plugin(named: str, terminal: Terminal) -> Plugin:
    """The installed plugin, the module or the file of that name."""
    from importlib import import_module
    from importlib.util import find_spec
    from pathlib import Path

    from gancore.catalog.discovery import normalized
    from gancore.errors import ConfigError, unknown_name

    if named.endswith(".py"):
        return _read(_module_of(Path(named)), Path(named).stem, named, "a file")
    plugins = open_catalog(terminal).plugins
    of_package = [plugin for plugin in plugins if normalized(plugin.package) == normalized(named)]
    found = [plugin for plugin in plugins if plugin.name == named] or of_package
    if len(found) > 1:
        told = "; ".join(plugin.description for plugin in found)
        raise ConfigError(f"{named!r} is ambiguous: {told}", "name the other of plugin and package, or the module")
    if found:
        return found[0]
    try:
        spec = find_spec(named)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(
            f"{unknown_name('plugin', named, {plugin.name for plugin in plugins})}; nor is there such a module",
            "gancore plugins list, or name a file that ends in .py",
        )
    return _read(_imported(named, lambda: import_module(named)), named, named, "a module")


def _read(module: ModuleType, name: str, named: str, origin: str) -> Plugin:
    """What a module offers; an error says of which."""
    from gancore.catalog.catalog import read_plugin
    from gancore.errors import PluginError

    try:
        return read_plugin(module, name, named, origin)
    except PluginError as error:
        error.message = f"{named}: {error.message}"
        raise


def _module_of(path: Path) -> ModuleType:
    from gancore.catalog.plugin_file import PluginFile

    file = PluginFile.read(path)
    return _imported(str(path), file.load)


def _imported(what: str, work: Callable[[], R]) -> R:
    """Whatever a plugin does at import, SystemExit too, is its own failure."""
    from gancore.errors import PluginError, describe_error

    try:
        return work()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{what} cannot be imported: {describe_error(error)}", "-v shows where") from error
