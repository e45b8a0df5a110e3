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
| `Exporter`      | no `build`: the exporter itself has `export` | `gancore_exporters`      |

The first four make a GAN and come first. Metrics and extractors are in `gancore.metrics`, observers in
`gancore.observers`, exporters in `gancore.exporters`, and a complete example of each kind is in `gancore.hookspecs`.

State goes into the buffers of an `nn.Module` that `build` returns; checkpoints save it. Networks compute and losses
score; only the training loop calls `backward` and steps optimizers. A component moves no tensor between devices and
opens no file outside the folder that it was given.

Letters in shapes: N batch, Z latent, K logits or classes, C H W image, F features of a vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from pydantic import Field

from gancore.component import Component
from gancore.errors import ConfigError, DataError
from gancore.settings import Schedulable, TrainingTime, value_at

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset as TorchDataset

__all__ = [
    "Augment",
    "Augmentation",
    "Component",
    "Condition",
    "DataError",
    "Dataset",
    "Discriminator",
    "EvaluationProtocol",
    "Findings",
    "Generated",
    "Generator",
    "Loss",
    "Mixture",
    "Objective",
    "Outline",
    "Output",
    "Penalty",
    "Player",
    "Players",
    "Regularizer",
    "Schedulable",
    "Scores",
    "Shape",
    "Spec",
    "Split",
    "TrainingTime",
    "value_at",
]

Shape = tuple[int, ...]
"""Shape of one sample: (F,) of a vector, (C, L) of a series, (C, H, W) of an image, (C, D, H, W) of a volume."""

Condition = int | Shape
"""What a network receives with each sample: the number K of classes, for labels (N,) int64 in 0..K-1; or the shape of
a tensor, for conditions (N, *shape) float32: in [-1, 1] if the dataset stores uint8 (a picture), else as they are."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Description of the data and inputs that the parts of a run are built for. Later versions may add fields.

    `shape` of a sample; `latent_dim` Z; `condition`: see `Condition`, None unless the run is conditional; `bounded`:
    whether samples lie in [-1, 1] as networks see them, so that a generator ends in tanh; `mirrors`: whether a sample
    and its mirror image are equally likely; `width_factor`: the multiplier of the networks' widths, which the key
    `size` of a config sets.
    """

    shape: Shape
    latent_dim: int = 0
    condition: Condition | None = None
    bounded: bool = True
    mirrors: bool = False
    width_factor: float = 1.0

    def classes(self) -> int | None:
        """Return the number of classes, None unless the run is conditional, for a part that supports classes only.

        Raises ConfigError if the condition is a tensor.
        """
        if isinstance(self.condition, tuple):
            raise ConfigError(
                f"this part supports classes as a condition, not tensors of shape {self.condition}",
                "choose a part that takes tensors (mlp does), or --set training.conditional=false",
            )
        return self.condition


# Generator


@dataclass(frozen=True, slots=True)
class Generated:
    """Result of a generator that returns more than images.

    `extras`: further tensors (N, …) by name, such as an intermediate latent, a mask, or images of lower resolution.
    A loss receives them in `Scores.extras`, and D those that its `extra_inputs` names.
    """

    images: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Generator(Component):
    """Network that maps noise to images."""

    kind = "generator"

    @abstractmethod
    def build(self, spec: Spec) -> nn.Module:
        """Return a module that maps latent (N, Z) float32 to images (N, *shape), or to `Generated`.

        Images are in [-1, 1] if `spec.bounded`; a module whose images may leave that range has an attribute
        `unbounded = True`, and they are clamped when samples are drawn. It is called as `module(latent)`; in a
        conditional run, where `spec.condition` is not None, as `module(latent, condition)`.

        An optional method `encode(images)`, or `encode(images, condition)`, maps real images to extras by name, as a
        mapping of tensors (N, …). Its parameters belong to the generator.

        An optional method `truncated(latent, truncation)`, or `truncated(latent, truncation, condition)`, returns more
        typical, less diverse images: `truncation` 1 gives those of a call, 0 one image for all latents of a condition,
        up to random numbers that the module draws. It is called in evaluation mode, with a `truncation` in 0..1, when
        samples are drawn. Without it, latents are multiplied by the truncation.

        Raise ConfigError for a spec that it does not support.
        """


