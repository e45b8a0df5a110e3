import os

import pytest

from gancore.errors import StorageError
from gancore.utils.atomic import (
    atomic_write,
    hold,
    is_temporary_file,
    remove_abandoned,
    remove_temporary_files,
    replacing,
    temporary_name,
)


def test_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with atomic_write(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("other"), KeyboardInterrupt()])
def test_error_in_the_block_leaves_the_file_unchanged(tmp_path, error):
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
    assert done == ["flush", "name", "flush"]


def test_temporary_files_are_removed_and_other_files_stay(tmp_path):
    digits = "0123456789abcdef"
    others = (f".foreign.{digits}.tmp", ".file.17.tmp", ".other.tmp", f"file.{digits}.tmp", ".hidden", "file")
    for name in (f".file.{digits}.tmp", *others):
        (tmp_path / name).write_text(name)
    (tmp_path / f".link.{digits}.tmp").symlink_to(tmp_path / "file")
    (tmp_path / f".folder.{digits}.tmp").mkdir()
    assert remove_temporary_files(tmp_path, "file|link|folder") == [tmp_path / f".file.{digits}.tmp"]
    assert remove_temporary_files(tmp_path / "missing", "file") == []
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {*others, f".link.{digits}.tmp", f".folder.{digits}.tmp"}
    with replacing(tmp_path / "file") as temporary:
        assert is_temporary_file(temporary.name, "file")
        temporary.touch()


def test_exclusive_temporary_file_overwrites_what_a_killed_process_left(tmp_path):
    (tmp_path / ".file.part").write_text("half of another")
    with replacing(tmp_path / "file", exclusive=True) as temporary:
        assert temporary == tmp_path / ".file.part"
        temporary.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]


def test_flush_is_omitted_without_durable(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    with replacing(tmp_path / "file", durable=False) as temporary:
        temporary.write_text("content")
    assert (tmp_path / "file").read_text() == "content"


def test_abandoned_files_and_folders_are_removed_and_held_ones_stay(tmp_path):
    kept = {temporary_name(tmp_path / name) for name in ("other.npy", "held.npy")}
    for path in kept:
        path.touch()
    temporary_name(tmp_path / "held.npy").touch()
    temporary_name(tmp_path / "held.npy").mkdir()
    held = next(path for path in kept if "held" in path.name)
    with held.open("rb") as file:
        hold(file.fileno())
        remove_abandoned(tmp_path / "held.npy")
    assert {*tmp_path.iterdir()} == kept
