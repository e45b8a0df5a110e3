"""The command `evaluate`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.options import (
    OutPath,
    Terminal,
    check_weights,
    data_dir,
    device,
    echo,
    output_options,
    print_table,
    settings_of,
)
from gancore_cli.sample import show_drawing

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.contracts import Dataset
    from gancore.evaluation.evaluator import Evaluation, Evaluator, Result
    from gancore.evaluation.sources import ReferenceImages
    from gancore.evaluation.statistics import ReferenceStatistics
    from gancore.run.directory import RunDirectory
    from gancore.sampling.trained import TrainedGenerator


def _half_lives(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[float, ...]:
    """Return the half-lives of texts, each once; infinity stands for all."""
    found = list[float]()
    for text in texts:
        try:
            kimg = math.inf if text == "all" else float(text)
        except ValueError:
            kimg = math.nan
        if not kimg > 0 or (kimg == math.inf and text != "all"):
            raise click.BadParameter(f"{text!r} is neither a half-life in kimg, such as 50, nor all.")
        found.append(kimg)
    if math.inf in found and len(found) > 1:
        raise click.BadParameter("all includes every other half-life; leave those out.")
    return tuple(dict.fromkeys(found))


@click.command()
@click.argument(
    "images",
    type=click.Path(path_type=Path),
    metavar="RUN|CHECKPOINT|PATH",
    shell_complete=completers.runs_and_paths,
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="A metric and its extractor, such as fd-classifier, or an inline table.  "
    "[default: those of the run, or of the reference]",
    shell_complete=completers.metrics,
)
@click.option(
    "--reference",
    metavar="DATASET|PATH",
    help="Real images to compare with, or FILE.npz with the mean and covariance of their features (mu, sigma).  "
    "[default: the held-out part of the run's dataset, else that dataset]",
    shell_complete=completers.datasets_and_paths,
)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(min=2),
    help="Number of images.  [default: that of the dataset's protocol; all of PATH]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed for samples and subsampling."
)
@click.option("--raw", is_flag=True, help="Sample the current weights instead of their EMA.")
@click.option(
    "--ema",
    "half_lives",
    multiple=True,
    callback=_half_lives,
    metavar="KIMG|all",
    help="Sample the average (EMA) with this half-life, of those that the run kept: `ema.half_life_kimg` and "
    "`ema.more_kimg`. Several, or all, are measured one by one, for a choice between them.  [default: the first]",
)
@click.option("--best", is_flag=True, help="Use the best checkpoint of RUN instead of the newest.")
@click.option(
    "--refresh-batchnorm",
    is_flag=True,
    help="Estimate the statistics of batch normalization anew for these weights, from 4,096 samples.",
)
@click.option(
    "--save",
    is_flag=True,
    help="Keep the result in RUN as its newest evaluation: gancore report, compare, show run and the model card of "
    "gancore export show it.",
)
@click.option(
    "--write-statistics",
    "statistics",
    type=OutPath(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Write the mean and covariance of the reference's features, for --reference FILE.npz.",
)
@settings_of("the dataset that reads PATH or the PATH of --reference")
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
    half_lives: tuple[float, ...],
    best: bool,
    refresh_batchnorm: bool,
    save: bool,
    statistics: Path | None,
    assignments: tuple[str, ...],
    data_dir: Path | None,
    device: str,
) -> None:
    """Measure a trained generator, or any images.

    RUN and CHECKPOINT are sampled. PATH has images or vectors from any program: a folder or zip archive of pictures, or
    an array, read as gancore train reads it. Pictures are resized to the reference. The score of real images is shown
    next to each value, since even a perfect model does not reach zero.
    """
    import torch

    from gancore.config.data_paths import missing_data_named
    from gancore.distributed.ranks import choose_device
    from gancore.evaluation.defaults import check_reference, evaluator_for_images, evaluator_for_run
    from gancore.evaluation.train_extractor import EvaluationPaths
    from gancore.utils.json import json_safe
    from gancore.utils.large import empty
    from gancore.utils.paths import cache_root, data_root

    check_weights(raw=raw, ema=half_lives)
    if statistics and statistics.suffix.lower() != ".npz":
        raise click.UsageError(f"--write-statistics must end in .npz; received {statistics}")
    if save and (raw or half_lives or refresh_batchnorm or reference):
        raise click.UsageError("--save is for the weights and the reference of RUN; leave out what changes them")
    saved_in = click.get_current_context().with_resource(_locked(images)) if save else None
    catalog = open_catalog(terminal)
    paths = EvaluationPaths(data_root(data_dir), cache_root(), choose_device(device))
    given, asked, warnings, averaged_over = None, None, list[str](), None
    if _is_trained(images, catalog):
        from gancore.sampling.load import load

        if assignments and not (reference and Path(reference).expanduser().exists()):
            raise click.UsageError("--set needs PATH or --reference PATH, whose dataset it changes")

        def loaded(kimg: float | None) -> TrainedGenerator:
            return load(images, raw=raw, best=best, ema=kimg, device=device, catalog=catalog)

        wanted = [None] if half_lives in ((), (math.inf,)) else list[float | None](half_lives)
        trained = loaded(wanted[0])
        if half_lives == (math.inf,):
            wanted = _all_half_lives(trained)
        warn(terminal, catalog, *trained.warnings)
        if reference:
            given, warnings = _reference(terminal, reference, assignments, catalog, paths.root, trained)
        with missing_data_named(trained.config.dataset, _hint_of_moved(trained.path)):
            evaluator = evaluator_for_run(
                trained.config,
                paths,
                catalog,
                metrics=metrics,
                reference=given,
                sample_format=trained.sample_format,
                count=count,
                seed=seed,
            )
        stand_in = torch.zeros(1, *trained.shape, dtype=getattr(torch, trained.sample_format.dtype))
        evaluator.check(stand_in)  # before an extractor is trained
        samples = empty((evaluator.count, *trained.shape), stand_in.dtype)  # fails if there are too many
        terminal.display().prepare(evaluator.prepare())
        if len(wanted) > 1:
            averages: list[tuple[TrainedGenerator, Evaluation]] = []
            for average in map(loaded, wanted):
                asked = _draw_samples(terminal, average, evaluator, samples, paths.root, refresh_batchnorm)
                averages.append((average, _measured(terminal, evaluator, samples, asked, warnings)))
            if statistics:
                evaluator.reference_statistics().save(statistics)
            _print_averages(terminal, averages, evaluator, len(samples), statistics)
            return
        asked = _draw_samples(terminal, trained, evaluator, samples, paths.root, refresh_batchnorm)
        weights = "average" if trained.averaged else "current"
        source = {"step": trained.step, "weights": weights, "sha256": trained.digest}
        averaged_over = trained.half_life_kimg
        path = trained.path
    else:
        if raw or half_lives or best or refresh_batchnorm:
            options = "--raw, --ema, --best and --refresh-batchnorm"
            raise click.UsageError(f"{options} need a run or a checkpoint; {images} is another kind of file")
        warn(terminal, catalog)
        check_reference(reference, metrics)
        if reference:
            given, warnings = _reference(terminal, reference, assignments, catalog, paths.root)
        samples, skipped = _read(terminal, images, assignments, catalog, given, count, seed)
        path, source, warnings = images, {}, [*warnings, *skipped]
        evaluator = evaluator_for_images(samples, paths, catalog, metrics=metrics, reference=given, seed=seed)
        terminal.display().prepare(evaluator.prepare())
    if statistics:
        evaluator.reference_statistics().save(statistics)
    evaluation = _measured(terminal, evaluator, samples, asked, warnings)
    header: dict[str, object] = {"of": str(path), **source, "count": len(samples), "seed": seed}
    header |= {} if averaged_over is None else {"half_life_kimg": averaged_over}
    document = {**header, **evaluation.to_data()}
    if saved_in:
        saved_in.write_evaluation(trained.step, evaluation)
        document["saved"] = str(saved_in.evaluation)
    if statistics:
        document["statistics"] = str(statistics)

    def text() -> None:
        _print(evaluation, evaluator, header)
        if saved_in:
            echo(f"saved: {saved_in.evaluation}")
        if statistics:
            echo(f"statistics: {statistics}")

    terminal.result(json_safe(document), text)


def _all_half_lives(trained: TrainedGenerator) -> list[float | None]:
    """Return the half-lives of all averages of a run, None for a schedule. Raises ConfigError if it has none."""
    from gancore.errors import ConfigError

    if trained.config.ema is None:
        raise ConfigError("the run keeps no average of its weights (EMA)", "leave --ema out")
    return sorted(trained.config.ema.half_lives, key=lambda kimg: kimg or 0)


def _measured(
    terminal: Terminal, evaluator: Evaluator, samples: Tensor, asked: Tensor | None, warnings: Sequence[str]
) -> Evaluation:
    """Return the evaluation of samples, and of what they were asked for, with further warnings, which are shown."""
    terminal.note(f"measuring {len(samples):,} images")
    evaluation = evaluator.evaluate(samples, asked)
    evaluation = replace(evaluation, warnings=(*warnings, *evaluation.warnings))
    for warning in evaluation.warnings:
        terminal.note(f"warning: {warning}")
    return evaluation


def _print_averages(
    terminal: Terminal,
    averages: Sequence[tuple[TrainedGenerator, Evaluation]],
    evaluator: Evaluator,
    count: int,
    statistics: Path | None,
) -> None:
    """Print the evaluations of several averages (EMA) of a checkpoint, a column for each, and where statistics are."""
    from gancore.utils.json import json_safe
    from gancore.utils.text import short_number

    first = averages[0][0]
    header = {"of": str(first.path), "step": first.step, "sha256": first.digest, "count": count}
    header |= {"seed": evaluator.seed}
    each = [{"half_life_kimg": model.half_life_kimg, **evaluation.to_data()} for model, evaluation in averages]

    def text() -> None:
        echo(_images_of({**header, "weights": "averaged"}))
        if reference := _reference_of(evaluator, generated=True):
            echo(reference)
        names = [
            "scheduled" if model.half_life_kimg is None else f"{model.half_life_kimg:g} kimg" for model, _ in averages
        ]
        rows = []
        for results in zip(*(evaluation.results for _, evaluation in averages), strict=True):
            of_real = results[0].real_data
            values = [short_number(result.measured.value) for result in results]
            rows.append([results[0].name, *values, results[0].better, short_number(of_real.value if of_real else None)])
            for key in results[0].measured.details:
                values = [short_number(result.measured.details.get(key)) for result in results]
                real = short_number(of_real.details.get(key) if of_real else None)
                rows.append([f"{results[0].name}.{key}", *values, "", real])
        print_table(["metric", *names, "better", "real data"], rows)
        if statistics:
            echo(f"statistics: {statistics}")

    written = {"statistics": str(statistics)} if statistics else {}
    terminal.result(json_safe({**header, "averages": each, **written}), text)


@contextmanager
def _locked(path: Path) -> Iterator[RunDirectory]:
    """Yield the run in a folder, locked in this block, so that it is not trained while its evaluation is replaced.

    Raises UsageError when there is no run, InUseError when the run is being trained.
    """
    from gancore.errors import InUseError
    from gancore.run.directory import RunDirectory

    directory = RunDirectory(path)
    if not directory.config.is_file() or not directory.checkpoints.is_dir():
        raise click.UsageError(f"--save needs the folder of a run, like runs/0001; received {path}")
    try:
        with directory.locked():
            yield directory
    except InUseError as error:
        raise InUseError(error.message, "wait for it or stop it, or leave --save out") from error


def _hint_of_moved(checkpoint: Path) -> str:
    """Return what to do when the data of a run has moved."""
    from gancore.utils.paths import shell_quote

    folder = checkpoint.absolute().parent
    if folder.name == "checkpoints" and (folder.parent / "config.toml").is_file():
        run = shell_quote(checkpoint.parent.parent)
        return f"gancore evaluate {run} --reference PATH, or gancore resume {run} --data PATH, which continues the run"
    return "name the data with --reference"


def _is_trained(path: Path, catalog: Catalog) -> bool:
    """Return whether the path is a run or a checkpoint, not images. Raise DataError if it is neither."""
    from gancore.config.from_path import dataset_at
    from gancore.errors import DataError
    from gancore.sampling.load import is_exported

    if is_exported(path) or (
        path.is_dir() and ((path / "checkpoints").is_dir() or any(path.glob("step-*.safetensors")))
    ):
        return True
    try:
        dataset_at(path, catalog)
    except DataError:
        if path.suffix.lower() == ".safetensors" and path.exists():
            return True
        raise
    return False


def _reference(
    terminal: Terminal,
    reference: str,
    assignments: tuple[str, ...],
    catalog: Catalog,
    root: Path,
    trained: TrainedGenerator | None = None,
) -> tuple[ReferenceImages | ReferenceStatistics, list[str]]:
    """Return the images of `--reference`, and warnings: the held-out part of a dataset, an inline table, or files.

    Of an .npz file with statistics, return those.

    For a generator, files are read with the settings of the data that it was trained on.
    """
    from gancore.config.from_path import dataset_for
    from gancore.config.run import read_dataset
    from gancore.data.items import build_dataset
    from gancore.evaluation.read_images import warnings_of
    from gancore.evaluation.sources import ReferenceImages, reference_of
    from gancore.evaluation.statistics import ReferenceStatistics, has_statistics

    known = {dataset.name for dataset, _ in catalog.offers(catalog.kinds["dataset"])}
    if reference in known or reference.startswith("{") or not Path(reference).expanduser().exists():
        dataset = read_dataset(reference, catalog)
        dataset = dataset if reference.startswith("{") else reference_of(dataset)[0]
        _prepare(terminal, dataset, root, dataset.name)
        return ReferenceImages.of(dataset, root), []
    if has_statistics(path := Path(reference).expanduser()):
        return ReferenceStatistics.read(path), []
    shape, like = (None, None) if trained is None else (trained.shape, trained.config.dataset)
    dataset = with_settings(dataset_for(reference, catalog, shape, like), assignments, catalog)
    dataset = reference_of(dataset)[0]
    _prepare(terminal, dataset, root, reference)
    # Extractors of a run are trained on its own data, whatever it is compared with.
    source = dataset if trained is None else None
    images = ReferenceImages(Path(reference).name, build_dataset(dataset, root), source)
    return images, list(warnings_of(dataset, reference, root))


def _prepare(terminal: Terminal, dataset: Dataset, root: Path, name: str) -> None:
    """Do the slow work of a dataset, such as decoding pictures, and show its progress."""
    from gancore.errors import blame
    from gancore.evaluation.train_extractor import Preparation

    with blame(f"dataset {dataset.name!r}", "in prepare()"):
        terminal.display().prepare(Preparation(f"reading {name}", done) for done in dataset.prepare(root))


def _draw_samples(
    terminal: Terminal,
    trained: TrainedGenerator,
    evaluator: Evaluator,
    samples: Tensor,
    root: Path,
    refresh_batchnorm: bool,
) -> Tensor | None:
    """Fill in the samples (N, …), and return their conditions: as frequent as in the training data, None without."""
    from gancore.config.data_paths import paths_of
    from gancore.evaluation.sources import ReferenceImages

    conditions = None
    if trained.spec.condition is not None:
        training = evaluator.origin.training
        if training is None and not all(map(os.path.exists, paths_of(trained.config.dataset))):
            training = evaluator.reference  # an exported generator comes without its data
            terminal.note("warning: the training data is not here, so conditions are drawn from the reference")
        training = training or ReferenceImages.of(trained.config.dataset, root)
        conditions = training.draw_conditions(len(samples), evaluator.seed, "evaluation")
    if refresh_batchnorm:
        trained.refresh_batchnorm(conditions=conditions)
    stream = trained.stream(len(samples), seed=evaluator.seed, conditions=conditions)

    def drawing() -> Iterator[int]:
        done = 0
        for chunk in stream:
            samples[done : done + len(chunk)] = chunk
            done += len(chunk)
            yield done

    show_drawing(terminal, drawing(), len(samples))
    return conditions


def _read(
    terminal: Terminal,
    images: Path,
    assignments: tuple[str, ...],
    catalog: Catalog,
    reference: ReferenceImages | ReferenceStatistics | None,
    count: int | None,
    seed: int,
) -> tuple[Tensor, list[str]]:
    """Return the images at a path, or `count` random ones, and warnings. They are decoded to the reference's shape."""
    from tempfile import TemporaryDirectory

    from gancore.config.from_path import dataset_for
    from gancore.data.items import build_dataset
    from gancore.evaluation.read_images import warnings_of
    from gancore.evaluation.sources import ReferenceImages

    shape, like = None, None
    if isinstance(reference, ReferenceImages):
        shape, like = tuple(reference.draw(1, seed, "shape").shape[1:]), reference.dataset
    dataset = with_settings(dataset_for(images, catalog, shape, like), assignments, catalog)
    with TemporaryDirectory(prefix="gancore-") as folder:  # not the cache, where they would stay
        _prepare(terminal, dataset, Path(folder), str(images))
        source = ReferenceImages(images.name, build_dataset(dataset, Path(folder)))
        warnings = list(warnings_of(dataset, images, Path(folder)))
        return source.draw(count or len(source), seed, "chosen"), warnings


