"""The dataset for files of the user."""

from types import SimpleNamespace

import pytest
from PIL import Image
from pydantic import Field

from gancore import Catalog, DataError, PluginError, hookimpl
from gancore.catalog.catalog import read_plugin
from gancore.config.from_path import dataset_at, findings_of, outline_of
from gancore.contracts import Dataset, Outline
from gancore.data.summary import held_out_part


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


def test_dataset_at_says_which_files_datasets_read_and_finds_similar_names(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError) as caught:
        dataset_at(tmp_path / "notes.txt", Catalog.installed())
    for part in ("array (file: .npy, .npz,", "or one picture)", "table (file: .csv,", "gancore show dataset NAME"):
        assert part in caught.value.hint
    with pytest.raises(DataError) as caught:
        dataset_at(tmp_path / "note.txt", Catalog.installed())
    assert caught.value.hint == f"did you mean {tmp_path / 'notes.txt'}?"


def test_dataset_at_says_what_is_in_a_folder_that_no_dataset_reads(tmp_path):
    for name in ("a.txt", "b.TXT", "c.md", "README"):
        (tmp_path / name).write_text("hello")
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"which holds 2 \.txt and 1 "):
        dataset_at(tmp_path, Catalog.installed())


class Answering(Dataset):
    """A dataset whose methods all do the same."""

    name = "answering"
    path: str = Field(default="", description="where the files are")
    split: str = Field(default="train", description="the part")

    @classmethod
    def from_path(cls, path, shape=None):
        return cls.answer()

    def outline(self):
        return type(self).answer()

    def findings(self, root):
        return type(self).answer()

    def part(self, split):
        return self.model_copy(update={"split": split})

    def build(self, root):
        raise NotImplementedError


def raising(error):
    def answer():
        raise error

    return staticmethod(answer)


def dataset(name, answer=None):
    return type(name, (Answering,), {"name": name, "answer": answer, "__doc__": "A dataset."})


def plugin(kind):
    return read_plugin(SimpleNamespace(gancore_datasets=hookimpl(lambda: [kind])), kind.name, kind.name, "1.0")


def with_plugins(*kinds):
    """The installed plugins, and one more for each dataset."""
    return Catalog([*Catalog.installed().plugins, *map(plugin, kinds)])


FAILING = {
    "KeyError": raising(KeyError("x")),
    "it returned tuple": staticmethod(lambda: (1, (2,))),
    "it returned str": staticmethod(lambda: "x"),
}


@pytest.mark.parametrize("words", FAILING)
def test_failures_of_a_dataset_name_its_plugin(words, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    kind = dataset("failing", FAILING[words])
    for ask in (
        lambda: outline_of(kind()),
        lambda: findings_of(kind(), tmp_path),
        lambda: dataset_at(tmp_path / "notes.txt", with_plugins(kind)),
        lambda: held_out_part(kind()),
    ):
        with pytest.raises(PluginError, match="dataset 'failing'") as error:
            ask()
        assert words in str(error.value) or "AttributeError" in str(error.value)


def test_dataset_at_asks_all_datasets_although_one_fails(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    greedy = type(
        "Greedy", (Answering,), {"name": "greedy", "answer": raising(DataError("only mine")), "__doc__": "G."}
    )
    broken = type("Broken", (Answering,), {"name": "broken", "answer": raising(KeyError("x")), "__doc__": "B."})
    reader = type("Reader", (Answering,), {"name": "reader", "__doc__": "R."})
    reader.answer = staticmethod(lambda: reader(path="here"))
    with pytest.warns(UserWarning, match=r"dataset 'broken' failed in from_path\(\).*dataset reader reads") as caught:
        assert dataset_at(tmp_path / "notes.txt", with_plugins(greedy, broken, reader)) == reader(path="here")
    assert len(caught) == 1
    with pytest.raises(DataError, match="only mine"):
        dataset_at(tmp_path / "notes.txt", with_plugins(broken, greedy))


def test_outline_of_a_dataset_is_what_it_returns():
    kind = dataset("sound", staticmethod(lambda: Outline(3, (2,))))
    assert outline_of(kind()) == Outline(3, (2,))
    assert held_out_part(kind()) == "the test part, 3 samples"
