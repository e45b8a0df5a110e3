"""The command `gancore`. Only this module turns errors into messages and exit codes.

Only click is imported at the top of the modules of commands, so that `--help` is fast and works with broken plugins.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from gancore_cli import startup
from gancore_cli.browse import list_components, list_recipes, plugins, show
from gancore_cli.check import check_plugin
from gancore_cli.compare import compare
from gancore_cli.completers import python_files
from gancore_cli.completion import VARIABLE, answer, completion
from gancore_cli.data import data
from gancore_cli.evaluate import evaluate
from gancore_cli.explore import explore
from gancore_cli.export import export
from gancore_cli.fetch import fetch
from gancore_cli.hints import one_line_command, printable, with_arguments, with_plugins
from gancore_cli.limits import check_folder
from gancore_cli.new import new_plugin
from gancore_cli.options import SYSTEM_ERRORS, PluginOptions, echo
from gancore_cli.plugin_commands import CommandError, CommandGroup
from gancore_cli.project import project
from gancore_cli.report import report
from gancore_cli.resume import resume
from gancore_cli.sample import sample
from gancore_cli.signals import (
    Interrupted,
    SignalHandler,
    handle_signals,
    is_signal,
    share_handler,
    signal_status,
)
from gancore_cli.study import study
from gancore_cli.train import train
from gancore_cli.verify import checkpoint


def _print_version(context: click.Context, _parameter: click.Parameter, requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        click.echo(f"gancore {version('gancore')}")
        context.exit()


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has --help. Plugins can add commands: gancore plugins list.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.option("--no-plugins", is_flag=True, help="Use built-in components only; import no installed plugin.")
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    shell_complete=python_files,
    metavar="FILE",
    help="Load a Python file as a plugin for this command. Can be repeated.",
)
@click.pass_context
def gancore(context: click.Context, no_plugins: bool, files: tuple[Path, ...]) -> None:
    """Train generative adversarial networks, see what they draw, measure it.

    \b
    Train on your own pictures, or on digits that need no download:
      gancore train PICTURES/
      gancore train
    See what a run has learned, on a page or with sliders:
      gancore report runs/0001 --open
      gancore explore runs/0001
    Continue a run that was interrupted:
      gancore resume runs/0001
    Measure a run, or compare variants over seeds:
      gancore evaluate runs/0001
      gancore study FILE.toml --out DIR
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    share_handler(context)
    context.obj = PluginOptions(no_plugins, files)


SECTIONS = {
    "Train": (data, train, resume, list_recipes),
    "See what a run has learned": (report, explore, sample, project),
    "Measure and compare": (evaluate, compare, study, fetch),
    "Keep and publish": (checkpoint, export),
    "Components and plugins": (list_components, show, plugins, completion),
}
"""The commands by what they are for, as the help lists them."""
for title, commands in SECTIONS.items():
    gancore.add_section(title, commands)
