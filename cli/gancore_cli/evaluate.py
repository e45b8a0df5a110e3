"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli.catalog import open_catalog, warn
from gancore_cli.options import Terminal, cache_root, data_dir, data_root, device, echo, output_options, print_table

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
    help="A metric and its extractor, as in fd-digits, or a table.  [default: those of the run, or of the reference]",
)
@click.option(
    "--reference",
    metavar="DATASET|FOLDER|FILE.npy",
    help="Real images to compare with.  [default: what the dataset of the run holds out, or else that dataset]",
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=2),
    help="How many images.  [default: as many as the dataset's protocol says; all of FOLDER and FILE.npy]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of samples and choices.")
@click.option("--raw", is_flag=True, help="Draw from the current weights, not from their average.")
@click.option("--best", is_flag=True, help="Of the best checkpoint of RUN, not of the newest.")
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
    data_dir: Path | None,
    device: str,
) -> None:
    """Measure a trained generator, or any images.

    RUN and CHECKPOINT are sampled; FOLDER holds pictures of one size, FILE.npy an array (N, C, H, W), (N, H, W, C) or
    (N, H, W) uint8, or (N, F) float32, from any program. Beside each number stands what real images score in the same
    place, since a perfect model does not reach zero.
    """
    from gancore.evaluation.defaults import evaluator_of_images, evaluator_of_run
    from gancore.evaluation.train_extractor import EvaluationPaths
    from gancore.utils.device import choose_device
    from gancore_cli.progress import show_preparation

    catalog = open_catalog(terminal)
    place = EvaluationPaths(data_root(data_dir), cache_root(), choose_device(device))
    if _is_trained(images):
        from gancore.sampling.load import load

        trained = load(images, raw=raw, best=best, device=device, catalog=catalog)
        warn(terminal, catalog, *trained.warnings)
        named = _source(reference, trained.shape, place.root, catalog) if reference else None
        evaluator = evaluator_of_run(
            trained.run, place, catalog, metrics=metrics, reference=named, count=count, seed=seed
        )
        evaluator.check(trained.sample(1))  # what does not fit is told before anything is learned
        show_preparation(terminal, evaluator.prepare())
        seen = _sampled(trained, evaluator, seed, place.root)
        weights = "average" if trained.averaged else "current"
        what = {"step": trained.step, "weights": weights, "sha256": trained.digest}
        path = trained.path
    else:
        if raw or best:
            raise click.UsageError(f"--raw and --best choose weights of a run; {images} is none")
        warn(terminal, catalog)
        named = _source(reference, None, place.root, catalog) if reference else None
        seen, path, what = _read(images, named, count, seed), images, {}
        evaluator = evaluator_of_images(seen, place, catalog, metrics=metrics, reference=named, seed=seed)
        show_preparation(terminal, evaluator.prepare())
    terminal.note(f"measuring {len(seen):,} images")
    evaluation = evaluator.evaluate(seen)
    for warning in evaluation.warnings:
        terminal.note(f"warning: {warning}")
    _show(terminal, evaluation, evaluator, {"of": str(path), **what, "count": len(seen), "seed": seed})


def _is_trained(path: Path) -> bool:
    """Whether there is something to sample at the path, and not something to read."""
    from gancore.errors import DataError

    if path.is_dir():
        return (path / "checkpoints").is_dir() or any(path.glob("step-*.safetensors"))
    if not path.exists() or path.suffix.lower() not in (".safetensors", ".npy"):
        what = "is something else" if path.exists() else "is not there"
        raise DataError(
            f"a run directory, a checkpoint, a folder of pictures or a .npy file can be measured; {path} {what}",
            "gancore evaluate runs/0001",
        )
    return path.suffix.lower() == ".safetensors"


def _source(reference: str, shape: Shape | None, root: Path, catalog: Catalog) -> ReferenceImages:
    """The images that `--reference` names: a dataset's held-out part, a dataset as a table describes it, or files."""
    from gancore.config.run import read_dataset
    from gancore.data.read_images import read_images
    from gancore.evaluation.sources import Plain, ReferenceImages, reference_of

    path = Path(reference)
    known = {dataset.name for dataset, _ in catalog.offers(catalog.kinds["dataset"])}
    if reference not in known and (path.suffix.lower() == ".npy" or path.is_dir()):
        return ReferenceImages(path.name, Plain(read_images(path, shape)))
    dataset = read_dataset(reference, catalog)
    return ReferenceImages.of(dataset if reference.startswith("{") else reference_of(dataset)[0], root)


def _sampled(trained: TrainedGenerator, evaluator: Evaluator, seed: int, root: Path) -> Tensor:
    """As many samples as are measured; their classes, in a conditional run, are as frequent as in the training data."""
    from gancore.evaluation.sources import ReferenceImages

    labels = None
    if trained.num_classes is not None:
        training = evaluator.origin.training or ReferenceImages.of(trained.run.dataset, root)
        labels = training.draw_labels(evaluator.count, seed, "evaluation")
    return trained.sample(evaluator.count, seed=seed, labels=labels)


def _read(images: Path, named: ReferenceImages | None, count: int | None, seed: int) -> Tensor:
    """The images of a folder or array, or as many of them as are asked for."""
    from gancore.data.read_images import read_images
    from gancore.evaluation.sources import Plain, ReferenceImages

    shape = None if named is None else tuple(named.draw(1, seed, "shape").shape[1:])
    read = read_images(images, shape)
    if count is None or count >= len(read):
        return read
    return ReferenceImages(images.name, Plain(read)).draw(count, seed, "chosen")


def _show(terminal: Terminal, evaluation: Evaluation, evaluator: Evaluator, what: dict[str, Any]) -> None:
    from gancore.utils.json import json_safe

    terminal.result(json_safe({**what, **evaluation.to_data()}), lambda: _print(evaluation, evaluator, what))


def _print(evaluation: Evaluation, evaluator: Evaluator, what: Mapping[str, Any]) -> None:
    of = ", ".join([what["of"], *([f"step {what['step']:,}, {what['weights']} weights"] if "step" in what else [])])
    echo(f"images: {what['count']:,} of {of}, seed {what['seed']}")
    source = evaluator.reference
    if source:
        trained_on = evaluator.origin.training is not None and evaluator.origin.training.dataset == source.dataset
        trust = (
            ", held out from training"
            if evaluator.origin.held_out
            else ", which it was trained on"
            if trained_on
            else ""
        )
        say(f"reference: {' '.join(filter(None, [source.name, source.split]))}{trust if 'step' in what else ''}")
    rows = [row for result in evaluation.results for row in _rows(result)]
    header = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    if all(row[4] == "-" for row in rows):
        header, rows = [*header[:4], *header[5:]], [[*row[:4], *row[5:]] for row in rows]
    print_table(header, rows)


def _rows(result: Result) -> Iterator[list[str]]:
    """The number, and below it its details."""
    from gancore_cli.progress import brief

    floor, ideal, extractor = result.real_data, result.measured.ideal, result.about["extractor"]
    through = f"{extractor['name']} {extractor['sha256'][:12]}" if isinstance(extractor, dict) else ""
    images, stand_ins = (
        " : ".join(f"{count:,}" for count in each.values()) for each in (result.counts, result.floor_counts)
    )
    numbers = [brief(floor.value if floor else None), brief(ideal.get("value"))]
    yield [result.name, brief(result.measured.value), result.better, *numbers, images, stand_ins, through]
    for key, value in result.measured.details.items():
        numbers = [brief(floor.details.get(key) if floor else None), brief(ideal.get(key))]
        yield [f"{result.name}.{key}", brief(value), "", *numbers, "", "", ""]
