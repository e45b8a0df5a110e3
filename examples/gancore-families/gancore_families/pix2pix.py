"""pix2pix: from one picture to another, such as from edges to a photograph."""

from collections.abc import Sized
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torch.utils.data import TensorDataset

from gancore import ConfigError, Dataset, Discriminator, Generator, Scores, Spec
from gancore_families.checks import picture_condition, required
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.losses.bce import NonSaturating


class Edges(Dataset):
    """Pictures of another dataset, each with its edges as the condition."""

    name = "edges"
    pictures: Dataset = Field(default=Digits(), description="dataset of the pictures")

    def build(self, root: Path) -> TensorDataset:
        stored = self.pictures.build(root)
        items = (stored[index] for index in range(len(cast(Sized, stored))))
        pictures = torch.stack([item[0] if isinstance(item, tuple) else item for item in items])  # (N, C, H, W) uint8
        return TensorDataset(pictures, edges_of(pictures))

    def part(self, split: Literal["train", "test"]) -> Dataset | None:
        part = self.pictures.part(split)
        return None if part is None else self.model_copy(update={"pictures": part})


def edges_of(pictures: Tensor) -> Tensor:
    """Return the edges (N, 1, H, W) of pictures (N, C, H, W), both uint8: mean difference from the pixels up and left.

    Differences of less than 16 grays count as none, and larger ones are doubled, as a pen would draw them.
    """
    gray = pictures.float().mean(dim=1, keepdim=True)
    down = gray.diff(dim=2, prepend=gray[:, :, :1]).abs()
    across = gray.diff(dim=3, prepend=gray[..., :1]).abs()
    strength = (down + across) / 2
    return (2 * strength).where(strength >= 16, 0).clamp(max=255).byte()


class UNet(Generator):
    """Encoder and decoder with a connection at each resolution, Isola et al. 2017 (arXiv:1611.07004).

    The latent enters at the lowest resolution. In the paper the noise is dropout.
    """

    name = "unet"
    width: int = Field(default=32, ge=1, le=512, description="channels at full resolution, doubled at each halving")
    depth: int = Field(default=2, ge=1, le=8, description="how often the resolution is halved")

    def build(self, spec: Spec) -> nn.Module:
        condition = picture_condition(spec, "generator 'unet'")
        if any(side % 2**self.depth for side in condition[1:]):
            raise ConfigError(
                f"generator 'unet' of depth {self.depth} needs pictures whose sides are multiples of {2**self.depth}; "
                f"received shape {spec.shape}",
                "change generator.depth, or the size of the pictures",
            )
        return _UNetwork(spec, condition[0], self)


class _UNetwork(nn.Module):
    """Latent (N, Z) and a picture (N, C, H, W) to a picture (N, C', H, W)."""

    def __init__(self, spec: Spec, channels: int, settings: UNet) -> None:
        super().__init__()
        widths = [settings.width * 2**level for level in range(settings.depth + 1)]
        self.enter = nn.Conv2d(channels, widths[0], 3, padding=1)
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairs)
        self.latent = nn.Linear(spec.latent_dim, widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(coarse + fine, fine, 3, padding=1) for fine, coarse in reversed(pairs))
        self.leave = nn.Conv2d(widths[0], spec.shape[0], 1)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.activation, self.output = nn.LeakyReLU(0.2), nn.Tanh() if spec.bounded else nn.Identity()

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        hidden, skipped = self.activation(self.enter(condition)), []
        for layer in self.down:
            skipped.append(hidden)
            hidden = self.activation(layer(hidden))
        hidden = hidden + self.latent(latent)[:, :, None, None]
        for layer in self.up:
            hidden = self.activation(layer(torch.cat([self.enlarge(hidden), skipped.pop()], dim=1)))
        pictures: Tensor = self.output(self.leave(hidden))
        return pictures


class Patches(Discriminator):
    """Convolutions with a logit for each patch of a picture, Isola et al. 2017 (arXiv:1611.07004)."""

    name = "patches"
    width: int = Field(default=32, ge=1, le=512, description="channels of the first layer, doubled in the next")
    pairs: bool = Field(default=True, description="whether D sees the condition with the picture")

    def build(self, spec: Spec) -> nn.Module:
        if len(spec.shape) != 3 or min(spec.shape[1:]) < 4:
            raise ConfigError(
                f"discriminator 'patches' needs images of 4x4 pixels or more; received {spec.shape}", "use mlp"
            )
        conditional = self.pairs or spec.condition is not None
        channels = picture_condition(spec, "discriminator 'patches'")[0] if conditional else 0
        return PatchNetwork(spec.shape[0] + (channels if self.pairs else 0), self.width, pairs=self.pairs)


class PatchNetwork(nn.Module):
    """Pictures (N, C, H, W) with their conditions to logits (N, K), one for each patch: K = (H / 4) (W / 4)."""

    def __init__(self, channels: int, width: int, *, pairs: bool) -> None:
        super().__init__()
        self.pairs = pairs
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Tensor:
        seen = torch.cat([images, condition], dim=1) if self.pairs and condition is not None else images
        logits: Tensor = self.layers(seen)
        return logits


class Pix2Pix(NonSaturating):
    """BCE, and the distance from the picture that belongs to the condition, Isola et al. 2017 (arXiv:1611.07004)."""

    name = "pix2pix"
    needs_real = True
    weight: float = Field(default=10.0, ge=0, description="weight of the mean absolute difference")

    def generator(self, fake: Scores, real: Scores | None) -> Tensor:
        target = required(real, "the scores of real images").images
        return super().generator(fake, real) + self.weight * l1_loss(fake.images, target)
