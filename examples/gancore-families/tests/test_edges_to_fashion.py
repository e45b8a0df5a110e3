import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gancore_families import edges_to_fashion
from gancore_families.pix2pix import edges_of


def test_edges_are_where_a_picture_changes():
    picture = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    picture[..., 2:] = 200
    assert torch.equal(edges_of(picture)[0, 0], torch.tensor([[0, 0, 200, 0]] * 4, dtype=torch.uint8))
    picture[..., 2:] = 20  # no edge, since textures are no lines
    assert not edges_of(picture).any()


def test_edges_to_fashion_draws_three_rows_and_says_the_distances(tmp_path, monkeypatch, capsys):
    folder = Path(os.environ.get("GANCORE_TEST_DATA", ""))
    if not (folder / "FashionMNIST" / "raw").is_dir():
        pytest.skip("GANCORE_TEST_DATA must name a folder that holds FashionMNIST/raw")
    out = tmp_path / "edges.png"
    words = ["--data-dir", str(folder), "--out", str(out), "--duration", "2 steps", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["edges_to_fashion", *words])
    edges_to_fashion.main()
    assert "with the edges of another article" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.size == (2 * 16 * 28, 2 * 3 * 28)
