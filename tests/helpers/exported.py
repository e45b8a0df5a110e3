"""Generators as an exporter receives them."""

from dataclasses import replace

import torch
from torch import nn

from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator


def exported_with(forward, **case):
    """What an exporter receives of a generator with this forward pass."""

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, latent):
            return forward(self.layer(latent)).unflatten(1, (1, 2, 2))

    torch.manual_seed(0)
    model = exported_generator(Case((1, 2, 2), 8, **case))
    return replace(model, generator=Made().eval(), config={"generator": {"name": "made"}})
