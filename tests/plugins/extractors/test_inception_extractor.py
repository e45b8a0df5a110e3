import hashlib
import os

import pytest
import torch
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3

from gancore.errors import ConfigError, DataError
from gancore_plugins.extractors import inception
from gancore_plugins.extractors.inception import InceptionExtractor


class Canary:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (str(self.folder),))


def weights(root):
    folder = root / "inception"
    folder.mkdir()
    return folder / "weights-inception-2015-12-05-6726825d.pth"


def test_inception_error_says_where_to_put_missing_weights(tmp_path):
    with pytest.raises(DataError) as caught:
        InceptionExtractor().build((3, 32, 32), None, tmp_path)
    path = tmp_path / "inception" / "weights-inception-2015-12-05-6726825d.pth"
    assert str(path) in caught.value.message
    assert "95,628,359 bytes" in caught.value.message
    assert "put the file there" in caught.value.hint


def test_inception_weights_of_another_digest_are_not_opened(tmp_path):
    torch.save({"x": Canary(tmp_path / "canary")}, weights(tmp_path))
    with pytest.raises(DataError, match="is not opened: expected SHA-256 6726825d0af5f729cebd5821db510b11b1cfad8f"):
        InceptionExtractor().build((3, 32, 32), None, tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("shape", [(4, 8, 8), (2, 8, 8), (7,)])
def test_inception_refuses_images_that_are_not_gray_or_color(tmp_path, shape):
    with pytest.raises(ConfigError, match="images of 1 or 3 channels"):
        InceptionExtractor().build(shape, None, tmp_path)


def test_inception_network_accepts_gray_and_color_images(tmp_path, monkeypatch):
    """The published weights are not part of the tests, so the expected digest is set to that of untrained ones."""
    with monkeypatch.context() as patched:
        patched.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **n: {})
        patched.setattr(nn.Module, "load_state_dict", lambda *a, **n: None)
        untrained = FeatureExtractorInceptionV3("any", ["2048"])
    torch.save(untrained.state_dict(), weights(tmp_path))
    content = (tmp_path / "inception" / "weights-inception-2015-12-05-6726825d.pth").read_bytes()
    monkeypatch.setattr(inception, "_SHA256", hashlib.sha256(content).hexdigest())
    gray = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    module = InceptionExtractor().build((1, 8, 8), None, tmp_path).eval()
    with torch.no_grad():
        output, of_color = module(gray), module(gray.repeat(1, 3, 1, 1))
    assert (output.features.shape, output.logits.shape) == ((2, 2048), (2, 1008))
    assert torch.equal(output.features, of_color.features)
