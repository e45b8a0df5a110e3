"""Paths of datasets in a config: absolute when a run stores them, and changed when the data has moved."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from gancore.config.data_paths import absolute, missing_data_named, paths_of, with_absolute_paths, with_paths
from gancore.config.from_path import existing
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore.contracts import Dataset
from gancore.errors import DataError
from gancore.run.same_data import moved
from helpers.tiny_components import PARTS, catalog


class Files(Dataset):
    """Files at a path."""

    name = "files"
    path: str = Field(default=".", description="where the files are")
    labels: str = Field(default="labels.csv", description="a file below it")

    def build(self, root):
        raise NotImplementedError


class Joined(Dataset):
    """Several datasets as one."""

    name = "joined"
    first: Files = Files()
    others: tuple[Files, ...] = ()

    def build(self, root):
        raise NotImplementedError


NAMES = st.lists(st.sampled_from(["a", "..", ".", "b c", "ü"]), min_size=1, max_size=4).map("/".join)


@given(names=st.lists(NAMES, min_size=1, max_size=3))
def test_absolute_paths_name_the_same_files_from_any_folder(names):
    dataset = Joined(first=Files(path=names[0]), others=tuple(Files(path=name) for name in names))
    found = paths_of(with_absolute_paths(dataset))
    assert all(Path(path).is_absolute() for path in found)
    assert [os.path.realpath(path) for path in found] == [os.path.realpath(name) for name in [names[0], *names]]


def test_absolute_paths_expand_the_home_folder_and_leave_other_fields(monkeypatch):
    monkeypatch.setenv("HOME", "/home/x")
    assert with_absolute_paths(Files(path="~/y", labels="z")) == Files(path="/home/x/y", labels="z")


def test_absolute_paths_are_short_unless_a_link_comes_before_two_dots(tmp_path):
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "folder")
    assert absolute(tmp_path / "far" / ".." / "x") == str(tmp_path / "x")
    assert absolute(tmp_path / "link" / ".." / "x") == f"{tmp_path}/link/../x"


def test_absolute_path_that_is_not_utf8_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"\xff")
    (folder / "pictures").mkdir(parents=True)
    monkeypatch.chdir(folder)
    for refuse in (absolute, existing, lambda path: moved(Files(), path, catalog(), None)):
        with pytest.raises(DataError, match=r"the path '.*udcff/pictures' is not UTF-8"):
            refuse("pictures")


def test_existing_path_is_no_name_that_is_too_long():
    for name in ("x" * 300, f"./{'x' * 300}", "~no such user/x"):
        with pytest.raises(DataError, match="there is no file or folder"):
            existing(name)


def test_paths_of_a_whole_config_are_those_of_its_datasets():
    data = {**PARTS, "dataset": {"name": "folder", "path": "pictures", "size": 8}, "metrics": {"fd-random": {}}}
    config = resolve([ConfigLayer("test", data)], catalog())
    changed = with_paths(config, lambda path: f"/other/{path}")
    assert changed.to_data(catalog()) == config.to_data(catalog()) | {
        "dataset": config.to_data(catalog())["dataset"] | {"path": "/other/pictures"}
    }
    assert with_paths(config, str) is config


def test_missing_data_is_named_only_if_there_is_nothing_at_its_path(tmp_path):
    with pytest.raises(DataError, match="damaged"), missing_data_named(Files(path=str(tmp_path)), "look"):
        raise DataError("damaged")
    gone = str(tmp_path / "gone")
    with (
        pytest.raises(DataError, match=f"the data of the run is not at {gone} any more") as caught,
        missing_data_named(Files(path=gone), "look"),
    ):
        raise DataError("damaged")
    assert caught.value.hint == "look"
