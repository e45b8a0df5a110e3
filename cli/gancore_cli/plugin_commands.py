"""Commands of plugins: `gancore NAME`, where NAME is no built-in command.

Plugins are imported only for such a NAME. So `--help`, `--version`, completion and the built-in commands do not depend
on what a plugin's commands import.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import click
from click.shell_completion import CompletionItem

from gancore_cli.catalog import find_plugins, open_catalog, warn
from gancore_cli.completers import plugin_commands
from gancore_cli.options import SYSTEM_ERRORS, OrderedGroup, PluginOptions, Terminal, reserve_stdout
from gancore_cli.signals import Interrupted, check_signal

if TYPE_CHECKING:
    from gancore.catalog.catalog import Plugin

_META_KEY = "gancore.plugin_command"
"""Where the context keeps the plugin whose command runs."""

_KEPT = "what the command wrote before"
_RESULT = "the result of the command, which is complete"


class CommandError(Exception):
    """A failure of a plugin's command, with what is kept and what to do next. `is_bug`: its user cannot fix it."""

    def __init__(self, message: str, hint: str, *, is_bug: bool) -> None:
        super().__init__(message)
        self.kept, self.hint, self.is_bug = _KEPT, hint, is_bug


class _GroupOptions(TypedDict):
    """The options of `gancore` itself."""

    no_plugins: bool
    files: tuple[Path, ...]


class CommandGroup(OrderedGroup):
    """The built-in commands, which its help lists by sections, and those of plugins."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: as click's
        super().__init__(*arguments, **options)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands, which the help lists below a title."""
        for command in commands:
            self.add_command(command)
            self._sections.setdefault(title, []).append(str(command.name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of each section with the first sentence of their help."""
        width = max(map(len, self.commands))
        for title, names in self._sections.items():
            with formatter.section(title):
                texts = (self.commands[name].get_short_help_str(formatter.width - width - 6) for name in names)
                formatter.write_dl([(f"{name:<{width}}", text) for name, text in zip(names, texts, strict=True)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command. Completion knows the options of the built-in ones only; it must import no plugin."""
        command = super().get_command(ctx, cmd_name)
        if command is not None or ctx.resilient_parsing or cmd_name.startswith("-"):
            return command
        options = cast("_GroupOptions", ctx.params)
        return self._find(ctx, cmd_name, PluginOptions(options["no_plugins"], options["files"]))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options and commands, those of plugins by the names that an earlier command has noted.

        `obj` of the context has the words before. If one is a command, it is that of a plugin, which takes anything.
        """
        if ctx.obj and self.make_parser(ctx).parse_args([*ctx.obj])[1]:
            return [CompletionItem("", type="file")]
        return [*super().shell_complete(ctx, incomplete), *plugin_commands(self.commands, incomplete)]

    def _find(self, ctx: click.Context, name: str, options: PluginOptions) -> click.Command:
        """Return a plugin's command, and print the warnings of the plugins. Raises the errors of `Catalog.command`."""
        from gancore.catalog.discovery import BUILT_IN

        plugins = [plugin for plugin in find_plugins(options) if plugin.package != BUILT_IN]
        if not plugins:  # no need to load torch
            from gancore.errors import unknown_command

            raise unknown_command(name, self.commands)
        with reserve_stdout() as out:
            terminal = Terminal(as_json=False, quiet=False, verbose=False, out=out)
            catalog = open_catalog(terminal, plugins)
            found, plugin = catalog.command(name)
            warn(terminal, catalog)
        ctx.meta[_META_KEY] = plugin
        return found.command

    def invoke(self, ctx: click.Context) -> Any:  # Any: what the command returns
        """Run a command. What a plugin's command returns is discarded: its exit code is that of `Context.exit`."""
        with _attribute_errors(ctx):
            result = super().invoke(ctx)
            if _META_KEY in ctx.meta:  # it may handle signals in its own way
                return None
            try:
                check_signal()
            except KeyboardInterrupt as error:
                raise Interrupted(_RESULT, "gancore --help") from error
            return result


@contextmanager
def _attribute_errors(ctx: click.Context) -> Iterator[None]:
    """Raise an exception of a plugin's command in this block as CommandError.

    These pass: gancore's own errors, wrong usage, signals, and a system that cannot read or write a file.
    """
    try:
        yield
    except (click.exceptions.Exit, click.UsageError):
        raise
    except BaseException as error:
        from gancore.errors import GancoreError, exhausted

        plugin = ctx.meta.get(_META_KEY)
        if plugin is None:
            raise
        if isinstance(error, KeyboardInterrupt | click.Abort):
            raise Interrupted(_KEPT, f"gancore {ctx.invoked_subcommand} --help") from error
        of_system = isinstance(error, OSError) and error.errno in (*SYSTEM_ERRORS, errno.EPIPE)
        if of_system or exhausted(error) or isinstance(error, GancoreError | Interrupted | GeneratorExit):
            vars(error)["kept"] = getattr(error, "kept", "") or _KEPT
            raise
        raise _failure(plugin, ctx.invoked_subcommand or "", error) from error


def _failure(plugin: Plugin, name: str, error: BaseException) -> CommandError:
    from gancore.errors import describe_error

    subject = f"{plugin.description}, command {name!r}"
    if isinstance(error, click.ClickException):  # its message is for the user
        return CommandError(f"{subject}: {error.format_message()}", f"gancore {name} --help", is_bug=False)
    hint = f"report it with the traceback to the author of {plugin.package}"
    if isinstance(error, SystemExit):
        message = f"{subject}: it ended the process: {describe_error(error)}"
        return CommandError(message, f"{hint}: click.Context.exit sets the exit code of a command", is_bug=True)
    return CommandError(f"{subject}: {describe_error(error)}", hint, is_bug=True)
