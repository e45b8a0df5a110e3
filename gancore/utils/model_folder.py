"""A folder with a generator: `config.json` describes it, and `model.safetensors` has its weights.

`gancore.sampling.model_folder` reads one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

FORMAT = 1
"""The version of the form of config.json."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The names of the files."""
LIBRARY = "gancore"
"""What config.json names as the library that reads the folder."""


def write_model(folder: Path, tensors: Mapping[str, Tensor], document: Mapping[str, object]) -> str:
    """Write both files into a folder that exists, and return the SHA-256 of the weights.

    `config.json` holds the document, this format, and that digest. Raises OSError, and ValueError for a document that
    is not finite JSON.
    """
    # Two names may share one tensor, which safetensors does not write.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, {"format": "pt"})
    digest = hashlib.sha256(content).hexdigest()
    head = {"format": FORMAT, "library_name": LIBRARY, "weights": {"file": WEIGHTS, "sha256": digest}}
    text = json.dumps({**head, **document}, indent=2, allow_nan=False)
    (folder / WEIGHTS).write_bytes(content)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return digest
