"""Inputs of metrics with known features, classes and points."""

import torch
from hypothesis import strategies as st

from gancore.metrics import Extractor, MetricInputs, Samples

CERTAIN = 200.0
"""A logit that makes its class certain in single precision."""


class Given(Extractor):
    """A placeholder for metrics whose features are given by the test."""

    name = "given"

    def build(self, shape, num_classes, root):
        raise NotImplementedError


GIVEN = Given()


def of_features(fake, real, training=None):
    """Return inputs with features (N, D) only."""
    return MetricInputs(*(None if part is None else samples(part) for part in (fake, real, training)))


def samples(features):
    return Samples(torch.zeros(len(features), 1, 1, 1, dtype=torch.uint8), features=features.float())


def of_classes(labels, num_classes):
    """Return samples whose classes are certain."""
    logits = torch.nn.functional.one_hot(torch.as_tensor(labels), num_classes) * CERTAIN
    return Samples(torch.zeros(len(logits), 1, 1, 1, dtype=torch.uint8), logits=logits.float())


def normal(seed, count, dimensions):
    """Return standard normal features (N, D)."""
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def shuffled(seed, tensor):
    """Return the rows in a random order."""
    return tensor[torch.randperm(len(tensor), generator=torch.Generator().manual_seed(seed))]


def exactly(mean, covariance, count=400, seed=0):
    """Return float64 features with exactly this sample mean (D,) and covariance (D, D)."""
    values = normal(seed, count, len(mean)).double()
    values = values - values.mean(dim=0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(values.T)), values.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T + mean


def vectors(dimensions, low, high):
    """Return a Hypothesis strategy for float64 vectors (D,)."""
    return st.lists(st.floats(low, high), min_size=dimensions, max_size=dimensions).map(
        lambda values: torch.tensor(values, dtype=torch.float64)
    )
