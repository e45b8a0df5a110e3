"""The contract: what a plugin's component promises, and what the training loop gives it.

A component *is* its hyperparameters: a frozen model whose fields carry default, bounds and help, and whose `build`
makes the working part. Modules compute, losses score, and only the loop steps: no component calls `backward`, moves
anything between devices, or opens files that it was not given.

Letters: N batch, Z latent, K classes, C H W image, F features of a vector. A shape is (C, H, W) or (F,).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field

from gancore.component import Component
from gancore.errors import DataError
from gancore.settings import Schedulable, TrainingTime, value_at

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset as TorchDataset

__all__ = [
    "Augment",
    "Augmentation",
    "Component",
    "Critic",
    "DataError",
    "Dataset",
    "Discriminator",
    "EvaluationProtocol",
    "Generator",
    "Loss",
    "Mixture",
    "Objective",
    "Output",
    "Penalty",
    "Player",
    "Regularizer",
    "Schedulable",
    "Scores",
    "Shape",
    "Split",
    "StatefulLoss",
    "TrainingTime",
    "value_at",
]

Split = Literal["train", "test"]
"""The part of some data that is meant for training, or the one that is held out from it."""

Shape = tuple[int, ...]
"""(C, H, W) of an image or (F,) of a vector."""

Player = Literal["generator", "discriminator"]


@dataclass(frozen=True, slots=True)
class Output:
    """What a discriminator may return instead of bare logits.

    `logits` (N, K), K >= 1; `features`, tensors that begin with N, for feature matching; `heads`, further outputs by
    name that begin with N, for auxiliary classifiers and codes.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A batch and what the discriminator said of it. Fields are only ever added.

    `images` (N, *shape) in [-1, 1] before any augmentation, or vectors as they are; `logits` (N, K) in float32 or
    better; `labels` (N,) int64, None unless the run is conditional; `latent` (N, Z), None for real images; `features`
    and `heads` as in `Output`, of the same precision. `mean` takes the mean (…) of values (N, …) over the batch,
    differentiably: where several processes have a part of it each, over all of it.
    """

    images: Tensor
    logits: Tensor
    labels: Tensor | None = None
    latent: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    mean: Callable[[Tensor], Tensor] = field(default_factory=lambda: _mean, repr=False, compare=False)


class Generator(Component):
    """Makes images from noise."""

    kind = "generator"

    @abstractmethod
    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        """A module that maps latent (N, Z) to images (N, *shape): in [-1, 1], or unbounded for vectors.

        It is called as `module(latent)`, or `module(latent, labels)` with labels (N,) when `num_classes` is a number.
        Raise ConfigError for a shape that it cannot serve.
        """


class Discriminator(Component):
    """Tells real images from generated ones."""

    kind = "discriminator"

    @abstractmethod
    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        """A module that maps images (N, *shape) to logits (N, K), K >= 1, or to an `Output`.

        It is called as `module(images)`, or `module(images, labels)` when `num_classes` is a number.
        Raise ConfigError for a shape that it cannot serve.
        """


class Objective(Protocol):
    """The two scores that are minimized in turn. Each returns a scalar tensor and is otherwise pure."""

    @property
    def needs_real(self) -> bool:
        """Whether the generator's step needs the real batch scored too (relativistic losses, feature matching)."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """What D minimizes. `fake.images` carry no gradient to G."""

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """What G minimizes. `real` is None unless `needs_real`."""


class Loss(Component):
    """Scores what the discriminator said, once for each player."""

    kind = "loss"
    needs_real: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """What D minimizes: a scalar. `fake.images` carry no gradient to G."""

    @abstractmethod
    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """What G minimizes: a scalar. `real` is None unless `needs_real` is set."""

    def build(self) -> Objective:
        """The loss at work: this component itself, since it holds no state."""
        return self


class StatefulLoss(Loss):
    """A loss that remembers: `build` gives the module that scores, whose buffers are saved with the run."""

    @abstractmethod
    def build(self) -> Objective:
        """An `nn.Module` with the two methods of a loss, `needs_real`, and its state in buffers."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        raise TypeError("a stateful loss scores through the module that it builds")

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        raise TypeError("a stateful loss scores through the module that it builds")


class Critic(Protocol):
    """D as it scores everything, augmentations included, for points of a regularizer's own."""

    def __call__(self, images: Tensor, labels: Tensor | None) -> Scores:
        """What D says of images (N, *shape) and their labels (N,)."""


