"""A style-based generator with mixing and truncation, and path length regularization."""

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import ConfigError, Generated, Generator, Penalty, Regularizer, Scores, Spec, TrainingTime
from gancore_families.layers import perceptron


class Style(Generator):
    """Perceptron whose layers are scaled by a style, Karras et al. 2019 and 2020 (arXiv:1812.04948, arXiv:1912.04958).

    In training, some samples have the style of a second latent in their last layers (style mixing). In evaluation, all
    styles are moved toward the mean style (truncation).
    """

    name = "style"
    width: int = Field(default=128, ge=1, le=4096, description="values of a style, and units of each layer")
    depth: int = Field(default=2, ge=2, le=16, description="layers with a style")
    mixing: float = Field(default=0.9, ge=0, le=1, description="share of training samples with styles of two latents")
    truncation: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="distance of a sample's style from the mean style in evaluation, 1: as it is",
    )

    def build(self, spec: Spec) -> nn.Module:
        return _StyleNetwork(self, spec)


class _StyleNetwork(nn.Module):
    """Latent (N, Z) to images (N, *shape), with the extra `style` (N, width) and a running mean of the styles."""

    def __init__(self, settings: Style, spec: Spec) -> None:
        super().__init__()
        self.settings, width, depth = settings, settings.width, settings.depth
        self.mapping = perceptron(spec.latent_dim, width, width)
        self.start = nn.Parameter(torch.randn(width))
        self.scales = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.output = nn.Sequential(
            nn.Linear(width, math.prod(spec.shape)),
            nn.Tanh() if spec.bounded else nn.Identity(),
            nn.Unflatten(1, spec.shape),
        )
        self.register_buffer("mean_style", torch.zeros(width))
        self.mean_style: Tensor

    def forward(self, latent: Tensor) -> Generated:
        style = self.mapping(latent)  # (N, width)
        if self.training:
            self.mean_style.lerp_(style.detach().mean(dim=0), 0.01)
            last = self._mixed(style, latent)
        else:
            style = last = torch.lerp(self.mean_style, style, self.settings.truncation)
        hidden: Tensor = self.start
        for number, (scale, layer) in enumerate(zip(self.scales, self.layers, strict=True)):
            own = style if number < len(self.layers) // 2 else last
            hidden = nn.functional.leaky_relu(layer(hidden * (1 + scale(own))), 0.2)
        return Generated(self.output(hidden), {"style": style})

    def _mixed(self, style: Tensor, latent: Tensor) -> Tensor:
        """Return the style of the last layers: for a share of the samples that of another latent."""
        other = self.mapping(torch.randn_like(latent))
        chosen = torch.rand(len(style), 1, device=style.device) < self.settings.mixing
        return torch.where(chosen, other, style)


class PathLength(Regularizer):
    """A step in style space changes all images by an equal length, Karras et al. 2020, section 3.2 (arXiv:1912.04958).

    The generator must return its styles as the extra `style`.
    """

    name = "path-length"
    player = "generator"
    whole_batch = True  # the mean length is that of whole batches
    weight: float = Field(default=2.0, ge=0, description="weight of the mean squared difference from the mean length")

    def strength(self, time: TrainingTime) -> float:
        return self.weight

    def build(self, spec: Spec) -> Penalty:
        return _PathLengthPenalty()


class _PathLengthPenalty(nn.Module):
    """The penalty, with the running mean of the lengths in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.mean: Tensor

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        if "style" not in fake.extras:
            raise ConfigError("regularizer 'path-length' needs a generator with the extra 'style'", "--generator style")
        lengths = path_lengths(fake.images, fake.extras["style"])
        self.mean.lerp_(lengths.detach().mean(), 0.01)
        return (lengths - self.mean.clone()).square().mean()


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """Return the length (N,) of the change of each image for a step of its style (N, F) in a random direction.

    This is the norm of J^T y with y normal, for the Jacobian J of images with respect to styles, over the square root
    of the number of pixels. It can be differentiated again.
    """
    directions = torch.randn_like(images) / math.sqrt(images[0].numel())
    (gradient,) = torch.autograd.grad((images * directions).sum(), styles, create_graph=True)
    return gradient.square().sum(dim=1).sqrt()
