"""The contract of exporters: they write a trained generator in a form that works without gancore.

An exporter receives the generator and everything that is known about it, and writes one file or one folder. gancore
chooses the place: what it calls `out` is temporary, and moved to the path that the user named once it is complete.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gancore.component import Component
from gancore.contracts import Shape, Spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gancore.utils.sample_format import SampleFormat

__all__ = ["ExportedGenerator", "Exporter", "Facts"]

Facts = Mapping[str, str | int | float | bool | None]
"""What an exporter found out, by name: `max_difference`, `opset`. The command `export` prints it."""


@dataclass(frozen=True)
class ExportedGenerator:
    """A trained generator with everything that an export may hold. Later versions may add fields and remove none.

    `generator`: the module as its component built it, on the CPU, in evaluation mode, with the averaged weights (EMA)
    if `about["averaged"]`. `module` maps its inputs to images, whatever the generator returns.
    `sample_format`: how its images become samples as the data is stored: `sample_format.to_stored(images)`.
    `data_format`: the data as plain data, as in a checkpoint: `shape`, `condition`, `classes`, `class_counts`, `dtype`,
    `value_range`, `scales`, `columns` and `mirrors`.
    `config`: the resolved config as plain data, without observers. Of the paths of datasets, only the last name is
    left, and of text in other components that begins with `/` or `~`; a relative path there stays as it is.
    `about`: where the weights come from, as plain data without paths and names of people or machines: `step`, `kimg`,
    `averaged`, `half_life_kimg` (that of the EMA, None for current weights and for a schedule), `checkpoint` (the
    SHA-256 of its content, as `gancore checkpoint verify -v` prints it), `recipe`, `gancore`, `torch`, `python`,
    `plugins` (versions by package) and `needs` (third-party plugins that the run needs).
    `evaluation`: the run's evaluation at this step as in evaluation.json, None without one.
    `picture`: a PNG of samples, None for samples that make no picture.
    """

    generator: nn.Module
    spec: Spec
    latent_distribution: Literal["normal", "uniform"]
    sample_format: SampleFormat
    data_format: Mapping[str, Any]  # Any: JSON, as below
    config: Mapping[str, Any]
    about: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None = None
    picture: bytes | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels; empty without names, and for a generator that takes none."""
        return tuple(self.data_format["classes"]) if isinstance(self.spec.condition, int) else ()

    @cached_property
    def module(self) -> nn.Module:
        """A module that maps latents (N, Z), and a condition if the generator takes one, to images (N, *shape) float32.

        Its parameters have the names of `input_shapes`.
        Images are those of the network, in [-1, 1] if `spec.bounded`, and not clamped. The parameter names of
        `generator` have the prefix `generator.` in it.
        """
        from torch import nn

        class Images(nn.Module):
            """The images alone of what a generator returns."""

            def __init__(self, generator: nn.Module) -> None:
                super().__init__()
                self.generator = generator
                self.training = generator.training

            def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
                returned = self.generator(latent) if condition is None else self.generator(latent, condition)
                images: Tensor = getattr(returned, "images", returned)
                return images.float()

        class ImagesOfClasses(Images):
            """The same with classes; a program has the names of these parameters."""

            def forward(self, latent: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]  # another name
                return Images.forward(self, latent, label)

        return ImagesOfClasses(self.generator) if isinstance(self.spec.condition, int) else Images(self.generator)

    @property
    def input_shapes(self) -> dict[str, Shape]:
        """The shape of each input for one sample, by name, in their order.

        `latent` (Z,), then `label` () for classes, int64, or `condition` (…) for tensors, float32.
        """
        shapes: dict[str, Shape] = {"latent": (self.spec.latent_dim,)}
        if isinstance(self.spec.condition, int):
            return shapes | {"label": ()}
        return shapes if self.spec.condition is None else shapes | {"condition": self.spec.condition}

    def draw_inputs(self, count: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Return random inputs of `module` for this number of samples, to trace it and to compare results."""
        import torch

        rng = torch.Generator().manual_seed(seed)
        latent = torch.randn(count, self.spec.latent_dim, generator=rng)
        if self.latent_distribution == "uniform":
            latent = torch.rand(count, self.spec.latent_dim, generator=rng) * 2 - 1
        if self.spec.condition is None:
            return (latent,)
        if isinstance(self.spec.condition, int):
            return latent, torch.randint(self.spec.condition, (count,), generator=rng)
        return latent, torch.rand(count, *self.spec.condition, generator=rng) * 2 - 1

    def interface(self) -> dict[str, Any]:  # Any: JSON
        """Return plain data that says how to call `module` and how to read its images.

        `latent`: its `size` and `distribution`. `condition`: None; `classes` with the names or None, and their `count`;
        or the `shape` of tensors. `images`: `shape`, and the `range` [-1, 1] if they are bounded. `stored`: `dtype`,
        `value_range`, `scales` and `columns` of the data. `about`: as the field.
        """
        condition: dict[str, Any] | None = None  # Any: JSON
        if isinstance(self.spec.condition, int):
            condition = {"count": self.spec.condition, "classes": list(self.classes) or None}
        elif self.spec.condition is not None:
            condition = {"shape": list(self.spec.condition)}
        return {
            "latent": {"size": self.spec.latent_dim, "distribution": self.latent_distribution},
            "condition": condition,
            "images": {"shape": list(self.spec.shape), "range": [-1.0, 1.0] if self.spec.bounded else None},
            "stored": {key: self.data_format.get(key) for key in ("dtype", "value_range", "scales", "columns")},
            "about": dict(self.about),
        }


class Exporter(Component):
    """Writer of a trained generator in a form that works without gancore. Its fields are the options of the export."""

    kind = "exporter"

    suffix: ClassVar[str] = ""
    """The end of the names of its files, such as `.onnx`; empty if it writes a folder."""

    def check(self) -> None:
        """Raise ConfigError if the exporter cannot work here, for example because it needs a package that is missing.

        Called before anything else. By default nothing is checked.
        """

    @abstractmethod
    def export(self, model: ExportedGenerator, out: Path) -> Facts:
        """Write the generator to `out`, a path that does not exist: one file, or a folder if `suffix` is empty.

        Return facts to print. Leave `model.generator` as it is. Raise ConfigError for a generator that this form cannot
        hold, with the reason; what was written until then is removed.
        """
