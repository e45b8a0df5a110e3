"""Completion in a shell: the group `completion`, the scripts of the shells, and the answers to them.

A script calls `gancore` with `_GANCORE_COMPLETE` set to the name of its shell, and receives a line for each item: its
kind, text and help, divided by tabs. Every word of the command line is an argument. Only bash, which divides words at
`=` and `:`, too, passes the line up to the cursor, and the end of it that the answers replace.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import ShellComplete

from gancore_cli.completers import PART
from gancore_cli.options import OrderedGroup, Terminal, echo, output_options

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_GANCORE_COMPLETE"
"""The environment variable by which a shell asks for completions."""

_MARK = "# completion of gancore"
"""Begins the files that are installed, and ends the line in ~/.bashrc or ~/.zshrc."""

_WORD, _PART, _FILES, _FOLDERS = "word", PART, "files", "folders"
"""Kinds of items: a whole word; a part of one, without a space behind it; any path, which the shell completes."""

_BASH = """_gancore_completion() {
    local answer kind text help
    COMPREPLY=()
    answer=$(_GANCORE_COMPLETE=bash "${1/#\\~\\//$HOME/}" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    while IFS=$'\\t' read -r kind text help; do
        case $kind in
            word) COMPREPLY+=("$text ") ;;
            part) COMPREPLY+=("$text") ;;
            files) compopt +o nospace -o filenames -o default 2>/dev/null; return ;;
            folders) compopt +o nospace -o filenames -o dirnames 2>/dev/null; return ;;
        esac
    done <<< "$answer"
}
complete -o nospace -o nosort -F _gancore_completion gancore 2>/dev/null ||
    complete -o nospace -F _gancore_completion gancore
