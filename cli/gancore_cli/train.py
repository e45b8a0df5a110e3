"""The command `train`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog
from gancore_cli.options import PluginOptions, Terminal, data_dir, device, echo, output_options
from gancore_cli.running import batch_size, joined_ranks, precision, show_run, threads, total_of, totals
from gancore_cli.signals import interruption

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.layers import ConfigLayer
    from gancore.config.suggest import Suggestion
    from gancore.run.source import Start

_PARTS = ("generator", "discriminator", "loss", "dataset")


@click.command()
@click.argument(
    "recipe", required=False, metavar="[RECIPE|FILE.toml|DATA]", shell_complete=completers.recipes_and_paths
)
@click.option(
    "--generator",
    metavar="NAME",
    help="Generator, see: gancore list generator.",
    shell_complete=completers.components("generator"),
)
@click.option(
    "--discriminator",
    metavar="NAME",
    help="Discriminator, see: gancore list discriminator.",
    shell_complete=completers.components("discriminator"),
)
@click.option(
    "--loss",
    metavar="NAME",
    help="Loss, see: gancore list loss.",
    shell_complete=completers.components("loss"),
)
@click.option(
    "--dataset",
    metavar="NAME|PATH",
    help="Dataset, see: gancore list dataset; or the path of your data.",
    shell_complete=completers.datasets_and_paths,
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PATH=VALUE",
    help="Set any key of the config, see: gancore show run. VALUE is TOML; none removes the key.",
    shell_complete=completers.settings,
)
@totals
@batch_size
@click.option("--seed", type=int, metavar="N", help="Seed of all random numbers.")
@precision
@threads
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New or empty folder for the run.  [default: the next number below runs/]",
)
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="RUN|FILE",
    help="Start with the weights of a run, a checkpoint, or a state dict (.safetensors, .pth).",
    shell_complete=completers.runs_and_paths,
)
@data_dir
@device
@click.option("--resume", is_flag=True, help="Resume the run in --out if there is one, else start it.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config, time a few steps, and write nothing.")
@output_options
def train(
    terminal: Terminal,
    recipe: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    init_from: Path | None,
    data_dir: Path | None,
    device: str,
    resume: bool,
    dry_run: bool,
    **flags: Any,  # Any: the values of the options that set keys of the config
) -> None:
    """Train a GAN on your data, or from a recipe, a file, or parts.

    \b
    Train the recipe mnist for ten minutes:
      gancore train mnist --minutes 10
    Train on your own pictures, with a recipe that fits them:
      gancore train PICTURES/
    Change parts and keys of a recipe:
      gancore train digits --loss hinge --set regularizers.r1.gamma=1
    Start a run, or resume it if it was interrupted:
      gancore train mnist --epochs 20 --out runs/long --resume

    DATA is a folder, or a file that a dataset reads. For it a recipe is chosen, by the size and number of the items,
    their classes, and whether there is a GPU; the choice is printed with a command that repeats it. A recipe wins over
    data of the same name: write ./NAME for the data.

    Without RECIPE, FILE.toml and DATA the recipe is `digits`, unless --generator, --discriminator, --loss and --dataset
    are all given. Later values win: defaults, recipe, file, options, --set. Ctrl-C, SIGTERM and SIGHUP end a run after
    the current step, with a checkpoint; `gancore resume` continues it.
    """  # noqa: D301  # click reads the backspace
    if resume and (out is None or dry_run):
        raise click.UsageError("--resume needs --out, the folder of the run, and excludes --dry-run")
    with joined_ranks(terminal, device) as (terminal, ranks):
        from gancore.run.first_weights import FirstWeights
        from gancore.run.run import Run
        from gancore.run.source import Start, is_recipe

        catalog = open_catalog(terminal)
        if recipe and is_recipe(recipe, catalog) and Path(recipe).exists():
            path = shlex.quote(f"./{recipe}")
            terminal.note(f"note: {recipe} is the recipe; for the data of the same name: gancore train {path}")
        weights = FirstWeights(init_from) if init_from else None
        start = Start(
            out / "config.toml" if out and resume else None, weights, lambda: ranks.device(device).type != "cpu"
        )
        layers, chosen = _layers(recipe, flags, assignments, catalog, start)
        if chosen:
            places = {"init_from": init_from, "data_dir": data_dir, "device": None if device == "auto" else device}
            for line in chosen.lines(_command(chosen, flags | places, assignments)):
                terminal.note(line)
            for line in chosen.table() if dry_run else ():
                terminal.note(line)
        run = Run(layers, out=out, init_from=weights, data_dir=data_dir, device=device, catalog=catalog, ranks=ranks)
        display = terminal.display()
        if dry_run:
            run.dry_run(progress=display)
            document = {
                "config": run.config.to_data(catalog),
                "device": str(run.gan.device) if run.gan else "",
                "parameters": run.cost.parameters if run.cost else {},
                "memory_bytes": run.cost.bytes if run.cost else 0,
                **(asdict(run.timing) if run.timing else {}),
                "chosen": asdict(run.gan.choice) if run.gan else None,
                "rules": [asdict(decision) for decision in chosen.decided] if chosen else [],
            }
            terminal.result(document, lambda: echo(run.config.to_toml(catalog).rstrip()))
        else:
            show_run(terminal, run, run.train(resume=resume, progress=display, interruption=interruption()), ranks)


def _layers(
    recipe: str | None,
    flags: Mapping[str, Any],
    assignments: tuple[str, ...],
    catalog: Catalog,
    start: Start,
) -> tuple[list[ConfigLayer], Suggestion | None]:
    """Return the layers of the config, later ones win, and what was chosen for the user's data.

    Raise ConfigError with every invalid --set.
    """
    from gancore.run.source import base_of, layers_for

    base = base_of(recipe, {part: flags[part] for part in _PARTS if flags[part] is not None}, catalog)
    above = list(_set_by_user(base.parts, flags, assignments))
    layers, chosen = layers_for(base.data, above, catalog, below=base.layers, start=start)
    return [*layers, *above], chosen


def _set_by_user(
    parts: Mapping[str, object], flags: Mapping[str, Any], assignments: tuple[str, ...]
) -> Iterator[ConfigLayer]:
    from gancore.config.layers import ConfigLayer, assignment
    from gancore.errors import ConfigError

    yield from (ConfigLayer(f"--{part}", {part: name}) for part, name in parts.items())
    if total := total_of(flags):
        yield ConfigLayer(f"--{total[0]}", {"duration": total[1]})
    for key in ("batch_size", "seed"):
        if flags[key] is not None:
            yield ConfigLayer(_option(key), {key: flags[key]})
    for key in ("precision", "threads"):
        if flags[key] is not None:
            yield ConfigLayer(_option(key), {"training": {key: flags[key]}})
    problems = []
    for text in assignments:
        try:
            yield assignment(text)
        except ConfigError as error:
            problems.append(error)
    if problems:
        raise ConfigError("; ".join(map(str, problems)), problems[0].hint)


def _command(chosen: Suggestion, flags: Mapping[str, Any], assignments: tuple[str, ...]) -> str:
    """Return the command that trains the same without a choice, quoted for a shell; --out is left to the user."""
    options = click.get_current_context().find_object(PluginOptions) or PluginOptions()
    words = ["gancore", *(["--no-plugins"] if options.no_plugins else [])]
    words += [word for file in options.files for word in ("--plugin", str(file))]
    words += ["train", *chosen.arguments()]
    for key, value in flags.items():
        if value is not None and key != "dataset":  # the choice has named it
            words += [_option(key), f"{value}"]
    return shlex.join([*words, *(word for text in assignments for word in ("--set", text))])


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"
