"""A run under way, a new one or one that goes on: told of, shown, recorded, and summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gancore_cli.options import Terminal, cache_root, echo
from gancore_cli.signals import interruption

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.run import RunConfig
    from gancore.distributed.ranks import Ranks
    from gancore.evaluation.evaluator import Evaluation, Evaluator
    from gancore.run.directory import RunDirectory
    from gancore.run.log import Recorded
    from gancore.run.recorder import Metrics
    from gancore.training.gan import GAN

F = TypeVar("F", bound=Callable[..., object])
_UNITS = {
    "epochs": (float, "Train for so many passes over the data."),
    "steps": (int, "Train for so many updates of the generator."),
    "kimg": (float, "Train for so many thousand real images."),
    "minutes": (float, "Train for so long."),
}


def totals(command: F) -> F:
    """The options for a run's total, of which one may be given."""
    for unit, (kind, text) in reversed(_UNITS.items()):
        command = click.option(f"--{unit}", type=kind, help=text)(command)
    return command


def duration_of(flags: Mapping[str, Any]) -> tuple[str, str] | None:  # Any: the values of options
    """The option that was given for the total, and the total as a config has it."""
    given = [unit for unit in _UNITS if flags[unit] is not None]
    if len(given) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{unit}' for unit in given)} can be the total")
    return (f"--{given[0]}", f"{Decimal(str(flags[given[0]])):f} {given[0]}") if given else None


@contextmanager
def among(terminal: Terminal, device: str) -> Iterator[tuple[Terminal, Ranks]]:
    """The processes that torchrun has started, and the terminal of this one: only the first of them speaks."""
    from gancore.distributed.torchrun import join_ranks

    with join_ranks(device) as ranks:
        yield (terminal if ranks.is_main else replace(terminal, as_json=False, quiet=True, verbose=False)), ranks


def tell(terminal: Terminal, gan: GAN, run: RunConfig, catalog: Catalog) -> None:
    """What a run is made of, for `-v`."""

    def count(player: str) -> str:
        return f"{sum(parameter.numel() for parameter in getattr(gan, player).parameters()):,}"

    shape = "x".join(map(str, gan.feed.shape))
    terminal.detail(f"data: {gan.feed.size:,} of shape {shape}, on {gan.device.type}")
    for player in ("generator", "discriminator"):
        terminal.detail(f"{player}: {getattr(run, player).name}, {count(player)} parameters")
    for component in run.components():
        terminal.detail(f"{component.kind} {component.name} is from {catalog.origin_of(type(component)).origin}")
    terminal.detail(f"precision: {gan.precision.name}")
    terminal.detail(f"real and fake go through the discriminator {'together' if gan.critic.one_pass else 'apart'}")


def evaluator_of(gan: GAN, run: RunConfig, catalog: Catalog, root: Path) -> Evaluator | None:
    """What measures the run, if anything does; it is not ready yet."""
    if not run.metrics:
        return None
    from gancore.evaluation.defaults import evaluator_for_run
    from gancore.evaluation.train_extractor import EvaluationPaths

    place = EvaluationPaths(root, cache_root(), gan.device)
    return evaluator_for_run(run, place, catalog, training=gan.feed.dataset, count=run.evaluate.samples)


def go_through(
    terminal: Terminal,
    gan: GAN,
    run: RunConfig,
    catalog: Catalog,
    evaluator: Evaluator | None,
    directory: RunDirectory,
    since: Recorded | None = None,
) -> None:
    """Trains to the total, and sums up. What is raised on the way says what is kept. The evaluator must be ready."""
    from gancore.checkpoint import store as checkpoint
    from gancore.run.recording import record
    from gancore.training.loop import train
    from gancore.utils.json import json_safe
    from gancore_cli.progress import Display, Interrupted

    last: Metrics = {}
    evaluation: Evaluation | None = None
    try:
        display = Display(quiet=terminal.quiet, epochs=run.total.total_epochs(gan.feed.size, _images_per_step(run)))
        records = record(train(gan), gan, run, directory, catalog, evaluator, since=since, interruption=interruption())
        with display, closing(records):
            for written in records:
                display.show(written)
                last = written.metrics or last
                evaluation = written.evaluation or evaluation
        numbers = evaluation.numbers() if evaluation else {}
        what = f"{gan.progress.step:,} steps in {gan.progress.seconds:.1f} s"
        say_done(terminal, directory, what, json_safe({**last, **numbers}))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        for note in getattr(error, "__notes__", ()):
            terminal.note(note)
        saved = checkpoint.kept(directory.checkpoints)
        kept = f"checkpoint {saved[-1]}" if saved else f"{directory.path}, without a checkpoint"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(kept, f"gancore resume {directory.path}") from error
        error.kept = kept  # type: ignore[union-attr]  # our own errors have it, and a bug of ours may carry it too
        raise


def go_along(gan: GAN) -> None:
    """What every other process does meanwhile. What is raised on the way says that nothing is kept here."""
    from gancore.run.lockstep import follow
    from gancore.training.loop import train
    from gancore_cli.progress import Interrupted

    kept = "what process 0 has saved"
    try:
        for _ in follow(train(gan), gan, interruption()):
            pass
    except KeyboardInterrupt as error:
        raise Interrupted(kept, "see what process 0 says") from error
    except Exception as error:
        error.kept = kept  # type: ignore[attr-defined]  # as above
        raise


def _images_per_step(run: RunConfig) -> int:
    return run.batch_size * run.training.discriminator_steps


def say_done(terminal: Terminal, directory: RunDirectory, what: str, last: Mapping[str, float | None]) -> None:
    """The end of a run: what there is now, and where."""
    from gancore.checkpoint import store as checkpoint

    best = checkpoint.best_of(directory.checkpoints)
    pictures = sorted(directory.samples.glob("step-*"))
    document = {
        "run": str(directory.path),
        "pictures": str(pictures[-1]) if pictures else None,
        "metrics": str(directory.metrics),
        "checkpoint": str(checkpoint.kept(directory.checkpoints)[-1]),
        "best": str(best) if best.is_file() else None,
        "last": last,
    }

    def text() -> None:
        echo(f"done: {what}")
        for key in ("pictures", "metrics", "checkpoint", "best"):
            if document[key]:
                echo(f"{key + ':':<12}{document[key]}")
        echo(f"{'next:':<12}gancore sample {directory.path} -n 64 --out samples.png")

    terminal.result(document, text)
