"""Path length regularization of generators, Karras et al. 2020, section 3.2 (arXiv:1912.04958)."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore.contracts import Penalty, Regularizer, Schedulable, Scores, Spec, TrainingTime, value_at
from gancore.errors import ConfigError

_DECAY = 0.99


class PathLength(Regularizer):
    """Makes steps of styles change all images equally far, Karras et al. 2020, eq. 4 (arXiv:1912.04958).

    weight E (|J^T y| - a)^2, with the Jacobian J of an image with respect to its style, normal y, and the running mean
    a of the lengths |J^T y|. The generator returns its styles as the extra `style`, as the generator `style` does.
    """

    name = "path-length"
    player = "generator"
    whole_batch = True  # the mean length is that of whole batches
    weight: Schedulable = Field(default=2.0, ge=0, description="weight of the mean squared difference from the mean")
    interval: int = Field(
        default=8, ge=1, description="apply in every n-th update of the generator, with the penalty multiplied by n"
    )

    def strength(self, time: TrainingTime) -> float:
        return value_at(self.weight, time)

    def build(self, spec: Spec) -> Penalty:
        return PathLengthPenalty()


class PathLengthPenalty(nn.Module):
    """The penalty, with the running mean of the lengths in a buffer.

    The mean has a decay of 0.99. Of the first hundred batches it is the plain mean, so that lengths are not drawn to 0
    at the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))
        self.mean: Tensor
        self.batches: Tensor

    def penalty(self, real: Scores, fake: Scores) -> Tensor:
        """Return the mean squared difference of the lengths from their running mean, which follows them."""
        if "style" not in fake.extras:
            raise ConfigError("regularizer 'path-length' needs a generator with the extra 'style'", "--generator style")
        lengths = path_lengths(fake.images, fake.extras["style"])
        with torch.no_grad():
            self.batches += 1
            share = (1 / self.batches).clamp(min=1 - _DECAY)
            self.mean.lerp_(fake.mean(lengths.detach()), share)
        return (lengths - self.mean.clone()).square().mean()


def path_lengths(images: Tensor, styles: Tensor) -> Tensor:
    """Return the length (N,) of the change of each image (C, H, W) for a step of its style in a random direction.

    It is |J^T y| for normal y. For styles (N, L, S) of L layers the step is the same in all of them; otherwise they are
    (N, S), and L is 1. Lengths are divided by sqrt(H W L), which gives a weight of 2 the value of the paper (appendix
    B): ln 2 / (r^2 (ln r - ln 2)), since images of r x r pixels have L = 2 log2 r - 2 there. They can be differentiated
    again.
    """
    layers = styles.shape[1] if styles.ndim > 2 else 1
    directions = torch.randn_like(images) / math.sqrt(math.prod(images.shape[2:]) * layers)  # (N, C, H, W)
    (gradient,) = torch.autograd.grad((images * directions).sum(), styles, create_graph=True)
    gradient = gradient.flatten(1, -2).sum(dim=1) if gradient.ndim > 2 else gradient  # (N, S)
    return (gradient.square().sum(dim=1) + 1e-12).sqrt()  # whose gradient at 0 is finite
