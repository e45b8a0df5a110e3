import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.contracts import DataError
from gancore.data.feed import Feed
from gancore_plugins.datasets import picture_cache
from gancore_plugins.datasets.decoding import PictureFormat
from gancore_plugins.datasets.folder import Folder
from gancore_plugins.datasets.paired import Paired
from gancore_plugins.datasets.picture_cache import PictureCache
from gancore_plugins.readers.picture_files import FolderFiles, picture_files
from helpers.deep_pictures import png16

FORMAT = PictureFormat((4, 4), 3, "crop", 10**6)


@dataclass(frozen=True)
class CountedFiles(FolderFiles):
    """A folder that notes which pictures are opened."""

    opened: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, name):
        self.opened.append(name)
        with FolderFiles.open(self, name) as file:
            yield file


def paint(path, color, size=(8, 8)):
    """Save a picture of one color, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


def cache_of(folder, root, form=FORMAT):
    return PictureCache.in_folder(root, CountedFiles(folder, picture_files(folder).names), form)


def built(folder, root, form=FORMAT):
    """Build the cache of a folder; return its array, which pictures were decoded, and its index."""
    cache = cache_of(folder, root, form)
    list(cache.build())
    decoded = list(dict.fromkeys(cache.files.opened))
    return np.load(cache.path), decoded, cache.index()


def failure(folder, root, **fields):
    with pytest.raises(DataError) as caught:
        Folder(path=str(folder), size=4, **fields).build(root)
    return caught.value


@given(data=st.data())
@settings(max_examples=30)
def test_cache_decodes_only_what_it_does_not_hold(tmp_path_factory, data):
    folder, root = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("root")
    names = [f"{number}.png" for number in range(6)]
    contents, held = {}, {}
    for step in range(data.draw(st.integers(2, 4))):
        for name in names:
            change = data.draw(st.sampled_from(["none", "good", "broken", "remove"]))
            if change == "remove":
                (folder / name).unlink(missing_ok=True)
                contents.pop(name, None)
            elif change != "none":
                color = None if change == "broken" else (step, 10 * int(name[0]), 7)
                paint(folder / name, color or 0)
                if color is None:
                    (folder / name).write_bytes(b"broken")
                later = 10**18 + 10**9 * step
                os.utime(folder / name, ns=(later, later))
                contents[name] = step, color
        if not contents:
            continue
        array, decoded, index = built(folder, root)
        known = {name for name, content in contents.items() if held.get((name, content))}
        assert set(decoded) == set(contents) - known
        for row, name in enumerate(sorted(contents)):
            color = contents[name][1]
            assert index.decoded[row] == (color is not None)
            assert (row in index.reasons) == (color is None)
            if color is not None:
                assert (array[row] == np.reshape(color, (3, 1, 1))).all()
                held[name, contents[name]] = True


def test_cache_of_another_format_or_folder_takes_nothing_over(tmp_path):
    for place in ("a", "b"):
        paint(tmp_path / place / "1.png", "red")
    built(tmp_path / "a", tmp_path / "root")
    assert built(tmp_path / "b", tmp_path / "root")[1] == ["1.png"]
    for fields in ({"size": (4, 5)}, {"channels": 1}, {"fit": "pad"}, {"bits": 16}, {"half": "left"}):
        form = PictureFormat(**{**FORMAT.__dict__, **fields})
        assert built(tmp_path / "a", tmp_path / "root", form)[1] == ["1.png"]
    assert built(tmp_path / "a", tmp_path / "root")[1] == []


def test_cache_keeps_what_was_decoded_before_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache, "_CHUNK", 2)
    for number in range(8):
        paint(tmp_path / "in" / f"{number}.png", (number, 0, 0))
    running = cache_of(tmp_path / "in", tmp_path / "root").build()
    for _ in range(3):
        next(running)
    running.close()  # as Ctrl-C does
    array, decoded, _ = built(tmp_path / "in", tmp_path / "root")
    assert set(decoded) == {f"{number}.png" for number in range(3, 8)}
    assert array[:, 0, 0, 0].tolist() == list(range(8))


@pytest.mark.parametrize("victim", [".npy", ".npz"])
@pytest.mark.parametrize("keep", [0, 60, -1, None])
def test_cache_with_a_damaged_or_missing_file_is_made_again(tmp_path, victim, keep):
    paint(tmp_path / "in" / "1.png", "red")
    built(tmp_path / "in", tmp_path / "root")
    (path,) = (tmp_path / "root").glob(f"*{victim}")
    if keep is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:keep])
    array, decoded, index = built(tmp_path / "in", tmp_path / "root")
    assert decoded == ["1.png"]
    assert (array[0, 0] == 255).all()
    assert index.decoded.all()


def test_cache_of_a_killed_process_is_completed_by_the_next(tmp_path):
    for number in range(300):
        paint(tmp_path / "in" / f"{number:03}.png", (number % 256, 0, 0), (200, 200))
    program = (
        "import sys, os; from pathlib import Path\n"
        "from gancore_plugins.datasets.folder import Folder\n"
        "for done in Folder(path=sys.argv[1], size=4).prepare(Path(sys.argv[2])):\n"
        "    if done > 0.5: print('half', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "in", tmp_path / "root"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    dataset = Folder(path=str(tmp_path / "in"), size=4).build(tmp_path / "root")
    assert [int(image[0, 0, 0]) for image in dataset] == [number % 256 for number in range(300)]
    names = {path.name for path in (tmp_path / "root" / "folders").iterdir()}
    assert {name[-4:] for name in names if not name.startswith(".")} == {".npy", ".npz"}


def test_error_lists_unreadable_pictures_with_reasons(tmp_path):
    for number in range(30):
        paint(tmp_path / "in" / f"good{number:02}.png", "red")
    (tmp_path / "in" / "a.png").write_bytes(b"")
    (tmp_path / "in" / "b.jpg").write_bytes(b"<html>")
    error = failure(tmp_path / "in", tmp_path / "root")
    assert error.message.startswith(f"2 of 32 pictures in {tmp_path / 'in'} cannot be read: a.png is empty; b.jpg has ")
    assert "--set dataset.on_error=skip" in error.hint
    assert "--json" not in error.message
    for number in range(23):
        (tmp_path / "in" / f"c{number:02}.png").write_bytes(b"")
    message = failure(tmp_path / "in", tmp_path / "root").message
    assert message.startswith("25 of 55 pictures")
    assert message.count(" is empty") == 19
    assert message.endswith(f"and 5 more (gancore data {tmp_path / 'in'} --json lists all)")


@pytest.fixture
def damaged(tmp_path):
    """A folder with two classes, in each of which a picture cannot be read, and the dataset that skips those."""
    for name, color in (("cat/1", (1, 1, 1)), ("cat/3", (3, 3, 3)), ("dog/1", (4, 4, 4))):
        paint(tmp_path / "in" / f"{name}.png", color)
    for name in ("cat/2", "dog/0"):
        (tmp_path / "in" / f"{name}.png").write_bytes(b"")
    return Folder(path=str(tmp_path / "in"), size=4, classes=True, on_error="skip")


def test_folder_leaves_out_unreadable_pictures_when_asked_to(tmp_path, damaged):
    assert list(damaged.prepare(tmp_path / "root"))[-1] == 1.0
    dataset = damaged.build(tmp_path / "root")
    assert dataset.classes == ("cat", "dog")
    assert [(int(image[0, 0, 0]), label) for image, label in dataset] == [(1, 0), (3, 0), (4, 1)]


def test_folder_stops_at_the_same_pictures_without_skip(tmp_path, damaged):
    damaged.build(tmp_path / "root")
    assert "on_error=skip" in failure(tmp_path / "in", tmp_path / "root").hint


def test_folder_does_not_leave_out_a_whole_class(tmp_path, damaged):
    paint(tmp_path / "in" / "ant" / "1.png", 0).write_bytes(b"")
    with pytest.raises(DataError, match="no picture of class ant"):
        damaged.build(tmp_path / "root")


def test_findings_list_unreadable_pictures_apart_from_the_others(tmp_path, damaged):
    damaged.build(tmp_path / "root")
    findings = damaged.findings(tmp_path / "root")
    assert findings.used == {"PNG": ["cat/1.png", "cat/3.png", "dog/1.png"]}
    assert findings.skipped == {"unreadable (empty)": ["cat/2.png", "dog/0.png"]}


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_folder_in_which_no_picture_can_be_read_is_an_error(tmp_path, on_error):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(b"")
    assert "can be read: 1.png is empty" in failure(tmp_path / "in", tmp_path / "root", on_error=on_error).message


def test_folder_tries_pictures_again_that_could_not_be_read(tmp_path):
    path = paint(tmp_path / "in" / "1.png", (5, 5, 5))
    paint(tmp_path / "in" / "2.png", (6, 6, 6))
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(bytes(len(content)))  # as a picture that cannot be reached for a moment: same time and size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    failure(tmp_path / "in", tmp_path / "root")
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    dataset = Folder(path=str(tmp_path / "in"), size=4).build(tmp_path / "root")
    assert [int(image[0, 0, 0]) for image in dataset] == [5, 6]


def test_paired_leaves_out_pairs_with_an_unreadable_picture(tmp_path):
    for number in range(4):
        for place in ("inputs", "targets"):
            paint(tmp_path / "in" / place / f"{number}.png", (number, 0, 0))
    (tmp_path / "in" / "inputs" / "1.png").write_bytes(b"")
    (tmp_path / "in" / "targets" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 8 pictures in .*targets and .*inputs cannot be read: .*2\.png.*1\.png"):
        Paired(path=str(tmp_path / "in"), size=4).build(tmp_path / "root")
    dataset = Paired(path=str(tmp_path / "in"), size=4, on_error="skip").build(tmp_path / "root")
    assert [(int(target[0, 0, 0]), int(given_[0, 0, 0])) for target, given_ in dataset] == [(0, 0), (3, 3)]


def test_findings_of_a_folder_report_formats_sizes_and_transparency(tmp_path):
    paint(tmp_path / "in" / "1.png", "red", (9, 7))
    paint(tmp_path / "in" / "2.png", "red", (20, 10)).rename(tmp_path / "in" / "2.jpg")
    paint(tmp_path / "in" / "3.jpg", "red", (30, 10))
    Image.new("RGBA", (10, 10), (1, 2, 3, 4)).save(tmp_path / "in" / "4.png")
    Image.new("RGBA", (10, 10), (1, 2, 3, 255)).save(tmp_path / "in" / "5.png")
    component = Folder(path=str(tmp_path / "in"), size=(4, 6))
    assert component.findings(tmp_path / "root").used == {"pictures": ["1.png", "2.jpg", "3.jpg", "4.png", "5.png"]}
    list(component.prepare(tmp_path / "root"))
    findings = component.findings(tmp_path / "root")
    assert findings.used == {"PNG": ["1.png", "2.jpg", "4.png", "5.png"], "JPEG": ["3.jpg"]}
    assert findings.facts["sizes"] == "9x7 to 30x10, median 10x10 (width x height); 6x4 after decoding"
    assert findings.facts["transparency"] == "1 of 5, placed on white"
    (note,) = findings.notes
    assert note.startswith("31% of a picture is cut off on average, since pictures have other proportions than 6x4")


@pytest.mark.parametrize(
    ("sizes", "fit", "cut"),
    [
        ([(12, 9)], "crop", "25%"),
        ([(9, 12), (9, 9)], "crop", None),
        ([(20, 10), (10, 20)], "crop", "50%"),
        ([(20, 10)], "pad", None),
    ],
)
def test_findings_note_how_much_cropping_cuts_off(tmp_path, sizes, fit, cut):
    for number, size in enumerate(sizes):
        paint(tmp_path / "in" / f"{number}.png", "red", size)
    component = Folder(path=str(tmp_path / "in"), size=4, fit=fit)
    list(component.prepare(tmp_path / "root"))
    notes = component.findings(tmp_path / "root").notes
    assert [note.partition(" ")[0] for note in notes] == ([] if cut is None else [cut])


def test_findings_say_the_size_of_a_photograph_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (30, 10)).save(tmp_path / "in" / "1.jpg", exif=exif)
    component = Folder(path=str(tmp_path / "in"), size=4)
    list(component.prepare(tmp_path / "root"))
    assert component.findings(tmp_path / "root").facts["sizes"].startswith("all 10x30")


@given(
    sides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.sampled_from([1, 3]),
    declared=st.sampled_from([None, (0.0, 65535.0)]),
)
@settings(max_examples=15)
def test_folder_of_16_bits_has_floats_in_a_range(tmp_path_factory, sides, channels, declared):
    folder, root = tmp_path_factory.mktemp("deep"), tmp_path_factory.mktemp("root")
    values = np.random.default_rng(0).integers(100, 3000, (3, channels, *sides), np.uint16)
    for number, pixels in enumerate(values):
        (folder / f"{number}.png").write_bytes(png16(pixels))
    dataset = Folder(path=str(folder), size=sides, channels=channels, value_range=declared).build(root)
    low, high = float(values.min()), float(values.max())
    assert dataset.value_range == (declared or (low, max(high, low + 1)))
    for image, pixels in zip(dataset, values, strict=True):
        assert image.dtype == torch.float32
        assert torch.equal(image, torch.from_numpy(pixels.astype(np.float32)))
    feed = Feed(dataset, batch_size=3, seed=0, device=torch.device("cpu"))
    batch = next(feed.batches(0)).images
    assert batch.abs().max() <= 1 + 1e-6
    stored = feed.format.to_stored(batch)
    assert (stored.sum() - float(values.sum())).abs() <= 1e-3 * values.sum() + 1


@pytest.mark.parametrize("declared", [None, (0.0, 65535.0)])
@pytest.mark.parametrize("test_bits", [8, 16])
def test_held_out_part_has_the_bits_and_range_of_the_training_part(tmp_path, test_bits, declared):
    for place, values in (("train", [0, 60000]), ("test", [257, 514])):
        (tmp_path / "in" / place).mkdir(parents=True)
        for value in values:
            path = tmp_path / "in" / place / f"{value}.png"
            if place == "test" and test_bits == 8:
                Image.new("L", (4, 4), value // 257).save(path)
            else:
                path.write_bytes(png16(np.full((1, 4, 4), value, np.uint16)))
    component = Folder(path=str(tmp_path / "in"), size=4, channels=1, value_range=declared).part("test")
    progress = list(component.prepare(tmp_path / "root"))
    assert progress == sorted(progress)
    assert progress[-1] == 1
    dataset = component.build(tmp_path / "root")
    assert dataset.value_range == (declared or (0, 60000))
    assert [float(image[0, 0, 0]) for image in dataset] == [257, 514]
    assert component.findings(tmp_path / "root").facts["value range"] == ("0 to 65535" if declared else "0 to 60000")


def test_held_out_part_of_8_bits_training_has_8_bits(tmp_path):
    paint(tmp_path / "in" / "train" / "1.png", (1, 1, 1))
    (tmp_path / "in" / "test").mkdir()
    (tmp_path / "in" / "test" / "1.png").write_bytes(png16(np.full((3, 4, 4), 2570, np.uint16)))
    component = Folder(path=str(tmp_path / "in"), size=4).part("test")
    (image,) = component.build(tmp_path / "root")
    assert image.dtype == torch.uint8
    assert (image == 10).all()
    assert len(list((tmp_path / "root" / "folders").glob("*.npy"))) == 1  # the training part is not needed


def test_folder_says_which_pictures_are_scaled_to_its_bits(tmp_path):
    paint(tmp_path / "in" / "1.png", (9, 9, 9))
    (tmp_path / "in" / "2.png").write_bytes(png16(np.full((3, 8, 8), 2570, np.uint16)))
    for bits, values in ((8, [9, 10]), (16, [9 * 257, 2570]), (None, [9 * 257, 2570])):
        component = Folder(path=str(tmp_path / "in"), size=4, bits=bits)
        dataset = component.build(tmp_path / "root")
        assert [int(image[0, 0, 0]) for image in dataset] == values
        findings = component.findings(tmp_path / "root")
        assert findings.facts["bits"].startswith("8; 1 of 2" if bits == 8 else "16; 1 of 2 have 8")
        assert ("--set dataset.bits=16" in " ".join(findings.notes)) == (bits == 8)
        assert findings.facts.get("value range") == (None if bits == 8 else "2313 to 2570")


@pytest.mark.parametrize(
    ("deep", "fields", "noted"),
    [(1, {}, True), (2, {}, False), (3, {}, False), (1, {"bits": 16}, False), (1, {"value_range": (0, 9999)}, False)],
)
def test_folder_notes_few_pictures_that_set_the_bits_of_all(tmp_path, deep, fields, noted):
    (tmp_path / "in").mkdir()
    for number in range(deep):
        (tmp_path / "in" / f"deep{number}.png").write_bytes(png16(np.full((3, 8, 8), 2570, np.uint16)))
    for number in range(3 - deep):
        paint(tmp_path / "in" / f"{number}.png", (9, 9, 9))
    component = Folder(path=str(tmp_path / "in"), size=4, **fields)
    component.build(tmp_path / "root")
    notes = " ".join(component.findings(tmp_path / "root").notes)
    said = "1 of 3 pictures has more than 8 bits per channel, so all are stored with 16: --set dataset.bits=8"
    assert (said in notes) == noted
    assert ("dataset.bits=8" in notes) == noted


def test_folder_refuses_a_value_range_for_pictures_with_8_bits(tmp_path):
    paint(tmp_path / "in" / "1.png", "red")
    error = failure(tmp_path / "in", tmp_path / "root", value_range=(0, 65535))
    assert "those in" in error.message
    assert "dataset.bits=16" in error.hint


def test_paired_with_16_bits_has_inputs_that_networks_see(tmp_path):
    for place in ("inputs", "targets"):
        (tmp_path / "in" / place).mkdir(parents=True)
        (tmp_path / "in" / place / "1.png").write_bytes(png16(np.full((1, 4, 4), 13107, np.uint16)))
    dataset = Paired(path=str(tmp_path / "in"), size=4, channels=1).build(tmp_path / "root")
    target, given_ = dataset[0]
    assert (target == 13107).all()
    assert torch.allclose(given_, torch.tensor(-0.6))
    assert dataset.value_range == (13107, 13108)
    declared = Paired(path=str(tmp_path / "in"), size=4, channels=1, value_range=(0, 26214)).build(tmp_path / "root")
    assert torch.allclose(declared[0][1], torch.tensor(0.0))


@pytest.mark.parametrize(("highest", "noted"), [((4094, 1000), True), ((1000, 60000), False), ((60000, 1000), False)])
@pytest.mark.parametrize("side_by_side", [None, "left"])
def test_paired_notes_inputs_in_a_small_part_of_16_bits(tmp_path, highest, noted, side_by_side):
    for place, value in zip(("inputs", "targets"), highest, strict=True):
        (tmp_path / "in" / place).mkdir(parents=True)
        (tmp_path / "in" / place / "1.png").write_bytes(png16(np.full((1, 4, 4), value, np.uint16)))
    component = Paired(path=str(tmp_path / "in"), size=4, channels=1, side_by_side=side_by_side)
    component.build(tmp_path / "root")
    findings = component.findings(tmp_path / "root")
    assert any("--set 'dataset.value_range=[1000, 409" in note for note in findings.notes) == noted
    assert side_by_side or findings.facts["value range of inputs"] == "0 to 65535"
    declared = component.model_copy(update={"value_range": (1000, 4095)})
    assert not declared.findings(tmp_path / "root").notes


def paired(folder, **fields):
    """Pairs of an input with 16 bits, of 1000 and 3000, and a red target with 8, in this folder."""
    paint(folder / "targets" / "1.png", "red")
    (folder / "inputs").mkdir()
    values = np.repeat([1000, 3000], 32).astype(np.uint16).reshape(1, 8, 8)
    (folder / "inputs" / "1.png").write_bytes(png16(values))
    return Paired(path=str(folder), size=8, input_channels=1, **fields)


def test_paired_range_of_inputs_may_be_set_with_targets_of_8_bits(tmp_path):
    dataset = paired(tmp_path / "in", value_range=(0, 4000)).build(tmp_path / "root")
    target, given_ = dataset[0]
    assert target.dtype == torch.uint8
    assert not hasattr(dataset, "value_range")
    torch.testing.assert_close(given_.unique(), torch.tensor([-0.5, 0.5]))


def test_paired_notes_inputs_in_a_small_part_of_16_bits_with_targets_of_8(tmp_path):
    component = paired(tmp_path / "in")
    component.build(tmp_path / "root")
    (note,) = component.findings(tmp_path / "root").notes
    assert "--set 'dataset.value_range=[1000, 3000]'" in note


def test_paired_refuses_a_value_range_for_inputs_with_8_bits(tmp_path):
    paint(tmp_path / "in" / "inputs" / "1.png", "red")
    (tmp_path / "in" / "targets").mkdir()
    (tmp_path / "in" / "targets" / "1.png").write_bytes(png16(np.full((3, 8, 8), 2570, np.uint16)))
    with pytest.raises(DataError, match=r"inputs have 16 bits; those in .*inputs have 8") as caught:
        Paired(path=str(tmp_path / "in"), size=8, value_range=(0, 4095)).build(tmp_path / "root")
    assert caught.value.hint.startswith("remove dataset.value_range")
    assert Paired(path=str(tmp_path / "in"), size=8).build(tmp_path / "root").value_range == (2570, 2571)


def test_cache_takes_over_rows_of_several_earlier_arrays(tmp_path):
    for number in range(5):
        paint(tmp_path / "all" / f"{number}.png", (number, 0, 0))
    for numbers in ((0, 1), (2, 3), (0, 1, 2, 3, 4)):
        names = [f"{number}.png" for number in numbers]
        cache = PictureCache.in_folder(tmp_path / "root", CountedFiles(tmp_path / "all", names), FORMAT)
        list(cache.build())
    assert set(cache.files.opened) == {"4.png"}
    assert np.load(cache.path)[:, 0, 0, 0].tolist() == list(range(5))


def test_cache_decodes_large_pictures_like_small_ones(tmp_path, monkeypatch):
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (8 + number, 9, 3), np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    expected = built(tmp_path / "in", tmp_path / "root")[0]
    monkeypatch.setattr(picture_cache, "_MOST_PIXELS_PER_THREAD", 90)
    array, _, index = built(tmp_path / "in", tmp_path / "again")
    assert np.array_equal(array, expected)
    assert index.rows["height"].tolist() == [8, 9, 10, 11, 12]


@dataclass(frozen=True)
class WatchedFiles(FolderFiles):
    """A folder that notes which threads open pictures."""

    threads: dict[str, set[threading.Thread]] = field(default_factory=dict)

    def open(self, name):
        self.threads.setdefault(name, set()).add(threading.current_thread())
        return super().open(name)


def test_cache_opens_large_files_in_one_thread(tmp_path):
    for name in ("large.png", "small.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    os.truncate(tmp_path / "large.png", (32 << 20) + 1)
    files = WatchedFiles(tmp_path, ["large.png", "small.png"])
    cache = PictureCache.in_folder(tmp_path / "root", files, replace(FORMAT, max_pixels=10**7))
    list(cache.build())
    assert cache.index().decoded.all()
    assert files.threads["large.png"] == {threading.main_thread()}
    assert threading.main_thread() not in files.threads["small.png"]


@given(
    data=st.data(),
    side=st.sampled_from([16, 20, 32, 50, 64, 100]),
    proportions=st.sampled_from([(1, 1), (3, 2), (2, 3), (4, 3), (16, 9), (2, 1), (1, 4), (9, 1)]),
)
@settings(max_examples=25)
def test_folder_of_equal_proportions_gets_a_rectangle(tmp_path_factory, data, side, proportions):
    folder = tmp_path_factory.mktemp("oblong")
    width, height = (side * part // min(proportions) for part in proportions)
    odd = data.draw(st.integers(0, 4))
    for number in range(20):
        Image.new("RGB", (side, side) if number < odd else (width, height)).save(folder / f"{number}.bmp")
    found = Folder.from_path(folder).sides
    smaller = next(size for size in (64, 48, 32, 28, 24, 16) if side >= size)
    exact = smaller * max(proportions) / min(proportions)
    if odd > 2 or exact > 4 * smaller or proportions == (1, 1):
        assert found == (smaller, smaller)
        return
    assert (found[0] > found[1]) == (height > width)
    assert min(found) == smaller
    assert max(found) == pytest.approx(exact, rel=0.07)
    assert max(found) % {28: 4, 24: 4, 48: 8}.get(smaller, smaller // 4) == 0


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff"])
def test_folder_of_rotated_photographs_gets_their_upright_size(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (96, 64)).save(tmp_path / "in" / f"1.{suffix}", exif=exif)
    component = Folder.from_path(tmp_path / "in")
    assert component.size == (96, 64)
    assert component.outline().original == (3, 96, 64)
