"""The command `evaluate`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from gancore_cli import completers
from gancore_cli.catalog import open_catalog, warn
from gancore_cli.data import with_settings
from gancore_cli.evaluation_text import half_life_in_words, print_averages, print_evaluation
from gancore_cli.options import (
    OutPath,
    Terminal,
    best,
    check_weights,
    data_dir,
    device,
    echo,
    output_options,
    raw,
    refresh_batchnorm,
    settings_of,
)
from gancore_cli.sample import show_drawing

if TYPE_CHECKING:
    from torch import Tensor

    from gancore.catalog.catalog import Catalog
    from gancore.contracts import Dataset
    from gancore.evaluation.evaluator import Evaluation, Evaluator
    from gancore.evaluation.sources import ReferenceImages
    from gancore.evaluation.statistics import ReferenceStatistics
    from gancore.evaluation.train_extractor import EvaluationPaths
    from gancore.run.directory import RunDirectory
    from gancore.sampling.trained import TrainedGenerator


_ALL = math.inf
"""The half-life that stands for every average of a run."""


def _half_lives(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[float, ...]:
    """Return the half-lives of texts, each once."""
    found = list[float]()
    for text in texts:
        try:
            kimg = _ALL if text == "all" else float(text)
        except ValueError:
            kimg = math.nan
        if not kimg > 0 or (kimg == _ALL and text != "all"):
            raise click.BadParameter(f"{text!r} is neither a half-life in kimg, such as 50, nor all.")
        found.append(kimg)
    if _ALL in found and len(found) > 1:
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
@raw
@click.option(
    "--ema",
    "half_lives",
    multiple=True,
    callback=_half_lives,
    metavar="KIMG|all",
    help="Sample the average (EMA) with this half-life, of those that the run kept: `ema.half_life_kimg` and "
    "`ema.more_kimg`. Several, or all, are measured one by one, for a choice between them.  "
    "[default: ema.half_life_kimg]",
)
@best
@refresh_batchnorm
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
    next to each value, since even a perfect model does not reach zero. `ideal` is the expected score of a perfect model
    with as many images, where theory has it, and `stand-ins` are the numbers of images of the score of real data: those
    that took the place of generated ones, and those that they were compared with.

    \b
    Examples:
      gancore evaluate runs/0001
      gancore evaluate runs/0001 --metric fd-random --metric coverage-random
      gancore evaluate PICTURES/ --reference mnist
    """  # noqa: D301  # click does not wrap a paragraph that begins with \b
    from gancore.distributed.ranks import choose_device
    from gancore.evaluation.train_extractor import EvaluationPaths
    from gancore.utils.json import json_safe
    from gancore.utils.paths import cache_root, data_root

    check_weights(raw=raw, ema=half_lives)
    if statistics:
        _check_target(statistics)
    if save and (raw or half_lives or refresh_batchnorm or reference):
        raise click.UsageError("--save is for the weights and the reference of RUN; leave out what changes them")
    saved_in = click.get_current_context().with_resource(_locked(images)) if save else None
    catalog = open_catalog(terminal)
    paths = EvaluationPaths(data_root(data_dir), cache_root(), choose_device(device))
    options = _Options(metrics, reference, assignments, count, seed, raw, half_lives, best, refresh_batchnorm, device)
    subject_of = _of_run if _is_trained(images, catalog) else _of_images
    subject = subject_of(terminal, images, options, catalog, paths)
    evaluator, samples = subject.evaluator, subject.samples
    if statistics:
        evaluator.check_statistics()
    terminal.display().prepare(evaluator.prepare())
    if statistics:
        evaluator.reference_statistics().save(statistics)
    averages: list[tuple[float | None, Evaluation]] = []
    for half_life, asked in zip(subject.half_lives, subject.draws, strict=True):
        average = f", half-life {half_life_in_words(half_life)}" if options.several else ""
        terminal.note(f"measuring {len(samples):,} images{average}")
        evaluation = evaluator.evaluate(samples, asked)
        averages.append((half_life, replace(evaluation, warnings=(*subject.warnings, *evaluation.warnings))))
    found = [evaluation for _, evaluation in averages]
    for warning in dict.fromkeys(warning for evaluation in found for warning in evaluation.warnings):
        terminal.note(f"warning: {warning}")
    for note in found[0].notes:  # those of the evaluator, equal for all
        terminal.note(f"note: {note}")
    if saved_in:
        saved_in.write_evaluation(subject.step, found[0])
    header = {**subject.header, "count": len(samples), "seed": seed}
    measured = found[0].to_data()
    if options.several:
        measured = {"averages": [{"half_life_kimg": half_life, **each.to_data()} for half_life, each in averages]}
    files = {"saved": saved_in and str(saved_in.evaluation), "statistics": statistics and str(statistics)}

    def text() -> None:
        if options.several:
            print_averages(header, evaluator, averages)
        else:
            print_evaluation(header, evaluator, found[0])
        for what, file in files.items():
            if file:
                echo(f"{what}: {file}")

    terminal.result(json_safe({**header, **measured, **files}), text)


