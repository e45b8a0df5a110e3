"""Pictures and arrays of samples, written to files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

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


Form = Literal["grid", "npy", "safetensors", "folder"]


def form_of(out: Path) -> Form:
    """The form in which samples go to this path: a grid for `.png`, an array for `.npy` and `.safetensors`.

    A new or empty folder, or a path without a suffix, gets numbered PNGs. Raises ConfigError for anything else.
    """
    if out.is_dir():
        if any(out.iterdir()):
            raise ConfigError(f"--out must be a file, or a new or empty folder; {out} is not empty", "name another one")
        return "folder"
    forms: dict[str, Form] = {".png": "grid", ".npy": "npy", ".safetensors": "safetensors", "": "folder"}
    if out.suffix.lower() not in forms:
        raise ConfigError(
            f"--out must end in .png, .npy or .safetensors, or be a folder; received {out}", "--out samples.png"
        )
    return forms[out.suffix.lower()]


def save_samples(samples: Tensor, out: Path) -> None:
    """Writes samples (N, C, H, W) uint8 or (N, F) float32 in the form that the path asks for (see `form_of`).

    Raises ConfigError for a picture of what is none, StorageError when it cannot be written.
    """
    form = form_of(out)
    if form in ("grid", "folder") and not is_picture(samples):
        raise ConfigError(
            f"only images of 1, 3 or 4 channels make a picture; these samples have shape {tuple(samples.shape[1:])}",
            "write the array instead: --out FILE.npy",
        )
    try:
        (out if form == "folder" else out.parent).mkdir(parents=True, exist_ok=True)
        if form == "grid":
            grid(samples).save(out, "PNG")
        elif form == "npy":
            with out.open("wb") as file:  # given a name, numpy would add a suffix of its own
                np.save(file, samples.numpy(), allow_pickle=False)
        elif form == "safetensors":
            safetensors.torch.save_file({"samples": samples.contiguous()}, out)
        else:
            digits = max(4, len(str(len(samples) - 1)))
            for number, image in enumerate(samples):
                _picture(image).save(out / f"{number:0{digits}d}.png")
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot write samples to {out}: {reason}", "choose another --out") from error


def _picture(image: Tensor) -> Image.Image:
    """An image (C, H, W) uint8 of 1, 3 or 4 channels."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).contiguous().numpy(), _MODES[len(image)])
