"""What the maps of latents and the rows of classes show."""

import base64
import io

import pytest
from PIL import Image
from torch import nn

from gancore.contracts import Spec
from gancore.errors import ResourceError
from gancore.report.latent_map import class_rows, latent_map, names_beyond, seconds_each
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


@pytest.mark.parametrize(("each", "maps", "rows"), [(1e-4, 10, 10), (0.3, 4, 6), (1.25, 1, 1)])
def test_maps_and_rows_of_a_slow_generator_are_of_fewer_classes(each, maps, rows):
    trained = untrained(Loud(), Spec((1, 4, 4), 2, 12, bounded=False))
    shown_maps, shown_rows = latent_map(trained, None, each).maps, class_rows(trained, None, each)
    assert [one.label for one in shown_maps] == [str(number) for number in range(maps)]
    assert [row.label for row in shown_rows] == [str(number) for number in range(rows)]
    assert names_beyond(trained, shown_rows) == 12 - rows


def test_maps_and_rows_that_would_take_minutes_are_refused():
    trained = untrained(Loud(), Spec((1, 4, 4), 2, 2, bounded=False))
    assert seconds_each(trained) > 0
    for make in (latent_map, class_rows):
        with pytest.raises(ResourceError, match=r"a sample takes 2.1 s, and 1\d of them more than 20 s"):
            make(trained, None, 2.1)