# Discriminator


class Discriminator(Component):
    """Network that scores images as real or generated."""

    kind = "discriminator"

    @abstractmethod
    def build(self, spec: Spec) -> nn.Module:
        """Return a module that maps images (N, *shape) to logits (N, K), K >= 1, or to an `Output`.

        It is called as `module(images)`; in a conditional run, where `spec.condition` is not None, as
        `module(images, condition)`.

        Optional attributes of the module:

        - `extra_inputs`: names of extras that D receives as keyword arguments, as in `module(images, latent=...)` for
          `extra_inputs = ("latent",)`. Those of fakes come from G's `Generated`, those of real images from its
          `encode`.
        - `mixes_samples`: whether the logits of an image depend on the rest of the batch. Without it, the preflight
          finds out on small batches, which can miss rare forms.

        Raise ConfigError for a spec that it does not support.
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

    `images` (N, *shape): as networks see them, before any augmentation.
    `logits` (N, K): float32 or better, whatever precision the network computes in.
    `condition`: labels (N,) int64 or tensors (N, …), see `Condition`; None unless the run is conditional.
    `latent` (N, Z): None for real images.
    `features` and `heads`: as in `Output`; floating-point tensors are float32 or better.
    `extras`: of fakes, those of `Generated`, with a gradient in G's step; of real images, those that D receives.
    `players`: calls both networks on further inputs.
    `mean`: maps values (N, …) to their mean (…) over the batch, differentiably. With several processes it is the mean
    over the batches of all of them, where `values.mean(dim=0)` would be the mean of one process: use it for averages
    inside a nonlinear loss (relativistic average losses, centering). All processes must call it equally often and in
    the same order. Of scores from `players.score` it is the mean of one process.
    """

    images: Tensor
    logits: Tensor
    condition: Tensor | None = None
    latent: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    players: Players = field(default_factory=lambda: NO_PLAYERS, repr=False, compare=False)
    mean: Callable[[Tensor], Tensor] = field(default_factory=lambda: mean_of_batch, repr=False, compare=False)


class Players(Protocol):
    """Both networks, for losses and regularizers that need more than the scores of their batch.

    In a player's update the parameters of the other player collect no gradient; gradients with respect to inputs flow
    through both networks.
    """

    @property
    def generator(self) -> nn.Module:
        """The generator itself, for its weights."""

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator itself, for its weights."""

    def generate(self, latent: Tensor, condition: Tensor | None = None) -> Generated:
        """Return what G makes of latents (N, Z)."""

    def encode(self, images: Tensor, condition: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return what G's `encode` makes of images (N, *shape): extras by name."""

    def score(
        self, images: Tensor, condition: Tensor | None = None, extras: Mapping[str, Tensor] | None = None
    ) -> Scores:
        """Return D's scores of images (N, *shape), which are augmented first; `extras` has those that D receives."""


class _NoPlayers:
    """Stand-in for `players` in scores that were made without networks."""

    def __getattr__(self, name: str) -> Any:  # Any: never returns
        raise AttributeError(f"these scores have no networks, so `players.{name}` is not available; pass `players`")


NO_PLAYERS: Any = _NoPlayers()  # Any: it takes the place of any Players
"""`Scores.players` of scores that were made without networks."""


class Objective(Protocol):
    """The losses of both players. Each method returns a scalar tensor that is minimized.

    An optional attribute `needs_real`, False without it, says whether `generator` receives the scores of real images,
    and `whole_batch`, None without it, whether the loss needs the whole batch; see `Loss`.
    """

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """Return the loss of D. `fake.images` carry no gradient to G."""

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """Return the loss of G. `real`: None unless `needs_real`."""


