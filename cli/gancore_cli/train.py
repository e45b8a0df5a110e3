"""The command `train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog
from gancore_cli.options import Terminal, data_dir, device, echo, output_options
from gancore_cli.running import joined_ranks, show_run, total_of, totals
from gancore_cli.signals import interruption

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.layers import ConfigLayer

_PARTS = ("generator", "discriminator", "loss", "dataset")


@click.command()
@click.argument("recipe", required=False, metavar="[RECIPE|FILE.toml]")
@click.option("--generator", metavar="NAME", help="Generator, see: gancore list generator.")
@click.option("--discriminator", metavar="NAME", help="Discriminator, see: gancore list discriminator.")
@click.option("--loss", metavar="NAME", help="Loss, see: gancore list loss.")
@click.option("--dataset", metavar="NAME", help="Dataset, see: gancore list dataset.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="PATH=VALUE",
    help="Set any key of the config, see: gancore show run. VALUE is TOML; none removes the key.",
)
@totals
@click.option("--batch-size", type=int, metavar="N", help="Real images per batch.")
@click.option("--seed", type=int, metavar="N", help="Seed of all random numbers.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16"]),
    help="Number format of matrix products; auto: bf16 for images on devices that support it.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="New or empty folder for the run.  [default: the next number below runs/]",
)
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT",
    help="Start with the weights of another run.",
)
@data_dir
@device
@click.option("--resume", is_flag=True, help="Resume the run in --out if there is one, else start it.")
@click.option("--dry-run", is_flag=True, help="Print the resolved config, take one step, and write nothing.")
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
    """Train a GAN from a recipe, a config file, or parts.

    \b
    Train the recipe mnist for ten minutes:
      gancore train mnist --minutes 10
    Change parts and keys of a recipe:
      gancore train digits --loss hinge --set regularizers.r1.gamma=1 --out runs/hinge
    Start a run, or resume it if it was interrupted:
      gancore train mnist --epochs 20 --out runs/long --resume

    Without RECIPE and FILE.toml the recipe is `digits`, unless --generator, --discriminator, --loss and --dataset are
    all given. Later values win: defaults, recipe, file, options, --set. Ctrl-C and SIGTERM end a run after the current
    step, with a checkpoint; `gancore resume` continues it.
    """  # noqa: D301  # click reads the backspace
    if resume and (out is None or dry_run):
        raise click.UsageError("--resume needs --out, the folder of the run, and excludes --dry-run")
    with joined_ranks(terminal, device) as (terminal, ranks):
        from gancore.run.run import Run

        catalog = open_catalog(terminal)
        layers = _layers(recipe, flags, assignments, catalog)
        run = Run(layers, out=out, init_from=init_from, data_dir=data_dir, device=device, catalog=catalog, ranks=ranks)
        display = terminal.display()
        if dry_run:
            run.dry_run(progress=display)
            document = {"config": run.config.to_data(catalog), "device": str(run.gan.device) if run.gan else ""}
            terminal.result(document, lambda: echo(run.config.to_toml(catalog).rstrip()))
        else:
            show_run(terminal, run, run.train(resume=resume, progress=display, interruption=interruption()), ranks)


def _layers(
    recipe: str | None, flags: Mapping[str, Any], assignments: tuple[str, ...], catalog: Catalog
) -> list[ConfigLayer]:
    """Return the layers of the config, later ones win. Raise ConfigError with every invalid --set."""
    from gancore.config.layers import ConfigLayer, assignment
    from gancore.config.run import read_layers
    from gancore.errors import ConfigError

    total = total_of(flags)
    if recipe is None and any(flags[part] is None for part in _PARTS):
        recipe = "digits"
    layers = [] if recipe is None else read_layers(recipe, catalog)
    layers += [ConfigLayer(f"--{part}", {part: flags[part]}) for part in _PARTS if flags[part] is not None]
    if total:
        layers.append(ConfigLayer(f"--{total[0]}", {"duration": total[1]}))
    for key in ("batch_size", "seed", "precision"):
        if flags[key] is not None:
            data = {"training": {key: flags[key]}} if key == "precision" else {key: flags[key]}
            layers.append(ConfigLayer(f"--{key.replace('_', '-')}", data))
    problems = []
    for text in assignments:
        try:
            layers.append(assignment(text))
        except ConfigError as error:
            problems.append(error)
    if problems:
        raise ConfigError("; ".join(map(str, problems)), problems[0].hint)
    return layers
