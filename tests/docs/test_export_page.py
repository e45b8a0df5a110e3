"""The lines of docs/export.md that load an exported program; other tests of the page run them after a default run."""

import re
import subprocess
import sys

import torch

from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator
from gancore_plugins.exporters.pt2 import TorchProgram
from helpers.doc_blocks import ROOT, page_blocks

RUN = """
import os, sys
for condition in ("None", "3"):
    os.chdir(condition)
    names = {}
    exec(sys.argv[1], names)
    torch = names["torch"]
    torch.save([names[name] for name in ("latent", "label", "images", "pixels")], "made.pt")
    os.chdir("..")
assert not [name for name in sys.modules if name.partition(".")[0].startswith("gancore")]
"""


def test_lines_for_torch_make_the_same_bits_without_gancore(tmp_path):
    (block,) = [each for each in page_blocks(ROOT / "docs" / "export.md") if "torch.export.load" in each.text]
    lines = [line for line in block.text.splitlines() if line and not line.startswith("import ")]
    assert len(lines) == 7
    assert re.findall(r"^(?:import|from) (\w+)", block.text, re.MULTILINE) == ["json", "torch"]
    models = {}
    for condition in (None, 3):
        models[condition] = exported_generator(Case((1, 8, 8), latent_dim=3, condition=condition))
        (tmp_path / str(condition)).mkdir()
        TorchProgram().export(models[condition], tmp_path / str(condition) / "generator.pt2")
    command = [sys.executable, "-I", "-W", "error", "-c", RUN, block.text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for condition, model in models.items():
        latent, label, images, pixels = torch.load(tmp_path / str(condition) / "made.pt")
        assert latent.shape == (16, 3)
        assert images.equal(model.module(latent) if condition is None else model.module(latent, label))
        assert pixels.equal(model.sample_format.to_stored(images))
