"""The contract: what a plugin's component promises, and what the training loop gives it.

A component *is* its hyperparameters: a frozen model whose fields carry default, bounds and help, and whose `build`
makes the working part. Modules compute, losses score, and only the loop steps: no component calls `backward`, moves
anything between devices, or opens files that it was not given.

Letters: N batch, Z latent, K classes, C H W image, F features of a vector. A shape is (C, H, W) or (F,).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import get_annotations, isabstract
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self, Union, get_args, get_origin

from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gancore.errors import ConfigError, DataError
from gancore.layers import REMOVE
from gancore.settings import Schedulable, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset as TorchDataset

__all__ = [
    "Component",
    "DataError",
    "Dataset",
    "Discriminator",
    "Generator",
    "Loss",
    "Objective",
    "Output",
    "Schedulable",
    "Scores",
    "Shape",
    "StatefulLoss",
]

Shape = tuple[int, ...]
"""(C, H, W) of an image or (F,) of a vector."""


class Finder(Protocol):
    """Finds the class of a component by its name; the catalog is one."""

    def find(self, kind: type[Component], name: str) -> type[Component]: ...


class Component(Settings, ABC):
    """The base of every kind. A concrete component sets `name`; its first docstring line is its summary.

    Fields are bool, int, float, str, Literal, tuples of these, `| None` (with None as the default), a schedulable
    value, or another component. Nothing else, so that every component survives TOML and JSON unchanged and is hashable.
    """

    # pydantic lets all types pass, so that the check below has the word, which names the field.
    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: ClassVar[str]
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:  # Any: handed on to pydantic as it came
        for key, annotation in get_annotations(cls).items():
            if "ClassVar" in str(annotation):
                continue
            if hasattr(Component, key) or key in {"build", "kind", "name"}:
                raise TypeError(f"{cls.__name__}.{key}: this name belongs to every component; choose another")
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # Any: as above
        for key, info in cls.model_fields.items():
            if not _may_be_a_field(info.annotation):
                raise TypeError(
                    f"{cls.__name__}.{key}: a field is a bool, int, float, str, Literal, a tuple of these, a "
                    f"schedulable value or a component, each perhaps `| None`; received {info.annotation}"
                )
            if NoneType in get_args(info.annotation) and info.default is not None:
                raise TypeError(
                    f"{cls.__name__}.{key}: the default of an optional field is None, since files hold no null; "
                    f"received {info.default!r}"
                )
        super().__pydantic_init_subclass__(**kwargs)

    @model_validator(mode="wrap")
    @classmethod
    def _find(cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Reads `"mlp"` or `{name = "mlp", …}`; an abstract kind looks the name up in the catalog."""
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping | Component):
            raise PydanticCustomError("component_type", "Input should be a name, or a table with a `name`")
        if isinstance(data, Component) or not (isabstract(cls) or "name" in data):
            return handler(data)
        if not isinstance(data.get("name"), str):
            raise PydanticCustomError("missing_name", "a table of a component must hold its `name`")
        fields = {key: value for key, value in data.items() if key != "name"}
        if not isinstance(info.context, _Context):
            raise PydanticCustomError("no_catalog", "names can only be looked up where a catalog is given")
        try:
            found = info.context.finder.find(_kind_of(cls), data["name"])
        except ConfigError as error:
            problem = InitErrorDetails(type=PydanticCustomError("unknown_name", str(error)), loc=("name",), input=data)
            raise ValidationError.from_exception_data(cls.__name__, [problem]) from None
        if found is cls:
            return handler(fields)
        if not issubclass(found, cls):
            raise PydanticCustomError("wrong_component", f"only {cls.name!r} can stand here")
        return found.model_validate(fields, context=info.context)

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        for key in type(self).model_fields:
            if getattr(self, key) == REMOVE:
                raise ValueError(f"{key}: {REMOVE!r} takes a key away in a file, so it cannot be a value")
        return self

    def head(self, name_of: Callable[[type[Any]], str]) -> dict[str, object]:
        return {"name": name_of(type(self))}

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class _Context:
    finder: Finder


def lookup(finder: Finder) -> object:
    """The context in which components validate from data that names them."""
    return _Context(finder)


def _kind_of(cls: type[Component]) -> type[Component]:
    return next(base for base in cls.__mro__ if "kind" in vars(base))


def _may_be_a_field(annotation: object) -> bool:
    if annotation in (bool, int, float, str, Schedulable):
        return True
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return True
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        # On the command line `none` takes a key away, so it cannot also be a value.
        return all(isinstance(value, bool | int | str) and value != REMOVE for value in inner)
    if origin is Annotated:
        return _may_be_a_field(inner[0])
    if origin is tuple:
        return all(item is Ellipsis or (_may_be_a_field(item) and NoneType not in get_args(item)) for item in inner)
    if origin in (Union, UnionType):
        return all(item is NoneType or _may_be_a_field(item) for item in inner)
    return False


@dataclass(frozen=True, slots=True)
class Output:
    """What a discriminator may return instead of bare logits.

    `logits` (N, K), K >= 1; `features`, tensors that begin with N, for feature matching; `heads`, further outputs by
    name that begin with N, for auxiliary classifiers and codes.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A batch and what the discriminator said of it. Fields are only ever added.

    `images` (N, *shape) as D saw them, in [-1, 1], or vectors as they are; `logits` (N, K) in float32 or
    better; `labels` (N,) int64, None unless the run is conditional; `latent` (N, Z), None for real images; `features`
    and `heads` as in `Output`.
    """

    images: Tensor
    logits: Tensor
    labels: Tensor | None = None
    latent: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    heads: Mapping[str, Tensor] = field(default_factory=dict)


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
    """The two scores that are minimised in turn. Each returns a scalar tensor and is otherwise pure."""

    @property
    def needs_real(self) -> bool:
        """Whether the generator's step needs the real batch scored too (relativistic losses, feature matching)."""

    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """What D minimises. `fake.images` carry no gradient to G."""

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """What G minimises. `real` is None unless `needs_real`."""


class Loss(Component):
    """Scores what the discriminator said, once for each player."""

    kind = "loss"
    needs_real: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, real: Scores, fake: Scores) -> Tensor:
        """What D minimises: a scalar. `fake.images` carry no gradient to G."""

    @abstractmethod
    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        """What G minimises: a scalar. `real` is None unless `needs_real` is set."""

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


class Dataset(Component):
    """Finds and opens the training data."""

    kind = "dataset"

    @abstractmethod
    def build(self, root: Path) -> TorchDataset[Any]:  # Any: an item is (image, label) or an image alone
        """A map-style dataset of (image, label), or of images alone.

        An image is a uint8 tensor (C, H, W), a vector a float32 tensor (F,); all have one shape. A label is an int.
        `classes`, a sequence of names, says what the labels mean, where there are any. Files are looked for below
        `root`. Raise DataError when they are missing or damaged.
        """
