import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gancore.run.log import RecorderState, truncate_log


@given(
    steps=st.lists(st.integers(0, 9), max_size=20).map(sorted),
    step=st.integers(0, 9),
    lines=st.integers(0, 3),
    torn=st.binary(max_size=5).filter(lambda tail: b"\n" not in tail),
)
def test_log_is_truncated_after_the_step_of_a_checkpoint(tmp_path_factory, steps, step, lines, torn):
    log = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    written = [json.dumps({"step": at, "number": number}) for number, at in enumerate(steps)]
    log.write_bytes("".join(f"{line}\n" for line in written).encode() + torn)
    truncate_log(log, step, lines)
    before = sum(at < step for at in steps)
    here = min(lines, sum(at == step for at in steps))
    assert log.read_text().splitlines() == written[: before + here]


@pytest.mark.parametrize("torn", ['{"step": 3', '{"step": 3}', "[]\n", '{"step": null}\n', "[" * 100_000 + "\n"])
def test_log_is_truncated_at_a_torn_line(tmp_path, torn):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1}\n' + torn)
    truncate_log(log, 9, 0)
    assert log.read_text() == '{"step": 1}\n'


def test_log_that_needs_no_truncation_is_not_written(tmp_path):
    log = tmp_path / "metrics.jsonl"
    truncate_log(log, 1, 1)
    assert not log.exists()
    log.write_text('{"step": 1}\n')
    before = log.stat()
    truncate_log(log, 1, 1)
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    "wrong", [{"lines": -1}, {"pending": ["money"]}, {"best": float("nan")}, {"low": "1"}, {"more": 1}, [], None]
)
def test_recorder_state_of_a_checkpoint_is_validated(wrong):
    with pytest.raises(ValidationError):
        RecorderState.model_validate(wrong)
