import os

import pytest

from gancore.errors import StorageError
from gancore.utils.atomic import atomic_write, remove_temporary_files


def test_a_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with atomic_write(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("other"), KeyboardInterrupt()])
def test_what_fails_on_the_way_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")
    kind = StorageError if isinstance(error, OSError) else type(error)

    def fails():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(kind):
        fails()
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("flush"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("content")
    assert done == ["flush", "name"]


def test_litter_is_cleared_and_foreign_files_and_links_are_not(tmp_path):
    for name in (".file.17.tmp", ".foreign.17.tmp", ".other.tmp", "file.17.tmp", ".hidden", "file"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".link.17.tmp").symlink_to(tmp_path / "file")
    (tmp_path / ".folder.17.tmp").mkdir()
    remove_temporary_files(tmp_path, "file|link|folder")
    remove_temporary_files(tmp_path / "missing", "file")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {
        ".foreign.17.tmp",
        ".other.tmp",
        "file.17.tmp",
        ".hidden",
        "file",
        ".link.17.tmp",
        ".folder.17.tmp",
    }