plugins.add_command(check_plugin)
plugins.add_command(new_plugin)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    0 done, 1 a bug in gancore (the only traceback), 2 usage or config, 3 input data, 4 checkpoint, 5 plugin,
    6 numerics, 7 storage, 8 run in use, 9 a worker died, 10 memory, threads or files ran out,
    129 SIGHUP, 130 Ctrl-C, 143 SIGTERM, 152 SIGXCPU.
    """
    # pydantic and torch load plugins of their own. gancore needs none of them, and one damaged list of entry points in
    # any package would make their imports fail.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch warns of each lost connection with a trace in C++
    startup.begin()
    arguments = sys.argv[1:] if arguments is None else arguments
    if shell := os.environ.get(VARIABLE):
        answer(gancore, shell, arguments)
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":  # names of files may be any bytes
            stream.reconfigure(errors="backslashreplace")
    verbose, stdout = bool({"-v", "--verbose"} & set(arguments)), sys.stdout
    with handle_signals() as handler:
        try:
            check_folder()
            code: object = gancore.main(list(arguments), prog_name="gancore", standalone_mode=False, obj=handler)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "gancore"
            message = error.format_message().replace("valid float range", "number")
            message = message.replace("valid integer range", "whole number")
            _fail(error, 2, message, f"{command} --help", arguments)
        except (KeyboardInterrupt, click.Abort, Interrupted) as error:
            _end_by_signal(error, handler, arguments)
        except CommandError as error:
            if verbose or error.is_bug:
                traceback.print_exception(error.__cause__)
            _fail(error, 5, str(error), error.hint, arguments)
        except SystemExit as error:
            if sys.stdout is not stdout:  # click wraps stdout and exits when the reader of its help closed the pipe
                _leave(0)
            if verbose:
                traceback.print_exception(error)
            message = f"a plugin ended the command: SystemExit: {error.code!r}"
            _fail(error, 5, message, "run it again with -v to see where", arguments)
        except Exception as error:
            if lack := _lack(error):
                _fail(error, 10, *lack, arguments, reported=_is_reported(error))
            status, message, hint = _exit_code(error), str(error), getattr(error, "hint", "")
            if handler.received is not None and (status == 1 or is_signal(error)):
                _end_by_signal(error, handler, arguments)
            if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
                status, message = 7, f"cannot access {error.filename or 'standard output'}: {error.strerror}"
                hint = "check the path, its permissions, and the free space of the disk"
            elif status == 1:
                traceback.print_exception(error)
                message, hint = f"a bug in gancore: {type(error).__name__}: {error}", "report it with the traceback"
            elif verbose and error.__cause__:
                traceback.print_exception(error.__cause__)
            _fail(error, status, message, hint, arguments, reported=status != 1 and _is_reported(error))
    _leave(code if isinstance(code, int) else 0)  # click returns the code of a command that called Context.exit


def _exit_code(error: Exception) -> int:
    from gancore import errors

    codes = {
        errors.ConfigError: 2,
        errors.DataError: 3,
        errors.CheckpointError: 4,
        errors.PluginError: 5,
        errors.NumericsError: 6,
        errors.StorageError: 7,
        errors.InUseError: 8,
        errors.WorkerError: 9,
        errors.ResourceError: 10,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


def _lack(error: Exception) -> tuple[str, str] | None:
    """Return the message and the hint if memory, threads or files ran out."""
    try:
        from gancore.errors import exhausted
    except (ImportError, MemoryError, OSError):  # there is too little even for that
        return f"memory or files ran out: {type(error).__name__}", "raise the limits that ulimit -a prints"
    limit = exhausted(error)
    return (limit.message, limit.hint) if limit else None


def _end_by_signal(error: BaseException, handler: SignalHandler, arguments: Sequence[str]) -> NoReturn:
    """Print which signal has ended the command, and how to run it again, and exit."""
    from gancore.distributed.launchers import is_launched

    status, message = signal_status(error, handler.received)
    hint = getattr(error, "hint", "") if isinstance(error, Interrupted) else ""
    again = "start it again with its launcher" if is_launched() else shlex.join(["gancore", *arguments])
    reported = _is_reported(error)
    _fail(_with_kept(error), status, message, hint or again, arguments, reported=reported)


def _with_kept(error: BaseException) -> BaseException:
    """Return an error, or one of its causes that says what was kept: click raises its own in place of Ctrl-C."""
    cause: BaseException | None = error
    while cause is not None and not getattr(cause, "kept", ""):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def _is_reported(error: BaseException) -> bool:
    """Return whether another process of the run prints the same error."""
    return getattr(error, "reported", False)


def _fail(
    error: BaseException, code: int, message: str, hint: str, arguments: Sequence[str], *, reported: bool = False
) -> NoReturn:
    """Print what went wrong, what was kept and what to do next, unless that is `reported` already, and exit."""
    if reported:
        _leave(code)
    kept = printable(getattr(error, "kept", "") or "nothing was changed")
    hint = with_arguments(with_plugins(hint or "gancore --help", _plugin_options(arguments)), arguments)
    hint = one_line_command(hint)
    message = printable(" ".join(message.split()))
    problems: Sequence[str] = getattr(error, "problems", ())
    what = message.partition(" (1) ")[0] if problems else message
    shown = "\n  ".join([what, *(printable(" ".join(each.split())) for each in problems)])
    echo(f"error: {shown}\nkept: {kept}\nnext: {hint}", err=True)
    if "--json" in arguments:
        document = {"error": {"code": code, "message": message, "kept": kept, "next": hint}}
        from gancore.errors import StorageError

        with suppress(StorageError):
            echo(json.dumps(document))
    _leave(code)


def _plugin_options(arguments: Sequence[str]) -> PluginOptions:
    """Return the options before the command, as far as they are valid."""
    with suppress(click.ClickException):
        given = gancore.make_context("gancore", list(arguments), resilient_parsing=True).params
        return PluginOptions(given["no_plugins"], given["files"] or ())
    return PluginOptions()


def _leave(code: int) -> NoReturn:
    """Exit. What threads and exit handlers of plugins print from now on goes to standard error."""
    stdout = sys.__stdout__
    if stdout is not None and sys.stdout is stdout:  # not closed, and not redirected by the caller
        with suppress(OSError, ValueError):
            stdout.flush()
            os.dup2(2, stdout.fileno())
    from gancore.distributed.launchers import is_launched

    if is_launched():
        _end(code)
    startup.end()
    sys.exit(code)


def _end(code: int) -> NoReturn:
    """Exit with os._exit to skip interpreter shutdown.

    A gloo thread that frees a tensor during shutdown aborts the process. A launcher would then count the run as failed
    and terminate the other processes.
    """
    for child in multiprocessing.active_children():
        child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the stream may be closed or None
            stream.flush()
    os._exit(code)
