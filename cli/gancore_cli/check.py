"""The command `plugins check`: check components by the laws of the contract, without pytest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, echo, output_options
from gancore_cli.signals import check_signal, signals_checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from gancore.catalog.catalog import Plugin
    from gancore.testing import LawResult

R = TypeVar("R")

_OTHERS = ("broken", "not tested", "refused", "not tried", "not applicable")
"""The outcomes of a law besides `held`, in the order in which they are counted."""


@click.command("check")
@click.argument("plugin", metavar="NAME|MODULE|FILE", shell_complete=completers.plugins_and_files)
@output_options
def check_plugin(terminal: Terminal, plugin: str) -> None:
    """Check a plugin's components against the contract.

    NAME is an installed plugin or package, MODULE an importable module, FILE a file that ends in .py. Each component is
    checked by the laws of its kind, on small cases drawn from its fields, and always on the same ones. Laws that could
    not be tried, and those whose cases the component refused, are listed with the reason. A broken law ends the command
    with exit code 5, and so does one that was not tested because a package is not installed.

    \b
    Examples:
      gancore plugins check gancore-waves
      gancore plugins check ./my_loss.py
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
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
    untested = [row for row in rows if row["outcome"] == "not tested"]
    if not broken and not untested:
        return
    if terminal.as_json:
        click.get_current_context().exit(5)
    if not broken:
        laws = f"{len(untested)} law{'s' * (len(untested) > 1)}"
        raise PluginError(
            f"plugin {found.name!r} was not tested by {laws}: {untested[0]['reason']}", "install it, and check again"
        )
    first = broken[0]["breach"]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    raise PluginError(
        f"plugin {found.name!r} breaks a law of the contract{more}: {first}",
        "reproduce it by running the call in Python; see docs/testing.md",
    )


def _row(result: LawResult, terminal: Terminal) -> dict[str, Any]:
    check_signal()
    component = result.component
    reason = f": {result.reason}" if result.reason else ""
    terminal.detail(f"{component.kind} {component.name}: {result.law} {result.outcome}, {result.cases} cases{reason}")
    return {
        "kind": component.kind,
        "name": component.name,
        "law": result.law,
        "outcome": result.outcome,
        "cases": result.cases,
        "reason": result.reason,
        "breach": None if result.breach is None else str(result.breach),
    }


def _print(rows: Iterable[dict[str, Any]]) -> None:
    """Print a line per component, and below it a line per broken law and per reason why laws were not tried."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((row["kind"], row["name"]), []).append(row)
    for (kind, name), laws in grouped.items():
        counts = Counter(row["outcome"] for row in laws)
        held = "1 law holds" if counts["held"] == 1 else f"{counts['held']} laws hold"
        others = [f"{counts[outcome]} {outcome}" for outcome in _OTHERS if counts[outcome]]
        echo(f"{kind} {name}: {', '.join([held, *others])}")
        for row in laws:
            if row["breach"] is not None:
                echo(f"  {row['breach']}")
        for (outcome, reason), names in _reasons(laws).items():
            echo(f"  {outcome}: {', '.join(names)}: {reason}")


def _reasons(laws: Iterable[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Return the laws that were not tested, refused or not tried, by outcome and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in laws:
        if row["outcome"] in ("not tested", "refused", "not tried"):
            found.setdefault((row["outcome"], row["reason"]), []).append(row["law"])
    return found


def _plugin(name: str, terminal: Terminal) -> Plugin:
    """Return the installed plugin, or the module or file as a plugin."""
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
    module = _imported(name, lambda: _module(name))
    if module is None:
        raise ConfigError(
            f"{unknown_name('plugin', name, {plugin.name for plugin in plugins})}, nor is it a module",
            "run gancore plugins list, or give a file that ends in .py",
        )
    return _read(module, name, name, "a module")


def _module(name: str) -> ModuleType | None:
    """Import a module, and the packages above it. Return None if one of them does not exist."""
    from importlib import import_module

    if "" in name.split("."):
        return None
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            return None
        raise  # a package that the module needs is missing


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
        with signals_checked():
            return load()
    except BaseException as error:
        check_signal()
        raise PluginError(f"{name} cannot be imported: {describe_error(error)}", "-v shows where") from error
