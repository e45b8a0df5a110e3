"""The command `plugins new`: writes a plugin package that installs, trains and can be tested at once."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, echo, output_options
from gancore_cli.templates import USES, module_name, package_files, use_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gancore.catalog.catalog import Catalog


@click.command("new")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(list(USES)),
    multiple=True,
    default=("loss",),
    help="What it offers; may be given several times.  [default: loss]",
)
@click.option("--out", type=click.Path(path_type=Path), help="A new or empty folder for it.  [default: gancore-NAME]")
@output_options
def new_plugin(terminal: Terminal, name: str, kinds: tuple[str, ...], out: Path | None) -> None:
    """Write a plugin package, gancore-NAME.

    It holds one module with a small component of each KIND, under the name NAME, and a test of its contract. It can be
    installed as it is, and changed from there.
    """
    from importlib.metadata import version

    from gancore.hookspecs import ENTRY_POINTS

    kinds = tuple(kind for kind in USES if kind in kinds)
    _check_name(name)
    _check_free(name, kinds, open_catalog(terminal))
    folder = out or Path(f"gancore-{name}")
    written = package_files(name, kinds, version=version("gancore"), group=ENTRY_POINTS)
    _write(folder, written)
    following = [f"cd {folder}", 'pip install -e ".[dev]"', "pytest", "gancore list", use_of(name, kinds)]
    document = {
        "package": f"gancore-{name}",
        "module": module_name(name),
        "folder": str(folder),
        "files": list(written),
        "next": following,
    }

    def text() -> None:
        echo(f"gancore-{name}: {', '.join(written)}")
        for place, command in enumerate(following):
            echo(f"{'next:' if place == 0 else '':<6}{command}")

    terminal.result(document, text)


def _check_name(name: str) -> None:
    """The rules of component names, distributions and modules at once."""
    from gancore.config.layers import REMOVE
    from gancore.errors import ConfigError

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or name == REMOVE:
        raise ConfigError(
            f"the name of a plugin is small letters and digits, perhaps in words joined by -, begins with a letter, "
            f"and is not {REMOVE!r}; received {name!r}",
            f"gancore plugins new {_mended(name)}",
        )
    if name == "gancore" or name.startswith("gancore-"):
        raise ConfigError(
            f"`gancore-` is put before the name by itself; received {name!r}",
            f"gancore plugins new {name.removeprefix('gancore').strip('-') or 'waves'}",
        )


def _mended(name: str) -> str:
    """A name that keeps the rules, as near to this one as can be."""
    from gancore.config.layers import REMOVE

    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    mended = "-".join(words).lstrip("0123456789-")
    return "waves" if mended in ("", REMOVE) or mended.startswith("gancore") else mended


def _check_free(name: str, kinds: Iterable[str], catalog: Catalog) -> None:
    """No plugin, module or component of these kinds has the name yet, so that it will mean the new one."""
    from gancore.catalog.discovery import normalized
    from gancore.errors import ConfigError

    package, module = f"gancore-{name}", module_name(name)
    taken = [
        f"the plugin {plugin.name!r} of {plugin.origin}"
        for plugin in catalog.plugins
        if plugin.name == name or normalized(plugin.package) == package
    ]
    taken += [
        f"the {kind} {name!r} of {plugin.origin}"
        for kind in kinds
        for component, plugin in catalog.offers(catalog.kinds[kind])
        if component.name == name
    ]
    if find_spec(module) is not None:
        taken.append(f"the module {module!r}")
    if taken:
        raise ConfigError(f"the name must be free; {name!r} is taken by {taken[0]}", "choose another name")


def _write(folder: Path, written: dict[str, str]) -> None:
    """Into a new or empty folder, so that nothing of anybody's is replaced."""
    from gancore.errors import ConfigError
    from gancore.utils.atomic import writing

    with writing(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            what = "is not empty" if folder.is_dir() else "is a file"
            raise ConfigError(f"--out must be a new or empty folder; {folder} {what}", "name another folder with --out")
        for path, text in written.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
