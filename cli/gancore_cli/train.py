"""The command `train`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, data_root, device, echo, output_options
from gancore_cli.resume import go_on
from gancore_cli.running import among, duration_of, evaluator_of, go_along, go_through, tell, totals

if TYPE_CHECKING:
    from gancore.catalog.catalog import Catalog
    from gancore.config.layers import ConfigLayer
    from gancore.training.gan import GAN

_PARTS = ("generator", "discriminator", "loss", "dataset")


@click.command()
@click.argument("recipe", required=False, metavar="[RECIPE|FILE.toml]")
@click.option("--generator", metavar="NAME", help="Generator, by name.")
@click.option("--discriminator", metavar="NAME", help="Discriminator, by name.")
@click.option("--loss", metavar="NAME", help="Loss, by name.")
@click.option("--dataset", metavar="NAME", help="Dataset, by name.")
@click.option(
    "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set any key of the config; none removes it."
)
@totals
@click.option("--batch-size", type=int, help="Real images in a step.")
@click.option("--seed", type=int, help="The source of all randomness.")
@click.option(
    "--precision", metavar="auto|fp32|tf32|bf16", help="What networks multiply in; auto: bf16 where that is faster."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A new or empty folder for the run.  [default: the next number below runs/]",
)
@click.option(
    "--init-from",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT",
    help="Begin with the weights of another run instead of random ones.",
)
@data_dir
@device
@click.option(
    "--resume", is_flag=True, help="Go on with the run in --out, if there is one: the same command starts and goes on."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved config, make one step, and write nothing.")
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
    """Train a GAN from a recipe, a file, or parts.

    Without RECIPE and FILE.toml, from recipe `digits`. Later layers win: defaults, recipe, file, options, --set. With
    all four of --generator, --discriminator, --loss and --dataset no recipe is needed, and none is used unless it is
    named. Ctrl-C and SIGTERM end a run after the step that it is at, with a checkpoint; `gancore resume` goes on.
    """
    from gancore.config.requirements import attributed
    from gancore.config.run import resolve
    from gancore.data.build import prepare_dataset
    from gancore.run.directory import RunDirectory, next_directory
    from gancore.run.resume import is_there
    from gancore.training.gan import GAN
    from gancore_cli.progress import show_preparation, show_progress

    if resume and (out is None or dry_run):
        raise click.UsageError("--resume needs --out, the folder of the run, and goes without --dry-run")
    with ExitStack() as ours:
        terminal, ranks = ours.enter_context(among(terminal, device))
        catalog = open_catalog(terminal)
        if recipe is None and any(flags[part] is None for part in _PARTS):
            recipe = "digits"
        layers = _layers(recipe, flags, assignments, catalog)
        run = resolve(layers, catalog)
        warn(terminal, catalog)
        root = data_root(data_dir)
        ours.enter_context(attributed(run, catalog))
        if out and ranks.is_main and not dry_run:
            ours.enter_context(RunDirectory(out).locked())
        if out and resume and is_there(RunDirectory(out), ranks):
            go_on(terminal, RunDirectory(out), catalog, root, device, ranks, wanted=run, init_from=init_from)
            return
        if out and ranks.is_main:
            RunDirectory(out).check_new()  # said before any data is read
        show_progress(terminal, f"dataset {run.dataset.name} is made ready, once", prepare_dataset(run.dataset, root))
        gan = GAN.assemble(run, root, device, ranks)
        if not ranks.is_main and not dry_run:
            go_along(gan)
            return
        origin = {"recipe": _recipe_of(layers), "init_from": _begin(gan, init_from)}
        tell(terminal, gan, run, catalog)
        evaluator = evaluator_of(gan, run, catalog, root)
        if dry_run:
            from gancore.training.loop import train as steps_of

            next(steps_of(gan))
            config = run.to_toml(catalog)
            terminal.result({"config": run.to_data(catalog), "device": str(gan.device)}, lambda: echo(config.rstrip()))
            return
        if evaluator:  # extractors learn before anything is written, so that what they lack is told in time
            show_preparation(terminal, evaluator.prepare())
        directory = RunDirectory(out) if out else next_directory(Path("runs"))
        if not out:
            ours.enter_context(directory.locked())
        directory.create(run, catalog, gan.device, ranks.size, **origin)
        go_through(terminal, gan, run, catalog, evaluator, directory)


def _layers(
    recipe: str | None, flags: Mapping[str, Any], assignments: tuple[str, ...], catalog: Catalog
) -> list[ConfigLayer]:
    """All that was said, in rising order of rank. Wrong forms of several --set are told together."""
    from gancore.config.layers import ConfigLayer, assignment
    from gancore.config.run import read_layers
    from gancore.errors import ConfigError

    total = duration_of(flags)
    layers = [] if recipe is None else read_layers(recipe, catalog)
    layers += [ConfigLayer(f"--{part}", {part: flags[part]}) for part in _PARTS if flags[part] is not None]
    if total:
        option, duration = total
        layers.append(ConfigLayer(option, {"duration": duration}))
    for flag in ("batch_size", "seed"):
        if flags[flag] is not None:
            layers.append(ConfigLayer(f"--{flag.replace('_', '-')}", {flag: flags[flag]}))
    if flags["precision"] is not None:
        layers.append(ConfigLayer("--precision", {"training": {"precision": flags["precision"]}}))
    problems = []
    for text in assignments:
        try:
            layers.append(assignment(text))
        except ConfigError as error:
            problems.append(error)
    if problems:
        raise ConfigError("; ".join(map(str, problems)), problems[0].hint)
    return layers


def _recipe_of(layers: list[ConfigLayer]) -> str | None:
    return next((layer.source.removeprefix("recipe ") for layer in layers if layer.source.startswith("recipe ")), None)


def _begin(gan: GAN, init_from: Path | None) -> str | None:
    """Gives the GAN its first weights; returns the digest of the checkpoint that they come from."""
    if init_from is None:
        return None
    from gancore.checkpoint import store as checkpoint

    saved = checkpoint.load(checkpoint.newest(init_from))
    gan.state.init_weights(saved.tensors)
    return saved.digest
