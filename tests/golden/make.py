"""Writes format-1.safetensors anew: `python tests/golden/make.py`.

It is the last checkpoint of a tiny run that keeps all there is to keep: labels, moments of both optimizers, an average,
a regularizer and an augmentation with a state. It stays as it is for as long as format 1 is read: what is released is
never made again, and a new format gets a file of its own.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from gancore import Run
from gancore.checkpoint import format as tensorfile
from gancore.checkpoint import store as checkpoint

CONFIG = {
    **{"generator": {"name": "mlp", "widths": [12]}, "discriminator": {"name": "mlp", "widths": [12]}},
    **{"loss": "bce", "dataset": "digits", "duration": "5 steps", "batch_size": 16, "latent": {"dim": 8}},
    **{"regularizers": {"r1": {"interval": 2}}, "augmentations": {"ada": {}}, "ema": {"half_life_kimg": 0.1}},
    **{"training": {"conditional": True}, "checkpoint": {"every_steps": 3}},
}


def main():
    """Trains and keeps the newest checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(CONFIG, out=Path(folder) / "run", data_dir=folder, device="cpu")
        for _ in run.train():
            pass
        path = Path(__file__).with_name(f"format-{tensorfile.FORMAT}.safetensors")
        shutil.copyfile(checkpoint.select(run.path).path, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
