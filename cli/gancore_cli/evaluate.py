"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, data_dir, device, echo, output_options, print_table

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.contracts import Shape
    from gancore.evaluation.evaluator import Evaluation, Evaluator, Result
    from gancore.evaluation.sources import ReferenceImages
    from gancore.sampling.load import TrainedGenerator


@click.command()
@click.argument("images", type=click.Path(path_type=Path), metavar="RUN|CHECKPOINT|FOLDER|FILE.npy")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric and its extractor, such as fd-digits, or an inline table.  "
    "[default: those of the run, or of the reference]",
)
@click.option(
    "--reference",
    metavar="DATASET|FOLDER|FILE.npy",
    help="Real images to compare with.  [default: the held-out part of the run's dataset, else that dataset]",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=2),
    help="Number of images.  [default: that of the dataset's protocol; all of FOLDER and FILE.npy]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed for samples and subsampling."
)
@click.option("--raw", is_flag=True, help="Sample the current weights instead of their EMA.")
@click.option("--best", is_flag=True, help="Use the best checkpoint of RUN instead of the newest.")
@click.option(
    "--refresh-batchnorm",
    is_flag=True,
    help="Estimate the statistics of batch normalization anew for these weights, from 4,096 samples.",
)
@data_dir
@device
@output_options
def evaluate(
    terminal: Terminal,
    images: Path,
    metrics: tuple[str, ...],
    reference: str | None,
    count: int | None,
    seed: int,
    raw: bool,
    best: bool,
    refresh_batchnorm: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Measure a trained generator, or any images.

    RUN and CHECKPOINT are sampled. FOLDER has pictures of one size; FILE.npy is an array (N, C, H, W), (N, H, W, C) or
    (N, H, W) uint8, or (N, F) float32, from any program. The score of real images is shown next to each value, since
    even a perfect model does not reach zero.
    """
    import torch

    from gancore.config.data_paths import missing_data_named
    from gancore.distributed.ranks import choose_device
    from gancore.evaluation.defaults import evaluator_for_images, evaluator_for_run
    from gancore.evaluation.train_extractor import EvaluationPaths
    from gancore.utils.json import json_safe
    from gancore.utils.paths import cache_root, data_root

    catalog = open_catalog(terminal)
    paths = EvaluationPaths(data_root(data_dir), cache_root(), choose_device(device))
    if _is_trained(images):
        from gancore.sampling.load import load

        trained = load(images, raw=raw, best=best, device=device, catalog=catalog)
        warn(terminal, catalog, *trained.warnings)
        given = _source(reference, trained.shape, paths.root, catalog) if reference else None
        with missing_data_named(trained.config.dataset, _hint_of_moved(trained.path)):
            evaluator = evaluator_for_run(
                trained.config, paths, catalog, metrics=metrics, reference=given, count=count, seed=seed
            )
        stand_in = torch.zeros(1, *trained.shape, dtype=getattr(torch, trained.sample_format.dtype))
        evaluator.check(stand_in)  # before an extractor is trained
        terminal.display().prepare(evaluator.prepare())
        samples = _draw_samples(trained, evaluator, seed, paths.root, refresh_batchnorm)
        weights = "average" if trained.averaged else "current"
        source = {"step": trained.step, "weights": weights, "sha256": trained.digest}
        path = trained.path
    else:
        if raw or best or refresh_batchnorm:
            options = "--raw, --best and --refresh-batchnorm"
            raise click.UsageError(f"{options} need a run or a checkpoint; {images} is another kind of file")
        warn(terminal, catalog)
        given = _source(reference, None, paths.root, catalog) if reference else None
        samples, path, source = _read(images, given, count, seed), images, {}
        evaluator = evaluator_for_images(samples, paths, catalog, metrics=metrics, reference=given, seed=seed)
        terminal.display().prepare(evaluator.prepare())
    terminal.note(f"measuring {len(samples):,} images")
    evaluation = evaluator.evaluate(samples)
    for warning in evaluation.warnings:
        terminal.note(f"warning: {warning}")
    header = {"of": str(path), **source, "count": len(samples), "seed": seed}
    terminal.result(json_safe({**header, **evaluation.to_data()}), lambda: _print(evaluation, evaluator, header))


def _hint_of_moved(checkpoint: Path) -> str:
    """Return what to do when the data of a run has moved."""
    folder = checkpoint.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.toml").is_file():
        return f"gancore resume {checkpoint.parent.parent} --data PATH"
    return "name the data with --reference"


def _is_trained(path: Path) -> bool:
    """Return whether the path is a run or a checkpoint, not images. Raise DataError for anything else."""
    from gancore.errors import DataError

    if path.is_dir():
        return (path / "checkpoints").is_dir() or any(path.glob("step-*.safetensors"))
    if not path.exists() or path.suffix.lower() not in (".safetensors", ".npy"):
        what = "is something else" if path.exists() else "does not exist"
        raise DataError(
            f"evaluate takes a run directory, a checkpoint, a folder of pictures or a .npy file; {path} {what}",
            "gancore evaluate runs/0001",
        )
    return path.suffix.lower() == ".safetensors"


def _source(reference: str, shape: Shape | None, root: Path, catalog: Catalog) -> ReferenceImages:
    """Return the images of `--reference`: the held-out part of a dataset, the dataset of an inline table, or files."""
    from torch.utils.data import TensorDataset

    from gancore.config.run import read_dataset
    from gancore.data.read_images import read_images
    from gancore.evaluation.sources import ReferenceImages, reference_of

    path = Path(reference)
    known = {dataset.name for dataset, _ in catalog.offers(catalog.kinds["dataset"])}
    if reference not in known and (path.suffix.lower() == ".npy" or path.is_dir()):
        return ReferenceImages(path.name, TensorDataset(read_images(path, shape)))
    dataset = read_dataset(reference, catalog)
    return ReferenceImages.of(dataset if reference.startswith("{") else reference_of(dataset)[0], root)


def _draw_samples(
    trained: TrainedGenerator, evaluator: Evaluator, seed: int, root: Path, refresh_batchnorm: bool
) -> Tensor:
    """Return `evaluator.count` samples; in a conditional run, conditions are as frequent as in the training data."""
    from gancore.config.data_paths import missing_data_named
    from gancore.evaluation.sources import ReferenceImages

    conditions = None
    if trained.spec.condition is not None:
        with missing_data_named(trained.config.dataset, _hint_of_moved(trained.path)):
            training = evaluator.origin.training or ReferenceImages.of(trained.config.dataset, root)
        conditions = training.draw_conditions(evaluator.count, seed, "evaluation")
    if refresh_batchnorm:
        trained.refresh_batchnorm(conditions=conditions)
    return trained.sample(evaluator.count, seed=seed, conditions=conditions)


def _read(images: Path, reference: ReferenceImages | None, count: int | None, seed: int) -> Tensor:
    """Return the images of a folder or array, or `count` random ones."""
    from torch.utils.data import TensorDataset

    from gancore.data.read_images import read_images
    from gancore.evaluation.sources import ReferenceImages

    shape = None if reference is None else tuple(reference.draw(1, seed, "shape").shape[1:])
    read = read_images(images, shape)
    return ReferenceImages(images.name, TensorDataset(read)).draw(count or len(read), seed, "chosen")


def _print(evaluation: Evaluation, evaluator: Evaluator, header: Mapping[str, Any]) -> None:
    generated = "step" in header
    weights = f", step {header['step']:,}, {header['weights']} weights" if generated else ""
    echo(f"images: {header['count']:,} of {header['of']}{weights}, seed {header['seed']}")
    source, origin = evaluator.reference, evaluator.origin
    if source:
        trained_on = origin.training is not None and origin.training.dataset == source.dataset
        relation = ", held out from training" if origin.held_out else ", which it was trained on" if trained_on else ""
        echo(f"reference: {' '.join(filter(None, [source.name, source.split]))}{relation if generated else ''}")
    rows = [row for result in evaluation.results for row in _rows(result)]
    columns = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    if all(row[4] == "-" for row in rows):  # no metric has an ideal value
        columns, rows = [*columns[:4], *columns[5:]], [[*row[:4], *row[5:]] for row in rows]
    print_table(columns, rows)


def _rows(result: Result) -> Iterator[list[str]]:
    """Yield a row for the metric's value, and one for each of its details."""
    from gancore.run.progress import brief

    real, measured, extractor = result.real_data, result.measured, result.about["extractor"]
    label = f"{extractor['name']} {extractor['sha256'][:12]}" if isinstance(extractor, dict) else ""
    images, stand_ins = (
        " : ".join(f"{count:,}" for count in counts.values()) for counts in (result.counts, result.real_data_counts)
    )
    numbers = [brief(real.value if real else None), brief(measured.ideal.get("value"))]
    yield [result.name, brief(measured.value), result.better, *numbers, images, stand_ins, label]
    for key, value in measured.details.items():
        numbers = [brief(real.details.get(key) if real else None), brief(measured.ideal.get(key))]
        yield [f"{result.name}.{key}", brief(value), "", *numbers, "", "", ""]
