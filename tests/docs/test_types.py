"""The Python examples of the README and of the pages for Python users pass mypy in strict mode."""

import subprocess
import sys

import pytest

from helpers.doc_blocks import ROOT, page_blocks

TYPED_PAGES = [ROOT / "README.md", ROOT / "docs" / "python.md", ROOT / "docs" / "training-loop.md"]


@pytest.mark.long
def test_examples_for_python_users_pass_mypy_strict(tmp_path):
    files = []
    for page in TYPED_PAGES:
        blocks = [block.text for block in page_blocks(page) if block.language == "python"]
        assert blocks, page
        files.append(tmp_path / f"example_{page.stem.lower().replace('-', '_')}.py")
        files[-1].write_text("\n".join(blocks), encoding="utf-8")
    # Without pydantic's plugin, which a user may not have.
    settings = "[mypy]\nstrict = true\nuntyped_calls_exclude = torch\n"  # Tensor.backward has no types
    (tmp_path / "mypy.ini").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", *files]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    ours = [line for line in done.stdout.splitlines() if line.startswith("example_")]
    assert (ours, done.returncode) == ([], 0), done.stdout[-3000:]
