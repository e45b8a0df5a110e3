"""The plugins of a command: those that are installed and enabled, and files named with --plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

import click

from gancore_cli import startup
from gancore_cli.completion_cache import remember
from gancore_cli.options import PluginOptions, Terminal
from gancore_cli.signals import Interrupted, check_signal, signals_checked

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.catalog.discovery import Plugin

_NOTICE_SECONDS = 10
"""How long the import of a plugin may take before the user gets a note, and the time from one note to the next."""


def find_plugins(options: PluginOptions | None = None) -> list[Plugin]:
    """Return all plugins, including disabled ones, without importing any. The options are those of the command."""
    from gancore.catalog.discovery import Choice, discover

    options = options or click.get_current_context().find_object(PluginOptions) or PluginOptions()
    return discover(replace(Choice.of_user(), third_parties=not options.no_plugins, files=options.files))


def open_catalog(terminal: Terminal, found: Iterable[Plugin] | None = None) -> Catalog:
    """Import plugins, by default all, and return a catalog of them. Print a note when an import is slow."""
    from gancore.catalog.catalog import Catalog, failed_to_load, load
    from gancore.catalog.discovery import BUILT_IN

    plugins = []
    options = click.get_current_context().find_object(PluginOptions) or PluginOptions()
    for plugin in find_plugins(options) if found is None else found:
        with signals_checked() if plugin.package == BUILT_IN else _slow_import_notes(terminal, plugin):
            try:
                loaded = load(plugin)
            except KeyboardInterrupt as error:
                check_signal()
                loaded = failed_to_load(plugin, error)  # its own, since no signal has arrived
            plugins.append(loaded)
    startup.imported()
    root = click.get_current_context().find_root().command
    catalog = Catalog(plugins, built_in_commands=root.commands if isinstance(root, click.Group) else ())
    if found is None and options == PluginOptions():
        _remember(catalog, terminal)
    return catalog


def _remember(catalog: Catalog, terminal: Terminal) -> None:
    """Let completion know the names of a catalog. Of the processes of a run only the first one writes."""
    from gancore.distributed.launchers import find_launch
    from gancore.errors import describe_error

    try:
        launch = find_launch()
        if launch is None or launch.rank == 0:
            remember(catalog)
    except Exception as error:  # code of plugins gives the texts, and no command needs them
        terminal.detail(f"completion in a shell does not know the newest names: {describe_error(error)}")


def warn(terminal: Terminal, catalog: Catalog, *others: str) -> None:
    """Print the warnings of a catalog and `others`. Call it once the command works without the broken plugins."""
    for warning in (*catalog.warnings(), *others):
        terminal.note(f"warning: {warning}")


@contextmanager
def _slow_import_notes(terminal: Terminal, plugin: Plugin) -> Iterator[None]:
    from gancore.catalog.discovery import DISABLE

    imported = threading.Event()

    def print_notes() -> None:
        seconds = _NOTICE_SECONDS
        while not imported.wait(_NOTICE_SECONDS):
            terminal.note(f"still importing plugin {plugin.name} ({seconds} s)")
            seconds += _NOTICE_SECONDS

    thread = threading.Thread(target=print_notes, daemon=True)
    thread.start()
    try:
        with signals_checked():
            yield
    except KeyboardInterrupt as error:
        leave_out = (
            f"leave --plugin {quote(plugin.entry)} out" if plugin.sha256 else f"set {DISABLE}={quote(plugin.name)}"
        )
        hint = f"{leave_out} to run without plugin {plugin.name}, whose import was interrupted"
        raise Interrupted("", hint) from error
    finally:
        imported.set()
        thread.join()
