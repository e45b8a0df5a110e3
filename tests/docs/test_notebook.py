"""The notebook of the documentation runs, and is kept with its outputs."""

from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"
SHORTER = {"steps=2000": "steps=20", "steps=4000": "steps=40", "step % 250": "step % 10", '_steps": 200': '_steps": 5'}


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def kinds_of(cell):
    """Return the kinds of data that a cell shows, such as image/png."""
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def test_notebook_runs_and_shows_what_its_file_shows(tmp_path, monkeypatch):
    """It runs with a hundredth of the steps."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    kept, book = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    for before, after in SHORTER.items():
        (cell,) = (cell for cell in code_cells(book) if before in cell.source)
        cell.source = cell.source.replace(before, after)
    client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert list(map(kinds_of, code_cells(book))) == list(map(kinds_of, code_cells(kept)))
    assert (tmp_path / "digits.pt2").exists()


def test_notebook_was_run_from_top_to_bottom_and_shows_no_warning():
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "warning" not in "".join(output.get("text", "") for cell in cells for output in cell.outputs).lower()
