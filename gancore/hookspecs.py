"""The hooks by which a plugin registers its components, recipes and commands. Each docstring has a complete plugin.

A plugin is a module (or any object) with some of these functions, each marked `@hookimpl`. A hook takes no argument and
returns what it offers, so a test can simply call it. A package announces its plugin by an entry point:

    [project.entry-points."gancore.v1"]
    waves = "gancore_waves"

The group name contains the version of this contract. gancore derives the kind of a component from the return type of
its hook.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

import pluggy

from gancore.contracts import Augmentation, Dataset, Discriminator, Generator, Loss, Regularizer
from gancore.exporters import Exporter
from gancore.metrics import Extractor, Metric
from gancore.observers import Observer

if TYPE_CHECKING:
    import click

ENTRY_POINTS = "gancore.v1"

hookspec = pluggy.HookspecMarker("gancore")
hookimpl = pluggy.HookimplMarker("gancore")


@hookspec
def gancore_generators() -> Iterable[type[Generator]]:
    """Return generators.

    ```python
    import math

    from pydantic import Field
    from torch import nn

    from gancore import Generator, hookimpl


    class Linear(Generator):
        \"\"\"One linear layer with tanh output.\"\"\"

        name = "linear"
        bias: bool = Field(default=True, description="add a learned offset to each pixel")

        def build(self, spec):
            layer = nn.Linear(spec.latent_dim, math.prod(spec.shape), bias=self.bias)
            return nn.Sequential(layer, nn.Tanh(), nn.Unflatten(1, spec.shape))


    @hookimpl
    def gancore_generators():
        return [Linear]
    ```
    """
    raise NotImplementedError  # pluggy calls only implementations


@hookspec
def gancore_discriminators() -> Iterable[type[Discriminator]]:
    """Return discriminators.

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

        def build(self, spec):
            return nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(spec.shape), self.units * self.pieces),
                nn.MaxPool1d(self.pieces),
                nn.Linear(self.units, 1),
            )


    @hookimpl
    def gancore_discriminators():
        return [Maxout]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_losses() -> Iterable[type[Loss]]:
    """Return losses.

    ```python
    from pydantic import Field

    from gancore import Loss, hookimpl


    class LeastSquares(Loss):
        \"\"\"Least squares with targets 0 and 1, Mao et al. 2016 (arXiv:1611.04076).\"\"\"

        name = "least-squares"
        target: float = Field(default=1.0, gt=0, description="target score of real images")

        def discriminator(self, real, fake):
            return ((real.logits - self.target).square().mean() + fake.logits.square().mean()) / 2

        def generator(self, fake, real):
            return (fake.logits - self.target).square().mean() / 2


    @hookimpl
    def gancore_losses():
        return [LeastSquares]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_datasets() -> Iterable[type[Dataset]]:
    """Return datasets.

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
    raise NotImplementedError  # as above


@hookspec
def gancore_regularizers() -> Iterable[type[Regularizer]]:
    """Return regularizers.

    ```python
    from gancore import Regularizer, hookimpl


    class Drift(Regularizer):
        \"\"\"Squared score of real images, Karras et al. 2018, appendix A.1 (arXiv:1710.10196).\"\"\"

        name = "drift"

        def strength(self, time):
            return 1e-3

        def penalty(self, real, fake):
            return real.logits.square().mean()


    @hookimpl
    def gancore_regularizers():
        return [Drift]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_augmentations() -> Iterable[type[Augmentation]]:
    """Return augmentations.

    ```python
    import torch

    from gancore import Augmentation, hookimpl


    class Brightness(Augmentation):
        \"\"\"Random brightness per image, changed by at most a quarter of the range.\"\"\"

        name = "brightness"

        def build(self, spec):
            return self.apply

        def apply(self, images, strength):
            change, chance = torch.rand(2, len(images), 1, 1, 1, device=images.device)
            return images + (change - 0.5) * (chance < strength)


    @hookimpl
    def gancore_augmentations():
        return [Brightness]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_metrics() -> Iterable[type[Metric]]:
    """Return metrics.

    ```python
    from gancore import Measurement, Metric, hookimpl


    class Brightness(Metric):
        \"\"\"Difference of mean brightness between generated and real images, in 0..255.\"\"\"

        name = "brightness"
        needs = frozenset({"images", "reference"})
        better = "lower"

        def measure(self, inputs):
            fake, real = (samples.images.double().mean() for samples in (inputs.fake, inputs.real))
            return Measurement(float((fake - real).abs()), details={"generated": float(fake)})


    @hookimpl
    def gancore_metrics():
        return [Brightness]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_extractors() -> Iterable[type[Extractor]]:
    """Return extractors, which compute the features that metrics use.

    ```python
    from pydantic import Field
    from torch import nn

    from gancore import Extractor, Features, hookimpl


    class Thumbnail(Extractor):
        \"\"\"Images downsampled to a few pixels by averaging.\"\"\"

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
    raise NotImplementedError  # as above


@hookspec
def gancore_observers() -> Iterable[type[Observer]]:
    """Return observers, which receive the log lines, images and files of a run.

    ```python
    from pydantic import Field

    from gancore import Observer, Writer, hookimpl


    class Lowest(Observer):
        \"\"\"Writes the lowest value of a number of the log, and its step, to lowest.txt.\"\"\"

        name = "lowest"
        number: str = Field(default="generator_loss", description="name of a number in the log")

        def build(self, run):
            return LowestWriter(run.folder / "lowest.txt", self.number)


    class LowestWriter(Writer):
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
    raise NotImplementedError  # as above


@hookspec
def gancore_exporters() -> Iterable[type[Exporter]]:
    """Return exporters, which write a trained generator in a form that works without gancore.

    ```python
    import json

    import safetensors.torch
    from pydantic import Field

    from gancore import Exporter, hookimpl


    class Weights(Exporter):
        \"\"\"The weights alone in a safetensors file, with its inputs and outputs as JSON in the metadata.\"\"\"

        name = "weights"
        suffix = ".safetensors"
        half: bool = Field(default=False, description="store weights in 16 bits")

        def export(self, model, out):
            weights = model.generator.state_dict()
            if self.half:
                weights = {name: weight.half() for name, weight in weights.items()}
            safetensors.torch.save_file(weights, out, {"interface": json.dumps(model.interface())})
            return {"tensors": len(weights)}


    @hookimpl
    def gancore_exporters():
        return [Weights]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_recipes() -> Iterable[Traversable]:
    """Return recipes: TOML files with the config of a run. The name of a recipe is the stem of its file.

    ```python
    from importlib.resources import files

    from gancore import hookimpl


    @hookimpl
    def gancore_recipes():
        return [file for file in files("gancore_waves").iterdir() if file.name.endswith(".toml")]
    ```
    """
    raise NotImplementedError  # as above


@hookspec
def gancore_commands() -> Iterable[click.Command]:
    """Return click commands or groups. Users run each as `gancore NAME`.

    ```python
    import json
    from pathlib import Path

    import click

    from gancore import hookimpl


    @click.command()
    @click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.option("--number", default="generator_loss", show_default=True, help="A number of the log.")
    def lowest(run, number):
        \"\"\"Print the lowest value of a number in the log of RUN, and its step.\"\"\"
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [record for record in map(json.loads, lines) if number in record]
        if not records:
            raise click.UsageError(f"the log has no number {number!r}")
        best = min(records, key=lambda record: record[number])
        click.echo(f"{best[number]:.6g} at step {best['step']}")


    @hookimpl
    def gancore_commands():
        return [lowest]
    ```
    """
    raise NotImplementedError  # as above
