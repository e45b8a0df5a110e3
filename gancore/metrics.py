"""The contract of metrics and of the feature extractors that they use.

A metric rates generated images by one number, often by comparing their features with those of real images. An extractor
is a network that computes the features. It is independent of the run, so that all models are measured alike. Both are
components, and neither has state.

Letters in shapes: N images, D features, K classes, C H W image, F features of a vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Field, model_validator

from gancore.component import Component
from gancore.contracts import Mixture, Shape
from gancore.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "Better",
    "Extractor",
    "FeatureStatistics",
    "Features",
    "LearnedExtractor",
    "Measurement",
    "Metric",
    "MetricInputs",
    "Need",
    "Samples",
]

Need = Literal["images", "features", "labels", "reference", "training", "conditions"]
"""An input of a metric: generated images; features or labels that an extractor computes; the reference (real images to
compare with); the training images; the classes that generated images were asked for."""

Better = Literal["lower", "higher"]
"""The direction in which a metric improves."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Features:
    """Result of an extractor for N images: `features` (N, D), and `logits` (N, K) if it is a classifier."""

    features: Tensor
    logits: Tensor | None = None


class Extractor(Component):
    """Feature extractor for metrics."""

    kind = "extractor"

    @abstractmethod
    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        """Return a module that maps images as they are stored to `Features`.

        Images (N, *shape) are uint8 in 0..255; or float32, standardized if the data has `scales`, mapped to 0..255 if
        it has a `value_range`. Scaling and resizing are up to the module. It is called in evaluation mode, without
        gradients. `num_classes` is that of the data, None without labels. Read files of weights below `root`. Raise
        ConfigError for a shape that it does not support, DataError when a file is missing or damaged.
        """

    def fetch(self, root: Path) -> Generator[float, None, Sequence[Path]]:
        """Download the files that `build` reads below `root`; yield the share done, in 0..1, and return their paths.

        By default no file is needed. Only `gancore fetch` calls it: an evaluation downloads nothing. Files that are
        there and intact stay as they are. Raise DataError when a download fails.
        """
        yield from ()
        return ()


class LearnedExtractor(Extractor):
    """Extractor whose module must first be trained on the data.

    gancore trains it once, on the training part of the dataset, by cross-entropy on `Features.logits`, and caches the
    weights. By default it learns to classify: logits (N, K), whose targets are the labels. Where `needs_labels` is
    False it learns from images alone: in training mode it returns logits (N, N), and the target of image i is i, the
    other view of the same image. In training mode the module may augment its images. Increase `edition` when you change
    the module or how it learns: cached weights of another edition are not used.
    """

    edition: ClassVar[int] = 1
    needs_labels: ClassVar[bool] = True

    epochs: int = Field(default=8, ge=1, le=1000, description="passes over the training images")
    batch_size: int = Field(default=128, ge=2, le=65536, description="images per step")
    lr: float = Field(default=3e-3, gt=0, le=1, description="peak learning rate of Adam in a one-cycle schedule")
    seed: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="seed of initial weights, order and augmentation; another seed trains another extractor",
    )


