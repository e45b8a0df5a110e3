import os
import pwd
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gancore.catalog.discovery import Choice, settings_path
from gancore.errors import ConfigError, StorageError, did_you_mean
from gancore.utils.paths import cache_root, check_folder_of, data_root, name_a_run, shell_quote


@pytest.fixture
def homeless(monkeypatch):
    """A user whom the system does not know, such as a number that a container runs as."""

    def getpwuid(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "GANCORE_CACHE", "GANCORE_DATA", "GANCORE_SETTINGS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("homeless")
def test_settings_of_a_user_without_a_home_are_the_default():
    assert settings_path() is None
    assert Choice.of_user() == Choice()


@pytest.mark.usefixtures("homeless")
def test_cache_and_data_of_a_user_without_a_home_must_be_named(monkeypatch):
    for folder in (cache_root, data_root):
        with pytest.raises(ConfigError, match="HOME") as raised:
            folder()
        assert "GANCORE_CACHE" in raised.value.hint
    assert data_root("data") == Path("data")
    monkeypatch.setenv("GANCORE_CACHE", "cache")
    assert (cache_root(), data_root()) == (Path("cache"), Path("cache/data"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
@example("-x")
@example("a\nb'\\n")
@example("\udcff1")
@settings(max_examples=15)
def test_quoted_path_is_one_argument_on_one_line(path):
    line = shell_quote(path)
    assert len(line.splitlines()) == 1
    assert not line.startswith("-")
    found = subprocess.run(
        ["/bin/bash", "-c", b"printf %s " + os.fsencode(line)], capture_output=True, check=True
    ).stdout
    assert os.path.normpath(os.fsdecode(found)) == os.path.normpath(path)


def test_path_below_a_file_cannot_be_made_and_one_in_new_folders_can(tmp_path):
    (tmp_path / "file").touch()
    check_folder_of(tmp_path / "a" / "b" / "c")
    check_folder_of(tmp_path / "file")
    for below in ("x", "x/y"):
        with pytest.raises(StorageError, match="file is not a folder"):
            check_folder_of(tmp_path / "file" / below)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("mien", "did you mean mine?"),
        ("./a/../mien", "did you mean a/../mine?"),
        ("mien/pictures", "did you mean mine/pictures?"),
        ("mien/photos", "did you mean mine?"),
        ("a/picturs", "check the path"),
        ("nothing/like/it", "check the path"),
        ("x" * 300, "check the path"),
    ],
)
def test_hint_for_a_missing_path_is_a_similar_name_in_the_nearest_folder(tmp_path, monkeypatch, path, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "pictures").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    assert did_you_mean(Path(path)) == hint


def test_hint_to_name_a_run_lists_the_three_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert name_a_run() == "name the folder of a run, like runs/0001"
    for time, name in enumerate(["d", "a", "c", "b"]):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.toml").touch()
        os.utime(tmp_path / "runs" / name / "config.toml", (time, time))
    (tmp_path / "runs" / "empty").mkdir()
    assert name_a_run() == "name the folder of a run; the newest of 4 runs here: runs/b, runs/c, runs/a"
    (tmp_path / "runs" / "d" / "config.toml").unlink()
    assert name_a_run() == "name the folder of a run; runs here: runs/b, runs/c, runs/a"
