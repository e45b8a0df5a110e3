"""What `train` and `resume` share: options, processes, and the result of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from gancore_cli.curves import can_show_curves, curves_of, is_terminal
from gancore_cli.hints import printable, with_plugins
from gancore_cli.options import PluginOptions, Terminal, echo
from gancore_cli.signals import Interrupted, is_signal

if TYPE_CHECKING:
    from gancore.distributed.ranks import Ranks
    from gancore.run.recorder import LogLine, Records
    from gancore.run.run import Run

F = TypeVar("F", bound=Callable[..., object])
_UNITS = {
    "epochs": (float, "Total: passes over the training data."),
    "steps": (int, "Total: generator updates."),
    "kimg": (float, "Total: thousands of real images."),
    "minutes": (float, "Total: minutes of training."),
}
batch_size = click.option("--batch-size", type=int, metavar="N", help="Real images per batch.")
precision = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16"]),
    help="Number format of matrix products; auto: bf16 for images where a few steps in it are a tenth faster.",
)


class _Threads(click.ParamType):  # type: ignore[type-arg]  # older versions of click have no argument here
    """A number of threads, or `auto`."""

    name = "threads"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number. Raise BadParameter for anything else than a positive number or `auto`."""
        number = int(value) if value.isascii() and value.isdigit() else 0
        if value != "auto" and not number:
            self.fail(f"must be a positive number, or auto; received {value!r}", param, ctx)
        return number or value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete `auto`."""
        return [CompletionItem("auto")] if "auto".startswith(incomplete) else []


threads = click.option(
    "--threads",
    type=_Threads(),
    metavar="N|auto",
    help="Threads that compute a step on the CPU; auto: as few as a few steps show to be fast.",
)


def totals(command: F) -> F:
    """Add the options for the total of a run, of which one may be given."""
    for unit, (kind, text) in reversed(_UNITS.items()):
        command = click.option(f"--{unit}", type=kind, metavar="N", help=text)(command)
    return command


def total_of(flags: Mapping[str, Any]) -> tuple[str, str] | None:  # Any: the values of options
    """Return the unit of the total that was given, and the total as a config has it."""
    from gancore.run.source import duration_of

    given = {unit: flags[unit] for unit in _UNITS if flags[unit] is not None}
    if len(given) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{unit}' for unit in given)} can be the total")
    duration = duration_of(**given)
    return None if duration is None else (next(iter(given)), duration)


@contextmanager
def joined_ranks(terminal: Terminal, device: str) -> Iterator[tuple[Terminal, Ranks]]:
    """Join the processes that a launcher has started; yield the terminal, silent but for rank 0, and this rank."""
    from gancore.distributed.join import join_ranks

    with join_ranks(device) as ranks:
        yield (terminal if ranks.is_main else replace(terminal, as_json=False, quiet=True, verbose=False)), ranks


def show_run(terminal: Terminal, run: Run, records: Records, ranks: Ranks) -> None:
    """Train until the records end, and print the result. An error says what is kept of the run."""
    from gancore.errors import StorageError, WorkerError
    from gancore.utils.paths import shell_quote

    metrics: LogLine = {}
    evaluation: LogLine = {}
    steps = 0
    try:
        with closing(records):
            for record in records:
                steps += 1
                metrics = record.metrics or metrics
                evaluation = record.evaluation.numbers() if record.evaluation else evaluation
        if ranks.is_main:
            _print_result(terminal, run, steps, {**metrics, **evaluation})
    except BaseException as error:
        for note in getattr(error, "__notes__", ()):
            if not note.startswith("hint: "):  # printed as `next:`
                terminal.note(note)
        if is_signal(error):
            saved = run.directory.saved if run.directory else None
            kept = run.kept or (f"checkpoint {saved}" if saved else "")
            hint = f"gancore resume {shell_quote(str(run.path))}" if run.kept else ""
            raise Interrupted(kept, hint if ranks.is_main else "see the output of process 0") from error
        if isinstance(error, WorkerError):
            error.hint = re.sub(r"\bRUN\b", lambda _: shell_quote(str(run.path)), error.hint)
        if run.kept:
            error.kept = run.kept  # type: ignore[attr-defined]  # `main` reads it of any error
            if isinstance(error, StorageError) and ranks.is_main:
                error.hint += f"; then: gancore resume {shell_quote(str(run.path))}"
        raise


def _print_result(terminal: Terminal, run: Run, steps: int, last: LogLine) -> None:
    """Print where the run is; `steps` is the number that this process has taken, `last` the newest numbers."""
    from gancore.sampling.write import default_name
    from gancore.utils.json import json_safe
    from gancore.utils.paths import shell_quote

    if run.gan is None or run.directory is None:
        return
    progress, shape = run.gan.progress, run.gan.feed.shape
    best = run.best  # read and verified as a whole, so once
    report = run.directory.path / "report.html"
    document = {
        "run": str(run.path),
        "pictures": str(run.samples[-1]) if run.samples else None,
        "metrics": str(run.directory.metrics),
        "checkpoint": str(run.directory.saved or run.checkpoints[-1]),
        "best": str(best) if best else None,
        "report": str(report) if run.config.report and report.is_file() else None,
        "last": json_safe(last),
        "data": run.data,
        "threads": run.gan.choice.threads,
        "precision": run.gan.choice.precision,
    }

    def text() -> None:
        if steps:
            echo(f"done: {progress.step:,} {'step' if progress.step == 1 else 'steps'} in {progress.seconds:.1f} s")
        else:
            total, step = run.config.duration, f"{progress.step:,}"
            echo(f"done: the run had reached its total of {total} at step {step}; a longer total extends it")
        for key in ("pictures", "metrics", "checkpoint", "best", "report"):
            if document[key]:
                echo(f"{key + ':':<12}{printable(str(document[key]))}")
        if steps and is_terminal() and can_show_curves():
            for name, curve in _curves(run):
                echo(f"{printable(name) + ':':<11} {curve}")
        options = click.get_current_context().find_object(PluginOptions) or PluginOptions()
        path = shell_quote(str(run.path))
        commands = [f"gancore sample {path} -n 64 --out {default_name(shape)}", f"gancore report {path} --open"]
        for number, command in enumerate(commands):
            echo(f"{'' if number else 'next:':<12}{with_plugins(command, options)}")

    terminal.result(document, text)


def _curves(run: Run) -> list[tuple[str, str]]:
    """Return both losses and the metrics so far as lines; none if the files of the run cannot be read again."""
    from gancore.errors import GancoreError
    from gancore.report.collect import collect

    try:
        return [] if run.path is None else [*curves_of(collect(run.path))]
    except GancoreError:
        return []
