"""The command `plugins check`: check components by the laws of the contract, without pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, echo, output_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from gancore.catalog.catalog import Plugin
    from gancore.testing import LawResult

R = TypeVar("R")


@click.command("check")
@click.argument("plugin", metavar="NAME|MODULE|FILE")
@output_options
def check_plugin(terminal: Terminal, plugin: str) -> None:
    """Check a plugin's components against the contract.

    NAME is an installed plugin or package, MODULE an importable module, FILE a file that ends in .py. Each component is
    checked by the laws of its kind, on small cases drawn from its fields, and always on the same ones.
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
    if not found.components and found.names:
        offers = " and ".join(kind for kind in ("recipes", "commands") if getattr(found, kind))
        terminal.note(f"{found.description} offers only {offers}, for which there are no laws")
    rows = [_row(result, terminal) for result in check(found)]
    broken = [row for row in rows if row["breach"] is not None]
    document = {"plugin": found.name, "package": found.package, "version": found.version, "laws": rows}
    terminal.result(document, lambda: _print(rows))
    if not broken:
        return
    if terminal.as_json:
        click.get_current_context().exit(5)
    first = broken[0]["breach"]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    raise PluginError(
        f"plugin {found.name!r} breaks a law of the contract{more}: {first}",
        "reproduce it by running the call in Python; see docs/testing.md",
    )


def _row(result: LawResult, terminal: Terminal) -> dict[str, Any]:
    component = result.component
    terminal.detail(f"{component.kind} {component.name}: {result.law}, {result.cases} cases")
    return {
        "kind": component.kind,
        "name": component.name,
        "law": result.law,
        "cases": result.cases,
        "breach": None if result.breach is None else str(result.breach),
    }


def _print(rows: Iterable[dict[str, Any]]) -> None:
    """Print a line per component, and below it a line per law that it breaks."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["kind"], row["name"]), []).append(row)
    for (kind, name), laws in grouped.items():
        broken = [row["breach"] for row in laws if row["breach"] is not None]
        held = sum(row["cases"] > 0 for row in laws) - len(broken)
        unchecked = sum(not row["cases"] for row in laws)
        holding = "1 law holds" if held == 1 else f"{held} laws hold"
        parts = [holding, f"{len(broken)} broken", f"{unchecked} could not be checked"]
        counts = (held, len(broken), unchecked)
        echo(f"{kind} {name}: {', '.join(text for text, count in zip(parts, counts, strict=True) if count)}")
        for breach in broken:
            echo(f"  {breach}")


def _plugin(name: str, terminal: Terminal) -> Plugin:
    """Return the installed plugin, or the module or file as a plugin."""
    from importlib import import_module
    from importlib.util import find_spec
    from pathlib import Path

    from gancore.catalog.discovery import normalized
    from gancore.catalog.plugin_file import PluginFile
    from gancore.errors import ConfigError, unknown_name

    if name.endswith(".py"):
        return _read(_imported(name, PluginFile.read(Path(name)).load), Path(name).stem, name, "a file")
    plugins = open_catalog(terminal).plugins
    of_package = [plugin for plugin in plugins if normalized(plugin.package) == normalized(name)]
    found = [plugin for plugin in plugins if plugin.name == name] or of_package
    if len(found) > 1:
        candidates = "; ".join(plugin.description for plugin in found)
        raise ConfigError(
            f"{name!r} is ambiguous: {candidates}", "give the package instead of the plugin, or the module"
        )
    if found:
        return found[0]
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(
            f"{unknown_name('plugin', name, {plugin.name for plugin in plugins})}, nor is it a module",
            "run gancore plugins list, or give a file that ends in .py",
        )
    return _read(_imported(name, lambda: import_module(name)), name, name, "a module")


def _read(module: ModuleType, name: str, package: str, origin: str) -> Plugin:
    """Read what a module offers; errors name it."""
    from gancore.catalog.catalog import read_plugin
    from gancore.errors import PluginError

    try:
        return read_plugin(module, name, package, origin)
    except PluginError as error:
        error.message = f"{package}: {error.message}"
        raise


def _imported(name: str, load: Callable[[], R]) -> R:
    """Load a plugin. Raises PluginError for any error at import, SystemExit included."""
    from gancore.errors import PluginError, describe_error

    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{name} cannot be imported: {describe_error(error)}", "-v shows where") from error
