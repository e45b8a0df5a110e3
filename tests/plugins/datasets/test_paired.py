import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.contracts import Outline
from gancore.data.feed import Feed
from gancore.errors import DataError
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.datasets.paired import Paired

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)


def paint(path, color=RED, size=(8, 8), mode="RGB"):
    """Save a picture of one color, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def double(path, left=RED, right=BLUE, size=(16, 8)):
    """Save a picture with one color in each half."""
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def opened(folder, root, **fields):
    return Paired(**{"path": str(folder), "size": 4, **fields}).build(root)


def failure(folder, root, **fields):
    with pytest.raises(DataError) as caught:
        opened(folder, root, **fields)
    assert caught.value.hint
    return caught.value.message


def color(image):
    """The color of an image (C, H, W) that has only one."""
    assert torch.equal(image, image[:, :1, :1].expand_as(image))
    return tuple(image[:, 0, 0].tolist())


@given(
    names=st.sets(st.sampled_from(["1", "2", "a/1", "a/2", "b/deep/1", "c.d"]), min_size=1),
    suffixes=st.tuples(*[st.sampled_from([".png", ".bmp", ".PNG"])] * 2),
    size=st.integers(1, 9),
    channels=st.tuples(*[st.sampled_from([1, 3, 4])] * 2),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
)
@settings(max_examples=25)
def test_paired_items_are_what_folder_reads_of_both_pictures(tmp_path_factory, names, suffixes, size, channels, fit):
    folder, root = tmp_path_factory.mktemp("pairs"), tmp_path_factory.mktemp("root")
    draw = np.random.default_rng(len(names))
    for name in names:
        for place, suffix in zip(("targets", "inputs"), suffixes, strict=True):
            path = folder / place / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (7, 9, 3), np.uint8)).save(path)
    dataset = opened(folder, root, size=size, channels=channels[0], input_channels=channels[1], fit=fit)
    expected = [
        Folder(path=str(folder / place), size=size, channels=count, fit=fit).build(root)
        for place, count in zip(("targets", "inputs"), channels, strict=True)
    ]
    assert len(dataset) == len(names)
    for item, target, given_ in zip(dataset, *expected, strict=True):
        assert torch.equal(item[0], target)
        assert torch.equal(item[1], given_)
    feed = Feed(dataset, batch_size=1, seed=0, device=torch.device("cpu"))
    assert feed.shape == (channels[0], size, size)
    assert feed.condition == (channels[1], size, size)


@pytest.mark.parametrize(("half", "target", "given_"), [("left", BLUE, RED), ("right", RED, BLUE)])
def test_paired_side_by_side_splits_each_picture(tmp_path, half, target, given_):
    double(tmp_path / "in" / "1.png")
    double(tmp_path / "in" / "deep" / "2.png", left=GREEN)
    dataset = opened(tmp_path / "in", tmp_path / "root", side_by_side=half)
    assert len(dataset) == 2
    assert tuple(map(color, dataset[0])) == (target, given_)
    assert GREEN in map(color, dataset[1])


def test_paired_side_by_side_names_pictures_of_odd_width(tmp_path):
    double(tmp_path / "in" / "1.png")
    double(tmp_path / "in" / "2.png", size=(7, 8))
    message = failure(tmp_path / "in", tmp_path / "root", side_by_side="left")
    assert f"1 of 2 pictures in {tmp_path / 'in'} cannot be read: 2.png: its width, 7 pixels, is odd" in message


def test_paired_folders_may_be_anywhere(tmp_path):
    paint(tmp_path / "edges" / "1.png", BLUE)
    paint(tmp_path / "far" / "photographs" / "1.png", RED)
    places = {"inputs": "edges", "targets": str(tmp_path / "far" / "photographs")}
    assert tuple(map(color, opened(tmp_path, tmp_path / "root", **places)[0])) == (RED, BLUE)


def test_paired_input_channels_are_those_of_the_targets_by_default(tmp_path):
    paint(tmp_path / "in" / "inputs" / "1.png")
    paint(tmp_path / "in" / "targets" / "1.png")
    assert [len(image) for image in opened(tmp_path / "in", tmp_path / "root", channels=1)[0]] == [1, 1]


def zipped(folder):
    return shutil.make_archive(str(folder), "zip", folder)


def test_paired_side_by_side_reads_an_archive(tmp_path):
    double(tmp_path / "in" / "1.png")
    dataset = opened(zipped(tmp_path / "in"), tmp_path / "root", side_by_side="left")
    assert [tuple(map(color, item)) for item in dataset] == [(BLUE, RED)]


def test_paired_reads_archives_of_inputs_and_targets(tmp_path):
    for place, shade in (("inputs", RED), ("targets", BLUE)):
        paint(tmp_path / place / "1.png", shade)
        zipped(tmp_path / place)
    dataset = opened(tmp_path, tmp_path / "root", inputs="inputs.zip", targets="targets.zip")
    assert [tuple(map(color, item)) for item in dataset] == [(BLUE, RED)]


def test_paired_of_one_archive_with_two_folders_asks_to_unpack_it(tmp_path):
    for place in ("inputs", "targets"):
        paint(tmp_path / "in" / place / "1.png")
    path = zipped(tmp_path / "in")
    assert failure(path, tmp_path / "root") == f"{path} is a file, and pairs are read from two folders"


@pytest.mark.parametrize("side_by_side", [None, "left"])
def test_paired_says_how_many_pairs_there_are(tmp_path, side_by_side):
    for number in range(3):
        double(tmp_path / "in" / "inputs" / f"{number}.png")
        double(tmp_path / "in" / "targets" / f"{number}.png")
    component = Paired(path=str(tmp_path / "in"), size=4, channels=1, side_by_side=side_by_side)
    assert component.outline() == Outline(6 if side_by_side else 3, (1, 4, 4))


def test_findings_of_pairs_name_every_picture_and_its_use(tmp_path):
    for number in range(4):
        paint(tmp_path / "in" / "inputs" / f"{number}.png")
        paint(tmp_path / "in" / "targets" / f"{number}.bmp", size=(9, 9))
    (tmp_path / "in" / "inputs" / "1.png").write_bytes(b"")
    (tmp_path / "in" / "targets" / "notes.txt").write_text("notes")
    component = Paired(path=str(tmp_path / "in"), size=4, on_error="skip")
    assert sum(map(len, component.findings(tmp_path / "root").used.values())) == 8
    assert len(component.build(tmp_path / "root")) == 3
    findings = component.findings(tmp_path / "root")
    assert findings.used == {
        "BMP": ["targets/0.bmp", "targets/2.bmp", "targets/3.bmp"],
        "PNG": ["inputs/0.png", "inputs/2.png", "inputs/3.png"],
    }
    assert findings.skipped == {
        ".txt (no picture)": ["targets/notes.txt"],
        "without a readable partner": ["targets/1.bmp"],
        "unreadable (empty)": ["inputs/1.png"],
    }
    assert findings.facts["sizes of targets"].startswith("all 9x9")
    assert findings.facts["sizes of inputs"].startswith("all 8x8")


def test_findings_of_pairs_side_by_side_name_each_picture_once(tmp_path):
    double(tmp_path / "in" / "1.png")
    double(tmp_path / "in" / "2.png", size=(7, 8))
    component = Paired(path=str(tmp_path / "in"), size=4, side_by_side="left", on_error="skip")
    component.build(tmp_path / "root")
    findings = component.findings(tmp_path / "root")
    assert findings.used == {"PNG": ["1.png"]}
    assert findings.skipped == {"unreadable (damaged)": ["2.png"]}
    assert findings.facts["sizes"].startswith("all 16x8")


def test_paired_names_every_picture_without_a_partner(tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        paint(tmp_path / "in" / "inputs" / name)
    for name in ("2.png", "deep/1.png"):
        paint(tmp_path / "in" / "targets" / name)
    message = failure(tmp_path / "in", tmp_path / "root")
    inputs, targets = tmp_path / "in" / "inputs", tmp_path / "in" / "targets"
    assert f"1 of 2 in {targets} have no partner in {inputs}: deep/1.png" in message
    assert f"2 of 3 in {inputs} have no partner in {targets}: 1.png; 3.png" in message
    assert not (tmp_path / "root").exists()  # nothing was decoded


def test_paired_refuses_names_that_differ_only_in_the_suffix(tmp_path):
    for place in ("inputs", "targets"):
        paint(tmp_path / "in" / place / "1.png")
    paint(tmp_path / "in" / "inputs" / "1.bmp")
    assert "1.bmp and 1.png in" in failure(tmp_path / "in", tmp_path / "root")


@pytest.mark.parametrize("absent", ["inputs", "targets"])
def test_paired_without_a_folder_is_an_error(tmp_path, absent):
    paint(tmp_path / "in" / ({"inputs", "targets"} - {absent}).pop() / "1.png")
    assert f"folder {tmp_path / 'in' / absent} does not exist" in failure(tmp_path / "in", tmp_path / "root")
    (tmp_path / "in" / absent).mkdir()
    assert f"no pictures in {tmp_path / 'in' / absent}" in failure(tmp_path / "in", tmp_path / "root")


def test_paired_names_a_picture_that_cannot_be_read(tmp_path):
    paint(tmp_path / "in" / "targets" / "1.png")
    bad = tmp_path / "in" / "inputs" / "1.png"
    bad.parent.mkdir()
    bad.write_bytes(b"no picture")
    assert str(bad) in failure(tmp_path / "in", tmp_path / "root")


def test_paired_decodes_once_and_reports_progress(tmp_path, monkeypatch):
    for name in ("1.png", "2.png"):
        paint(tmp_path / "in" / "inputs" / name)
        paint(tmp_path / "in" / "targets" / name, BLUE)
    component = Paired(path=str(tmp_path / "in"), size=4, bits=8)
    assert list(component.prepare(tmp_path / "root")) == [0.25, 0.5, 0.75, 1.0]
    monkeypatch.setattr(Image, "open", None)
    assert list(component.prepare(tmp_path / "root")) == []
    assert len(component.build(tmp_path / "root")) == 2


def test_paired_halves_have_caches_of_their_own(tmp_path):
    double(tmp_path / "in" / "1.png")
    opened(tmp_path / "in", tmp_path / "root", side_by_side="left")
    whole = Folder(path=str(tmp_path / "in"), size=4, fit="stretch").build(tmp_path / "root")
    assert torch.equal(whole[0][:, 0, 0], torch.tensor(RED, dtype=torch.uint8))
    assert torch.equal(whole[0][:, 0, 3], torch.tensor(BLUE, dtype=torch.uint8))
    assert len(list((tmp_path / "root" / "folders").glob("*.npy"))) == 3


def test_paired_pickles_paths_and_not_the_pixels(tmp_path):
    for place in ("inputs", "targets"):
        paint(Path(tmp_path / "in" / place / "1.png"))
    dataset = opened(tmp_path / "in", tmp_path / "root", size=256)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 5000
    again = pickle.loads(pickled)  # noqa: S301  # pickled two lines above
    assert all(torch.equal(*pair) for pair in zip(again[0], dataset[0], strict=True))
