from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.distributed.ranks import choose_device
from gancore.errors import ConfigError, StorageError
from gancore.run.directory import RunDirectory, next_directory
from helpers.small_runs import largest_file, small_run
from helpers.tiny_components import PARTS, catalog


def created(path):
    known = catalog()
    RunDirectory(path).create(resolve([ConfigLayer("test", PARTS)], known), known, choose_device("cpu"))


def test_run_folder_that_is_not_empty_is_left_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        created(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_run_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        created(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match="cannot write"):
        next_directory(tmp_path / "file")


def test_runs_are_numbered(tmp_path):
    (tmp_path / "runs" / "0041").mkdir(parents=True)
    (tmp_path / "runs" / "notes").mkdir()
    made = [next_directory(tmp_path / "runs").path.name for _ in range(3)]
    assert made == ["0042", "0043", "0044"]
    assert next_directory(tmp_path / "others").path.name == "0001"


def test_runs_that_start_at_once_get_different_numbers(tmp_path):
    all_ready = Barrier(8)

    def make_folders(_):
        all_ready.wait()
        return [next_directory(tmp_path / "runs").path.name for _ in range(8)]

    with ThreadPoolExecutor(8) as threads:
        made = [name for names in threads.map(make_folders, range(8)) for name in names]
    assert sorted(made) == [f"{number:04d}" for number in range(1, 65)]


def test_run_folder_check_removes_no_foreign_file(tmp_path):
    for name in (".mine.17.tmp", ".config.toml.17.tmp"):
        (tmp_path / name).write_text("precious")
    with pytest.raises(ConfigError, match="must be a new or empty folder"):
        RunDirectory(tmp_path).check_new()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".config.toml.17.tmp", ".mine.17.tmp"]


def test_run_folder_that_is_a_link_to_nowhere_is_reported(tmp_path):
    link = tmp_path / "run"
    link.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="run is a link to nowhere, which does not exist"):
        created(link)
    with pytest.raises(ConfigError, match="run is a link to nowhere"), RunDirectory(link).locked():
        pass
    (tmp_path / "nowhere").mkdir()
    created(link)
    assert (tmp_path / "nowhere" / "config.toml").is_file()


@pytest.mark.parametrize(("limit", "place"), [(0, ""), (100, "manifest.json"), (1500, "config.toml")])
@pytest.mark.parametrize("path", ["a/run", None])
def test_start_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, limit, place, path):
    monkeypatch.chdir(tmp_path)
    run = small_run(path, {"regularizers": {"long" * 500: {"name": "r1"}}})  # a config that is larger than the manifest
    with largest_file(limit), pytest.raises(StorageError, match=f"cannot write to .*{place}"):
        next(run.train())
    assert list(tmp_path.iterdir()) == []


def test_start_that_cannot_be_written_leaves_the_folders_of_the_user(tmp_path):
    (tmp_path / "run" / "samples").mkdir(parents=True)
    with largest_file(100), pytest.raises(StorageError, match="too large"):
        next(small_run(tmp_path / "run").train())
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "samples"]
