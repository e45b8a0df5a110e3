"""Which samples count as copies of training data, and how both are drawn."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from gancore.contracts import Spec
from gancore.evaluation.sources import ReferenceImages
from gancore.report.copies import find_copies
from helpers.untrained import untrained


class Memorizing(nn.Module):
    """A generator whose samples are training items, as networks see them."""

    def __init__(self, items):
        super().__init__()
        self.items = items

    def forward(self, latents):
        return self.items[(1000 * latents[:, 0].abs()).long() % len(self.items)]


def reference(items):
    return ReferenceImages("items", TensorDataset(items))


def test_find_copies_draws_samples_and_series_without_a_known_range_on_one_scale():
    series = torch.rand(20, 2, 16, generator=torch.Generator().manual_seed(0))
    twins = series.clone()
    twins[:, :, 0] = 2.0  # so training data reaches higher than all samples
    trained = untrained(Memorizing(series), Spec((2, 16), 8, bounded=False))
    rows = find_copies(trained, reference(torch.cat([series, twins]))).rows
    assert all(row.sample == row.nearest[0][0] for row in rows)
    assert len({row.sample for row in rows}) > 1
