"""The command `plugins new`: write a plugin package that can be installed, tested and trained with at once."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, echo, output_options
from gancore_cli.templates import RECIPE, USES, NewPackage

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog


@click.command("new")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(list(USES)),
    multiple=True,
    default=("loss",),
    metavar="KIND",
    help=f"What to include; may be given several times: {', '.join(USES)}.  [default: loss]",
)
@click.option("--out", type=click.Path(path_type=Path), help="A new or empty folder for it.  [default: gancore-NAME]")
@output_options
def new_plugin(terminal: Terminal, name: str, kinds: tuple[str, ...], out: Path | None) -> None:
    """Create a plugin package, gancore-NAME.

    It has a small working component of each KIND, and tests. A single component is called NAME, several NAME-KIND, and
    a recipe NAME; it uses the other components. Install it, test it, and then change the components.

    \b
    Examples:
      gancore plugins new waves
      gancore plugins new waves --kind generator --kind loss --kind recipe
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from importlib.metadata import version

    from gancore.hookspecs import ENTRY_POINTS
    from gancore.utils.paths import shell_quote

    _check_name(name)
    package = NewPackage(name, kinds, version=version("gancore"), group=ENTRY_POINTS)
    _check_free(package, open_catalog(terminal))
    folder, files = out or Path(package.package), package.files()
    _write(folder, files)
    offered = "gancore recipes" if list(package.names) == [RECIPE] else "gancore list"
    commands = [f"cd {shell_quote(folder)}", 'pip install -e ".[dev]"', "pytest", offered, *package.commands]
    document = {
        "package": package.package,
        "module": package.module,
        "folder": str(folder),
        "names": package.names,
        "files": list(files),
        "next": commands,
    }

    def text() -> None:
        for title, lines in (("wrote:", [str(folder / path) for path in files]), ("next:", commands)):
            for index, line in enumerate(lines):
                echo(f"{title if index == 0 else '':<7}{line}")

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


def _check_free(package: NewPackage, catalog: Catalog) -> None:
    """Raise ConfigError if a plugin, a module, a recipe or a component already has a name of the package."""
    from gancore.catalog.discovery import normalized
    from gancore.errors import ConfigError

    taken = [
        (package.name, f"the plugin {plugin.name!r} of {plugin.origin}")
        for plugin in catalog.plugins
        if plugin.name == package.name or normalized(plugin.package) == package.package
    ]
    taken += [
        (name, f"the {kind} {name!r} of {plugin.origin}")
        for plugin in catalog.plugins
        for kind, name in plugin.names
        if package.names.get(kind) == name
    ]
    if find_spec(package.module) is not None:
        taken.append((package.name, f"the module {package.module!r}"))
    for name, owner in taken[:1]:
        raise ConfigError(f"the name {name!r} is taken by {owner}", "choose another name")


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
