"""Default metrics and references of an evaluation, as the dataset's evaluation protocol defines them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.component import Finder
from gancore.config.metric_names import find_metric, name_of
from gancore.config.run import RunConfig
from gancore.contracts import Dataset, EvaluationProtocol
from gancore.errors import ConfigError, DataError
from gancore.evaluation.evaluator import Evaluator, SampleOrigin, conditions_missing
from gancore.evaluation.sources import ReferenceImages, reference_of
from gancore.evaluation.statistics import ReferenceStatistics
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.metrics import Metric
from gancore.utils.sample_format import SampleFormat


def evaluator_for_run(  # the keywords are the options of `gancore evaluate`
    run: RunConfig,
    paths: EvaluationPaths,
    catalog: Finder,
    *,
    metrics: Iterable[str] = (),
    reference: ReferenceImages | ReferenceStatistics | None = None,
    training: TorchDataset[Any] | None = None,  # Any: the dataset's items
    sample_format: SampleFormat | None = None,
    classes: Sequence[str] = (),
    count: int | None = None,
    seed: int | None = None,
) -> Evaluator:
    """Return an evaluator for samples of a run; arguments that are not given have the defaults of the run's dataset.

    `metrics` are names like fd-random or inline tables; by default those of the run, else of the dataset's protocol,
    which are left out, with a warning, where there are too few images for them. With statistics as the reference it is
    the Fréchet distance by their extractor.
    `reference` is by default the held-out part of the run's dataset, else the dataset itself. `training` is the run's
    dataset if it is already built; otherwise it is built here if it is needed. `sample_format` is that of the run's
    dataset, by default read from `training`; its scales or value range are those that images are compared in. `classes`
    are the names of the run's classes, by default read from `training`.
    """
    dataset, held_out = reference_of(run.dataset)
    if isinstance(reference, ReferenceStatistics):
        held_out, dataset = False, run.dataset
        metrics = [*metrics] or [_metric_of(reference)]
    elif reference is not None:
        held_out = held_out and reference.dataset == dataset
        dataset = reference.dataset or run.dataset
    chosen = _find_metrics(metrics, run.named_metrics(), catalog) or run.named_metrics()
    optional = {} if chosen else _default_metrics(dataset, held_out, catalog)
    chosen = chosen or optional
    _check_conditions(chosen, conditional=run.training.conditional)
    trained_on = None
    if training is not None:
        trained_on = ReferenceImages(run.dataset.name, training, run.dataset)
    elif (
        held_out
        or not isinstance(reference, ReferenceImages)
        or any(metric.extractor is None for metric in chosen.values())
    ):
        trained_on = ReferenceImages.of(run.dataset, paths.root)
    if reference is None:
        reference = ReferenceImages.of(dataset, paths.root) if held_out else trained_on
    return Evaluator(
        chosen,
        paths,
        reference,
        SampleOrigin(trained_on, held_out, dataset=dataset, sample_format=sample_format, classes=classes),
        count=count or run.dataset.evaluation.samples,
        seed=run.seed if seed is None else seed,
        optional=optional,
    )


def evaluator_for_images(
    images: Tensor,
    paths: EvaluationPaths,
    catalog: Finder,
    *,
    metrics: Iterable[str] = (),
    reference: ReferenceImages | ReferenceStatistics | None = None,
    seed: int = 0,
) -> Evaluator:
    """Return an evaluator for stored images (N, …) of unknown origin.

    By default `metrics` are those of the reference's protocol. If the reference is a held-out part of a dataset, the
    training part takes the place of generated images when real data is scored. Raises ConfigError without a reference
    and metrics, DataError for images of another shape than the reference.
    """
    check_reference(reference, metrics)
    if isinstance(reference, ReferenceStatistics):
        metrics = [*metrics] or [_metric_of(reference)]
    dataset = reference.dataset if isinstance(reference, ReferenceImages) else None
    part = None if dataset is None else dataset.part("train")
    held_out = part is not None and reference_of(part) == (dataset, True)
    stand_ins = ReferenceImages.of(part, paths.root) if part is not None and held_out else None
    chosen = _find_metrics(metrics, {}, catalog)
    optional = {} if chosen else _default_metrics(dataset, held_out, catalog)
    _check_conditions(chosen, conditional=False)
    evaluator = Evaluator(
        chosen or optional,
        paths,
        reference,
        SampleOrigin(stand_ins, held_out, known=False, shape=tuple(images.shape[1:])),
        count=len(images),
        seed=seed,
        optional=optional,
    )
    evaluator.check(images)
    real = evaluator.images
    if images.dtype == torch.uint8 and int(images.max()) == 1 and real is not None and int(real.max()) > 1:
        raise DataError(
            "images must be in 0..255, like the reference; the largest value in these is 1", "multiply them by 255"
        )
    return evaluator


def check_reference(reference: object, metrics: Iterable[str]) -> None:
    """Raise ConfigError if there is neither a reference nor a metric to measure images of unknown origin with."""
    if reference is None and not metrics:
        raise ConfigError(
            "no reference given", "pass --reference DATASET, or a metric that needs none, such as is-inception"
        )


def _metric_of(reference: ReferenceStatistics) -> str:
    """Return the metric for statistics when none is named: the Fréchet distance by the extractor that they are of.

    Files of other tools do not name it; theirs is that of the FID.
    """
    return f"fd-{reference.extractor_name or 'inception'}"


def _find_metrics(names: Iterable[str], known: Mapping[str, Metric], catalog: Finder) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for text in names:
        metric = known.get(text) or find_metric(text, catalog)
        name = text if not text.startswith("{") else name_of(metric.name, metric)
        if found.setdefault(name, metric) != metric:
            raise ConfigError(
                f"two different metrics have the same name {name}",
                "measure one after the other, or give each a label of its own in a config",
            )
    return found


def _check_conditions(metrics: Mapping[str, Metric], *, conditional: bool) -> None:
    """Raise ConfigError if samples are asked for no class and a metric compares with it."""
    for name, metric in metrics.items():
        if "conditions" in metric.needs and not conditional:
            raise conditions_missing(name)


def _default_metrics(dataset: Dataset | None, held_out: bool, catalog: Finder) -> dict[str, Metric]:
    """Return the metrics of the data's protocol, without those that need held-out data if nothing is held out."""
    protocol = EvaluationProtocol() if dataset is None else dataset.evaluation
    found = {name: find_metric(name, catalog) for name in protocol.metrics}
    return {name: metric for name, metric in found.items() if held_out or "training" not in metric.needs}
