"""What the maps of latents and the rows of classes show."""

import base64
import io

import pytest
import torch
from PIL import Image
from torch import nn

from gancore.contracts import Spec
from gancore.errors import ResourceError
from gancore.report.latent_map import class_rows, latent_map, names_beyond, seconds_each
from gancore.sampling.grid import pixels
from helpers.untrained import untrained


class Loud(nn.Module):
    """A generator of flat images whose second class has values that are three times as large."""

    def forward(self, latents, labels):
        return (latents[:, 0] * (1 + 2 * labels)).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)


def shown(embedded):
    """The image in a page."""
    return Image.open(io.BytesIO(base64.b64decode(embedded.src.partition(",")[2])))


def range_of(embedded):
    low, high = shown(embedded).convert("L").getextrema()
    return high - low


def test_maps_and_rows_of_classes_have_one_scale():
    trained = untrained(Loud(), Spec((1, 4, 4), 2, 2, bounded=False))
    maps, rows = latent_map(trained, None, 1e-4).maps, class_rows(trained, None, 1e-4)
    for pictures in ([one.sprite for one in maps], [row.picture for row in rows]):
        quiet, loud = map(range_of, pictures)
        assert loud == 255
        assert 80 <= quiet <= 90


@pytest.mark.parametrize(("each", "side", "maps", "rows"), [(1e-4, 5, 10, 10), (0.3, 4, 4, 6), (1.25, 4, 1, 1)])
def test_maps_and_rows_of_a_slow_generator_are_of_fewer_classes(each, side, maps, rows):
    trained = untrained(Loud(), Spec((1, 4, 4), 2, 12, bounded=False))
    drawn, shown_rows = latent_map(trained, None, each), class_rows(trained, None, each)
    shown_maps = drawn.maps
    assert drawn.side == side
    assert [one.label for one in shown_maps] == [str(number) for number in range(maps)]
    assert [row.label for row in shown_rows] == [str(number) for number in range(rows)]
    assert names_beyond(trained, shown_rows) == 12 - rows


def test_maps_and_rows_that_would_take_minutes_are_refused():
    trained = untrained(Loud(), Spec((1, 4, 4), 2, 2, bounded=False))
    assert seconds_each(trained) > 0
    for make in (latent_map, class_rows):
        with pytest.raises(ResourceError, match=r"a sample takes 2.1 s, and 1\d of them more than 20 s"):
            make(trained, None, 2.1)


class Plane(nn.Module):
    """A generator of flat images whose red is the first number of the latent, and whose green is the second."""

    def forward(self, latents):
        colors = torch.cat([latents.tanh(), torch.zeros(len(latents), 1)], dim=1)
        return colors.view(-1, 3, 1, 1).expand(-1, 3, 4, 4)


def test_map_has_the_samples_of_four_seeds_in_its_corners_in_reading_order():
    trained = untrained(Plane(), Spec((3, 4, 4), 2))
    found = latent_map(trained, None, 1e-4)
    side, (one,) = found.side, found.maps
    sprite = pixels(shown(one.sprite))
    assert (found.width, found.height, *sprite.shape) == (4, 4, 3, 4 * side, 4 * side)
    tiles = sprite.view(3, side, 4, side, 4).permute(1, 3, 0, 2, 4)
    corners = torch.stack([tiles[0, 0], tiles[0, -1], tiles[-1, 0], tiles[-1, -1]])
    expected = trained.generate(trained.seed_latents((0, 1, 2, 3)))
    assert expected.unique(dim=0).shape[0] == 4
    assert (corners.int() - expected.int()).abs().max() <= 1