"""
_ZSH = """#compdef gancore
_gancore() {
    local answer kind text help
    local -a values labels parts part_labels
    answer=$(_GANCORE_COMPLETE=zsh ${~words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    while IFS=$'\\t' read -r kind text help; do
        case $kind in
            word) values+=("$text"); labels+=("$text${help:+  -- $help}") ;;
            part) parts+=("$text"); part_labels+=("$text${help:+  -- $help}") ;;
            files) _files; return ;;
            folders) _files -/; return ;;
        esac
    done <<< "$answer"
    (( $#values )) && compadd -l -V words -d labels -a values
    (( $#parts )) && compadd -l -V parts -S '' -d part_labels -a parts
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _gancore "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _gancore gancore
fi
"""
_FISH = """function __gancore_completion
    set -l words (commandline -opc)
    set -l command $words[1]
    set -l last (string unescape -- (commandline -ct))
    or set last (string sub -s 2 -- (commandline -ct)) # a quote is open
    for line in (_GANCORE_COMPLETE=fish $command $words[2..-1] "$last" 2>/dev/null)
        set -l item (string split \\t -- $line)
        switch $item[1]
            case files
                __fish_complete_path "$last"
            case folders
                __fish_complete_directories "$last"
            case '*'
                printf '%s\\t%s\\n' $item[2] "$item[3]"
        end
    end
end
complete -c gancore -f -k -a '(__gancore_completion)'
"""
_SCRIPTS = {"bash": f"{_MARK}\n{_BASH}", "zsh": _ZSH.replace("\n", f"\n{_MARK}\n", 1), "fish": f"{_MARK}\n{_FISH}"}
_SHELLS = [*_SCRIPTS]


def answer(command: click.Group, request: str, arguments: Sequence[str]) -> None:
    """Print what a shell asks for. It cannot show errors, so nothing is completed instead.

    `request` is the name of a shell, whose script is printed if `_source` follows.
    """
    sys.stderr = StringIO()
    with suppress(Exception):
        if request.removesuffix("_source") in _SCRIPTS and request.endswith("_source"):
            click.echo(_SCRIPTS[request.removesuffix("_source")], nl=False)
        elif request == "bash":
            click.echo("\n".join(_answer_bash(command, *arguments)))
        elif request in _SCRIPTS:
            click.echo("\n".join(_line(item, item.value) for item in _items(command, arguments)))


def _items(command: click.Group, words: Sequence[str]) -> Iterator[CompletionItem]:
    """Yield the items for the last word, whole, without those that a line cannot hold."""
    *before, last = words
    option, equals, _ = last.partition("=")
    joined = f"{option}=" if equals and option.startswith("--") else ""
    for item in ShellComplete(command, {"obj": before}, "gancore", VARIABLE).get_completions(before, last):
        if item.type not in _TYPES:
            item.value = f"{joined}{item.value}"
        if item.value.isprintable():
            yield item


_TYPES = {"file": _FILES, "dir": _FOLDERS}
"""Kinds of items by the types that click gives them."""


def _line(item: CompletionItem, text: str, *, ends: bool = True) -> str:
    kind = _TYPES.get(item.type) or (_WORD if ends and item.type != PART else _PART)
    return f"{kind}\t{text}\t{' '.join(str(item.help or '').split())}"


def _answer_bash(command: click.Group, line: str, replaced: str) -> Iterator[str]:
    words, is_quoted = _split(line)
    end, _ = _split(replaced)
    kept = len(words[-1]) - len(end[-1]) if words[-1].endswith(end[-1]) else 0
    for item in _items(command, words[1:]):
        text = item.value[kept:]
        # In quotes a space would be part of the word.
        yield _line(item, text if is_quoted else _escaped(text), ends=not is_quoted)


def _split(text: str) -> tuple[list[str], bool]:
    """Return the words of a command line, of which the last ends at the cursor, and whether a quote is open there."""
    lexer = shlex.shlex(f"{text}x", posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words, is_quoted = list[str](), False
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
        is_quoted = True
    return [*words[:-1], words[-1][:-1]], is_quoted


def _escaped(text: str) -> str:
    """Return a word for bash, with `~` in front as the user has written it."""
    return re.sub(r"([^\w~@%+=:,./-])", r"\\\1", text)


@click.group(cls=OrderedGroup)
def completion() -> None:
    """Complete commands, names, paths and keys in a shell."""


@completion.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@output_options
def install(terminal: Terminal, shell: str | None) -> None:
    """Install completion for a shell, by default the one that you use.

    Writes a script to the place where the shell looks for it, and a line in ~/.bashrc or ~/.zshrc that loads it. Every
    file that is written is named, and nothing is written twice. The names of components and recipes are written to the
    cache, as every command does that imports the plugins.

    \b
    Example:
      gancore completion install
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.errors import ConfigError
    from gancore.utils.atomic import atomic_write, writing
    from gancore_cli.catalog import open_catalog

    shell = shell or _current()
    path, startup = _places(shell)
    if not _is_ours(path):
        raise ConfigError(
            f"{path} exists and was not written by gancore", f"move it, or: gancore completion show {shell}"
        )
    changes = list[dict[str, str | None]]()
    if not path.exists() or _read(path) != _SCRIPTS[shell]:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(_SCRIPTS[shell], encoding="utf-8")
        changes.append({"path": str(path), "line": None})
    if startup is not None and (line := _startup_line(path)) not in (text := _read(startup)).splitlines():
        with writing(startup), startup.open("a", encoding="utf-8") as file:
            file.write(line + "\n" if not text or text.endswith("\n") else f"\n{line}\n")
        changes.append({"path": str(startup), "line": line})
    open_catalog(terminal)  # writes the names that are completed
    hint = f"start a new {shell}"

    def text_of() -> None:
        for change in changes:
            echo(f"wrote: {change['path']}" + (f", the line: {change['line']}" if change["line"] else ""))
        if not changes:
            echo(f"completion for {shell} is installed already: {path}")
        echo(f"next:  {hint}")

    terminal.result({"shell": shell, "changed": changes, "script": str(path), "next": hint}, text_of)


@completion.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@output_options
def uninstall(terminal: Terminal, shell: str | None) -> None:
    """Remove what `install` has written for a shell, by default the one that you use.

    \b
    Example:
      gancore completion uninstall
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.utils.atomic import atomic_write, writing

    shell = shell or _current()
    path, startup = _places(shell)
    changes = list[dict[str, str | None]]()
    if startup is not None and (line := _startup_line(path)) in (text := _read(startup)).splitlines():
        kept = "".join(each for each in text.splitlines(keepends=True) if each.rstrip("\n") != line)
        file = startup.resolve()  # it may be a link to a folder of dotfiles
        with atomic_write(file) as temporary:
            temporary.write_bytes(kept.encode("utf-8", "surrogateescape"))
            temporary.chmod(file.stat().st_mode)
        changes.append({"path": str(startup), "line": line})
    if path.exists() and _is_ours(path):
        with writing(path):
            path.unlink()
        changes.append({"path": str(path), "line": None})

    def text_of() -> None:
        for change in changes:
            echo(f"removed: {change['path']}" + (f", the line: {change['line']}" if change["line"] else ""))
        if not changes:
            echo(f"completion for {shell} is not installed")

    terminal.result({"shell": shell, "changed": changes}, text_of)


@completion.command("show")
@click.argument("shell", type=click.Choice(_SHELLS))
@output_options
def show_script(terminal: Terminal, shell: str) -> None:
    """Print the script for a shell, to install it by hand.

    \b
    Example:
      gancore completion show fish > ~/.config/fish/completions/gancore.fish
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    terminal.result({"shell": shell, "script": _SCRIPTS[shell]}, lambda: echo(_SCRIPTS[shell].rstrip("\n")))


def _current() -> str:
    """Return the shell that runs this command, else the login shell. Raises UsageError for any other."""
    names = []
    with suppress(OSError):
        names.append(Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip())
    names.append(Path(os.environ.get("SHELL", "")).name)
    for name in names:
        if name in _SCRIPTS:
            return name
    raise click.UsageError(f"the shell is not known; name one of {', '.join(_SHELLS)}")


def _places(shell: str) -> tuple[Path, Path | None]:
    """Return the path of the script of a shell, and of the file in which a line must load it, if any.

    Raises ConfigError if they must be found from a home, which the user lacks.
    """

    def folder(variable: str, default: str) -> Path:
        named = os.environ.get(variable, "")
        if os.path.isabs(named):
            return Path(named)
        try:
            return Path("~", default).expanduser()
        except RuntimeError as error:
            from gancore.errors import ConfigError

            message = "HOME is not set, and the system knows no home of this user"
            raise ConfigError(message, f"set HOME, or: gancore completion show {shell}") from error

    data, config = folder("XDG_DATA_HOME", ".local/share"), folder("XDG_CONFIG_HOME", ".config")
    if shell == "bash":
        user = os.environ.get("BASH_COMPLETION_USER_DIR", "").partition(os.pathsep)[0]
        # Without the package bash-completion, bash reads no folder of scripts.
        return Path(user or data / "bash-completion") / "completions" / "gancore", Path("~/.bashrc").expanduser()
    if shell == "fish":
        return config / "fish" / "completions" / "gancore.fish", None
    return data / "zsh" / "site-functions" / "_gancore", folder("ZDOTDIR", "") / ".zshrc"


def _startup_line(script: Path) -> str:
    quoted = shlex.quote(str(script))
    return f"[[ ! -r {quoted} ]] || source {quoted}  {_MARK}"


def _read(path: Path) -> str:
    """Return the text of a file, empty without a file. Raises StorageError if it cannot be read."""
    from gancore.errors import StorageError

    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}", "check its permissions") from error


def _is_ours(path: Path) -> bool:
    """Return whether there is no file yet, or one that `install` has written."""
    return not path.exists() or _MARK in _read(path).splitlines()[:2]
