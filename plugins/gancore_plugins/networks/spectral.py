"""Spectral normalization, Miyato et al. 2018 (arXiv:1802.05957), of a whole network."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def spectrally_normalized(network: nn.Module) -> nn.Module:
    """The network, in place, with every weight divided by its largest singular value.

    One power iteration with each pass in training, in the loop with each update of D, or part of one. It comes after
    initial weights are drawn, since what it knows of the singular vectors it learns from these.
    """
    for part in list(network.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            spectral_norm(part)
    return network
