"""The dataset for files of the user."""

import pytest
from PIL import Image

from gancore import Catalog, DataError
from gancore.config.from_path import dataset_at


def test_dataset_at_reads_a_folder_of_pictures(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    dataset = dataset_at(tmp_path, Catalog.installed())
    assert dataset.name == "folder"
    assert dataset.outline().items == 1


@pytest.mark.parametrize(("name", "words"), [("nothing", "no file or folder"), ("notes.txt", "no dataset reads")])
def test_dataset_at_refuses_what_no_dataset_reads(tmp_path, name, words):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=words):
        dataset_at(tmp_path / name, Catalog.installed())


def test_dataset_at_says_what_is_in_a_folder_that_no_dataset_reads(tmp_path):
    for name in ("a.txt", "b.TXT", "c.md", "README"):
        (tmp_path / name).write_text("hello")
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"which holds 2 \.txt and 1 "):
        dataset_at(tmp_path, Catalog.installed())
