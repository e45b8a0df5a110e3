"""Programs of torch.export, which torch loads without gancore."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from gancore.exporters import ExportedGenerator, Exporter, Facts
from gancore_plugins.exporters.trace import check, inputs_in_words, trace, without_output

METADATA = "gancore.json"
"""The extra file in a program that says how to call it."""


class TorchProgram(Exporter):
    """Program of torch.export in one .pt2 file: torch.export.load runs it in Python without gancore."""

    name = "pt2"
    suffix = ".pt2"

    def export(self, model: ExportedGenerator, out: Path) -> Facts:
        program = trace(model, self.name)
        content = io.BytesIO()  # torch reports a full disk as a bug of its own
        with without_output():
            torch.export.save(program, content, extra_files={METADATA: json.dumps(model.interface())})
            out.write_bytes(content.getbuffer())
            loaded = torch.export.load(out).module()
        return {
            "max_difference": check(model, lambda inputs: loaded(*inputs), self.name),
            "call": f"images = generator({', '.join(model.input_shapes)}), with {inputs_in_words(model)}",
        }