@dataclass(frozen=True, slots=True)
class Samples:
    """Images with the outputs of an extractor.

    `images` (N, *shape) uint8, or float32 as an `Extractor` receives them; `features` float32 (N, D) and
    `logits` float32 (N, K) if the metric has an extractor that returns them. `asked` int64 (N,): the classes that
    generated images were asked for, and the labels of real images, for a metric that needs conditions. All tensors are
    on the CPU.
    """

    images: Tensor
    features: Tensor | None = None
    logits: Tensor | None = None
    asked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def asked_classes(self) -> Tensor:
        """The classes (N,), for a metric that needs conditions. Raises DataError if they are missing."""
        return _require(self.asked, "classes that samples were asked for", "conditions")

    @property
    def classified(self) -> Tensor:
        """The logits (N, K), for a metric that needs labels. Raises DataError if they are missing."""
        return _require(self.logits, "class logits", "labels")

    def shares(self) -> Tensor:
        """Return the share of each class among the images, (K,) float64. An image counts for its most likely class."""
        logits = self.classified
        return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """What is kept of the features of images: `mean` (D,) and `covariance` (D, D), both float64.

    `count` is the number of images, None if it is unknown.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Return the statistics of features (N, D) of at least two images; the covariance is over N - 1."""
        values = features.double()
        return cls(values.mean(dim=0), values.T.cov().reshape(values.shape[1], -1), len(values))


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """Inputs of `Metric.measure`. Later versions may add fields and remove none.

    `fake`: generated images. `real`: the reference. `training`: images that the generator was trained on. Those in
    `needs` of the metric are set, the others may be None. `mixture`: the distribution of the data, if it is known.
    `statistics`: of the features of the reference, in place of `real`, for a metric that `reads_statistics`.
    """

    fake: Samples
    real: Samples | None = None
    training: Samples | None = None
    mixture: Mixture | None = None
    statistics: FeatureStatistics | None = None
    _cache: dict[object, object] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> Samples:
        """The real images, for a metric that needs them. Raises DataError if they are missing."""
        return _require(self.real, "real images", "reference")

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """Features of generated (N, D) and real (M, D) images. Raises DataError if one is missing."""
        return self.fake_features, _require(self.reference.features, "features", "features")

    @property
    def fake_features(self) -> Tensor:
        """Features of generated images (N, D). Raises DataError if they are missing."""
        return _require(self.fake.features, "features", "features")

    @property
    def real_statistics(self) -> FeatureStatistics:
        """Statistics of the features of real images. Raises DataError if neither they nor the features are there."""
        given = self.statistics
        return given or self.once("statistics of real images", lambda: FeatureStatistics.of(self.features[1]))

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """Return `compute()`, cached under `key` for all metrics that get these inputs."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]  # type: ignore[return-value]  # a key stands for one computation


def _require(value: T | None, what: str, need: Need) -> T:
    if value is None:
        raise DataError(f"this metric was given no {what}", f"add {need!r} to `needs` of the metric")
    return value


@dataclass(frozen=True, slots=True)
class Measurement:
    """Result of a metric.

    `value`: the number itself. `details`: further numbers by name. `ideal`: the expected result of a perfect model,
    where theory gives it, under "value" or a name in `details`. `warnings`: reasons to trust the number less.
    """

    value: float
    details: Mapping[str, float] = field(default_factory=dict)
    ideal: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Metric(Component):
    """Number that rates generated images.

    Class variables: `needs`, the inputs that `measure` reads; `better`, the direction in which the number improves;
    `reads_statistics`, whether mean and covariance of the reference's features are enough, as
    `MetricInputs.real_statistics` gives them.
    """

    kind = "metric"
    needs: ClassVar[frozenset[Need]]
    better: ClassVar[Better]
    reads_statistics: ClassVar[bool] = False

    extractor: Extractor | None = Field(
        default=None, description="feature extractor or classifier that the metric uses"
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # Any: passed on to pydantic
        super().__pydantic_init_subclass__(**kwargs)
        needs, better = getattr(cls, "needs", None), getattr(cls, "better", None)
        if not isabstract(cls) and (not isinstance(needs, frozenset) or not needs <= set(get_args(Need))):
            raise TypeError(f"{cls.__name__}.needs must be a frozenset of {get_args(Need)}; received {needs!r}")
        if not isabstract(cls) and better not in get_args(Better):
            raise TypeError(f"{cls.__name__}.better must be one of {get_args(Better)}; received {better!r}")

    @abstractmethod
    def measure(self, inputs: MetricInputs) -> Measurement:
        """Return the measurement. It must not depend on the order of the images.

        `inputs` has what the metric names in `needs`. Raise DataError when there are too few images, or they cannot be
        measured.
        """

    @model_validator(mode="after")
    def _check_extractor(self) -> Self:
        if self.extractor is None and self.needs & {"features", "labels"}:
            raise ValueError(f"needs an extractor, as in {self.name}-classifier")
        return self
