import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, pad

from gancore.data.items import build_dataset, read_items
from gancore.errors import ConfigError, PluginError
from gancore.evaluation.features import FeatureExtractor
from gancore.evaluation.train_extractor import EvaluationPaths, load_extractor, train_extractor
from gancore.metrics import Features, MetricInputs
from gancore_plugins.datasets.digits import Digits
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.extractors.self_supervised import SelfSupervisedExtractor
from gancore_plugins.metrics.frechet import FrechetDistance
from gancore_plugins.metrics.neighbors import Coverage
from helpers.metric_inputs import GIVEN


def loaded(extractor, dataset, images, folder):
    loading = load_extractor(extractor, dataset, tuple(images.shape[1:]), None, EvaluationPaths(folder, folder, "cpu"))
    while True:
        try:
            next(loading)
        except StopIteration as done:
            return done.value


def blurred(images, deviation):
    reach = int(3 * deviation + 1)
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * deviation**2))
    channels, kernel = images.shape[1], kernel / kernel.sum()
    padded = pad(images.float(), (reach,) * 4, mode="replicate")
    rows = conv2d(padded, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    both = conv2d(rows, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return both.round().clamp(0, 255).byte()


def noisy(images, deviation):
    random = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    return (images.float() + random * deviation).round().clamp(0, 255).byte()


def copied(images, share):
    kept = images[: round(len(images) * (1 - share))]
    return torch.cat([kept, kept[torch.arange(len(images) - len(kept)) % len(kept)]])


def check_ranks(extractor, images, labels):
    """Damages of the first half of the images increase the distance to the second one, and copies lower coverage."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    half = len(images) // 2
    first, real, classes = images[:half], extractor.read(images[half:]), labels[:half]

    def measured(metric, damaged):
        return metric(extractor=GIVEN).measure(MetricInputs(extractor.read(damaged), real)).value

    by_count = classes.bincount().argsort(descending=True)
    ladders = {
        "blur": [first, *(blurred(first, deviation) for deviation in (0.6, 1, 2))],
        "noise": [first, *(noisy(first, deviation) for deviation in (16, 32, 64))],
        "classes": [first[~torch.isin(classes, by_count[:dropped])] for dropped in (0, 1, 3, 5)],
        "copies": [copied(first, share) for share in (0, 0.4, 0.8, 0.95)],
    }
    distances = {name: [measured(FrechetDistance, each) for each in ladder] for name, ladder in ladders.items()}
    assert all(less < more for ladder in distances.values() for less, more in pairwise(ladder)), distances
    coverage = [measured(Coverage, each) for each in ladders["copies"]]
    assert all(more > less for more, less in pairwise(coverage)), coverage


def test_self_supervised_extractor_ranks_damages_of_digits(tmp_path):
    images, labels = read_items(build_dataset(Digits(), tmp_path))
    check_ranks(loaded(SelfSupervisedExtractor(epochs=5), Digits(), images, tmp_path), images, labels)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_self_supervised_extractor_ranks_damages_of_emoji(tmp_path):
    path = Path(os.environ.get("GANCORE_TEST_DATA", "")) / "emoji" / "emoji.zip"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    dataset = Folder(path=str(path), size=32, classes=True)
    images, labels = read_items(build_dataset(dataset, tmp_path))
    check_ranks(loaded(SelfSupervisedExtractor(), dataset, images, tmp_path), images, labels)


def test_self_supervised_extractor_ignores_labels_and_is_reproducible(tmp_path):
    images = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)

    def features(labels):
        torch.manual_seed(0)
        module = SelfSupervisedExtractor().build((3, 6, 5), None, tmp_path)
        for _ in train_extractor(module, images, labels, SelfSupervisedExtractor(epochs=1, batch_size=20), CPU):
            pass
        return FeatureExtractor("it", module, CPU, "").read(images)

    first, second = features(None), features(None)
    assert first.logits is None
    assert first.features.shape == (40, 64)
    assert torch.equal(first.features, second.features)


CPU = torch.device("cpu")


def test_self_supervised_extractor_refuses_vectors(tmp_path):
    with pytest.raises(ConfigError, match=r"needs images \(C, H, W\); received shape \(7,\)"):
        SelfSupervisedExtractor().build((7,), None, tmp_path)


def test_extractor_without_labels_must_return_a_logit_for_each_pair(tmp_path):
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, images):
            features = self.layer(images.flatten(1).float())
            return Features(features, features)

    training = train_extractor(
        Wrong(), torch.zeros(8, 1, 2, 2, dtype=torch.uint8), None, SelfSupervisedExtractor(batch_size=8), CPU
    )
    with pytest.raises(PluginError, match=r"must return logits \(N, N\) in training mode, here N = 8"):
        list(training)
