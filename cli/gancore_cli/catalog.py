"""The plugins that a command works with: those that are installed and wanted, and files that the user names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from gancore_cli.options import Plugins, Terminal

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.catalog.discovery import Announced

_PATIENCE = 10  # seconds of an import, after which, and after as many again, a person is told what is going on


def announced() -> list[Announced]:
    """The plugins that there are, those that are switched off included; nothing is imported."""
    from gancore.catalog.discovery import Choice, discover

    wanted = click.get_current_context().find_object(Plugins) or Plugins()
    return discover(replace(Choice.of_user(), third_parties=not wanted.none, files=wanted.files))


def open_catalog(terminal: Terminal) -> Catalog:
    """What the plugins offer. A third party's that takes its time is named meanwhile."""
    from gancore.catalog.catalog import Catalog, load
    from gancore.catalog.discovery import BUILT_IN

    plugins = []
    for plugin in announced():
        with nullcontext() if plugin.package == BUILT_IN else _watched(terminal, plugin.name):
            plugins.append(load(plugin))
    return Catalog(plugins)


def warn(terminal: Terminal, catalog: Catalog, *others: str) -> None:
    """What a user should know of the plugins, once it is clear that the command does without the broken ones."""
    for warning in (*catalog.warnings(), *others):
        terminal.note(f"warning: {warning}")


@contextmanager
def _watched(terminal: Terminal, name: str) -> Iterator[None]:
    from gancore.catalog.discovery import DISABLE
    from gancore_cli.progress import Interrupted

    done = threading.Event()

    def watch() -> None:
        waited = _PATIENCE
        while not done.wait(_PATIENCE):
            terminal.note(f"still importing plugin {name} ({waited} s)")
            waited += _PATIENCE

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("", f"{DISABLE}={name} does without plugin {name}, which was being imported") from error
    finally:
        done.set()
        watcher.join()
