"""The network of FID, from torch-fidelity, with weights of a known SHA-256."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from gancore.contracts import Shape
from gancore.errors import ConfigError, DataError
from gancore.metrics import Extractor, Features
from gancore.utils.atomic import writing
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.download import DOWNLOAD_ERRORS, fetch, remove_new_folders_on_error, size_of_part
from gancore_plugins.datasets.published import RELEASES

_RELEASE = "inception"
"""A key of RELEASES, and the name of the folder."""


class InceptionExtractor(Extractor):
    """Inception-v3 of FID, Heusel et al. 2017 (arXiv:1706.08500): 2048 features and 1008 classes of ImageNet.

    The network, including its resizing to 299x299, is that of torch-fidelity, which agrees with the original in
    TensorFlow. Its weights are read from the folder `inception` in the folder of the data, where
    `gancore fetch inception` puts them: 95,628,359 bytes, from torch-fidelity's release 0.2.0.
    """

    name = "inception"

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ConfigError(
                f"extractor inception needs images of 1 or 3 channels; received shape {shape}", "use another extractor"
            )
        from torch_fidelity import FeatureExtractorInceptionV3

        # The file is a pickle, which can run code when it is opened. So open the very bytes that were verified.
        weights = io.BytesIO(_verified(_path(root)))
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=weights
        )
        return _Inception(network)

    def fetch(self, root: Path) -> Generator[float, None, tuple[Path]]:
        path = _path(root)
        if _is_intact(path):
            return (path,)
        try:
            with ExitStack() as stack:
                stack.enter_context(remove_new_folders_on_error(path.parent))
                with writing(path):
                    stack.enter_context(exclusive(path))
                if not _is_intact(path):  # another process may have fetched it meanwhile
                    yield from fetch(RELEASES[_RELEASE], path.name, path.parent)
        except DOWNLOAD_ERRORS as error:
            failure = DataError(
                f"the download of the weights for extractor inception failed: {error}",
                f"run the same command again; or download the file on another machine, and put it at {path}",
            )
            raise _with_kept(failure, path) from error
        except KeyboardInterrupt as error:
            raise _with_kept(error, path)  # noqa: B904  # the same error
        return (path,)


class _Inception(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Features:
        if images.is_floating_point():  # of more than 8 bits, in 0..255
            images = images.round().clamp(0, 255).to(torch.uint8)
        features, logits = self.network(images.expand(-1, 3, -1, -1))
        return Features(features, logits)


E = TypeVar("E", bound=BaseException)


def _with_kept(error: E, path: Path) -> E:
    """Return an error that says what has arrived of a file; the command line shows the `kept` of any error."""
    if arrived := size_of_part(path):
        error.kept = f"the first {arrived:,} bytes, after which the next download continues"  # type: ignore[attr-defined]
    return error


def _path(root: Path) -> Path:
    (name,) = RELEASES[_RELEASE].files
    return root / _RELEASE / name


def _is_intact(path: Path) -> bool:
    sha256, size = RELEASES[_RELEASE].files[path.name]
    try:
        if path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _verified(path: Path) -> bytes:
    """Return the bytes of the file. Raise DataError unless they are the published weights."""
    sha256, size = RELEASES[_RELEASE].files[path.name]
    hint = "gancore fetch inception"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"extractor inception needs its weights, {path.name} of torch-fidelity's release 0.2.0, {size:,} bytes, at "
            f"{path}: {error.strerror}",
            f"{hint} downloads them; without a network, put the file there, or set --data-dir to the folder that "
            "contains inception/",
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is not opened: expected SHA-256 {sha256}, received {found}",
            f"{hint} replaces it with the published file",
        )
    return content
