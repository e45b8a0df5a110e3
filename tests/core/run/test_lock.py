import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gancore.errors import InUseError, StorageError
from gancore.run.lock import LOCK, holder_of, locked

HOLDS = """
import sys
from pathlib import Path
from gancore.run.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
TRIES = """
import sys
from pathlib import Path
from gancore.errors import InUseError
from gancore.run.lock import locked
for _ in range(40):
    try:
        with locked(Path(sys.argv[1])):
            mark = Path(sys.argv[2])
            mark.mkdir()  # fails when another process holds the lock
            mark.rmdir()
    except InUseError:
        pass
"""


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_lock_is_held_until_its_process_ends_or_is_killed(tmp_path):
    for end in (lambda process: process.stdin.close(), lambda process: process.kill()):
        process = holder(tmp_path)
        with pytest.raises(InUseError, match=f"is in use by process {process.pid}"), locked(tmp_path):
            pass
        end(process)
        process.wait()
        process.stdout.close()
        process.stdin.close()
        with locked(tmp_path):
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
        assert not (tmp_path / LOCK).exists()


def test_lock_is_not_held_by_a_child_that_outlives_its_parent(tmp_path):
    source = HOLDS.replace("    print(", "    import os, time\n    os.fork() or time.sleep(60)\n    print(")
    process = subprocess.Popen(
        [sys.executable, "-c", source, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "locked\n"
        process.kill()  # so the file stays
        process.wait()
        with locked(tmp_path):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.stdin.close()


def test_holder_of_names_the_process_and_changes_nothing(tmp_path):
    folder = tmp_path / "run"
    assert holder_of(folder) is None
    assert not folder.exists()
    process = holder(folder)
    assert holder_of(folder) == holder_of(folder) == f"process {process.pid}"
    process.kill()
    process.communicate()
    assert holder_of(folder) is None
    assert (folder / LOCK).exists()
    with locked(folder):
        assert holder_of(folder) == f"process {os.getpid()}"
    assert holder_of(folder) is None
    (folder / LOCK).mkdir()
    assert holder_of(folder) is None


def test_lock_admits_one_of_many_processes(tmp_path):
    folder, mark = tmp_path / "folder", tmp_path / "mark"
    folder.mkdir()
    many = [subprocess.Popen([sys.executable, "-c", TRIES, folder, mark]) for _ in range(4)]
    assert [each.wait(120) for each in many] == [0] * 4


def test_new_folder_is_removed_if_it_stays_empty(tmp_path):
    with locked(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_folder_that_cannot_be_locked_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write to"), locked(tmp_path / "file"):
        pass
    (tmp_path / "target").touch()
    (tmp_path / LOCK).symlink_to(tmp_path / "target")
    with pytest.raises(StorageError), locked(tmp_path):
        pass
    assert (tmp_path / "target").read_bytes() == b""
    assert Path(tmp_path / LOCK).is_symlink()
