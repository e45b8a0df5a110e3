"""Pictures and arrays of samples, written to files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import safetensors.torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from gancore.errors import ConfigError, StorageError

_SMALLEST_TILE = 64
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def is_picture(samples: Tensor) -> bool:
    """Whether samples (N, C, H, W) can be shown: grey, RGB or RGBA."""
    return samples.ndim == 4 and samples.shape[1] in _MODES


def grid(images: Tensor) -> Image.Image:
    """Images (N, C, H, W) uint8 side by side, as square as their number allows.

    Small images are enlarged by a whole factor, pixel by pixel, to be seen at all.
    """
    channels, height, width = images.shape[1:]
    table = make_grid(images, nrow=math.ceil(math.sqrt(len(images))), padding=1)[:channels]
    picture = _picture(table)
    factor = max(1, _SMALLEST_TILE // max(height, width))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def save_samples(samples: Tensor, out: Path) -> None:
    """Writes samples (N, C, H, W) uint8 or (N, F) float32 in the form that the path asks for.

    `.png` is a grid, `.npy` and `.safetensors` the array itself, and a path without a suffix a folder of numbered
    PNGs. Raises ConfigError for another suffix or for a picture of what is none, StorageError when it cannot be
    written.
    """
    kind = out.suffix.lower()
    if kind not in {".png", ".npy", ".safetensors", ""}:
        raise ConfigError(f"--out must end in .png, .npy or .safetensors, or be a folder; received {out}", "name it so")
    if kind in {".png", ""} and not is_picture(samples):
        raise ConfigError(
            f"only images of 1, 3 or 4 channels make a picture; these samples have shape {tuple(samples.shape[1:])}",
            "write the array instead: --out FILE.npy",
        )
    try:
        (out if kind == "" else out.parent).mkdir(parents=True, exist_ok=True)
        if kind == ".png":
            grid(samples).save(out)
        elif kind == ".npy":
            np.save(out, samples.numpy(), allow_pickle=False)
        elif kind == ".safetensors":
            safetensors.torch.save_file({"samples": samples.contiguous()}, out)
        else:
            digits = max(4, len(str(len(samples) - 1)))
            for number, image in enumerate(samples):
                _picture(image).save(out / f"{number:0{digits}d}.png")
    except OSError as error:
        raise StorageError(
            f"cannot write samples to {out}: {error.strerror or error}", "choose another --out"
        ) from error


def _picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) uint8 of 1, 3 or 4 channels."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy(), _MODES[len(image)])
