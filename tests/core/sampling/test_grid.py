import os

import numpy as np
import pytest
import torch

from gancore.errors import ConfigError, StorageError
from gancore.sampling.grid import is_picture, picture, scatter
from gancore.sampling.write import form_of, save_samples

REAL = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def colored(plot, color):
    """Mean position (x, y), in 0..1 and y upward, of the pixels of a color; None if there are no such pixels."""
    pixels = np.asarray(plot).astype(int)
    rows, columns = np.where(np.abs(pixels - np.array(color)).sum(axis=2) < 60)
    if len(rows) == 0:
        return None
    return columns.mean() / (plot.width - 1), 1 - rows.mean() / (plot.height - 1)


RED, GREY = (200, 16, 46), (169, 184, 198)


def test_points_are_drawn_where_they_are_over_the_real_ones():
    # the frame reaches 0.6 of the real extent to each side of its middle
    plot = scatter(torch.tensor([[0.25, 0.75]]), REAL)
    assert colored(plot, RED) == pytest.approx((0.5 - 0.25 / 1.2, 0.5 + 0.25 / 1.2), abs=0.005)
    assert colored(plot, GREY) == pytest.approx((0.5, 0.5), abs=0.005)


def test_points_outside_are_drawn_at_the_border_and_non_finite_ones_are_left_out():
    assert colored(scatter(torch.tensor([[50.0, 0.5]]), REAL), RED)[0] > 0.99
    assert colored(scatter(torch.tensor([[torch.nan, 0.5], [torch.inf, 0.0]]), REAL), RED) is None


@pytest.mark.parametrize("points", [torch.zeros(1, 2), torch.full((3, 2), torch.nan), torch.zeros(5, 2)])
def test_frame_fits_the_generated_points_if_there_are_no_real_ones(points):
    plot = scatter(points)
    assert plot.size == (480, 480)
    assert colored(plot, GREY) is None


def test_points_are_a_picture_and_other_vectors_are_not(tmp_path):
    assert is_picture((2,))
    assert not is_picture((3,))
    save_samples(torch.zeros(3, 2), tmp_path / "a.png", REAL)
    assert picture(torch.zeros(3, 2), REAL).size == (480, 480)
    assert (tmp_path / "a.png").is_file()
    with pytest.raises(ConfigError, match="points in the plane make one"):
        save_samples(torch.zeros(3, 2), tmp_path / "folder")
    assert form_of(tmp_path / "a.png") == "picture"


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.safetensors", "folder"])
def test_samples_that_fail_to_be_written_leave_what_was_there(tmp_path, monkeypatch, name):
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    if name != "folder":
        (tmp_path / name).write_text("before")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match=r"cannot write samples to .*: No space left on device"):
        save_samples(images, tmp_path / name)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["before"] * (name != "folder")


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.safetensors"])
def test_samples_are_readable_as_the_umask_says(tmp_path, name):
    save_samples(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), tmp_path / name)
    (tmp_path / "other").touch()
    assert (tmp_path / name).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_dots_of_few_points_can_be_seen():
    def red(points):
        pixels = np.asarray(scatter(points, REAL)).astype(int)
        return int((np.abs(pixels - np.array(RED)).sum(axis=2) < 60).sum())

    middle = torch.full((1, 2), 0.5)
    assert red(middle) > 80  # a disk of 6 pixels around
    assert 0 < red(middle.expand(17, 2)) < 10
