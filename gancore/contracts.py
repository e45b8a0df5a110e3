"""The contract between gancore and a plugin: the base class of each kind of component.

A component has two forms. You write the *settings* class: a frozen pydantic model whose fields are the hyperparameters,
with default, bounds and help. Its `build` returns the *runtime* object that the training loop calls:

| settings class  | what `build` returns                         | hook                     |
| --------------- | -------------------------------------------- | ------------------------ |
| `Generator`     | `nn.Module`: latent -> images                | `gancore_generators`     |
| `Discriminator` | `nn.Module`: images -> logits or `Output`    | `gancore_discriminators` |
| `Loss`          | `Objective`; by default the loss itself      | `gancore_losses`         |
| `Dataset`       | map-style `torch.utils.data.Dataset`         | `gancore_datasets`       |
| `Regularizer`   | `Penalty`; by default the regularizer itself | `gancore_regularizers`   |
| `Augmentation`  | `Augment`: images -> images                  | `gancore_augmentations`  |
| `Extractor`     | `nn.Module`: images -> `Features`            | `gancore_extractors`     |
| `Metric`        | no `build`: the metric itself has `measure`  | `gancore_metrics`        |
| `Observer`      | `Writer`: receives log lines, images, files  | `gancore_observers`      |

The first four make a GAN and come first. Metrics and extractors are in `gancore.metrics`, observers in
`gancore.observers`, and a complete example of each kind is in `gancore.hookspecs`.

State goes into the buffers of an `nn.Module` that `build` returns; checkpoints save it. Networks compute and losses
score; only the training loop calls `backward` and steps optimizers. A component moves no tensor between devices and
opens no file outside the folder that it was given.

Letters in shapes: N batch, Z latent, K logits or classes, C H W image, F features of a vector.
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

Shape = tuple[int, ...]
"""Shape of one sample: (C, H, W) of an image or (F,) of a vector."""


# Generator


class Generator(Component):
    """Network that maps noise to images."""

    kind = "generator"

    @abstractmethod
    def build(self, shape: Shape, latent_dim: int, num_classes: int | None) -> nn.Module:
        """Return a module that maps latent (N, Z) float32 to images (N, *shape): in [-1, 1], or unbounded for vectors.

        It is called as `module(latent)`; in a conditional run, where `num_classes` is not None, as
        `module(latent, labels)` with labels (N,) int64 in 0..num_classes-1.
        Raise ConfigError for a shape that it does not support.
        """


# Discriminator


class Discriminator(Component):
    """Network that scores images as real or generated."""

    kind = "discriminator"

    @abstractmethod
    def build(self, shape: Shape, num_classes: int | None) -> nn.Module:
        """Return a module that maps images (N, *shape) to logits (N, K), K >= 1, or to an `Output`.

        Images are in [-1, 1]; vectors come as they are in the dataset. It is called as `module(images)`; in a
        conditional run, where `num_classes` is not None, as `module(images, labels)` with labels (N,) int64.
        Raise ConfigError for a shape that it does not support.
        """


@dataclass(frozen=True, slots=True)
class Output:
    """Result of a discriminator that returns more than logits.

    `logits` (N, K), K >= 1, before any sigmoid; `features`, tensors (N, …) for feature matching; `heads`, further
    outputs (N, …) by name, for auxiliary classifiers and latent codes.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)


# Loss