def _check_target(statistics: Path) -> None:
    """Raise an error unless statistics can be written to a path, where they replace nothing but others."""
    from gancore.errors import StorageError
    from gancore.evaluation.statistics import has_statistics
    from gancore.utils.paths import check_folder_of

    if statistics.suffix.lower() != ".npz":
        raise click.UsageError(f"--write-statistics must end in .npz; received {statistics}")
    check_folder_of(statistics, "--write-statistics")
    if os.path.lexists(statistics) and not has_statistics(statistics):
        raise StorageError(f"{statistics} exists, and holds no statistics", "choose another --write-statistics")


@dataclass(frozen=True)
class _Options:
    """The options that say what is measured, and against what."""

    metrics: tuple[str, ...]
    reference: str | None
    assignments: tuple[str, ...]
    count: int | None
    seed: int
    raw: bool
    half_lives: tuple[float, ...]
    best: bool
    refresh_batchnorm: bool
    device: str

    @property
    def several(self) -> bool:
        """Whether averages (EMA) are measured one by one."""
        return _ALL in self.half_lives or len(self.half_lives) > 1


@dataclass(frozen=True)
class _Subject:
    """What is measured: `samples` (N, …), which have their content once an item of `draws` is asked for.

    There is an item for each of the `half_lives`: the conditions of the samples, or None. `header` begins the result.
    """

    evaluator: Evaluator
    samples: Tensor
    header: Mapping[str, object]
    warnings: Sequence[str]
    half_lives: Sequence[float | None] = (None,)
    draws: Iterable[Tensor | None] = (None,)
    step: int = 0


def _of_run(terminal: Terminal, run: Path, options: _Options, catalog: Catalog, paths: EvaluationPaths) -> _Subject:
    """Return samples of a run or checkpoint, which are drawn later, since extractors are prepared first."""
    import torch

    from gancore.config.data_paths import missing_data_named
    from gancore.evaluation.defaults import evaluator_for_run
    from gancore.sampling.load import load
    from gancore.utils.large import empty

    if options.assignments and not _reads_files(options.reference, catalog):
        raise click.UsageError("--set needs PATH or --reference PATH, whose dataset it changes")

    def loaded(path: Path, kimg: float | None, *, best: bool = False) -> TrainedGenerator:
        return load(path, raw=options.raw, best=best, ema=kimg, device=options.device, catalog=catalog)

    first = None if _ALL in options.half_lives else next(iter(options.half_lives), None)
    trained = loaded(run, first, best=options.best)
    half_lives = _wanted_averages(trained, options.half_lives) if options.several else [trained.half_life_kimg]
    # All of one checkpoint, and before any is measured: training may add, replace and remove checkpoints meanwhile.
    models = [trained if kimg == trained.half_life_kimg else loaded(trained.path, kimg) for kimg in half_lives]
    warn(terminal, catalog, *trained.warnings)
    reference, warnings = None, list[str]()
    if options.reference:
        given = options.reference, options.assignments
        reference, warnings = _reference(terminal, *given, catalog, paths.root, trained)
    with missing_data_named(trained.config.dataset, _hint_of_moved(trained.path)):
        evaluator = evaluator_for_run(
            trained.config,
            paths,
            catalog,
            metrics=options.metrics,
            reference=reference,
            sample_format=trained.sample_format,
            classes=trained.classes,
            count=options.count,
            seed=options.seed,
        )
    stand_in = torch.zeros(1, *trained.shape, dtype=getattr(torch, trained.sample_format.dtype))
    evaluator.check(stand_in)  # before an extractor is trained
    samples = empty((evaluator.count, *trained.shape), stand_in.dtype)  # fails if there are too many
    header = {
        "of": str(trained.path),
        "step": trained.step,
        "weights": "average" if trained.averaged else "current",
        "half_life_kimg": None if options.several else trained.half_life_kimg,
        "sha256": trained.digest,
    }
    # Lazy, since the samples of each average are drawn into the same memory, once those before are measured.
    draws = (
        _draw_samples(terminal, model, evaluator, samples, paths.root, options.refresh_batchnorm) for model in models
    )
    return _Subject(evaluator, samples, header, warnings, half_lives, draws, trained.step)


