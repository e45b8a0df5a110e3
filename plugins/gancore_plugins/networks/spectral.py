"""Spectral normalization, Miyato et al. 2018 (arXiv:1802.05957), of a whole network."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def apply_spectral_norm(network: nn.Module) -> nn.Module:
    """Divide every weight by its largest singular value, in place, and return the network.

    Each forward pass in training mode does one power iteration. Call this after the weights are initialized: the
    estimates of the singular vectors start from them.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            spectral_norm(module)
    return network
