"""Runs extractors: from stored images to features, with a digest of the weights that computed them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gancore.errors import DataError, PluginError, blame
from gancore.metrics import Features, Samples

_IMAGES_PER_PASS = 250


@dataclass(frozen=True)
class FeatureExtractor:
    """The loaded module of an extractor.

    `digest` is the SHA-256 of its settings and weights; `accuracy` the share of held-out images that it classifies
    correctly, None if it was not trained here or no images are held out; `gate` the least that the dataset requires.
    `classes` are the names of its classes in the order of its logits, empty if they are not known.
    """

    name: str
    module: nn.Module
    device: torch.device
    digest: str
    accuracy: float | None = None
    gate: float | None = None
    classes: tuple[str, ...] = ()

    def describe(self) -> dict[str, object]:
        """Return what a result says of its extractor, as JSON; there is no gate without an accuracy to compare."""
        gate = None if self.accuracy is None else self.gate
        return {"name": self.name, "sha256": self.digest, "accuracy": self.accuracy, "gate": gate}

    @torch.no_grad()
    def read(self, images: Tensor) -> Samples:
        """Return the images, uint8 (N, C, H, W) or float32 (N, F), with their features and logits.

        Raises PluginError if the module's output breaks the contract, DataError if it is not finite.
        """
        parts = [self._features(chunk.to(self.device)) for chunk in torch.split(images, _IMAGES_PER_PASS)]
        logits = [part.logits for part in parts if part.logits is not None]
        return Samples(images, torch.cat([part.features for part in parts]), torch.cat(logits) if logits else None)

    def _features(self, images: Tensor) -> Features:
        with blame(f"extractor {self.name!r}"):
            output = self.module(images)
        if not isinstance(output, Features):
            raise PluginError(f"an extractor must return Features; {self.name!r} returned {type(output).__name__}")
        for what, values in (("features", output.features), ("logits", output.logits)):
            if values is not None and (values.ndim != 2 or len(values) != len(images) or 0 in values.shape):
                raise PluginError(
                    f"{what} of an extractor must have shape (N, D) for N = {len(images)} images; "
                    f"{self.name!r} returned {tuple(values.shape)}"
                )
            if values is not None and not values.isfinite().all():
                raise DataError(f"the {what} that extractor {self.name!r} computes of the images are not finite")
        return Features(output.features.float().cpu(), None if output.logits is None else output.logits.float().cpu())


def digest_of(module: nn.Module, settings: Mapping[str, object]) -> str:
    """Return the SHA-256 of an extractor: its settings, and the names, types and values of weights and buffers."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {digest_of_tensor(tensor)}\n".encode())
    return digest.hexdigest()


def digest_of_tensor(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes."""
    values = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{values.dtype} {tuple(values.shape)}\n".encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class ChannelByChannel(nn.Module):
    """Applies a module for one-channel images to each of C channels, and concatenates the features: (N, C * D).

    A class is a tuple of C classes of the module, the first channel the most significant: logits (N, K ** C) are the
    logarithms of products of probabilities.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Features:
        """Return features (N, C * D) and logits (N, K ** C) of images (N, C, H, W)."""
        channels = [self.module(channel) for channel in torch.split(images, 1, dim=1)]
        features = torch.cat([channel.features for channel in channels], dim=1)
        if channels[0].logits is None:
            return Features(features)
        joint: Tensor = channels[0].logits.log_softmax(dim=1)
        for channel in channels[1:]:
            joint = (joint.unsqueeze(2) + channel.logits.log_softmax(dim=1).unsqueeze(1)).flatten(1)
        return Features(features, joint)
