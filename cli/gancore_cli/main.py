"""The command `gancore`, and the one place where errors become text and exit codes.

Only click is imported here: `--help` of any command answers before torch or a plugin is touched.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from gancore_cli.browse import list_components, list_recipes, plugins, show
from gancore_cli.check import check_plugin
from gancore_cli.evaluate import evaluate
from gancore_cli.new import new_plugin
from gancore_cli.options import Plugins, echo
from gancore_cli.progress import Interrupted
from gancore_cli.resume import resume
from gancore_cli.sample import sample
from gancore_cli.signals import TORCHRUN, hand_on, interruptible, outcome
from gancore_cli.train import train
from gancore_cli.verify import checkpoint


def _print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"gancore {version('gancore')}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.option("--no-plugins", is_flag=True, help="Use what is built in, and import no installed plugin.")
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Use a file of Python as a plugin, for this command.",
)
@click.pass_context
def gancore(context: click.Context, no_plugins: bool, files: tuple[Path, ...]) -> None:
    """Train generative adversarial networks out of plugins.

    `gancore train` without an argument trains on the digits that ship with scikit-learn.
    """
    hand_on(context)
    context.obj = Plugins(no_plugins, files)


for command in (train, resume, sample, evaluate, checkpoint, list_components, show, list_recipes, plugins):
    gancore.add_command(command)
plugins.add_command(check_plugin)
plugins.add_command(new_plugin)


_OUTER = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
"""What is wrong outside of gancore, wherever it turns up."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits.

    0 done, 1 a bug of gancore's (the only traceback), 2 usage or config, 3 input data, 4 checkpoint, 5 plugin,
    6 numerics, 7 storage, 8 run in use, 9 a worker is gone, 130 Ctrl-C, 143 SIGTERM.
    """
    # pydantic and torch look for plugins of their own, which are of no use here, and one garbled list of entry points
    # anywhere would keep both from being imported.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json, stdout = "--json" in arguments, sys.stdout
    with interruptible() as signals:
        try:
            code: object = gancore.main(list(arguments), prog_name="gancore", standalone_mode=False, obj=signals)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "gancore"
            _fail(2, error.format_message(), "", f"{command} --help", as_json)
        except (KeyboardInterrupt, click.Abort, Interrupted) as error:
            status, what = outcome(error)
            told = getattr(error, "reported", False)
            _fail(status, what, getattr(error, "kept", ""), getattr(error, "hint", ""), as_json, told=told)
        except SystemExit as error:  # a stranger's, for click leaves in another way; its code may be 0
            if sys.stdout is not stdout:  # but it put another there, since nobody reads the help that it prints
                _leave(0)
            if {"-v", "--verbose"} & set(arguments):
                traceback.print_exception(error)
            message = f"a part of a plugin ended the command: SystemExit: {error.code!r}"
            _fail(5, message, getattr(error, "kept", ""), "-v shows where", as_json)
        except Exception as error:
            status, message, hint = _exit_code(error), str(error), getattr(error, "hint", "")
            if isinstance(error, OSError) and error.errno in _OUTER:
                status, message = 7, f"cannot reach {error.filename or 'standard output'}: {error.strerror}"
                hint = "see what is there, and who may do what with it"
            elif status == 1:
                traceback.print_exception(error)
                message, hint = f"a bug in gancore: {type(error).__name__}: {error}", "please report it"
            elif {"-v", "--verbose"} & set(arguments) and error.__cause__:
                traceback.print_exception(error.__cause__)
            told = status != 1 and getattr(error, "reported", False)
            _fail(status, message, getattr(error, "kept", ""), hint, as_json, told=told)
    _leave(code if isinstance(code, int) else 0)  # what a command left with, where it left early


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
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


def _fail(code: int, message: str, kept: str, hint: str, as_json: bool, *, told: bool = False) -> NoReturn:
    """Three lines: what went wrong and where, what is kept, what to do next; none if another process told it."""
    if told:
        _leave(code)
    kept = kept or "everything is as it was"
    next_step = hint or "gancore --help"
    message = " ".join(message.split())
    echo(f"error: {message}\nkept: {kept}\nnext: {next_step}", err=True)
    if as_json:
        document = {"error": {"code": code, "message": message, "kept": kept, "next": next_step}}
        from gancore.errors import StorageError

        with suppress(StorageError):
            echo(json.dumps(document))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """All is said: what a plugin's threads and exit handlers still print is no part of the result."""
    stdout = sys.__stdout__
    if stdout is not None and sys.stdout is stdout:  # else somebody else looks after it
        with suppress(OSError, ValueError):
            stdout.flush()
            os.dup2(2, stdout.fileno())
    if TORCHRUN in os.environ:
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    """Leaves without Python's own end, amid which a thread of gloo that lets a tensor go would abort the process.

    torchrun would take the run for a failed one, and end the others.
    """
    for child in multiprocessing.active_children():
        child.terminate()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    os._exit(code)
