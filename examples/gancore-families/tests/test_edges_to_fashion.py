import struct
import sys

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


def write_articles(folder, prefix, count):
    """Write the two files of a split of Fashion-MNIST with random pictures, all of class 0."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8).numpy().tobytes()
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, count, 28, 28) + pictures)
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + bytes(count))


def test_edges_to_fashion_draws_three_rows_and_says_the_distances(tmp_path, monkeypatch, capsys):
    write_articles(tmp_path / "FashionMNIST" / "raw", "train", 5000)
    write_articles(tmp_path / "FashionMNIST" / "raw", "t10k", 64)
    out = tmp_path / "edges.png"
    words = ["--data-dir", str(tmp_path), "--out", str(out), "--duration", "2 steps", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["edges_to_fashion", *words])
    edges_to_fashion.main()
    assert "with the edges of another article" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.size == (2 * 16 * 28, 2 * 3 * 28)
