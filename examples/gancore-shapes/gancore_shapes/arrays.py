"""An exporter: the weights as arrays of NumPy."""

import json
from pathlib import Path

import numpy as np

from gancore import ExportedGenerator, Exporter


class NumPyArrays(Exporter):
    """Weights in one .npz file, for a program that has NumPy and computes the network itself.

    Array `weights.NAME` is the weight of that name, and `interface` a text in JSON that says how to call the network.
    """

    name = "numpy"
    suffix = ".npz"

    def export(self, model: ExportedGenerator, out: Path) -> dict[str, int]:
        weights = {f"weights.{name}": value.numpy() for name, value in model.generator.state_dict().items()}
        with out.open("wb") as file:
            np.savez(file, interface=np.array(json.dumps(model.interface())), **weights)
        return {"weights": sum(array.size for array in weights.values())}
