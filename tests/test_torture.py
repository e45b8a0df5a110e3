"""A short run of a program in tests/torture, and the texts that another one replaces."""

from collections import Counter

from torture.data import FORMS, READERS, attempt, case, table, torture
from torture.defects import DEFECTS, ROOT


def test_text_of_each_defect_occurs_once_in_its_file():
    counts = Counter((defect.file, defect.old) for defect in DEFECTS)
    found = {(file, old): (ROOT / file).read_text(encoding="utf-8").count(old) for file, old in counts}
    assert {place: count for place, count in found.items() if count != 1} == {}


def test_damaged_files_of_every_form_are_read_or_refused_and_nothing_else_happens():
    tallies = torture(15 * len(FORMS), seed=1)
    assert [failure for tally in tallies.values() for failure in tally.failures] == []
    assert all(tally.refused for tally in tallies.values())
    assert sum(tally.tried for tally in tallies.values()) == 15 * len(FORMS)
    assert all(f"| {form} |" in table(tallies) for form in READERS)


def test_torture_case_is_repeatable():
    assert case(3, 14) == case(3, 14) != case(4, 14)


def test_torture_counts_failures(tmp_path, monkeypatch):
    def reads(form, path, root):
        raise {b"foreign": ValueError("foreign"), b"stop": SystemExit(3)}[path.read_bytes()]

    monkeypatch.setattr("torture.data.read", reads)
    assert attempt("idx", b"foreign", tmp_path)[:2] == ("failure", "ValueError: foreign")
    assert attempt("idx", b"stop", tmp_path)[:2] == ("failure", "SystemExit: 3")
    monkeypatch.setattr("torture.data.read", lambda *_: None)
    monkeypatch.setattr("torture.data.SLOW", -1)
    assert attempt("idx", b"slow", tmp_path)[1].startswith("took 0.0 s")
    monkeypatch.setattr("torture.data.SLOW", 9)
    monkeypatch.setattr("torture.data.MOST", -9)
    assert attempt("idx", b"wide", tmp_path)[1] == "took 0 MB of memory"
