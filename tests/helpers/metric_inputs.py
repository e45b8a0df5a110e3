"""What metrics are given, made by hand: features, classes and points that are known."""

import torch
from hypothesis import strategies as st

from gancore.metrics import Extractor, MetricInputs, Samples

CERTAIN = 200.0
"""A logit so high that its class is certain in single precision."""


class Given(Extractor):
    """Stands for an extractor whose features are given by hand."""

    name = "given"

    def build(self, shape, num_classes, root):
        raise NotImplementedError


GIVEN = Given()


def of_features(fake, real, training=None):
    """Evidence of features (N, D) alone."""
    sets = [None if part is None else samples(part) for part in (fake, real, training)]
    return MetricInputs(*sets)


def samples(features):
    return Samples(torch.zeros(len(features), 1, 1, 1, dtype=torch.uint8), features=features.float())


def of_classes(labels, num_classes):
    """Samples of which it is certain to which class each belongs."""
    logits = torch.nn.functional.one_hot(torch.as_tensor(labels), num_classes) * CERTAIN
    return Samples(torch.zeros(len(logits), 1, 1, 1, dtype=torch.uint8), logits=logits.float())


def normal(seed, count, dimensions):
    """Standard normal features (N, D)."""
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def shuffled(seed, tensor):
    """The same rows in another order."""
    return tensor[torch.randperm(len(tensor), generator=torch.Generator().manual_seed(seed))]


def exactly(mean, covariance, count=400, seed=0):
    """Features in float64 whose sample mean (D,) and covariance (D, D) are exactly these."""
    values = normal(seed, count, len(mean)).double()
    values = values - values.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(values.T)), values.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T + mean


def vectors(dimensions, low, high):
    """Hypothesis: float64 vectors (D,)."""
    return st.lists(st.floats(low, high), min_size=dimensions, max_size=dimensions).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )
