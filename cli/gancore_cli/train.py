"""The command `train`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Voice, cache_root, data_dir, data_root, device, say, speaks

if TYPE_CHECKING:
    from gancore.catalog import Catalog
    from gancore.config import Run
    from gancore.evaluation import Evaluation, Evaluator
    from gancore.gan import GAN
    from gancore.layers import Layer
    from gancore.recording import Metrics
    from gancore.rundir import RunDirectory

_PARTS = ("generator", "discriminator", "loss", "dataset")
_UNITS = ("epochs", "steps", "kimg", "minutes")


@click.command()
@click.argument("recipe", required=False, metavar="[RECIPE|FILE.toml]")
@click.option("--generator", metavar="NAME", help="Generator, by name.")
@click.option("--discriminator", metavar="NAME", help="Discriminator, by name.")
@click.option("--loss", metavar="NAME", help="Loss, by name.")
@click.option("--dataset", metavar="NAME", help="Dataset, by name.")
@click.option(
    "--set", "assignments", multiple=True, metavar="PATH=VALUE", help="Set any key of the config; none removes it."
)
@click.option("--epochs", type=float, help="Train for so many passes over the data.")
@click.option("--steps", type=int, help="Train for so many updates of the generator.")
@click.option("--kimg", type=float, help="Train for so many thousand real images.")
@click.option("--minutes", type=float, help="Train for so long.")
@click.option("--batch-size", type=int, help="Real images in a step.")
@click.option("--seed", type=int, help="The source of all randomness.")
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
@click.option("--dry-run", is_flag=True, help="Print the resolved config, make one step, and write nothing.")
@speaks
def train(
    voice: Voice,
    recipe: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    init_from: Path | None,
    data_dir: Path | None,
    device: str,
    dry_run: bool,
    **flags: Any,  # Any: the values of the options that set keys of the config
) -> None:
    """Train a GAN from a recipe, a file, or parts.

    Without RECIPE and FILE.toml, from recipe `digits`. Later layers win: defaults, recipe, file, options, --set. With
    all four of --generator, --discriminator, --loss and --dataset no recipe is needed, and none is used unless it is
    named.
    """
    from gancore.config import resolve
    from gancore.data import prepared
    from gancore.gan import GAN
    from gancore.provenance import attributed
    from gancore_cli.progress import show_progress

    catalog = open_catalog(voice)
    if recipe is None and not all(flags[part] for part in _PARTS):
        recipe = "digits"
    layers = _layers(recipe, flags, assignments, catalog)
    run = resolve(layers, catalog)
    warn(voice, catalog)
    _refuse_occupied(out)
    root = data_root(data_dir)
    with attributed(run, catalog):
        show_progress(voice, f"dataset {run.dataset.name} is made ready, once", prepared(run.dataset, root))
        gan = GAN.assemble(run, root, device)
        origin = {"recipe": _recipe_of(layers), "init_from": _begin(gan, init_from)}
        _tell(voice, gan, run, catalog)
        evaluator = _evaluator(gan, run, catalog, root)
        if dry_run:
            from gancore.training import train as steps_of

            next(steps_of(gan))
            config = run.to_toml(catalog)
            voice.result({"config": run.to_data(catalog), "device": str(gan.device)}, lambda: say(config.rstrip()))
            return
        _train(voice, gan, run, catalog, evaluator, out, origin)


def _layers(
    recipe: str | None, flags: Mapping[str, Any], assignments: tuple[str, ...], catalog: Catalog
) -> list[Layer]:
    """All that was said, in rising order of rank. Wrong forms of several --set are told together."""
    from gancore.config import read_layers
    from gancore.errors import ConfigError
    from gancore.layers import Layer, assignment

    totals = [unit for unit in _UNITS if flags[unit] is not None]
    if len(totals) > 1:
        raise click.UsageError(f"only one of {', '.join(f'--{unit}' for unit in totals)} can be the total")
    layers = [] if recipe is None else read_layers(recipe, catalog)
    layers += [Layer(f"--{part}", {part: flags[part]}) for part in _PARTS if flags[part]]
    layers += [Layer(f"--{unit}", {"duration": f"{Decimal(str(flags[unit])):f} {unit}"}) for unit in totals]
    for flag in ("batch_size", "seed"):
        if flags[flag] is not None:
            layers.append(Layer(f"--{flag.replace('_', '-')}", {flag: flags[flag]}))
    problems = []
    for text in assignments:
        try:
            layers.append(assignment(text))
        except ConfigError as error:
            problems.append(error)
    if problems:
        raise ConfigError("; ".join(map(str, problems)), problems[0].hint)
    return layers


def _recipe_of(layers: list[Layer]) -> str | None:
    return next((layer.source.removeprefix("recipe ") for layer in layers if layer.source.startswith("recipe ")), None)


def _begin(gan: GAN, init_from: Path | None) -> str | None:
    """Gives the GAN its first weights; returns the digest of the checkpoint that they come from."""
    if init_from is None:
        return None
    from gancore import checkpoint

    saved = checkpoint.load(checkpoint.newest(init_from))
    gan.begin_from(saved.tensors)
    return saved.digest


def _refuse_occupied(out: Path | None) -> None:
    """Said before any data is read; making the folder checks it again."""
    from gancore.errors import ConfigError, StorageError

    try:
        occupied = out is not None and out.exists() and not (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror}", "choose another --out") from error
    if out and occupied:
        what = "is not empty" if out.is_dir() else "is a file"
        raise ConfigError(f"--out must be a new or empty folder; {out} {what}", "name another folder with --out")


def _tell(voice: Voice, gan: GAN, run: Run, catalog: Catalog) -> None:
    def count(player: str) -> str:
        return f"{sum(parameter.numel() for parameter in getattr(gan, player).parameters()):,}"

    shape = "x".join(map(str, gan.feed.shape))
    voice.detail(f"data: {gan.feed.size:,} of shape {shape}, on {gan.device.type}")
    for player in ("generator", "discriminator"):
        voice.detail(f"{player}: {getattr(run, player).name}, {count(player)} parameters")
    for component in run.components():
        voice.detail(f"{component.kind} {component.name} is from {catalog.origin_of(type(component)).origin}")
    voice.detail(f"real and fake go through the discriminator {'together' if gan.joined else 'apart'}")


def _evaluator(gan: GAN, run: Run, catalog: Catalog, root: Path) -> Evaluator | None:
    """What measures the run, if anything does; it is not ready yet."""
    if not run.metrics:
        return None
    from gancore.learning import Workplace
    from gancore.protocol import evaluator_of_run

    place = Workplace(root, cache_root(), gan.device)
    return evaluator_of_run(run, place, catalog, training=gan.feed.dataset, count=run.evaluate.samples)


def _train(
    voice: Voice,
    gan: GAN,
    run: Run,
    catalog: Catalog,
    evaluator: Evaluator | None,
    out: Path | None,
    origin: Mapping[str, str | None],
) -> None:
    from gancore import checkpoint
    from gancore.jsonsafe import json_safe
    from gancore.recording import record
    from gancore.rundir import RunDirectory, next_directory
    from gancore.training import train as steps_of
    from gancore_cli.progress import Display, Interrupted, show_preparation

    if evaluator is not None:  # extractors learn before anything is written, so that what they lack is told in time
        show_preparation(voice, evaluator.prepare())
    directory = RunDirectory(out) if out else next_directory(Path("runs"))
    directory.create(run, catalog, gan.device, **origin)
    last: Metrics = {}
    evaluation: Evaluation | None = None
    try:
        display = Display(quiet=voice.quiet, epochs=run.total.total_epochs(gan.feed.size, _images_per_step(run)))
        with display, closing(record(steps_of(gan), gan, run, directory, catalog, evaluator)) as records:
            for written in records:
                display.show(written)
                last = written.metrics or last
                evaluation = written.evaluation or evaluation
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        for note in getattr(error, "__notes__", ()):
            voice.note(note)
        saved = checkpoint.kept(directory.checkpoints)
        kept = f"checkpoint {saved[-1]}" if saved else f"{directory.path}, without a checkpoint"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(kept, f"gancore sample {directory.path}") from error
        error.kept = kept  # type: ignore[union-attr]  # our own errors have it, and a bug of ours may carry it too
        raise
    numbers = evaluation.numbers() if evaluation else {}
    _summarise(voice, gan, directory, json_safe({**last, **numbers}))


def _images_per_step(run: Run) -> int:
    return run.batch_size * run.training.discriminator_steps


def _summarise(voice: Voice, gan: GAN, directory: RunDirectory, last: Mapping[str, float | None]) -> None:
    from gancore import checkpoint

    best = checkpoint.best_of(directory.checkpoints)
    document = {
        "run": str(directory.path),
        "pictures": str(max(directory.samples.iterdir())),
        "metrics": str(directory.metrics),
        "checkpoint": str(checkpoint.kept(directory.checkpoints)[-1]),
        "best": str(best) if best.is_file() else None,
        "last": last,
    }

    def text() -> None:
        say(f"done: {gan.progress.step:,} steps in {gan.progress.seconds:.1f} s")
        for key in ("pictures", "metrics", "checkpoint", "best"):
            if document[key]:
                say(f"{key + ':':<12}{document[key]}")
        say(f"{'next:':<12}gancore sample {directory.path} -n 64 --out samples.png")

    voice.result(document, text)
