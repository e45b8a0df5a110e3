"""An extractor whose features depend on textures and edges, but not on positions."""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from gancore import ConfigError, Extractor, Features, Shape


class Spectrum(Extractor):
    """Power by spatial frequency, summed over all directions, Durall et al. 2020 (arXiv:2003.01826)."""

    name = "spectrum"
    bands: int = Field(default=8, ge=1, le=64, description="frequency bands for each channel")

    def build(self, shape: Shape, num_classes: int | None, root: Path) -> nn.Module:
        if len(shape) != 3:
            raise ConfigError(f"extractor 'spectrum' needs images (C, H, W); received shape {shape}", "use random")
        return _Bands(shape, self.bands)


class _Bands(nn.Module):
    """Images uint8 (N, C, H, W) to features (N, C * bands): log(1 + power) of each band."""

    def __init__(self, shape: Shape, bands: int) -> None:
        super().__init__()
        down, across = torch.fft.fftfreq(shape[1]), torch.fft.fftfreq(shape[2])
        frequency = torch.hypot(down[:, None], across)
        band = (frequency / frequency.max().clamp(min=1e-6) * bands).long().clamp(max=bands - 1)
        self.register_buffer("member", nn.functional.one_hot(band, bands).float())  # (H, W, bands)
        self.member: Tensor

    def forward(self, images: Tensor) -> Features:
        power = torch.fft.fft2(images.float() / 255, norm="ortho").abs().square()  # (N, C, H, W)
        return Features(torch.einsum("nchw,hwb->ncb", power, self.member).log1p().flatten(1))