def _print(evaluation: Evaluation, evaluator: Evaluator, header: Mapping[str, Any]) -> None:
    echo(_images_of(header))
    if reference := _reference_of(evaluator, generated="step" in header):
        echo(reference)
    rows = [row for result in evaluation.results for row in _rows(result)]
    columns = ["metric", "value", "better", "real data", "ideal", "images", "stand-ins", "extractor"]
    if all(row[4] == "-" for row in rows):  # no metric has an ideal value
        columns, rows = [*columns[:4], *columns[5:]], [[*row[:4], *row[5:]] for row in rows]
    print_table(columns, rows)
    for line in dict.fromkeys(_accuracy(result) for result in evaluation.results):
        if line:
            echo(line)


def _accuracy(result: Result) -> str | None:
    """Return how well a classifier that was trained for the evaluation classifies; None without one."""
    extractor = result.about["extractor"]
    if not isinstance(extractor, dict) or extractor["accuracy"] is None:
        return None
    gate = f", of which it must reach {extractor['gate']:.1%}" if extractor["gate"] is not None else ""
    name = f"{extractor['name']} {extractor['sha256'][:12]}"
    return f"extractor {name} classifies {extractor['accuracy']:.2%} of held-out images correctly{gate}"


def _images_of(header: Mapping[str, Any]) -> str:
    """Return the line about what was measured."""
    weights = f", step {header['step']:,}, {header['weights']} weights" if "step" in header else ""
    weights += f" of {half_life:g} kimg" if (half_life := header.get("half_life_kimg")) else ""
    return f"images: {header['count']:,} of {header['of']}{weights}, seed {header['seed']}"


