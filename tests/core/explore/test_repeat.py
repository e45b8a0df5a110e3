"""The command and the lines of Python that draw a point again: both give the same pixels."""

import ast
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gancore.catalog.catalog import Catalog
from gancore.explore.model import Explorer
from gancore.explore.point import Point
from gancore.explore.repeat import Invocation, PointFiles, class_name, command, python
from gancore.sampling.load import load
from gancore_cli.main import main

STEP = "step-00000060.safetensors"
POINTS = {
    "seed": Point(checkpoint="step-00000040.safetensors", base=5, condition=3),
    "edited": Point(checkpoint=STEP, base=2, truncation=0.7, moves={2: 1.5, 1: -0.3}, condition=8, raw=True),
    "averaged": Point(checkpoint=STEP, base=2, condition=8, ema=0.5),
    "mix": Point(checkpoint=STEP, base=2, other=9, amount=0.3, truncation=0.9, moves={3: 2.0}, condition=0),
}


def pixels(picture):
    with Image.open(picture) as opened:
        return np.asarray(opened)


def test_point_is_drawn_again_to_the_bit(explored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, point in POINTS.items():
        shown = pixels(io.BytesIO(explored[1].picture(point)))
        explored[1].write_files(point)
        text = explored[1].repeat(point)
        out = Path(shlex.split(text["command"])[-1])
        exec(text["python"], {})  # noqa: S102  # what users paste
        assert np.array_equal(pixels(out), shown), name
        out.unlink()
        with pytest.raises(SystemExit, match=r"^0$"):
            main(shlex.split(text["command"])[1:])
        assert np.array_equal(pixels(out), shown), name


def test_point_needs_files_only_where_options_cannot_say_it(explored):
    explorer = explored[1]
    for name, point in POINTS.items():
        text = explorer.repeat(point)
        assert ("--latents" in text["command"]) == (name == "mix")
        imports, _, lines = text["python"].partition("\n\n")
        assert ("import torch" in imports) == (name == "mix")
        assert len(lines.splitlines()) == (2 if name in ("seed", "averaged") else 3)


@pytest.mark.parametrize("name", ["cat", "a b", "-x", "a,b", "<script>", "1", "", "a'b"])
def test_class_is_named_where_its_name_cannot_be_mistaken(trained_run, name):
    from dataclasses import replace

    trained = replace(load(trained_run, device="cpu"), classes=("zero", name, *map(str, range(2, 10))))
    assert trained.class_number(class_name(trained, 1)) == 1
    assert class_name(trained, 1) == (name if name in ("cat", "a b", "1") else "1")
    label = re.search(
        r"label=(.*?)\), 'seed",
        python(Invocation(trained_run), Point(checkpoint=STEP, condition=1), trained, PointFiles()),
    )[1]
    assert ast.literal_eval(label) == (1 if name in ("", "1") else name)
    assert trained.class_number(ast.literal_eval(label)) == 1


def test_command_names_plugins_and_paths_so_that_a_shell_reads_them(trained_run, tmp_path):
    invocation = Invocation(tmp_path / "a 'run'", "cpu", "gancore --plugin 'my file.py'", (Path("my file.py"),))
    trained = load(trained_run, device="cpu")
    text = command(invocation, POINTS["seed"], trained, PointFiles())
    path = str(invocation.run / "checkpoints" / "step-00000040.safetensors")
    expected = ["gancore", "--plugin", "my file.py", "sample", path, "--seeds", "5", "--class", "3", "--device", "cpu"]
    assert shlex.split(text) == [*expected, "--out", "seed-5.png"]
    lines = python(invocation, POINTS["seed"], trained, PointFiles())
    assert "device='cpu', catalog=gancore.Catalog.installed(gancore.Choice(files=(Path('my file.py'),)))" in lines


def test_explorer_shows_a_run_whose_folder_is_named_by_a_relative_path(trained_run, monkeypatch):
    monkeypatch.chdir(trained_run.parent)
    explorer = Explorer(Invocation(trained_run.relative_to(trained_run.parent)), Catalog.installed(), trained_run)
    assert explorer.describe()["run"] == "run"
