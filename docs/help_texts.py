"""Write the help of every command into commands.md: `python docs/help_texts.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from gancore_cli.main import gancore

PAGE = Path(__file__).with_name("commands.md")
_COLUMNS = 98  # as on a terminal of 100


def page() -> str:
    """Return the text of the page with the help of the commands as they are."""
    text = PAGE.read_text(encoding="utf-8")
    for path, help_text in helps(gancore, "gancore"):
        block = f"```console\n$ {path} --help\n"
        text = re.sub(f"{re.escape(block)}.*?```", lambda _, shown=f"{block}{help_text}\n```": shown, text, flags=re.S)
    return text


def helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a command and of those in it, each with its help."""
    names = ["-h", "--help"]
    yield path, click.Context(command, info_name=path, help_option_names=names, terminal_width=_COLUMNS).get_help()
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from helps(inner, f"{path} {name}")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
