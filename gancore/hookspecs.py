"""The hooks through which a plugin offers its components, one for each kind.

A hook takes no argument and returns component classes: pure, so that a plugin is tested by calling it. A plugin is a
module (or any object) with some of these functions, each marked `@hookimpl`; a package announces it by an entry point:

    [project.entry-points."gancore.v1"]
    waves = "gancore_waves"

The group's name is the version of this contract. A kind is known to gancore by its hook's return type alone. Each hook
shows a complete plugin that offers something of its kind.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources.abc import Traversable

import pluggy

from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.metrics import Extractor, Metric
from gancore.observers import Observer

ENTRY_POINTS = "gancore.v1"

hookspec = pluggy.HookspecMarker("gancore")
hookimpl = pluggy.HookimplMarker("gancore")


@hookspec
def gancore_generators() -> Iterable[type[Generator]]:
    """Offers generators.

    ```python
    import math

    from pydantic import Field
    from torch import nn

    from gancore import Generator, hookimpl


    class Linear(Generator):
        \"\"\"One linear layer, squashed into the range of an image.\"\"\"

        name = "linear"
        bias: bool = Field(default=True, description="whether pixels have an offset of their own")

        def build(self, shape, latent_dim, num_classes):
            layer = nn.Linear(latent_dim, math.prod(shape), bias=self.bias)
            return nn.Sequential(layer, nn.Tanh(), nn.Unflatten(1, shape))


    @hookimpl
    def gancore_generators():
        return [Linear]
    ```
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    """Offers discriminators.

    ```python
    import math

    from pydantic import Field
    from torch import nn

    from gancore import Discriminator, hookimpl


    class Maxout(Discriminator):
        \"\"\"One hidden layer of maxout units, Goodfellow et al. 2013 (arXiv:1302.4389).\"\"\"

        name = "maxout"
        units: int = Field(default=64, ge=1, le=4096, description="hidden units")
        pieces: int = Field(default=4, ge=2, le=16, description="linear pieces of a unit")

        def build(self, shape, num_classes):
            return nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(shape), self.units * self.pieces),
                nn.MaxPool1d(self.pieces),
                nn.Linear(self.units, 1),
            )


    @hookimpl
    def gancore_discriminators():
        return [Maxout]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_losses() -> Iterable[type[Loss]]:
    """Offers losses.

    ```python
    from pydantic import Field

    from gancore import Loss, hookimpl


    class LeastSquares(Loss):
        \"\"\"Least squares with targets 0 and 1, Mao et al. 2016 (arXiv:1611.04076).\"\"\"

        name = "least-squares"
        target: float = Field(default=1.0, gt=0, description="the score that a real image should have")

        def discriminator(self, real, fake):
            return ((real.logits - self.target).square().mean() + fake.logits.square().mean()) / 2

        def generator(self, fake, real):
            return (fake.logits - self.target).square().mean() / 2


    @hookimpl
    def gancore_losses():
        return [LeastSquares]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_datasets() -> Iterable[type[Dataset]]:
    """Offers datasets.

    ```python
    import torch
    from pydantic import Field
    from torch.utils.data import TensorDataset

    from gancore import Dataset, hookimpl


    class Stripes(Dataset):
        \"\"\"Horizontal and vertical stripes, black and white.\"\"\"

        name = "stripes"
        size: int = Field(default=8, ge=2, le=256, description="height and width in pixels")
        count: int = Field(default=256, ge=2, description="number of images")

        def build(self, root):
            rows = (torch.arange(self.size) % 2 * 255).to(torch.uint8).repeat(self.size, 1)
            labels = torch.arange(self.count) % 2
            images = torch.stack([rows, rows.T])[labels].unsqueeze(1)
            dataset = TensorDataset(images, labels)
            dataset.classes = ("vertical", "horizontal")
            return dataset


    @hookimpl
    def gancore_datasets():
        return [Stripes]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_regularizers() -> Iterable[type[Regularizer]]:
    """Offers regularizers.

    ```python
    from gancore import Regularizer, hookimpl


    class Drift(Regularizer):
        \"\"\"Keeps scores of real images near zero, Karras et al. 2018, appendix A.1 (arXiv:1710.10196).\"\"\"

        name = "drift"

        def strength(self, moment):
            return 1e-3

        def penalty(self, critic, real, fake):
            return real.logits.square().mean()


    @hookimpl
    def gancore_regularizers():
        return [Drift]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_augmentations() -> Iterable[type[Augmentation]]:
    """Offers augmentations.

    ```python
    import torch

    from gancore import Augmentation, hookimpl


    class Brightness(Augmentation):
        \"\"\"Every image darker or brighter by a random amount, a fourth of the range at most.\"\"\"

        name = "brightness"

        def build(self, shape, mirrors):
            return self.apply

        def apply(self, images, strength):
            change, chance = torch.rand(2, len(images), 1, 1, 1, device=images.device)
            return images + (change - 0.5) * (chance < strength)


    @hookimpl
    def gancore_augmentations():
        return [Brightness]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_metrics() -> Iterable[type[Metric]]:
    """Offers metrics.

    ```python
    from gancore import Measurement, Metric, hookimpl


    class Brightness(Metric):
        \"\"\"Difference of mean brightness between generated and real images, in 0..255.\"\"\"

        name = "brightness"
        needs = frozenset({"images", "reference"})
        better = "lower"

        def measure(self, evidence):
            fake, real = (samples.images.double().mean() for samples in (evidence.fake, evidence.real))
            return Measurement(float((fake - real).abs()), details={"generated": float(fake)})


    @hookimpl
    def gancore_metrics():
        return [Brightness]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_extractors() -> Iterable[type[Extractor]]:
    """Offers extractors, through which metrics look at images.

    ```python
    from pydantic import Field
    from torch import nn

    from gancore import Extractor, Features, hookimpl


    class Thumbnail(Extractor):
        \"\"\"Images averaged down to a few pixels.\"\"\"

        name = "thumbnail"
        side: int = Field(default=2, ge=1, le=64, description="height and width in pixels")

        def build(self, shape, num_classes, root):
            return Shrink(self.side)


    class Shrink(nn.Module):
        def __init__(self, side):
            super().__init__()
            self.side = side

        def forward(self, images):
            small = nn.functional.adaptive_avg_pool2d(images.float() / 255, self.side)
            return Features(small.flatten(1))


    @hookimpl
    def gancore_extractors():
        return [Thumbnail]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_observers() -> Iterable[type[Observer]]:
    """Offers observers, who are told of a run.

    ```python
    from pydantic import Field

    from gancore import Observer, Writer, hookimpl


    class Lowest(Observer):
        \"\"\"Keeps the lowest value of a number, and its step, in the file lowest.txt.\"\"\"

        name = "lowest"
        number: str = Field(default="generator_loss", description="a number of the log")

        def build(self, run):
            return Keeper(run.folder / "lowest.txt", self.number)


    class Keeper(Writer):
        def __init__(self, path, number):
            self.path, self.number, self.lowest = path, number, float("inf")

        def scalars(self, numbers):
            if numbers.get(self.number, self.lowest) < self.lowest:
                self.lowest = numbers[self.number]
                self.path.write_text(f"{self.lowest} at step {numbers['step']}", encoding="utf-8")


    @hookimpl
    def gancore_observers():
        return [Lowest]
    ```
    """
    raise NotImplementedError  # see above


@hookspec
def gancore_recipes() -> Iterable[Traversable]:
    """Offers recipes: TOML files of a run's config, each known by its file's stem.

    ```python
    from importlib.resources import files

    from gancore import hookimpl


    @hookimpl
    def gancore_recipes():
        return [file for file in files("gancore_waves").iterdir() if file.name.endswith(".toml")]
    ```
    """
    raise NotImplementedError  # see above
