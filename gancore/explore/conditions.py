"""What the explorer takes from the dataset of a run: conditions to choose from, and real points to plot."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gancore.catalog.catalog import Catalog
from gancore.config.requirements import attributed
from gancore.errors import DataError, GancoreError
from gancore.evaluation.sources import ReferenceImages
from gancore.sampling.grid import REAL_POINTS, is_picture, picture, png_bytes
from gancore.sampling.trained import TrainedGenerator

CONDITIONS = 24
"""Conditions of the dataset that a page offers."""


class Conditions:
    """The conditions of a run that a page offers: its classes, or some conditions of its dataset (N, …).

    The dataset is read when it is first needed.
    """

    def __init__(self, trained: TrainedGenerator, catalog: Catalog, data_root: Path) -> None:
        self._trained, self._catalog, self._data_root = trained, catalog, data_root

    @property
    def count(self) -> int:
        """The number of classes or conditions; 0 if the run is not conditional."""
        wanted = self._trained.spec.condition
        return wanted if isinstance(wanted, int) else 0 if wanted is None else len(self._values)

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty for other conditions."""
        if not isinstance(self._trained.spec.condition, int):
            return []
        names = self._trained.classes
        return [names[number] if number < len(names) else str(number) for number in range(self.count)]

    def of(self, number: int | None) -> Tensor | None:
        """Return a condition for one sample, (1, …), by default the first; None if the run is not conditional.

        Raises DataError for another number.
        """
        wanted = self._trained.spec.condition
        if wanted is None:
            if number is not None:
                raise DataError(f"the run is not conditional; received condition {number}", "reload the page")
            return None
        number = number or 0
        if number >= self.count:
            raise DataError(f"there is no condition {number}; there are {self.count}", "choose another one")
        return torch.tensor([number]) if isinstance(wanted, int) else self._values[number : number + 1]

    def picture(self, number: int) -> bytes:
        """Return the picture of a condition of the dataset as a PNG. Raise DataError for another number."""
        if not 0 <= number < len(self._values):
            raise DataError(f"there is no condition {number}", "reload the page")
        condition = self._values[number : number + 1]
        if not is_picture(condition.shape[1:]) or condition.ndim < 3:
            raise DataError("the conditions make no pictures")
        return png_bytes(picture(condition))

    @cached_property
    def _dataset(self) -> ReferenceImages | str:
        """The dataset of the run, or why it cannot be read."""
        config = self._trained.config
        try:
            with attributed(config, self._catalog):
                return ReferenceImages.of(config.dataset, self._data_root)
        except GancoreError as error:
            return str(error)

    @cached_property
    def _items(self) -> tuple[Tensor, str]:
        """Conditions of the dataset, and why it has none to offer; then there is one, of zeros."""
        shape, problem = self._trained.spec.condition, ""
        if not isinstance(shape, tuple):
            return torch.zeros(0), ""
        try:
            if isinstance(self._dataset, str):
                raise DataError(self._dataset)
            conditions = self._dataset.draw_conditions(CONDITIONS, seed=0, stream="conditions")
            if conditions.shape[1:] == shape:
                return conditions, ""
            problem = f"they have shape {tuple(conditions.shape[1:])}"
        except GancoreError as error:
            problem = str(error)
        return torch.zeros(1, *shape), f"the conditions of the dataset cannot be read: {problem}; zeros are used"

    @property
    def _values(self) -> Tensor:
        return self._items[0]

    @property
    def labels(self) -> list[str]:
        """Labels of the conditions: some of their values, empty where they make pictures."""
        if self._values.ndim > 2 and is_picture(self._values.shape[1:]):
            return [""] * len(self._values)
        return [", ".join(f"{value:.3g}" for value in each.flatten()[:6].tolist()) for each in self._values]

    @property
    def problem(self) -> str:
        """Why the conditions of the dataset cannot be read; empty if they can."""
        return self._items[1]

    @cached_property
    def real_points(self) -> Tensor | None:
        """Real points behind points in the plane; None for other samples, and where the dataset cannot be read."""
        if len(self._trained.shape) != 1 or isinstance(self._dataset, str):
            return None
        return self._dataset.to_plot(REAL_POINTS)