class Penalty(Protocol):
    """A regularizer at work."""

    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor | None:
        """What is added, times its strength, to what the player minimizes: a scalar; None adds nothing."""

    def project(self, module: nn.Module, strength: float) -> None:
        """Confines the player's weights, in place, after its update."""


class Regularizer(Component):
    """Adds a penalty to what a player minimizes, or confines its weights.

    `player` is whose update it belongs to. `differentiates` names the images, real or fake, whose gradient the penalty
    asks for: they are then leaves of the graph of the very pass that the loss scores, but for the fakes of a
    generator's regularizer, which stay connected to it. `per_sample` says that D's verdict on an image must not depend
    on the other images of its batch, `whole_batch` that the penalty of a batch is not the mean of those of its parts.
    """

    kind = "regularizer"
    player: ClassVar[Player] = "discriminator"
    differentiates: ClassVar[frozenset[Literal["real", "fake"]]] = frozenset()
    per_sample: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False

    interval: int = Field(
        default=1, ge=1, description="updates from one penalty to the next, each of which counts for so many"
    )

    @abstractmethod
    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor | None:
        """What is added, times `strength`, to what the player minimizes: a scalar; None adds nothing.

        `real` and `fake` are what the loss is given too, from the same pass.
        """

    def strength(self, moment: TrainingTime) -> float:
        """The weight of the penalty at this place in the run; where it is 0 the penalty is not computed."""
        return 1.0

    def project(self, module: nn.Module, strength: float) -> None:
        """Confines the player's weights, in place, after its update. By default they are left alone."""

    def build(self) -> Penalty:
        """The regularizer at work: this component itself, or a module whose buffers are saved with the run."""
        return self


class Augment(Protocol):
    """An augmentation at work."""

    def __call__(self, images: Tensor, strength: float) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], each changed by itself and differentiably; as many, of the same shape."""


class Augmentation(Component):
    """Changes images before D sees them, real ones and fakes alike, in both players' updates."""

    kind = "augmentation"

    @abstractmethod
    def build(self, shape: Shape, mirrors: bool) -> Augment:
        """What augments images of this shape; `mirrors` says whether mirrored images are as likely as they are.

        A module's buffers are saved with the run. If it has a method `observe(real: Scores)`, that is called after
        every update of D. Raise ConfigError for a shape that cannot be served.
        """

    def strength(self, moment: TrainingTime) -> float:
        """The share of images that are changed at this place in the run, in 0..1."""
        return 1.0


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """How models of some data are measured unless the user says otherwise.

    `metrics` are names as `gancore evaluate --metric` takes them, `samples` is the number of generated images. `gate`
    is the share of held-out images, in 0..1, that a classifier must name rightly before its features measure
    anything; None asks for nothing.
    """

    metrics: tuple[str, ...] = ("fd-random", "density-random", "coverage-random")
    samples: int = 10_000
    gate: float | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Data whose distribution is known: equally many points around each of M centers (M, F), normal with `std`."""

    centers: Tensor
    std: float


class Dataset(Component):
    """Finds and opens the training data."""

    kind = "dataset"
    evaluation: ClassVar[EvaluationProtocol] = EvaluationProtocol()

    @abstractmethod
    def build(self, root: Path) -> TorchDataset[Any]:  # Any: an item is (image, label) or an image alone
        """A map-style dataset of (image, label), or of images alone.

        An image is a uint8 tensor (C, H, W), a vector a float32 tensor (F,); all have one shape. A label is an int.
        `classes`, a sequence of names, says what the labels mean, where there are any; `mixture`, a `Mixture`, how
        vectors are distributed, where that is known; `mirrors`, if true, that an image and its mirror image are equally
        likely. Files are looked for below `root`. Raise DataError when they are missing or damaged.
        """

    def prepare(self, root: Path) -> Iterator[float]:
        """What takes its time and is done once, and kept below `root` for `build` to find: yields the share done.

        `build` does it by itself if nobody has. By default there is nothing to do.
        """
        return iter(())

    def part(self, split: Split) -> Dataset | None:
        """The part of this data that is meant for training, or the one held out from it; None where it is undivided.

        Data is a fair reference for models that were trained on `self` if it is `part("test")` and `self` is
        `part("train")`.
        """
        return None

    def teacher(self) -> Dataset:
        """The labeled data from which a classifier learns to read this one: this one itself.

        Where its images have one channel and these have several, the classifier reads channel by channel.
        """
        return self
