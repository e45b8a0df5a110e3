import json

import pytest

from gancore.errors import ConfigError
from gancore.report.page import target_of
from gancore.utils.text import file_size
from helpers.html_pages import problems_of

FORKED = True


def test_report_writes_a_page_and_names_it(finished):
    done = finished.works("report", "runs/0001")
    page = finished.folder / "runs/0001/report.html"
    assert done.stdout == f"runs/0001/report.html: {file_size(page.stat().st_size)}\n"
    assert problems_of(page.read_text()) == []
    page.unlink()


def test_report_as_json_has_the_notes_which_are_warnings_otherwise(finished):
    log = finished.folder / "runs/0001/metrics.jsonl"
    before = log.read_text()
    log.write_text(f"{before}{{damaged\n")
    note = "runs/0001/metrics.jsonl has 1 damaged line, which is skipped"
    done = finished.works("report", "runs/0001", "runs/0001", "--out", "two.html", "--json", "--open", BROWSER="true")
    log.write_text(before)
    size = (finished.folder / "two.html").stat().st_size
    assert json.loads(done.stdout) == {
        **{"out": "two.html", "bytes": size, "runs": ["runs/0001", "runs/0001"], "notes": [note]},
    }
    assert done.stderr == f"warning: {note}\n"


def test_report_without_a_run_or_a_target_fails_and_writes_nothing(finished):
    before = sorted(finished.folder.rglob("*"))
    assert finished.fails(4, "report", "nowhere") == "error: there is no run in nowhere"
    message = finished.fails(2, "report", "runs/0001", "--out", "page.png")
    assert message == "error: a report must end in .html; received page.png"
    assert "'' is no file or folder" in finished.fails(2, "report", "runs/0001", "--out", "")
    with pytest.raises(ConfigError, match="a report needs the name of a file"):
        target_of([finished.folder / "runs" / "0001"], "")
    assert sorted(finished.folder.rglob("*")) == before
