"""The scripts in examples/ run, and the page there names everything in the folder."""

import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted((EXAMPLES / "scripts").glob("*.py"))
STEPS = re.compile(r"((?:steps|STEPS) ?= ?|step % )(\d+)")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_script_trains_and_writes_its_picture(tmp_path, monkeypatch, script):
    """It runs with a hundredth of the steps."""
    text, replaced = STEPS.subn(lambda found: f"{found[1]}{int(found[2]) // 100}", script.read_text(encoding="utf-8"))
    assert replaced
    copy = tmp_path / script.name
    copy.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(copy), run_name="__main__")
    with Image.open(tmp_path / f"{script.stem}.png") as picture:
        assert picture.width > 64


def test_examples_are_all_on_their_page():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)]+)\)", page))
    kept = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith(".")} - {"README.md", "scripts"}
    assert linked == kept | {f"scripts/{script.name}" for script in SCRIPTS} | {"../docs/notebook.ipynb"}
