"""The command `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, data_root, device, echo, output_options

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.sampling.load import TrainedGenerator


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN|CHECKPOINT")
@click.option("-n", "--count", type=click.IntRange(min=1), default=64, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which ones.")
@click.option("--class", "label", type=int, help="Only this class, of a conditional run.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("samples.png"),
    show_default=True,
    metavar="FILE.png|.npy|.safetensors|DIR",
    help="A picture, an array (N, C, H, W) uint8 or (N, F) float32, or a folder of numbered PNGs.",
)
@click.option("--raw", is_flag=True, help="Draw from the current weights, not from their average.")
@click.option("--best", is_flag=True, help="Of the best checkpoint of RUN, not of the newest.")
@data_dir
@device
@output_options
def sample(
    terminal: Terminal,
    run: Path,
    count: int,
    seed: int,
    label: int | None,
    out: Path,
    raw: bool,
    best: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Draw samples from a trained generator.

    It is that of the newest checkpoint of RUN, or of CHECKPOINT. Image i depends on the seed and on i alone: asking
    for more changes none of the first. Points in the plane are drawn over those of the dataset, if it can be read.
    """
    from gancore.config.requirements import attributed
    from gancore.sampling.grid import form_of, save_samples
    from gancore.sampling.load import load

    form_of(out)  # a wrong name is told before anything is drawn
    catalog = open_catalog(terminal)
    trained = load(run, raw=raw, best=best, device=device, catalog=catalog)
    warn(terminal, catalog, *trained.warnings)
    with attributed(trained.run, catalog):
        samples = trained.sample(count, seed=seed, label=label)
    save_samples(samples, out, _real_points(trained, data_root(data_dir)))
    document = {"out": str(out), "count": count, "seed": seed, "shape": list(samples.shape), "step": trained.step}
    terminal.result(document, lambda: echo(f"{count} samples of step {trained.step:,}: {out}"))


def _real_points(trained: TrainedGenerator, root: Path) -> Tensor | None:
    from gancore.errors import GancoreError
    from gancore.evaluation.sources import ReferenceImages
    from gancore.sampling.grid import REAL_POINTS

    if trained.shape != (2,):
        return None
    try:
        return ReferenceImages.of(trained.run.dataset, root).draw(REAL_POINTS, seed=0, stream="real")
    except GancoreError:
        return None
