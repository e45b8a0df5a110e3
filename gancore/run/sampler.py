"""The samples that a run draws: for its pictures, for metrics, and for the collapse guard."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property

from torch import Tensor

from gancore.config.run import RunConfig
from gancore.errors import NonFiniteError, NumericsError
from gancore.evaluation.collapse import SAMPLE_COUNT, CollapseGuard
from gancore.evaluation.evaluator import Evaluator
from gancore.evaluation.sources import ReferenceImages
from gancore.run.interrupt import Interruption
from gancore.run.lockstep import Coordinator
from gancore.sampling.grid import REAL_POINTS
from gancore.training.gan import GAN
from gancore.utils.random import derive_seed


class Sampler:
    """Draws from the generator, always from the same noise, and from the training data."""

    def __init__(
        self,
        config: RunConfig,
        gan: GAN,
        evaluator: Evaluator | None,
        coordinator: Coordinator,
        interruption: Interruption,
    ) -> None:
        self._config, self._gan, self._evaluator = config, gan, evaluator
        self._coordinator, self._interruption = coordinator, interruption

    def for_picture(self) -> Tensor:
        """Return the samples of a picture: images (N, C, H, W) uint8, or vectors (N, F) float32."""
        return self._draw(self._config.sample.count, derive_seed(self._config.seed, "samples"))

    def for_evaluation(self) -> Tensor:
        """Return the samples of an evaluation, the same that `gancore evaluate` would draw."""
        return self._draw(self._count, self._config.seed, self._labels)

    def _draw(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        gan = self._gan
        gan.finite_check.raise_if_found()  # report the first non-finite value, not what follows from it
        try:
            with self._interruption.deferred() if gan.ranks.is_distributed else nullcontext():
                return self._coordinator.samples(gan, count, seed, labels)
        except NumericsError as error:
            raise NonFiniteError(gan.progress.step, error.message) from error

    @cached_property
    def guard(self) -> CollapseGuard | None:
        """The collapse guard, if the run has one."""
        if self._config.evaluate.on_collapse == "ignore":
            return None
        return CollapseGuard(self._training_images.draw(SAMPLE_COUNT, self._config.seed, "guard"))

    @cached_property
    def real_points(self) -> Tensor | None:
        """Real points (M, 2) to plot behind generated ones; None for other data."""
        if self._gan.feed.shape != (2,):
            return None
        return self._training_images.draw(REAL_POINTS, self._config.seed, "points")

    @cached_property
    def _training_images(self) -> ReferenceImages:
        return ReferenceImages(self._config.dataset.name, self._gan.feed.dataset, self._config.dataset)

    @cached_property
    def _count(self) -> int:
        return max(SAMPLE_COUNT if self.guard else 0, self._evaluator.count if self._evaluator else 0)

    @cached_property
    def _labels(self) -> Tensor | None:
        """Labels (N,) of an evaluation, as frequent as in the data; None in a run that is not conditional."""
        if self._gan.num_classes is None:
            return None
        return self._training_images.draw_labels(self._count, self._config.seed, "evaluation")
