"""The contract of measuring: metrics, the extractors that they look through, and what both are given.

A metric judges generated images by one number. It compares features or classes, which an extractor reads off images:
a network that is no part of the run, the same for every model that is compared. Both are components, and pure.

Letters: N images, D features, K classes, C H W image, F features of a vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
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
    "Features",
    "LearnedExtractor",
    "Measurement",
    "Metric",
    "MetricInputs",
    "Need",
    "Samples",
]

Need = Literal["images", "features", "labels", "reference", "training"]
"""What a metric looks at: generated images, features or classes that an extractor reads, real or training images."""

Better = Literal["lower", "higher"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Features:
    """What an extractor reads off N images: `features` (N, D), and `logits` (N, K) if it tells classes apart."""

    features: Tensor
    logits: Tensor | None = None


class Extractor(Component):
    """Reads features off images, for metrics to compare."""

    kind = "extractor"

    @abstractmethod
    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        """A module that maps images as they are stored to `Features`.

        They are uint8 (N, C, H, W) in 0..255, or float32 vectors (N, F). It is called in evaluation mode, without
        gradients. `num_classes` is that of the data, None without labels. Files are looked for below `root`.
        Raise ConfigError for a shape that it cannot serve, DataError when a file is missing or damaged.
        """


class LearnedExtractor(Extractor):
    """An extractor whose module must first learn to tell the classes of the data apart.

    gancore trains it on the data's own training part, by cross-entropy on `Features.logits`, once, and keeps what it
    learned. In training mode the module may distort its images. Raise `edition` when the module computes something
    else than before with the same weights, or learns otherwise: what was learned before is then learned anew.
    """

    edition: ClassVar[int] = 1

    epochs: int = Field(default=8, ge=1, le=1000, description="passes over the training images")
    batch_size: int = Field(default=128, ge=2, le=65536, description="images in a step")
    lr: float = Field(default=3e-3, gt=0, le=1, description="highest rate of Adam, in one cycle")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="of weights, order and distortions; another judge")


@dataclass(frozen=True, slots=True)
class Samples:
    """Images, and what an extractor read off them.

    `images` uint8 (N, C, H, W) or float32 (N, F); `features` float32 (N, D) and `logits` float32 (N, K) where the
    metric has an extractor that gives them. All are on the CPU.
    """

    images: Tensor
    features: Tensor | None = None
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classified(self) -> Tensor:
        """The logits (N, K), for a metric that needs labels."""
        return _there(self.logits, "classes of the images")

    def shares(self) -> Tensor:
        """The share of each class among the images, (K,) in float64, each image being of its likeliest class."""
        logits = self.classified
        return logits.argmax(dim=1).bincount(minlength=logits.shape[1]).double() / len(logits)


@dataclass(frozen=True, eq=False)
class MetricInputs:
    """What a metric is given. Fields are only ever added.

    `fake` are the generated images, `real` the reference, `training` what the generator was trained on; what a metric
    needs is there, and the rest may be None. `mixture` is the distribution of the data, where it is known.
    """

    fake: Samples
    real: Samples | None = None
    training: Samples | None = None
    mixture: Mixture | None = None
    _known: dict[object, object] = field(default_factory=dict, repr=False)

    @property
    def reference(self) -> Samples:
        """The real images, for a metric that needs them."""
        return _there(self.real, "real images")

    @property
    def features(self) -> tuple[Tensor, Tensor]:
        """Those of the generated and of the real images, (N, D) and (M, D), for a metric that needs both."""
        return tuple(_there(samples.features, "features") for samples in (self.fake, self.reference))  # type: ignore[return-value]  # two

    def once(self, key: object, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed once for all metrics that have the same evidence and ask for the same key."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]  # type: ignore[return-value]  # a key stands for one computation


def _there(value: T | None, what: str) -> T:
    if value is None:
        raise DataError(f"{what} are needed to measure this, and there are none", "declare it in `needs`")
    return value


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number and what belongs to it.

    `details` are further numbers by name. `ideal` holds what a perfect model would score where theory tells it, under
    "value" for the number itself and else by a detail's name. `warnings` say why the number deserves less trust.
    """

    value: float
    details: Mapping[str, float] = field(default_factory=dict)
    ideal: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Metric(Component):
    """Judges generated images by a number."""

    kind = "metric"
    needs: ClassVar[frozenset[Need]]
    better: ClassVar[Better]

    extractor: Extractor | None = Field(default=None, description="what reads features or classes off images")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # Any: handed on as it came
        super().__pydantic_init_subclass__(**kwargs)
        needs, better = getattr(cls, "needs", None), getattr(cls, "better", None)
        if not isabstract(cls) and (not isinstance(needs, frozenset) or not needs <= set(get_args(Need))):
            raise TypeError(f"{cls.__name__}.needs must be a frozenset of {get_args(Need)}; received {needs!r}")
        if not isabstract(cls) and better not in get_args(Better):
            raise TypeError(f"{cls.__name__}.better must be one of {get_args(Better)}; received {better!r}")

    @abstractmethod
    def measure(self, evidence: MetricInputs) -> Measurement:
        """The number, from what was asked for in `needs`. The order of images does not matter.

        Raise DataError when the images are too few, or not of the kind that can be measured.
        """

    @model_validator(mode="after")
    def _has_its_extractor(self) -> Self:
        if self.extractor is None and self.needs & {"features", "labels"}:
            raise ValueError(f"it looks through an extractor; name one, as in {self.name}-digits")
        return self
