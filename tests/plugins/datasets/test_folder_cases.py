"""Folders of pictures as people have them: what is read, what is skipped, and what the classes are."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features
from pydantic import ValidationError

from gancore.contracts import Outline
from gancore.errors import DataError
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.readers.layout import held_out


def paint(path, color=(200, 0, 0), size=(16, 16), mode="RGB", form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, form)
    return path


def fill(folder, *names):
    """Save a picture for each name, each of another color."""
    for number, name in enumerate(names):
        paint(folder / name, (number * 20 % 256, number * 70 % 256, number))


def found(path, **fields):
    """The dataset for a path, what it is before it is read, and what was found."""
    dataset = Folder.from_path(path)
    dataset = dataset.model_copy(update=fields)
    return dataset, outline_of(dataset), findings_of(dataset)


def outline_of(dataset):
    return replace(dataset.outline(), original=None)


def findings_of(dataset):
    with tempfile.TemporaryDirectory() as root:
        list(dataset.prepare(Path(root)))
        return dataset.findings(Path(root))


def failure(folder, **fields):
    with pytest.raises(DataError) as caught:
        Folder(path=str(folder), **fields).outline()
    assert caught.value.hint
    return caught.value.message


def test_copies_of_a_notebook_are_no_class(tmp_path):
    fill(tmp_path, "cat/1.png", "dog/1.png", ".ipynb_checkpoints/1.png", "cat/.ipynb_checkpoints/1.png")
    dataset, outline, findings = found(tmp_path)
    assert dataset.classes
    assert outline == Outline(2, (3, 16, 16), ("cat", "dog"))
    assert findings.skipped == {"hidden": [".ipynb_checkpoints/", "cat/.ipynb_checkpoints/"]}


def test_resource_forks_of_a_mac_are_skipped(tmp_path):
    fill(tmp_path, "cat/1.png", "dog/1.png")
    for name in ("cat/._1.png", "__MACOSX/cat/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    _, outline, findings = found(tmp_path)
    assert (outline.items, outline.classes) == (2, ("cat", "dog"))
    assert findings.skipped == {"macOS metadata": ["__MACOSX/", "cat/._1.png"]}


def test_numbered_classes_are_in_natural_order(tmp_path):
    for number in range(12):
        paint(tmp_path / "in" / str(number) / "1.png", 20 * number, mode="L")
    dataset, outline, _ = found(tmp_path / "in")
    assert (dataset.channels, dataset.size) == (1, 16)
    assert outline.classes == tuple(map(str, range(12)))
    built = dataset.build(tmp_path / "root")
    assert [(int(image[0, 0, 0]), label) for image, label in built] == [(20 * n, n) for n in range(12)]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Testing"), ("TRAIN", "valid")])
@pytest.mark.parametrize("wrapper", ["", "data/set/"])
def test_split_folders_are_parts(tmp_path, names, wrapper):
    for split in names:
        fill(tmp_path / wrapper / split, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)))
    dataset, outline, findings = found(tmp_path)
    assert outline == Outline(6, (3, 16, 16), ("cat", "dog"))
    assert findings.used == {
        "PNG": [f"{wrapper}{names[0]}/{name}/{n}.png" for name in ("cat", "dog") for n in range(3)]
    }
    assert f"train on {names[0]} 6; held out: " in findings.facts["splits"]
    assert dataset.part("train") == dataset
    assert dataset.part("test") == dataset.model_copy(update={"split": "test"})
    assert outline_of(dataset.part("test")) == Outline(6 * (len(names) - 1), (3, 16, 16), ("cat", "dog"))
    together = dataset.model_copy(update={"splits": False})
    assert together.outline().items == 6 * len(names)
    assert together.part("train") is None
    assert "not read as splits, since dataset.splits = false" in findings_of(together).notes[0]


def test_split_folders_without_classes_are_parts(tmp_path):
    fill(tmp_path, "train/1.png", "train/2.png", "test/1.png", "loose.png")
    dataset, outline, findings = found(tmp_path)
    assert not dataset.classes
    assert outline.items == 2
    assert findings.skipped == {"outside of test and train": ["loose.png"]}


def test_split_folders_among_others_are_classes_and_this_is_noted(tmp_path):
    fill(tmp_path, "train/1.png", "test/1.png", "tram/1.png")
    dataset, outline, findings = found(tmp_path)
    assert outline.classes == ("test", "train", "tram")
    assert findings.notes == ["the folders for training and testing are not read as splits, since tram are there too"]
    assert dataset.part("test") is None


def test_pictures_of_classes_that_are_only_held_out_are_skipped(tmp_path):
    fill(tmp_path, "train/b/1.png", "train/c/1.png", "test/a/1.png", "test/b/2.png")
    test = found(tmp_path)[0].part("test")
    assert outline_of(test) == Outline(1, (3, 16, 16), ("b", "c"))
    assert findings_of(test).skipped == {"of classes without training pictures": ["test/a/1.png"]}


def test_pictures_of_all_formats_are_used_and_other_files_counted(tmp_path):
    fill(tmp_path, "1.png")
    formats = {".gif": "GIF", ".tif": "TIFF", ".ppm": "PPM", ".jfif": "JPEG", ".jpe": "JPEG", ".bmp": "BMP"}
    formats |= {".jp2": "JPEG2000"} if features.check("jpg_2000") else {}
    formats |= {".avif": "AVIF"} if features.check("avif") else {}
    for suffix, form in formats.items():
        paint(tmp_path / f"x{suffix}", form=form)
    (tmp_path / "IMG.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "desktop.ini").write_text("x")
    dataset, outline, findings = found(tmp_path)
    assert outline.items == 1 + len(formats) == len(dataset.build(tmp_path / "root"))
    assert {form: len(names) for form, names in findings.used.items()} == {
        "PNG": 1,
        **{form: list(formats.values()).count(form) for form in formats.values()},
    }
    assert {reason.split()[0]: names for reason, names in findings.skipped.items()} == {
        ".heic": ["IMG.HEIC"],
        "system": ["desktop.ini"],
        "hidden": [".DS_Store"],
    }


def test_content_decides_and_not_the_ending(tmp_path):
    paint(tmp_path / "png_as.jpg", (9, 9, 9))
    paint(tmp_path / "bmp_as.jpg", (9, 9, 9), form="BMP")
    paint(tmp_path / "gif_as", (9, 9, 9), form="GIF")
    dataset, outline, findings = found(tmp_path)
    assert outline.items == 3
    assert findings.skipped == {}
    assert all((image == 9).all() for image in dataset.build(tmp_path / "root"))


def test_class_folder_without_pictures_is_noted_before_training(tmp_path):
    fill(tmp_path, "dog/1.png", "fish/1.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog" / "cut").mkdir()  # not a class
    _, outline, findings = found(tmp_path)
    assert outline.classes == ("dog", "fish")
    assert findings.notes == ["class folder cat has no pictures, so it is not a class"]


def test_pictures_outside_of_class_folders_are_skipped_and_the_setting_is_named(tmp_path):
    fill(tmp_path, "dog/1.png", "fish/1.png", "cover.png")
    dataset, outline, findings = found(tmp_path)
    assert outline.items == 2
    assert findings.skipped == {"outside of the class folders (read with dataset.classes = false)": ["cover.png"]}
    assert dataset.model_copy(update={"classes": False}).outline().items == 3


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["1.png", "2.png"], ()),
        (["only/1.png", "only/2.png"], ()),
        (["a/1.png", "b/1.png", "1.png", "2.png"], ("a", "b")),
        (["a/1.png", "b/1.png", "1.png", "2.png", "3.png"], ()),
        (["w/a/1.png", "w/b/1.png"], ("a", "b")),
        (["w/v/a/1.png", "w/v/b/1.png"], ("a", "b")),
        (["w/a/1.png", "w/b/1.png", "w/1.png", "w/2.png", "w/3.png"], ()),
        (["train/a/1.png", "train/b/1.png"], ("a", "b")),
    ],
)
def test_classes_are_chosen_if_there_are_several_folders_with_most_pictures(tmp_path, names, classes):
    fill(tmp_path, *names)
    assert found(tmp_path)[1].classes == classes


def test_single_folder_is_the_only_class_if_classes_are_asked_for(tmp_path):
    fill(tmp_path, "only/1.png", "only/deep/2.png")
    assert Folder(path=str(tmp_path), classes=True).outline().classes == ("only",)
    fill(tmp_path / "flat", "1.png")
    assert "classes are folders of pictures, and" in failure(tmp_path / "flat", classes=True)


def test_class_whose_name_is_not_text_is_refused(tmp_path):
    fill(tmp_path, "a/1.png", "b\udcff/1.png")
    assert r"class folder 'b\udcff'" in failure(tmp_path, classes=True)
    assert Folder(path=str(tmp_path)).outline().items == 2


@pytest.mark.parametrize("wrapper", ["", "emoji/"])
@pytest.mark.parametrize("classes", [True, False])
def test_archive_and_folder_give_the_same_bits(tmp_path, wrapper, classes):
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "in" / wrapper / ("cat", "dog", "10", "9")[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 30, 4), np.uint8)).save(path)
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "in"))
    sets = [found(place, classes=classes)[0] for place in (tmp_path / "in", archive)]
    built = [dataset.build(tmp_path / "root") for dataset in sets]
    assert sets[0].outline() == sets[1].outline()
    assert [getattr(each, "classes", None) for each in built] == [("9", "10", "cat", "dog") if classes else None] * 2
    for ours, theirs in zip(*built, strict=True):
        image, label = ours if classes else (ours, None)
        other, same = theirs if classes else (theirs, None)
        assert torch.equal(image, other)
        assert label == same


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(100, 64)] * 3, (64, 96)),
        ([(63, 100)] * 3, (80, 48)),
        ([(40, 47)] * 3, (40, 32)),
        ([(30, 20)] * 3, (16, 24)),
        ([(100, 64), (64, 100), (80, 80)], 64),
        ([(64, 64), (64, 64), (9, 9)], 64),
        ([(64, 64), (9, 9), (9, 9)], 16),
        ([(8, 8)], 16),
        ([(24, 24)], 24),
        ([(28, 28)], 28),
        ([(55, 61), (60, 49)], 48),
    ],
)
def test_size_is_the_largest_that_most_pictures_reach(tmp_path, sizes, expected):
    for number, size in enumerate(sizes):
        paint(tmp_path / f"{number}.png", size=size)
    assert Folder.from_path(tmp_path).size == expected


def test_channels_are_one_only_if_all_pictures_are_gray(tmp_path):
    paint(tmp_path / "1.png", 9, mode="L")
    paint(tmp_path / "2.png", 1, mode="1")
    assert Folder.from_path(tmp_path).channels == 1
    paint(tmp_path / "3.png")
    assert Folder.from_path(tmp_path).channels == 3


def test_shape_that_is_asked_for_decides(tmp_path):
    fill(tmp_path, "1.png")
    for shape in ((1, 8, 8), (4, 30, 20), (3, 16, 16)):
        assert Folder.from_path(tmp_path, shape).outline().shape == shape
    for shape in ((2,), (2, 8, 8), (3, 8), (3, 8, 8, 8)):
        assert Folder.from_path(tmp_path, shape) is None


def test_run_is_no_folder_of_pictures_and_its_samples_are(tmp_path):
    fill(tmp_path, "samples/1.png")
    for name in ("config.toml", "manifest.json"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="is a run of gancore, not a folder of pictures") as caught:
        Folder.from_path(tmp_path)
    assert Folder.from_path(Path(caught.value.hint.rpartition(" ")[2])).outline().items == 1


def test_path_without_pictures_is_left_to_other_datasets_if_something_else_is_there(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=r"no pictures in .*in, which is empty"):
        Folder.from_path(tmp_path / "in")
    (tmp_path / "in" / "a.npy").touch()
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    (tmp_path / "a.csv").write_text("a,b\n")
    for name in ("in", "a.npz", "a.csv", "in/a.npy"):
        assert Folder.from_path(tmp_path / name) is None
    (tmp_path / "a.zip").write_bytes(b"text")
    with pytest.raises(DataError, match="neither a picture nor a zip archive"):
        Folder.from_path(tmp_path / "a.zip")


@given(st.lists(st.text("abc0", min_size=1), min_size=1, unique=True), st.sampled_from([0.1, 0.25, 0.5]))
def test_holdout_is_a_part_that_grows_with_the_share(names, share):
    few, many = held_out(names, share / 2), held_out(names, share)
    assert not (few & ~many).any()
    assert min(1, len(names) - 1) <= many.sum() < len(names)
    assert not held_out(names, 0.0).any()


def held_out_names(path, **fields):
    """The pictures to train on, and those that are held out."""
    dataset = Folder(path=str(path), **fields)
    return [set(findings_of(part).used["PNG"]) for part in (dataset, dataset.part("test"))]


def test_holdout_divides_the_pictures(tmp_path):
    fill(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)))
    train, test = held_out_names(tmp_path, holdout=0.25)
    assert not train & test
    assert len(train | test) == 40
    assert 3 <= len(test) <= 17
    facts = found(tmp_path, holdout=0.25)[2].facts
    assert facts["held out"] == f"{len(test)} of 40 pictures, chosen by their names"


def test_holdout_leaves_the_classes_as_they_are(tmp_path):
    fill(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)))
    dataset = found(tmp_path, holdout=0.25)[0]
    assert dataset.part("train") == dataset
    assert dataset.part("test").outline().classes == dataset.outline().classes == ("cat", "dog")


@pytest.mark.parametrize("added", ["cover.png", "other/1.png", "set/cat/99.png"])
def test_holdout_stays_when_pictures_are_added(tmp_path, added):
    fill(tmp_path, *(f"set/{name}/{number}.png" for name in ("cat", "dog") for number in range(40)))
    before = held_out_names(tmp_path, holdout=0.25)
    fill(tmp_path, added)
    after = held_out_names(tmp_path, holdout=0.25)
    assert [part - {added} for part in after] == before


@pytest.mark.parametrize("count", range(2, 6))
def test_holdout_of_few_pictures_is_at_least_one_and_not_all(tmp_path, count):
    fill(tmp_path, *(f"{number}.png" for number in range(count)))
    for share in (1e-9, 0.1, 0.5):
        train, test = held_out_names(tmp_path, holdout=share)
        assert train
        assert test


def test_held_out_part_that_is_missing_is_an_error(tmp_path):
    fill(tmp_path, "1.png")
    assert found(tmp_path)[0].part("test") is None
    assert "has no held-out part: it has no folders such as train" in failure(tmp_path, split="test")
    assert "1 picture, of which none can be held out" in failure(tmp_path, split="test", holdout=0.1)


@pytest.mark.parametrize(("labeled", "split"), [("train/1.png", "test"), ("test/1.png", "train")])
def test_part_without_labels_is_an_error(tmp_path, labeled, split):
    fill(tmp_path, "train/1.png", "test/1.png")
    (tmp_path / "labels.csv").write_text(f"{labeled},a\n")
    what = {"train": "pictures to train on", "test": "held-out pictures"}[split]
    assert f"none of the {what} in" in failure(tmp_path, split=split, labels="labels.csv")


def test_holdout_of_split_folders_is_an_error(tmp_path):
    fill(tmp_path, "train/1.png", "test/1.png")
    assert "has the split folders test, train, and holdout = 0.1" in failure(tmp_path, holdout=0.1)


@pytest.mark.parametrize("packed", [False, True])
def test_label_file_gives_classes(tmp_path, packed):
    fill(tmp_path / "in", "1.png", "2.png", "10.png", "deep/3.png")
    (tmp_path / "in" / "labels.csv").write_text("file,class\n1.png,b10\n2.png,b9\n10.png,b10\ngone.png,b9\n")
    place = Path(shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path / "in")) if packed else tmp_path / "in"
    dataset, outline, findings = found(place)
    assert (dataset.labels, dataset.classes) == ("labels.csv", False)
    assert outline == Outline(3, (3, 16, 16), ("b9", "b10"))
    assert [label for _, label in dataset.build(tmp_path / "root")] == [1, 0, 1]
    assert findings.facts["labels"] == "labels.csv: 2 classes, after the header 'file,class'"
    assert findings.skipped == {"without a label in labels.csv": ["deep/3.png"]}
    assert findings.notes == ["labels.csv has labels for a picture that is not there: gone.png"]
    without = dataset.model_copy(update={"labels": None})
    assert outline_of(without) == Outline(4, (3, 16, 16))
    assert findings_of(without).notes == [
        "labels.csv is not used; to train on its labels: --set dataset.labels=labels.csv"
    ]


def test_labels_of_an_ambiguous_name_ask_for_the_path(tmp_path):
    fill(tmp_path / "in", "a/1.png", "b/1.png", "c/2.png")
    (tmp_path / "in" / "labels.csv").write_text("1.png,x\n2.png,y\n")
    component = Folder(path=str(tmp_path / "in"), size=4, labels="labels.csv")
    assert findings_of(component).notes == [
        "1.png is the name of several pictures (a/1.png; b/1.png): write the path in labels.csv"
    ]


def test_labels_of_stylegan_keep_their_numbers(tmp_path):
    fill(tmp_path, "00000/img1.png", "00000/img2.png")
    labels = {"labels": [["00000/img1.png", 3], ["00000/img2.png", 1]]}
    (tmp_path / "dataset.json").write_text(json.dumps(labels))
    dataset, outline, findings = found(tmp_path)
    assert outline.classes == ("0", "1", "2", "3")
    assert findings.notes == ["2 class numbers have no picture in dataset.json"]
    assert [label for _, label in dataset.build(tmp_path / "root")] == [3, 1]
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    dataset, outline, findings = found(tmp_path)
    assert (dataset.labels, outline.classes) == (None, ())
    assert 'its "labels" are null' in findings.notes[0]


def test_labels_of_numbers_are_vectors(tmp_path):
    fill(tmp_path / "in", "1.png", "2.png")
    (tmp_path / "in" / "labels.csv").write_text("1.png;0.5;-1\n2.png;2;1e3\n")
    dataset, outline, findings = found(tmp_path / "in")
    assert outline.classes == ()
    built = dataset.build(tmp_path / "root")
    assert not hasattr(built, "classes")
    assert torch.equal(built[0][1], torch.tensor([0.5, -1.0]))
    assert torch.equal(built[1][1], torch.tensor([2.0, 1000.0]))
    assert findings.facts["labels"] == "labels.csv: vectors of 2 numbers"


def test_label_file_that_is_not_understood_is_not_chosen_and_this_is_noted(tmp_path):
    fill(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text("1.png,a\n2.png\n")
    dataset, _, findings = found(tmp_path)
    assert dataset.labels is None
    assert "labels.csv is not used: line 2 of" in findings.notes[0]
    assert "line 2 of" in failure(tmp_path, labels="labels.csv")


def test_classes_and_labels_exclude_each_other():
    with pytest.raises(ValidationError, match="leave out classes or labels"):
        Folder(path="x", classes=True, labels="labels.csv")


@pytest.mark.parametrize("fields", [{"path": "p\udcff"}, {"path": "p", "labels": "l\udcff"}])
def test_path_that_is_not_text_is_refused_as_a_setting(fields):
    with pytest.raises(ValidationError, match="is not UTF-8, so a config cannot hold it"):
        Folder(**fields)
