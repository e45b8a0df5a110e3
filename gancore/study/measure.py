"""Measures trained generators of a study: all by the same metrics, number of samples and real images.

What a search chooses by is never what its result is reported by. Data with a test part is reported by that part, and
chosen by the training part. Other data is split into two halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset

from gancore.catalog.catalog import Catalog
from gancore.config.run import RunConfig
from gancore.errors import ConfigError, unknown_name
from gancore.evaluation.defaults import evaluator_for_run
from gancore.evaluation.evaluator import Evaluation, Evaluator
from gancore.evaluation.sources import ReferenceImages, reference_of
from gancore.evaluation.train_extractor import EvaluationPaths, Preparation
from gancore.metrics import Better
from gancore.run.measure import measure
from gancore.sampling.load import load
from gancore.study.definition import StudyConfig, metric_of
from gancore.utils.random import generator_for

SEED = 0
"""The seed of latents and classes of all samples that are measured."""


class Half(TorchDataset[Any]):  # Any: as the items of the whole
    """Every item of a dataset that is in one of two random halves: the first if `number` is 0, the second if 1."""

    def __init__(self, whole: TorchDataset[Any], number: int) -> None:
        count = len(whole)  # type: ignore[arg-type]  # map-style, so it has a length
        order = torch.randperm(count, generator=generator_for(SEED, "halves"))
        self._whole, self._indices = whole, order[number::2].sort().values
        for name in ("classes", "columns", "mixture", "scales", "value_range"):
            if hasattr(whole, name):
                setattr(self, name, getattr(whole, name))

    def __getitem__(self, index: int) -> Any:  # Any: as above
        """Return an item of the whole."""
        return self._whole[int(self._indices[index])]

    def __len__(self) -> int:
        """Return the number of items of this half."""
        return len(self._indices)


def real_data_of(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers of real data in place of samples, as far as they were measured."""
    found = dict[str, float]()
    for result in evaluation.results:
        if result.real_data is not None:
            found[result.name] = result.real_data.value
            found |= {f"{result.name}.{key}": value for key, value in result.real_data.details.items()}
    return found


class Measure:
    """Evaluates runs of a study; `config` is that of the baseline with the metrics that have settings.

    Iterate over `prepare` first. Raises ConfigError and DataError for metrics that the data cannot give.
    """

    def __init__(self, study: StudyConfig, config: RunConfig, paths: EvaluationPaths, catalog: Catalog) -> None:
        self._config, self._paths, self._catalog = config, paths, catalog
        self._study = study
        self.chosen_by, self.reported_by = "", ""
        """What the search compares with, empty without one, and what results are compared with, in words."""
        chosen, reported = self._references()
        self.selection = None if chosen is None else self._evaluator((study.metric,), chosen)
        self.report = self._evaluator(study.numbers, reported)

    def _references(self) -> tuple[ReferenceImages | None, ReferenceImages | None]:
        """Return the real images for a search, and for results; None for none, and for the default."""
        dataset, held_out = reference_of(self._config.dataset)
        name, root = self._config.dataset.name, self._paths.root
        self.reported_by = f"the test part of {name}" if held_out else f"all of {name}"
        if not self._study.is_search:
            return None, None
        if held_out:
            self.chosen_by = f"the training part of {name}"
            return ReferenceImages.of(self._config.dataset, root), None
        whole = ReferenceImages.of(dataset, root)
        self.chosen_by, self.reported_by = (f"{order} half of {name}, at random" for order in ("one", "the other"))
        first, second = (ReferenceImages(name, Half(whole.images, number), dataset) for number in (0, 1))
        return first, second

    def _evaluator(self, numbers: tuple[str, ...], reference: ReferenceImages | None) -> Evaluator:
        return evaluator_for_run(
            self._config,
            self._paths,
            self._catalog,
            metrics=dict.fromkeys(map(metric_of, numbers)),
            reference=reference,
            count=self._study.samples,
            seed=SEED,
        )

    def check_numbers(self) -> None:
        """Raise ConfigError for further numbers of metrics that do not exist. `prepare` comes first."""
        for name in self._study.numbers:
            metric, dot, number = name.partition(".")
            known = self.report.real_data.get(metric)
            if dot and known is not None and number not in known.details:
                raise ConfigError(unknown_name(f"number of {metric}", number, known.details), "correct the study")

    def check_data(self) -> None:
        """Raise DataError unless the data that runs are trained on can be read."""
        ReferenceImages.of(self._config.dataset, self._paths.root).draw(1, SEED, "example")

    def prepare(self) -> Iterator[Preparation]:
        """Prepare the extractors and measure real images, with their progress."""
        for evaluator in filter(None, (self.report, self.selection)):
            yield from evaluator.prepare()

    def evaluate(self, folder: Path, *, selects: bool) -> Evaluation:
        """Measure samples of the newest checkpoint of a run, by the images for the search or those for results."""
        evaluator = self.selection if selects and self.selection else self.report
        trained = load(folder, device=str(self._paths.device), catalog=self._catalog)
        return measure(trained, evaluator, self._paths.root)

    def better(self) -> dict[str, Better]:
        """Return which values are better, those of the compared metric first; of further numbers it is not known."""
        given = {} if self._study.better is None else {self._study.metric: self._study.better}
        named = {name: metric for name, metric in self.report.metrics.items() if name in self._study.numbers}
        return given | {name: metric.better for name, metric in named.items()}
