"""The command `plugins new`: write a plugin package that can be installed, tested and trained with at once."""

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
    help="A kind of component to include; may be given several times.  [default: loss]",
)
@click.option("--out", type=click.Path(path_type=Path), help="A new or empty folder for it.  [default: gancore-NAME]")
@output_options
def new_plugin(terminal: Terminal, name: str, kinds: tuple[str, ...], out: Path | None) -> None:
    """Create a plugin package, gancore-NAME.

    Its module has a small working component of each KIND, called NAME, and its test checks them against the contract.
    Install it, test it, and then change the components.
    """
    from importlib.metadata import version

    from gancore.hookspecs import ENTRY_POINTS

    kinds = tuple(kind for kind in USES if kind in kinds)
    _check_name(name)
    _check_free(name, kinds, open_catalog(terminal))
    folder = out or Path(f"gancore-{name}")
    files = package_files(name, kinds, version=version("gancore"), group=ENTRY_POINTS)
    _write(folder, files)
    commands = [f"cd {folder}", 'pip install -e ".[dev]"', "pytest", "gancore list", use_of(name, kinds)]
    document = {
        "package": f"gancore-{name}",
        "module": module_name(name),
        "folder": str(folder),
        "files": list(files),
        "next": commands,
    }

    def text() -> None:
        echo(f"gancore-{name}: {', '.join(files)}")
        for index, command in enumerate(commands):
            echo(f"{'next:' if index == 0 else '':<6}{command}")

    terminal.result(document, text)


def _check_name(name: str) -> None:
    """Raise ConfigError unless the name is valid for a component, a distribution and a module."""
    from gancore.config.layers import REMOVE
    from gancore.errors import ConfigError

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or name == REMOVE:
        raise ConfigError(
            f"a plugin name must be lower-case letters and digits in words joined by -, start with a letter, and not "
            f"be {REMOVE!r}; received {name!r}",
            f"gancore plugins new {_valid_name(name)}",
        )
    if name == "gancore" or name.startswith("gancore-"):
        raise ConfigError(
            f"the prefix `gancore-` is added to the name; received {name!r}",
            f"gancore plugins new {name.removeprefix('gancore').strip('-') or 'waves'}",
        )


def _valid_name(name: str) -> str:
    """Return the most similar valid name."""
    from gancore.config.layers import REMOVE

    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    valid = "-".join(words).lstrip("0123456789-")
    return "waves" if valid in ("", REMOVE) or valid.startswith("gancore") else valid


def _check_free(name: str, kinds: Iterable[str], catalog: Catalog) -> None:
    """Raise ConfigError if a plugin, a module or a component of these kinds already has the name."""
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
        raise ConfigError(f"the name {name!r} is taken by {taken[0]}", "choose another name")


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write the files. Raises ConfigError unless the folder is new or empty, so that no file is replaced."""
    from gancore.errors import ConfigError
    from gancore.utils.atomic import writing

    with writing(folder):
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            problem = "is not empty" if folder.is_dir() else "is a file"
            raise ConfigError(
                f"--out must be a new or empty folder; {folder} {problem}", "choose another folder with --out"
            )
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
