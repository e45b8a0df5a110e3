"""Extractors at work: from stored images to features, in chunks, with the digest of the weights that did it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancore.errors import DataError, PluginError, blame
from gancore.metrics import Features, Samples

_CHUNK = 250
"""Images that an extractor sees at once."""


@dataclass(frozen=True)
class Reader:
    """An extractor's module, ready to read.

    `digest` is the SHA-256 of its settings and weights; `accuracy` the share of held-out images that it names rightly,
    None where nothing was learned or held out.
    """

    name: str
    module: nn.Module
    device: torch.device
    digest: str
    accuracy: float | None = None

    @torch.no_grad()
    def read(self, images: Tensor) -> Samples:
        """Features of images as they are stored, uint8 (N, C, H, W) or float32 (N, F).

        Raises PluginError when the module gives what the contract does not promise.
        """
        parts = [self._features(chunk.to(self.device)) for chunk in torch.split(images, _CHUNK)]
        logits = [part.logits for part in parts if part.logits is not None]
        return Samples(
            images=images,
            features=torch.cat([part.features for part in parts]),
            logits=torch.cat(logits) if logits else None,
        )

    def _features(self, images: Tensor) -> Features:
        with blame(f"extractor {self.name!r}"):
            read = self.module(images)
        if not isinstance(read, Features):
            raise PluginError(f"an extractor must return Features; {self.name!r} returned {type(read).__name__}")
        for what, values in (("features", read.features), ("logits", read.logits)):
            if values is not None and (values.ndim != 2 or len(values) != len(images) or 0 in values.shape):
                raise PluginError(
                    f"{what} of an extractor must have shape (N, D) for N = {len(images)} images; "
                    f"{self.name!r} returned {tuple(values.shape)}"
                )
            if values is not None and not values.isfinite().all():
                raise DataError(f"the {what} that {self.name!r} reads off the images are not finite")
        return Features(
            read.features.float().cpu(),
            None if read.logits is None else read.logits.float().cpu(),
        )


def digest_of(module: nn.Module, settings: Mapping[str, object]) -> str:
    """The SHA-256 of an extractor: its settings, and its module's weights and buffers with their names and types."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {digest_of_values(tensor)}\n".encode())
    return digest.hexdigest()


def digest_of_values(tensor: Tensor) -> str:
    """The SHA-256 of a tensor: its type, its shape, and every byte."""
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}\n".encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ChannelByChannel(nn.Module):
    """Reads images of C channels with a module made for one: features side by side, (N, C * D).

    Classes are tuples, one of K for every channel, the first channel the most significant: logits (N, K ** C) are the
    logarithms of products of probabilities.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Features:
        """Features (N, C * D) and logits (N, K ** C) of images (N, C, H, W)."""
        channels = [self.module(channel) for channel in torch.split(images, 1, dim=1)]
        features = torch.cat([channel.features for channel in channels], dim=1)
        if channels[0].logits is None:
            return Features(features)
        joint: Tensor = channels[0].logits.log_softmax(dim=1)
        for channel in channels[1:]:
            joint = (joint.unsqueeze(2) + channel.logits.log_softmax(dim=1).unsqueeze(1)).flatten(1)
        return Features(features, joint)
