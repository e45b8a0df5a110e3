import json
import subprocess
import sys

import pytest
import torch

from gancore.sampling.load import load
from gancore.utils.text import file_size

FORKED = True
CALL = "images = generator(latent), with latent (N, 100) float32"
MOODY = """
import math
from gancore import Generator, hookimpl
from torch import nn


class Net(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.layer, self.shape = nn.Linear(spec.latent_dim, math.prod(spec.shape)), spec.shape

    def forward(self, latent):
        images = self.layer(latent).tanh().unflatten(1, self.shape)
        if latent.mean() > 0:
            return images
        return -images


class Moody(Generator):
    '''Branches on its values.'''

    name = "moody"

    def build(self, spec):
        return Net(spec)


@hookimpl
def gancore_generators():
    return [Moody]
"""


def test_exported_program_makes_the_images_of_the_run(finished):
    done = finished.works("export", "runs/0001", "--format", "pt2")
    size = (finished.folder / "0001.pt2").stat().st_size
    assert done.stdout == f"step 4 as pt2: 0001.pt2 ({file_size(size)})\nmax difference: 0\ncall: {CALL}\n"
    assert done.stderr == ""
    trained = load(finished.folder / "runs/0001", device="cpu")
    latents = trained.seed_latents(range(8))
    images = torch.export.load(finished.folder / "0001.pt2").module()(latents)
    assert trained.sample_format.to_stored(images).equal(trained.generate(latents))


def test_format_is_inferred_from_the_end_of_the_path(finished):
    checkpoint = "runs/0001/checkpoints/step-00000004.safetensors"
    done = finished.works("export", checkpoint, "--raw", "--out", "raw/Other.PT2", "--json")
    document = json.loads(done.stdout)
    file = finished.folder / "raw" / "Other.PT2"
    assert document == {
        "out": "raw/Other.PT2",
        "format": "pt2",
        "step": 4,
        "averaged": False,
        "half_life_kimg": None,
        "bytes": file.stat().st_size,
        "facts": {"max_difference": 0.0, "call": CALL},
        "pushed": None,
    }
    assert finished.works("export", checkpoint, "--out", "quiet.pt2", "-q").stdout == ""
    quiet = torch.export.load(finished.folder / "quiet.pt2").state_dict
    raw = torch.export.load(file).state_dict
    assert any(not quiet[name].equal(raw[name]) for name in raw)  # the EMA is the default


@pytest.mark.long
def test_onnx_works_from_the_command_line_in_a_new_process(finished):
    pytest.importorskip("onnxscript")
    command = [sys.executable, "-m", "gancore_cli", "export", "runs/0001", "--out", "g.onnx", "--set", "opset=21"]
    done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("step 4 as onnx: g.onnx (")
    assert lines[1] == "opset: 21"
    assert [line.split(":")[0] for line in lines[1:]] == ["opset", "checked with", "max difference", "call"]


@pytest.mark.parametrize(
    ("arguments", "code", "words", "hint"),
    [
        (["runs/0001"], 2, "name a format: hub, onnx, pt2", "gancore export RUN --format hub"),
        (["runs/0001", "--out", "a.foo"], 2, "the end of a.foo says none", "gancore export RUN --format"),
        (["runs/0001", "--format", "onx"], 2, "unknown exporter 'onx'; did you mean 'onnx'", "gancore list exporter"),
        (["runs/0001", "--out", "a.onnx", "--set", "opset=3"], 2, "opset: must be greater than or equal to 18", "show"),
        (["runs/0001", "--out", "a.onnx", "--set", "opset"], 2, "--set takes PATH=VALUE", "--set"),
        (["runs/0001", "--format", "pt2", "--out", "a.onnx"], 2, "a file that ends in .pt2", "--out a.pt2"),
        (["runs/0001", "--format", "pt2", "--out", "exists.pt2"], 2, "exists.pt2 exists", "choose another --out"),
        (["runs/0001", "--out", "exists.pt2/a.pt2"], 7, "is not a folder", "choose another --out"),
        (["nowhere", "--format", "pt2"], 4, "there is no run in nowhere", "runs here: runs/0001"),
        (["exists.pt2", "--format", "pt2", "--out", "b.pt2"], 4, "is no checkpoint of gancore", "name"),
        (["runs/0001", "--best", "--format", "pt2", "--out", "b.pt2"], 4, "there is no best checkpoint", "best"),
    ],
)
def test_wrong_arguments_are_three_lines_and_write_nothing(finished, arguments, code, words, hint):
    (finished.folder / "exists.pt2").write_text("mine")
    before = sorted(finished.folder.iterdir())
    done = finished("export", *arguments)
    assert done.returncode == code, done.stderr
    error, kept, following = done.stderr.splitlines()
    assert words in error
    assert kept == "kept: nothing was changed"
    assert hint in following
    assert sorted(finished.folder.iterdir()) == before
    assert (finished.folder / "exists.pt2").read_text() == "mine"


def test_generator_that_branches_on_values_gets_its_line(gancore):
    (gancore.folder / "moody.py").write_text(MOODY)
    gancore.works("--plugin", "moody.py", "train", "digits", "--generator", "moody", "--steps", 1, "--out", "run")
    done = gancore("--plugin", "moody.py", "export", "run", "--format", "pt2")
    assert done.returncode == 2
    line = MOODY.splitlines().index("        if latent.mean() > 0:") + 1
    assert done.stderr.splitlines() == [
        "error: generator 'moody' cannot be exported as pt2: its forward depends on values of a tensor, as `if "
        f"latent.mean() > 0` does (line {line} of moody.py: if latent.mean() > 0:)",
        "kept: nothing was changed",
        "next: change that line, as docs/export.md describes, or choose another format",
    ]
    assert sorted(path.name for path in gancore.folder.iterdir()) == ["moody.py", "run"]


def test_missing_extra_names_its_command_before_anything_is_read(finished):
    code = "import sys; sys.modules['onnxscript'] = None; from gancore_cli.main import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "export", "nowhere", "--format", "onnx"]
    done = subprocess.run(command, cwd=finished.folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the format onnx needs onnxscript, which is not installed",
        "kept: nothing was changed",
        "next: install it, again if it is broken: pip install 'gancore[onnx]'",
    ]


def test_list_and_show_know_exporters(finished):
    names = {row["name"] for row in json.loads(finished.works("list", "exporter", "--json").stdout)}
    assert names >= {"onnx", "pt2"}
    assert [row["key"] for row in json.loads(finished.works("show", "exporter", "onnx", "--json").stdout)["fields"]]