class Loss(Component):
    """Loss functions of both players: two methods, or `build`, which returns a module that has them.

    Class variables:

    - `needs_real`: `generator` receives the scores of real images (relativistic losses, feature matching).
    - `whole_batch`: the loss of a batch is not the mean of the losses of its micro-batches, so it cannot be combined
      with `training.accumulate`. None: the preflight finds out on small batches, which can miss rare forms.
    """

    kind = "loss"
    needs_real: ClassVar[bool] = False
    whole_batch: ClassVar[bool | None] = None

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """Return the loss of D: a scalar, a mean over the batch. `fake.images` carry no gradient to G."""
        raise NotImplementedError(f"loss {self.name!r} builds a module; call the methods of what build() returns")

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """Return the loss of G: a scalar, a mean over the batch. `real`: None unless `needs_real` is set."""
        raise NotImplementedError(f"loss {self.name!r} builds a module; call the methods of what build() returns")

    def build(self, spec: Spec) -> Objective:
        """Return the objective: the loss itself, or an `nn.Module` with both methods.

        State of a module is in its buffers. Its parameters are trained by D's optimizer in D's step. A module may
        have `needs_real` and `whole_batch` of its own; without them, those of the component apply.
        """
        return self


# Dataset


Split = Literal["train", "test"]
"""The training or the held-out part of a dataset."""


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """Default evaluation of models that were trained on a dataset.

    `metrics`: names as in `gancore evaluate --metric`. `samples`: number of generated images; None: as many as there
    are real ones to compare with, up to 10,000. `gate`: minimum accuracy in 0..1 on held-out images that a trained
    extractor must reach before a metric uses its features; None: no minimum.
    """

    metrics: tuple[str, ...] = ("fd-random", "density-random", "coverage-random")
    samples: int | None = None
    gate: float | None = None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Known distribution of vectors: an equal mixture of normals at `centers` (M, F), standard deviation `std`."""

    centers: Tensor
    std: float


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of data before it is read in full: from names, sizes and headers of files.

    `items`: number of samples; `shape` of a sample; `classes`: their names, in the order of the labels, empty without
    classes; `original`: the shape that most samples have before they are resized, None if they are not resized.
    """

    items: int
    shape: Shape
    classes: tuple[str, ...] = ()
    original: Shape | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a dataset found in the user's files, and what it did with it.

    `used`: names of files by format, as in `{"PNG": ["cat/1.png"]}`. `skipped`: names by reason, as in
    `{"hidden": [".DS_Store"]}`; those of parts of a file end with ` left out`. `resized`: number of samples whose size
    was changed. `facts`: further lines for the user, as in `{"sizes": "64x64"}`. `notes`: what the user should know
    before training, as sentences.
    """

    used: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    resized: int = 0

    def in_words(self) -> str:
        """Return the numbers of files in one line: `3,722 PNG used; skipped: 12 .heic (no decoder), 3 hidden`.

        Parts of files are said apart: `1 CSV used; 11 missing values left out`.
        """

        def counted(files: Mapping[str, Sequence[str]]) -> str:
            numbers = sorted(((len(names), what) for what, names in files.items()), key=lambda entry: -entry[0])
            return ", ".join(f"{number:,} {what}" for number, what in numbers)

        parts = {why: names for why, names in self.skipped.items() if why.endswith(" left out")}
        files = {why: names for why, names in self.skipped.items() if why not in parts}
        used, skipped = counted(self.used), counted(files)
        return "; ".join(filter(None, [used and f"{used} used", skipped and f"skipped: {skipped}", counted(parts)]))


class Dataset(Component):
    """Training data.

    A field `path: str` names files of the user. A run stores it as an absolute path, and it may be changed when the run
    is resumed.
    """

    kind = "dataset"
    evaluation: ClassVar[EvaluationProtocol] = EvaluationProtocol()

    @abstractmethod
    def build(self, root: Path) -> TorchDataset[Any]:  # Any: an item is (sample, condition) or a sample alone
        """Return a map-style dataset whose items are (sample, condition), or samples alone.

        A sample is a tensor of at least one dimension; all items have one shape. uint8 in 0..255 is mapped to [-1, 1]
        for networks; float32 is passed as it is, mapped from `value_range`, or standardized by `scales`. A condition is
        an int, the number of a class; or a tensor, uint8 (mapped to [-1, 1]) or float32 (as it is). The shape of
        conditions is read from the first item.
        Read files below `root`; raise DataError when they are missing or damaged.

        Optional attributes of the returned dataset:

        - `classes: Sequence[str]`: names of the labels, which then lie in 0..len(classes)-1. Runs that are conditional
          on a class need it.
        - `labels: Sequence[int]`: the label of each item, so that classes are counted without reading every item.
        - `name_of(index: int) -> str`: returns where an item is from, such as its file, to name it to the user.
        - `value_range: tuple[float, float]`: range of float32 samples, which is mapped to [-1, 1].
        - `scales`: means and standard deviations, a pair of arrays that broadcast to a float32 sample. Networks and
          metrics see (x - mean) / std; samples are drawn in the units of the data. Not with `value_range` or `mixture`.
        - `columns: Sequence[str]`: names of the values of a vector.
        - `mirrors: bool`: an image and its mirror image are equally likely. Augmentations mirror no other data.
        - `mixture: Mixture`: the distribution of vectors, if it is known.
        """

    def prepare(self, root: Path) -> Iterator[float]:
        """Do slow work once, such as decoding images, store it below `root`, and yield the fraction done in 0..1.

        `build` must do the same work itself if `prepare` was not called. By default there is nothing to do.
        """
        return iter(())

    @classmethod
    def from_path(cls, path: Path, shape: Shape | None = None) -> Self | None:
        """Return this dataset for the user's files at a path, with the settings that fit them best.

        `shape`, if given, is the shape that its samples must have. Return None, the default, for files that this class
        does not read. Look at names, sizes and headers only; raise DataError for files that it should read and cannot.
        """
        return None

    def outline(self) -> Outline | None:
        """Return what is known of the data before it is read in full; None, the default, if nothing is.

        `prepare` is not called before. Raise DataError when files are missing or damaged.
        """
        return None

    def findings(self, root: Path) -> Findings | None:
        """Return what was found in the user's files; None, the default, for other data. Called after `prepare`."""
        return None

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


