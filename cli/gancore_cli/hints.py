"""Commands in hints: they repeat the choice of plugins, and stay on one line, so that they can be pasted."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gancore_cli.options import PluginOptions

_COMMAND = re.compile(r"(^|: |; |, | or )gancore (?=[a-z])")


def with_plugins(hint: str, options: PluginOptions) -> str:
    """Return a hint whose commands begin with the options --no-plugins and --plugin of the present command."""
    words = ["--no-plugins"] if options.no_plugins else []
    for file in options.files:
        words += ["--plugin", str(file)]
    return _COMMAND.sub(lambda found: f"{found[0]}{shlex.join(words)} ", hint) if words else hint


def with_arguments(hint: str, arguments: Sequence[str]) -> str:
    """Return a hint in which COMMAND at the end stands for the present command, with the arguments of that."""
    return f"{hint.removesuffix('COMMAND')}{shlex.join(arguments)}" if hint.endswith(" COMMAND") else hint


def printable(text: str) -> str:
    """Return text in which characters that do not print, such as a newline in a path, are escapes."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def one_line_command(text: str) -> str:
    """Return text in which characters that do not print, as in a quoted path, are written as a shell reads them.

    Quotes of `shlex.quote` around such a character are closed before its escape, and opened again after it.
    """
    return "".join(character if character.isprintable() else f"'$'{_escape(character)}''" for character in text)


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a path that is not UTF-8
        number -= 0xDC00
        return f"\\x{number:02x}"
    if character in "\n\t\r":
        return repr(character)[1:-1]
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
