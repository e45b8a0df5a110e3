import json
import math
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gancore.checkpoint.log import MetricsTable, kimg_at, read_log
from gancore.errors import StorageError
from gancore.run.log import RecorderState, truncate_log
from helpers.small_runs import recorded, small_run

DAMAGED = [
    b"\n",
    b"  \r\n",
    b"\x00" * 600 + b"\n",
    b"null\n",
    b"[]\n",
    b'"step"\n',
    b"{}\n",
    b'{"step": null}\n',
    b'{"step": true}\n',
    b'{"step": 1.5}\n',
    b'{"step": "1"}\n',
    b'{"step": 1} {"step": 2}\n',
    b'{"kimg": 1, "step": 1, "note": "text"}\n',
    b'{"kimg": 1, "step": 1, "list": [1]}\n',
    b'{"kimg": 0.5, "st\n',
    b'{"kimg": "\xff\xfe", "step": 3}\n',
    b"[" * 100_000 + b"\n",
    b"{" + b'"x": 1,' * 200_000 + b"\n",
    b'{"kimg": ' + b"9" * 5000 + b', "step": 1}\n',
]


def line(step, **numbers):
    return json.dumps({"step": step, **numbers}).encode() + b"\n"


def truncated(log, content, step, lines):
    log.write_bytes(content)
    truncate_log(log, step, lines)
    return log.read_bytes()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "metrics.jsonl"


@given(
    steps=st.lists(st.integers(0, 9), max_size=20).map(sorted),
    step=st.integers(0, 9),
    lines=st.integers(0, 3),
    damage=st.lists(st.tuples(st.integers(0, 20), st.sampled_from(DAMAGED)), max_size=4),
)
def test_log_is_truncated_after_the_step_of_a_checkpoint(tmp_path_factory, steps, step, lines, damage):
    log = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    written = [line(at, number=number) for number, at in enumerate(steps)]
    kept = sum(at < step for at in steps) + min(lines, sum(at == step for at in steps))
    mixed, before = list(written), list(written[:kept])
    for place, damaged in damage:
        mixed.insert(place, damaged)
    log.write_bytes(b"".join(mixed))
    assert (len(read_log(log)), read_log(log).damaged) == (len(steps), len(damage))
    truncate_log(log, step, lines)
    after = log.read_bytes().splitlines(keepends=True)
    assert [row for row in after if row in before] == before
    assert not set(after) & set(written[kept:])
    if kept:
        last = mixed.index(written[kept - 1]) + 1
        assert b"".join(mixed[:last]) == log.read_bytes()[: len(b"".join(mixed[:last]))]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_damaged_line_hides_no_other_and_is_kept(log, damaged):
    content = line(1) + damaged + line(2)
    assert truncated(log, content + line(3) + damaged + line(4), 2, 1) == content
    assert [row["step"] for row in read_log(log)] == [1, 2]
    assert read_log(log).damaged == 1


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b'{"step": 3', b'{"step": 3\n'),
        (b'{"step": 3}', b'{"step": 3}\n'),
        (b'{"step": 30, "kim', b""),
        (b'{"step": 3, "kim', b'{"step": 3, "kim\n'),
        (b"\x00" * 9, b"\x00" * 9 + b"\n"),
    ],
)
def test_cut_line_is_removed_only_if_it_is_later(log, tail, kept):
    assert truncated(log, line(1) + tail, 9, 0) == line(1) + kept


def test_line_of_a_wrong_step_hides_no_other(log):
    assert truncated(log, line(1) + line(900) + line(2) + line(3), 3, 1) == line(1) + line(2) + line(3)


def test_damage_after_the_last_line_of_the_step_is_removed(log):
    assert truncated(log, line(1) + b"\x00\x00", 1, 1) == line(1)
    assert truncated(log, line(1) + line(3) + b"\x00\x00", 2, 0) == line(1)


def test_log_that_needs_no_truncation_is_not_written(log):
    truncate_log(log, 1, 1)
    assert not log.exists()
    log.write_bytes(line(1))
    before = log.stat()
    truncate_log(log, 1, 1)
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_log_is_read_with_numbers_that_are_not_finite_and_the_marks_of_editors(log):
    log.write_bytes(b"\xef\xbb\xbf" + line(1, loss=None).replace(b"\n", b"\r\n") + b'{"step": 2}')
    first, second = read_log(log)
    assert math.isnan(first["loss"])
    assert second == {"step": 2}
    assert read_log(log).damaged == 0


@pytest.mark.parametrize("read", [read_log, partial(truncate_log, step=1, lines=1)])
def test_log_that_is_a_folder_is_reported(log, read):
    log.mkdir()
    with pytest.raises(StorageError, match=r"cannot read .*metrics.jsonl"):
        read(log)


def test_run_with_damaged_log_says_so_and_resumes_with_all_lines(tmp_path):
    directory, _, _ = recorded(tmp_path / "run", {"log": {"every_steps": 1}})
    lines = directory.metrics.read_bytes().splitlines(keepends=True)
    directory.metrics.write_bytes(b"".join([*lines[:2], b"\n", b"\x00\x00\n", *lines[2:]]))
    run = small_run(tmp_path / "run", {"log": {"every_steps": 1}})
    with pytest.warns(UserWarning, match=r"metrics.jsonl has 2 damaged lines, which are skipped"):
        assert [row["step"] for row in run.metrics] == [1, 2, 3, 4, 5, 6, 7]
    list(run.resume(steps=9))
    assert any("metrics.jsonl has 2 damaged lines" in warning for warning in run.warnings)
    after = directory.metrics.read_bytes().splitlines(keepends=True)
    assert after[:9] == [*lines[:2], b"\n", b"\x00\x00\n", *lines[2:]]
    assert len(after) == 11


@pytest.mark.parametrize(
    "wrong", [{"lines": -1}, {"pending": ["money"]}, {"best": float("nan")}, {"low": "1"}, {"more": 1}, [], None]
)
def test_recorder_state_of_a_checkpoint_is_validated(wrong):
    with pytest.raises(ValidationError):
        RecorderState.model_validate(wrong)


def test_kimg_at_steps_is_linear_between_lines_and_after_the_last():
    lines = {"step": 10, "kimg": 1.0}, {"step": 20, "kimg": 3.0}, {"step": 15}, {"step": 17, "kimg": math.nan}
    huge = {"step": 10**400, "kimg": 1}, {"step": 16, "kimg": 10**400}
    log = MetricsTable([*lines, *huge])
    assert kimg_at(log, (0, 5, 10, 15, 20, 40)) == [0, 0.5, 1, 2, 3, 6]
    assert kimg_at(MetricsTable(), (3, 0)) == [None, 0]