def _of_images(
    terminal: Terminal, images: Path, options: _Options, catalog: Catalog, paths: EvaluationPaths
) -> _Subject:
    """Return images or vectors from any program."""
    from gancore.evaluation.defaults import check_reference, evaluator_for_images

    if options.raw or options.half_lives or options.best or options.refresh_batchnorm:
        names = "--raw, --ema, --best and --refresh-batchnorm"
        raise click.UsageError(f"{names} need a run or a checkpoint; {images} is another kind of file")
    warn(terminal, catalog)
    check_reference(options.reference, options.metrics)
    reference, warnings = None, list[str]()
    if options.reference:
        reference, warnings = _reference(terminal, options.reference, options.assignments, catalog, paths.root)
    samples, skipped = _read(terminal, images, options, catalog, reference)
    evaluator = evaluator_for_images(
        samples, paths, catalog, metrics=options.metrics, reference=reference, seed=options.seed
    )
    header = {"of": str(images), **dict.fromkeys(("step", "weights", "half_life_kimg", "sha256"))}
    return _Subject(evaluator, samples, header, [*warnings, *skipped])


def _wanted_averages(trained: TrainedGenerator, half_lives: Sequence[float]) -> list[float | None]:
    """Return the half-lives of averages (EMA) to measure, None for a schedule.

    Raises ConfigError if the run does not keep one of them, or none at all.
    """
    from gancore.training.ema import role_of

    ema = trained.config.ema
    if ema is None or _ALL not in half_lives:
        for kimg in half_lives:
            role_of(ema, kimg)
        return [*half_lives]
    return sorted(ema.half_lives, key=lambda kimg: kimg or 0)


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


def _is_by_name(reference: str, catalog: Catalog) -> bool:
    """Return whether `--reference` is a name or a table of a dataset, not a path. A name wins over a path."""
    known = {dataset.name for dataset, _ in catalog.offers(catalog.kinds["dataset"])}
    return reference in known or reference.startswith("{") or not Path(reference).expanduser().exists()


def _reads_files(reference: str | None, catalog: Catalog) -> bool:
    """Return whether `--reference` names files that a dataset reads, so that there is one for `--set` to change."""
    from gancore.evaluation.statistics import has_statistics

    if not reference or _is_by_name(reference, catalog):
        return False
    return not has_statistics(Path(reference).expanduser())


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

    if _is_by_name(reference, catalog):
        if os.path.exists(reference):
            data = quote(f"./{reference}")
            terminal.note(f"note: {reference} is the dataset; for the data of the same name: --reference {data}")
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
    from gancore.config.objects import is_object
    from gancore.evaluation.sources import ReferenceImages
    from gancore.run.measure import fill

    conditions = None
    if trained.spec.condition is not None:
        training = evaluator.origin.training
        dataset = trained.config.dataset
        is_absent = is_object(dataset.name) or not all(map(os.path.exists, paths_of(dataset)))
        if training is None and is_absent:
            training = evaluator.reference  # an exported generator comes without its data
            terminal.note("warning: the training data is not here, so conditions are drawn from the reference")
        training = training or ReferenceImages.of(dataset, root)
        conditions = training.draw_conditions(len(samples), evaluator.seed, "evaluation")
    if refresh_batchnorm:
        trained.refresh_batchnorm(conditions=conditions)
    stream = trained.stream(len(samples), seed=evaluator.seed, conditions=conditions)
    show_drawing(terminal, fill(samples, stream), len(samples))
    return conditions


def _read(
    terminal: Terminal,
    images: Path,
    options: _Options,
    catalog: Catalog,
    reference: ReferenceImages | ReferenceStatistics | None,
) -> tuple[Tensor, list[str]]:
    """Return the images at a path, or `count` random ones, and warnings. They are decoded to the reference's shape."""
    from tempfile import TemporaryDirectory

    from gancore.config.from_path import dataset_for
    from gancore.data.items import build_dataset
    from gancore.evaluation.read_images import warnings_of
    from gancore.evaluation.sources import ReferenceImages

    shape, like = None, None
    if isinstance(reference, ReferenceImages):
        shape, like = tuple(reference.draw(1, options.seed, "shape").shape[1:]), reference.dataset
    dataset = with_settings(dataset_for(images, catalog, shape, like), options.assignments, catalog)
    with TemporaryDirectory(prefix="gancore-") as folder:  # not the cache, where they would stay
        _prepare(terminal, dataset, Path(folder), str(images))
        source = ReferenceImages(images.name, build_dataset(dataset, Path(folder)))
        warnings = list(warnings_of(dataset, images, Path(folder)))
        return source.draw(options.count or len(source), options.seed, "chosen"), warnings
