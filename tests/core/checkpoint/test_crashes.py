"""A save that is cut short anywhere loses nothing that was reported as saved."""

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "torture" / "crashes.py"


def test_a_crash_at_every_operation_and_at_random_times_loses_nothing():
    done = subprocess.run([sys.executable, PROGRAM, "50", "--without-strace"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    order = said[0].removeprefix("a save is: ").split()
    # On the disk before it has its name, named on the disk before it is reported, and only then the old one goes.
    first = order[: order.index("unlink") + 1]
    places = [
        first.index("fsync"),
        first.index("pread"),
        first.index("replace"),
        len(first) - 1 - first[::-1].index("fsync"),
    ]
    assert places == sorted(places)
    assert first[-2:] == ["report", "unlink"]
    assert said[-1] == '{"broken": 0}'
