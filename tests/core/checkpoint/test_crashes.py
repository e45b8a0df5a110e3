"""A save that is killed at any point loses no checkpoint that was reported as saved."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "torture" / "crashes.py"


def test_crash_at_any_operation_or_time_loses_no_saved_checkpoint():
    done = subprocess.run([sys.executable, PROGRAM, "50", "--without-strace"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    order = lines[0].removeprefix("a save is: ").split()
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
    assert lines[-1] == '{"broken": 0}'
