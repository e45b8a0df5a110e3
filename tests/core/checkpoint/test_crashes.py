"""A save that is killed at any point loses no checkpoint that was reported as saved."""

from torture.crashes import every_operation, operations, random_times


def test_save_is_flushed_and_checked_before_its_rename_and_reported_after_it(tmp_path):
    order = operations(tmp_path / "checkpoints")
    # Flushed before the rename, renamed and flushed before the report, and the old one removed after that.
    first = order[: order.index("unlink") + 1]
    places = [
        first.index("fsync"),
        first.index("pread"),
        first.index("replace"),
        len(first) - 1 - first[::-1].index("fsync"),
    ]
    assert places == sorted(places)
    assert first[-2:] == ["report", "unlink"]


def test_crash_at_any_operation_loses_no_saved_checkpoint(tmp_path):
    cases = list(every_operation(tmp_path / "checkpoints"))
    assert [(case, wrong) for case, wrong in cases if wrong] == []
    assert len(cases) > 50


def test_crash_at_any_time_loses_no_saved_checkpoint(tmp_path):
    cases = list(random_times(tmp_path / "checkpoints", 20))
    assert [(case, wrong) for case, wrong in cases if wrong] == []
    assert len(cases) == 20
