"""Hints of the preflight on the most frequent reasons why a generator does not fit the run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gancore.contracts import Generated, Shape
from gancore.training.networks import call
from gancore.utils.copies import copy_part


@torch.no_grad()
def latent_hint(generator: nn.Module, latent: Tensor, condition: Tensor | None) -> str:
    """Return how to fit the latents (N, Z) to a generator that fails on them, by trying; empty if nothing helps.

    The generator stays as it was.
    """
    dim = latent.shape[1]
    if _takes(generator, latent[:, :, None, None], condition):
        return f"it takes latents (N, {dim}, 1, 1), and gets (N, {dim}): begin it with nn.Unflatten(1, ({dim}, 1, 1))"
    for other in _inputs(generator):
        if other != dim and _takes(generator, latent.new_zeros(len(latent), other), condition):
            return f"it takes latents of length {other}, and latent.dim is {dim}: set latent.dim to {other}"
        if other != dim and _takes(generator, latent.new_zeros(len(latent), other, 1, 1), condition):
            return (
                f"it takes latents (N, {other}, 1, 1): set latent.dim to {other}, and begin it with "
                f"nn.Unflatten(1, ({other}, 1, 1))"
            )
    return ""


def shape_hint(images: object, shape: Shape) -> str:
    """Return how to fit generated images to samples of another shape; empty if it is not clear."""
    if not isinstance(images, Tensor):
        return "return gancore.Generated(images, extras) for more than images" if isinstance(images, tuple) else ""
    made = tuple(images.shape[1:])
    if len(shape) == 3 and made == (shape[2], *shape[:2]):
        return "the items of the dataset are (H, W, C): change the order with item.permute(2, 0, 1)"
    if len(shape) == 3 and shape == (made[2:] + made[:2] if len(made) == 3 else None):
        return "the generated images are (H, W, C): change the order with images.permute(0, 3, 1, 2)"
    if images[0].numel() == torch.Size(shape).numel():
        return f"end it with nn.Unflatten(1, {shape})" if len(made) == 1 else "reshape them"
    return ""


def _inputs(generator: nn.Module) -> Iterator[int]:
    """Yield lengths of a latent that the first layer may take."""
    for layer in generator.modules():
        if isinstance(layer, nn.Unflatten):
            yield torch.Size(size for size in layer.unflattened_size if isinstance(size, int)).numel()
        elif isinstance(layer, nn.Linear):
            yield layer.in_features
            return
        elif isinstance(layer, nn.modules.conv._ConvNd):
            yield layer.in_channels
            return


def _takes(generator: nn.Module, latent: Tensor, condition: Tensor | None) -> bool:
    try:
        returned = call(copy_part(generator), latent, condition)
    except Exception:
        return False  # the error of the first try is the one to report
    return isinstance(returned, Tensor | Generated)
