"""What the maps of latents and the rows of classes show."""

import base64
import io

import torch
from PIL import Image
from torch import nn

from gancore.contracts import Spec
from gancore.report.latent_map import class_rows, latent_map
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
    for pictures in ([one.sprite for one in latent_map(trained).maps], [row.picture for row in class_rows(trained)]):
        quiet, loud = map(range_of, pictures)
        assert loud == 255
        assert 80 <= quiet <= 90
