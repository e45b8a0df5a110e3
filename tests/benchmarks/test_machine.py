import json
from dataclasses import asdict

from benchmarks.machine import write_report
from benchmarks.scripts import Took


def test_report_is_written_to_a_folder_that_does_not_exist_yet(tmp_path, capsys):
    row = Took(seconds=1.5, images=20.0, finite=True)
    write_report(tmp_path / "new" / "folder" / "out", "the table", [row])
    assert (tmp_path / "new" / "folder" / "out.md").read_text() == "the table"
    assert json.loads((tmp_path / "new" / "folder" / "out.json").read_text()) == [asdict(row)]
    assert capsys.readouterr().out == "the table\n"
