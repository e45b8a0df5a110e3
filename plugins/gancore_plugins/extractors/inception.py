"""The network of FID, from torch-fidelity, with weights of a known SHA-256."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.errors import ConfigError, DataError
from gancore.metrics import Extractor, Features

_FILE = "weights-inception-2015-12-05-6726825d.pth"
_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class InceptionExtractor(Extractor):
    """Inception-v3 of FID, Heusel et al. 2017 (arXiv:1706.08500): 2048 features and 1008 classes of ImageNet.

    The network, including its resizing to 299x299, is that of torch-fidelity, which agrees with the original in
    TensorFlow. Its weights are read from the folder `inception` in the folder of the data, and never downloaded.
    """

    name = "inception"

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigError(
                f"extractor inception needs images of 1 or 3 channels; received shape {shape}", "use another extractor"
            )
        from torch_fidelity import FeatureExtractorInceptionV3

        # The file is a pickle, which can run code when it is opened. So open the very bytes that were verified.
        weights = io.BytesIO(_verified(root / "inception" / _FILE))
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights
        )
        return _Inception(network)


class _Inception(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        if images.is_floating_point():  # of more than 8 bits, in 0..255
            images = images.round().clamp(0, 255).to(torch.uint8)
        features, logits = self.network(images.expand(-1, 3, -1, -1))
        return Features(features, logits)


def _verified(path: Path) -> bytes:
    """Return the bytes of the file. Raise DataError unless they are the published weights."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"extractor inception needs its weights, {_FILE} of torch-fidelity's release 0.2.0, 95,628,359 bytes, at "
            f"{path}: {error.strerror}",
            "put the file there, or set --data-dir to the folder that contains inception/",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise DataError(
            f"{path} is not opened: expected SHA-256 {_SHA256}, received {found}", "replace it with an intact copy"
        )
    return content
