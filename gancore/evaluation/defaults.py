"""What is measured, and against what, where nobody said: the conventions of the data decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from gancore.catalog.catalog import Catalog
from gancore.config.metric_names import find_metric, name_of
from gancore.config.run import RunConfig
from gancore.contracts import Dataset, EvaluationProtocol
from gancore.errors import ConfigError, DataError
from gancore.evaluation.evaluator import Evaluator, SampleOrigin
from gancore.evaluation.sources import ReferenceImages, reference_of
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.metrics import Metric


def evaluator_of_run(
    run: RunConfig,
    place: EvaluationPaths,
    catalog: Catalog,
    *,
    metrics: Iterable[str] = (),
    reference: ReferenceImages | None = None,
    training: TorchDataset[Any] | None = None,
    count: int | None = None,
    seed: int | None = None,
) -> Evaluator:
    """What measures samples of a run: everything that is not given is as its dataset says.

    The reference is what the run's dataset holds out, or else that dataset. Without `metrics`, which are names like
    fd-digits or inline tables, they are those of the run, or else of the dataset's protocol. `training` is the run's
    dataset if it is open already; it is opened only if it is needed.
    """
    dataset, held_out = reference_of(run.dataset)
    if reference is not None:
        held_out = held_out and reference.dataset == dataset
        dataset = reference.dataset or run.dataset
    judges = _named(metrics, run.named_metrics(), catalog) or run.named_metrics() or _usual(dataset, held_out, catalog)
    trained_on = None
    if training is not None:
        trained_on = ReferenceImages(run.dataset.name, training, run.dataset)
    elif held_out or reference is None or any(metric.extractor is None for metric in judges.values()):
        trained_on = ReferenceImages.of(run.dataset, place.root)
    if reference is None:
        reference = ReferenceImages.of(dataset, place.root) if held_out else trained_on
    return Evaluator(
        judges,
        place,
        reference,
        SampleOrigin(trained_on, held_out, dataset=dataset),
        count=count or run.dataset.evaluation.samples,
        seed=run.seed if seed is None else seed,
    )


def evaluator_of_images(
    images: Tensor,
    place: EvaluationPaths,
    catalog: Catalog,
    *,
    metrics: Iterable[str] = (),
    reference: ReferenceImages | None = None,
    seed: int = 0,
) -> Evaluator:
    """What measures these images (N, …), whose origin is not known, as they are stored.

    Where the reference is a dataset's held-out part, the training part stands in for them in the floors. Without
    `metrics` they are those of the reference's protocol. Raises ConfigError when there are neither, DataError when the
    images do not have the shape of the reference.
    """
    if reference is None and not metrics:
        raise ConfigError(
            "images of unknown origin must be compared with something, or measured by a metric that compares with "
            "nothing, such as is-inception",
            "name a dataset: --reference mnist",
        )
    dataset = None if reference is None else reference.dataset
    part = None if dataset is None else dataset.part("train")
    held_out = part is not None and reference_of(part) == (dataset, True)
    judges = _named(metrics, {}, catalog) or _usual(dataset, held_out, catalog)
    stand_ins = ReferenceImages.of(part, place.root) if part is not None and held_out else None
    evaluator = Evaluator(
        judges,
        place,
        reference,
        SampleOrigin(stand_ins, held_out, known=False, shape=tuple(images.shape[1:])),
        count=len(images),
        seed=seed,
    )
    evaluator.check(images)
    known = evaluator.images
    if images.dtype == torch.uint8 and int(images.max()) == 1 and known is not None and int(known.max()) > 1:
        raise DataError(
            "images must be in 0..255, as the real ones are; the largest value of these is 1", "multiply by 255"
        )
    return evaluator


def _named(metrics: Iterable[str], known: Mapping[str, Metric], catalog: Catalog) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for text in metrics:
        metric = known.get(text) or find_metric(text, catalog)
        name = text if not text.startswith("{") else name_of(metric.name, metric)
        if found.setdefault(name, metric) != metric:
            raise ConfigError(
                f"two metrics are both called {name}, and nothing would tell their results apart",
                "measure one after the other, or put both under labels of your own in a config",
            )
    return found


def _usual(dataset: Dataset | None, held_out: bool, catalog: Catalog) -> dict[str, Metric]:
    """The metrics of the data's protocol, but for those that need held-out data where there is none."""
    protocol = EvaluationProtocol() if dataset is None else dataset.evaluation
    found = {name: find_metric(name, catalog) for name in protocol.metrics}
    return {name: metric for name, metric in found.items() if held_out or "training" not in metric.needs}