class Penalty(Protocol):
    """A regularizer at run time.

    An optional method `project(module, strength)` changes the player's weights in place after its update.
    """

    def penalty(self, real: Scores, fake: Scores) -> Tensor | None:
        """Return a scalar, which is added to the player's loss times strength and interval; None adds nothing."""


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

    def penalty(self, real: Scores, fake: Scores) -> Tensor | None:
        """Return a scalar, which is added to the player's loss times `strength` and `interval`; None adds nothing.

        `real` and `fake` are the scores that the loss receives, from the same forward pass. Do not multiply by
        `strength` or `interval` here. Score other images with `real.players.score(images, real.condition)`. By default
        nothing is added.
        """
        return None

    def strength(self, time: TrainingTime) -> float:
        """Return the weight of the penalty at this time of the run. Where it is 0 the penalty is not computed."""
        return 1.0

    def project(self, module: nn.Module, strength: float) -> None:
        """Change the player's weights in place after each update it applies to. Default: no change."""

    def build(self, spec: Spec) -> Penalty:
        """Return the penalty: the regularizer itself, or an `nn.Module` if it has state.

        State of a module is in its buffers; its parameters are trained by the optimizer of `player`.
        """
        return self


# Augmentation


class Augment(Protocol):
    """An augmentation at run time."""

    def __call__(self, images: Tensor, strength: float) -> Tensor:
        """Return images (N, *shape) of the same shape and type, each augmented on its own, differentiably.

        `images` are in [-1, 1] if `spec.bounded`. `strength` in 0..1 is the fraction of images to change.
        """


class Augmentation(Component):
    """Differentiable augmentation of the images that D sees, real and fake, in both players' updates."""

    kind = "augmentation"

    @abstractmethod
    def build(self, spec: Spec) -> Augment:
        """Return a callable that augments images of `spec.shape`. Mirror images only if `spec.mirrors`, by default.

        It may be an `nn.Module`, whose parameters are trained by D's optimizer. If it has a method
        `observe(real: Scores)`, that is called with the scores of real images after every update of D (adaptive
        augmentation). Buffers of one number that it names in `logged` are in the log; those in `continued` begin with
        their values in the run that this one starts from (`--init-from`). Raise ConfigError for a spec that it does not
        support.
        """

    def may_mirror(self) -> bool:
        """Return whether it mirrors images where `spec.mirrors` allows that, to report a setting without effect."""
        return True

    def strength(self, time: TrainingTime) -> float:
        """Return the fraction of images to change at this time of the run, in 0..1."""
        return 1.0