def mean_of_batch(values: Tensor) -> Tensor:
    """Return the mean (…) of values (N, …)."""
    return values.mean(dim=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A batch with the discriminator's outputs for it. Later versions may add fields and remove none.

    `images` (N, *shape): in [-1, 1] before any augmentation; vectors as they are in the dataset.
    `logits` (N, K): float32 or better, whatever precision the network computes in.
    `labels` (N,) int64: None unless the run is conditional.
    `latent` (N, Z): None for real images.
    `features` and `heads`: as in `Output`; floating-point tensors are float32 or better.
    `mean`: maps values (N, …) to their mean (…) over the batch, differentiably. With several processes it is the mean
    over the batches of all of them, where `values.mean(dim=0)` would be the mean of one process: use it for averages
    inside a nonlinear loss (relativistic average losses, centering). All processes must call it equally often and in
    the same order.
    """

    images: Tensor
    logits: Tensor
    labels: Tensor | None = None
    latent: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    mean: Callable[[Tensor], Tensor] = field(default_factory=lambda: mean_of_batch, repr=False, compare=False)


class Objective(Protocol):
    """The losses of both players. Each method returns a scalar tensor that is minimized."""

    @property
    def needs_real(self) -> bool:
        """Whether `generator` needs the scores of real images (relativistic losses, feature matching)."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """Return the loss of D. `fake.images` carry no gradient to G."""

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """Return the loss of G. `real`: None unless `needs_real`."""


class Loss(Component):
    """Loss functions of both players."""

    kind = "loss"
    needs_real: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """Return the loss of D: a scalar, a mean over the batch. `fake.images` carry no gradient to G."""

    @abstractmethod
    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """Return the loss of G: a scalar, a mean over the batch. `real`: None unless `needs_real` is set."""

    def build(self) -> Objective:
        """Return the objective: the loss itself, since it has no state."""
        return self


class StatefulLoss(Loss):
    """Base of a loss that keeps state between steps. Override only `build`."""

    @abstractmethod
    def build(self) -> Objective:
        """Return an `nn.Module` with the attribute `needs_real` and the methods of `Objective`. State is in buffers."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        raise TypeError("a StatefulLoss has no loss functions itself; call those of the module that build() returns")

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        raise TypeError("a StatefulLoss has no loss functions itself; call those of the module that build() returns")


# Dataset


Split = Literal["train", "test"]
"""The training or the held-out part of a dataset."""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Default evaluation of models that were trained on a dataset.

    `metrics`: names as in `gancore evaluate --metric`. `samples`: number of generated images. `gate`: minimum accuracy
    in 0..1 on held-out images that a trained extractor must reach before a metric uses its features; None: no minimum.
    """

    metrics: tuple[str, ...] = ("fd-random", "density-random", "coverage-random")
    samples: int = 10_000
    gate: float | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Known distribution of vectors: an equal mixture of normals at `centers` (M, F), standard deviation `std`."""

    centers: Tensor
    std: float


class Dataset(Component):
    """Training data."""

    kind = "dataset"
    evaluation: ClassVar[EvaluationProtocol] = EvaluationProtocol()

    @abstractmethod
    def build(self, root: Path) -> TorchDataset[Any]:  # Any: an item is (image, label) or an image alone
        """Return a map-style dataset whose items are (image, label), or images alone.

        An image is a uint8 tensor (C, H, W) in 0..255, a vector a float32 tensor (F,); all items have one shape.
        A label is an int. Read files below `root`; raise DataError when they are missing or damaged.

        Optional attributes of the returned dataset:

        - `classes: Sequence[str]`: names of the labels, which then lie in 0..len(classes)-1. Conditional runs need it.
        - `mirrors: bool`: an image and its mirror image are equally likely. Augmentations mirror no other data.
        - `mixture: Mixture`: the distribution of vectors, if it is known.
        """

    def prepare(self, root: Path) -> Iterator[float]:
        """Do slow work once, such as decoding images, store it below `root`, and yield the fraction done in 0..1.

        `build` must do the same work itself if `prepare` was not called. By default there is nothing to do.
        """
        return iter(())

    def part(self, split: Split) -> Dataset | None:
        """Return the training or the held-out part of this data; None if it is not split, the default.

        A model trained on `self` is evaluated on `part("test")` as held-out data only if `part("train") == self`.
        """
        return None

    def teacher(self) -> Dataset:
        """Return the labeled data on which a classifier for these images is trained: by default the dataset itself.

        If the teacher has one channel and these images have several, the classifier reads each channel separately.
        """
        return self


# Regularizer


Player = Literal["generator", "discriminator"]


class Critic(Protocol):
    """The discriminator behind its augmentations, for a regularizer that scores images of its own."""

    def __call__(self, images: Tensor, labels: Tensor | None) -> Scores:
        """Return the scores of images (N, *shape) with labels (N,)."""


class Penalty(Protocol):
    """A regularizer at run time."""

    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor | None:
        """Return a scalar, which is added to the player's loss times strength and interval; None adds nothing."""

    def project(self, module: nn.Module, strength: float) -> None:
        """Change the player's weights in place after its update, as weight clipping does."""


class Regularizer(Component):
    """Penalty on a player's loss, or constraint on its weights.

    Class variables:

    - `player`: the player whose update it belongs to.
    - `differentiates`: the images ("real", "fake") that the penalty takes gradients with respect to. They are leaf
      tensors with `requires_grad=True` in the same forward pass that the loss uses. Exception: in a regularizer of the
      generator, fakes stay attached to G.
    - `per_sample`: the penalty is valid only if D scores each image independently of the rest of the batch. A D that
      mixes samples, by batch normalization for example, is rejected.
    - `whole_batch`: the penalty of a batch is not the mean of the penalties of its micro-batches, so it cannot be
      combined with `training.accumulate`.
    """

    kind = "regularizer"
    player: ClassVar[Player] = "discriminator"
    differentiates: ClassVar[frozenset[Literal["real", "fake"]]] = frozenset()
    per_sample: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False

    # Lazy regularization, Karras et al. 2020 (arXiv:1912.04958).
    interval: int = Field(
        default=1, ge=1, description="apply in every n-th update of the player, with the penalty multiplied by n"
    )

    @abstractmethod
    def penalty(self, critic: Critic, real: Scores, fake: Scores) -> Tensor | None:
        """Return a scalar, which is added to the player's loss times `strength` and `interval`; None adds nothing.

        `real` and `fake` are the scores that the loss receives, from the same forward pass. Do not multiply by
        `strength` or `interval` here. Score other images with `critic(images, labels)`.
        """

    def strength(self, time: TrainingTime) -> float:
        """Return the weight of the penalty at this time of the run. Where it is 0 the penalty is not computed."""
        return 1.0

    def project(self, module: nn.Module, strength: float) -> None:
        """Change the player's weights in place after each update it applies to. Default: no change."""

    def build(self) -> Penalty:
        """Return the penalty: the regularizer itself, or an `nn.Module` if it has state."""
        return self


# Augmentation


class Augment(Protocol):
    """An augmentation at run time."""

    def __call__(self, images: Tensor, strength: float) -> Tensor:
        """Return images (N, C, H, W) of the same shape and type, each augmented on its own, differentiably.

        `images` are in [-1, 1]. `strength` in 0..1 is the fraction of images to change.
        """


class Augmentation(Component):
    """Differentiable augmentation of the images that D sees, real and fake, in both players' updates."""

    kind = "augmentation"

    @abstractmethod
    def build(self, shape: Shape, mirrors: bool) -> Augment:
        """Return a callable that augments images of this shape. Mirror images only if `mirrors`.

        It may be an `nn.Module`. If it has a method `observe(real: Scores)`, that is called with the scores of real
        images after every update of D (adaptive augmentation). Raise ConfigError for a shape that it does not support.
        """

    def strength(self, time: TrainingTime) -> float:
        """Return the fraction of images to change at this time of the run, in 0..1."""
        return 1.0