def _reference_of(evaluator: Evaluator, *, generated: bool) -> str:
    """Return the line about the real images; empty without them."""
    source, origin = evaluator.reference, evaluator.origin
    if evaluator.statistics:
        return f"reference: mean and covariance of features in {evaluator.statistics.name}"
    if not source:
        return ""
    trained_on = origin.training is not None and origin.training.dataset == source.dataset
    relation = ", held out from training" if origin.held_out else ", which it was trained on" if trained_on else ""
    return f"reference: {' '.join(filter(None, [source.name, source.split]))}{relation if generated else ''}"


def _rows(result: Result) -> Iterator[list[str]]:
    """Yield a row for the metric's value, and one for each of its details."""
    from gancore.utils.text import short_number

    real, measured, extractor = result.real_data, result.measured, result.about["extractor"]
    label = f"{extractor['name']} {extractor['sha256'][:12]}" if isinstance(extractor, dict) else ""
    images, stand_ins = (
        " : ".join(f"{count:,}" for count in counts.values()) for counts in (result.counts, result.real_data_counts)
    )
    numbers = [short_number(real.value if real else None), short_number(measured.ideal.get("value"))]
    yield [result.name, short_number(measured.value), result.better, *numbers, images, stand_ins, label]
    for key, value in measured.details.items():
        numbers = [short_number(real.details.get(key) if real else None), short_number(measured.ideal.get(key))]
        yield [f"{result.name}.{key}", short_number(value), "", *numbers, "", "", ""]
