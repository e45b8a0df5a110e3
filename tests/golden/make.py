"""Write format-1.safetensors: `python tests/golden/make.py`.

It is the last checkpoint of a tiny run with every kind of state: labels, moments of both optimizers, an average, a
regularizer and an augmentation with a state. Once a format is released its file is never written again, and a new
format gets a file of its own.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from gancore import Catalog, ConfigLayer, checkpoint, resolve, train
from gancore.checkpoint.format import FORMAT
from gancore.run.directory import RunDirectory
from gancore.run.recording import record
from gancore.training.gan import GAN

CONFIG = {
    **{"generator": {"name": "mlp", "widths": [12]}, "discriminator": {"name": "mlp", "widths": [12]}},
    **{"loss": "bce", "dataset": "digits", "duration": "5 steps", "batch_size": 16, "latent": {"dim": 8}},
    **{"regularizers": {"r1": {"interval": 2}}, "augmentations": {"ada": {}}, "ema": {"half_life_kimg": 0.1}},
    **{"training": {"conditional": True}, "checkpoint": {"every_steps": 3}},
}


def main():
    """Train, and keep the newest checkpoint."""
    catalog = Catalog.installed()
    run = resolve([ConfigLayer("golden", CONFIG)], catalog)
    with tempfile.TemporaryDirectory() as place:
        gan = GAN.assemble(run, Path(place), "cpu")
        directory = RunDirectory(Path(place) / "run")
        directory.create(run, catalog, gan.device)
        for _ in record(train(gan), gan, run, directory, catalog):
            pass
        path = Path(__file__).with_name(f"format-{FORMAT}.safetensors")
        shutil.copyfile(checkpoint.newest(directory.path), path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
