"""Which samples count as copies of training data, and how both are drawn."""

import pytest
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


class Fresh(nn.Module):
    """A generator of pixels that are independent and uniform, as those of `pixels` are."""

    def forward(self, latents):
        return latents.view(-1, 1, 4, 4)


PIXELS = Spec((1, 4, 4), 16)


def pixels():
    return torch.randint(0, 256, (100, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_find_copies_counts_all_samples_of_a_generator_that_memorized_its_data():
    real = pixels()
    found = find_copies(untrained(Memorizing(real / 127.5 - 1), PIXELS), reference(real))
    assert (found.suspects, found.drawn, found.compared, found.total) == (64, 64, 100, 100)
    assert all(row.distance < 0.01 < found.of_copies for row in found.rows)


def test_find_copies_counts_no_sample_of_a_generator_that_draws_anew():
    found = find_copies(untrained(Fresh(), PIXELS, distribution="uniform"), reference(pixels()))
    assert found.suspects == 0
    assert found.of_copies < found.rows[0].distance <= found.of_samples
    assert found.of_real / 2 < found.of_samples < 2 * found.of_real


def test_find_copies_finds_the_same_in_chunks(monkeypatch):
    def find():
        rows = find_copies(untrained(Fresh(), PIXELS, distribution="uniform"), reference(pixels())).rows
        pictures = [(row.sample, *(image for image, _ in row.nearest)) for row in rows]
        return pictures, [[distance for _, distance in row.nearest] for row in rows]

    pictures, distances = find()
    assert all(row == sorted(row) for row in distances)
    monkeypatch.setattr("gancore.report.copies._BYTES_AT_ONCE", 7 * 16 * 4)  # seven images
    assert find() == (pictures, [pytest.approx(row, rel=1e-3) for row in distances])
