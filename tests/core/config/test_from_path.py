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
