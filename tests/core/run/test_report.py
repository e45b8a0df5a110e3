"""What a run records for its report: events in the manifest, and the page that it writes itself."""

import math

import pytest

from gancore.errors import NumericsError
from helpers.nan_injection import Ailment, recording
from helpers.small_runs import recorded, small_run, tensors

OFTEN = {"report": {"every_kimg": 0.012}, "log": {"every_steps": 1}}
STILL = {
    "dataset": {"name": "noise", "shape": [2], "count": 100},
    "optimizer": {player: {"lr": 0.0} for player in ("generator", "discriminator")},
    "evaluate": {"every_kimg": 0.008},
    "generator": {"name": "constant"},
}


def events_of(directory):
    return directory.read_manifest().entries.get("events")


def test_report_is_written_when_due_and_at_the_end_and_changes_nothing_in_training(tmp_path):
    run = small_run(tmp_path / "with", OFTEN)
    page = run.directory.path / "report.html"
    # What is due after step 3 is done before step 4.
    assert [record.step.step for record in run.train() if page.exists()] == [4, 5, 6, 7]
    without, _, _ = recorded(tmp_path / "without", {"log": {"every_steps": 1}})
    assert not (without.path / "report.html").exists()
    theirs = tensors(without)
    assert all(theirs[name].equal(tensor) for name, tensor in tensors(run.directory).items())
    text = page.read_text()
    assert "Losses" in text
    assert "A page that training writes does not read the data again" in text


def test_report_that_cannot_be_written_is_a_warning(tmp_path):
    run = small_run(tmp_path / "run", OFTEN)
    records = run.train()
    next(records)
    (run.directory.path / "report.html").mkdir()
    warnings = [text for record in records for text in record.warnings]
    assert warnings
    assert all(text.startswith("the report was not written: cannot write ") for text in warnings)


def test_events_of_collapse_are_noted(tmp_path):
    directory, _, seen = recorded(tmp_path / "run", STILL)
    (warning,) = [text for record in seen for text in record.warnings]
    (event,) = events_of(directory)
    assert event == {"kind": "collapse", "step": 4, "kimg": 0.016, "text": warning}


@pytest.mark.parametrize("policy", ["skip", "rollback", "stop"])
def test_events_of_numbers_that_are_not_finite_are_noted_once(tmp_path, policy):
    changes = {"training": {"on_nonfinite": policy}, "checkpoint": {"every_steps": 2}, "log": {"every_steps": 1}}
    _, directory, records = recording(tmp_path / "run", Ailment("a gradient of D", math.inf, 3), **changes)
    with records as written:
        if policy == "stop":
            with pytest.raises(NumericsError):
                list(written)
        else:
            list(written)
    (event,) = events_of(directory)
    assert (event["kind"], event["step"]) == ("nonfinite", 3)
    assert "gradient" in event["text"]
    directory.note_event(**event)
    assert events_of(directory) == [event]


def test_events_are_absent_in_a_healthy_run(tmp_path):
    directory, _, _ = recorded(tmp_path / "run")
    assert events_of(directory) is None
