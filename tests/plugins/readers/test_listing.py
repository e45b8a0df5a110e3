import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.errors import DataError
from gancore_plugins.readers import listing as reasons
from gancore_plugins.readers.listing import empty_folders, list_folder, natural, sort_naturally, why_skipped

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_pictures_are_found_at_any_depth_and_in_natural_order(tmp_path):
    touch(tmp_path, "b10.png", "b2.png", "a/z.JPEG", "a/b/c.webp", "notes.txt", "010/1.png", "9/1.png")
    (tmp_path / "link.png").symlink_to("b2.png")
    found = list_folder(tmp_path)
    assert found.names == ["9/1.png", "010/1.png", "a/b/c.webp", "a/z.JPEG", "b2.png", "b10.png", "link.png"]
    assert found.skipped == {".txt (no picture)": ["notes.txt"]}
    assert found.folders == ["9/", "010/", "a/", "a/b/"]


@given(st.lists(st.lists(st.one_of(st.integers(0, 10**12), st.text("ab-é/")), max_size=5)))
def test_natural_order_compares_numbers_as_numbers(rows):
    """The reference splits names into texts and numbers, and puts a number where the digit 0 would be."""
    names = ["".join(map(str, row)) for row in rows]

    def reference(name):
        pieces = reasons._NUMBER.split(name.replace("/", "\0"))
        numbers = [int(number) for number in reasons._NUMBER.findall(name)] + [None]
        key = []
        for piece, number in zip(pieces, numbers, strict=True):
            key += [(ord(letter), 0) for letter in piece]
            key += [] if number is None else [(ord("0"), number)]
        return key

    ordered = names.copy()
    sort_naturally(ordered)
    assert ordered == sorted(sorted(names), key=reference)
    assert sorted(names, key=natural) == sorted(names, key=reference)


@given(st.permutations(["1.png", "01.png", "001.png", "1/1.png", "01/1.png"]))
def test_natural_order_does_not_depend_on_the_order_before(names):
    sort_naturally(names)
    assert names == ["01/1.png", "1/1.png", "001.png", "01.png", "1.png"]


parts = st.text(st.sampled_from("a-é\udcff\U0001f600"), min_size=1, max_size=4)


@given(st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), max_size=12))
@settings(max_examples=50)
def test_pictures_are_each_listed_once_also_if_its_name_is_not_text(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("in")
    made = {"first.png"} | {f"{name}!.png" for name in names}
    touch(folder, *made)
    found = list_folder(folder).names
    assert sorted(found) == sorted(made)
    assert [Path(name).parts for name in found] == sorted(Path(name).parts for name in found)  # without numbers


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (reasons.HIDDEN, ".ipynb_checkpoints/1.png"),
        (reasons.HIDDEN, "cat/.git/deep/1.png"),
        (reasons.HIDDEN, "cat/.1.png"),
        (reasons.HIDDEN, ".DS_Store"),
        (reasons.FORKS, "__MACOSX/cat/1.png"),
        (reasons.FORKS, "cat/._1.png"),
        (reasons.THUMBNAILS, "@eaDir/1.png"),
        (reasons.THUMBNAILS, "cat/Thumbs.db"),
        (reasons.THUMBNAILS, ".thumbnails/1.png"),
        (reasons.SYSTEM, "desktop.ini"),
        (reasons.SYSTEM, "$RECYCLE.BIN/1.png"),
        ("other", "README"),
        ("other", "log.0001"),
        (".nef (no decoder)", "cat/1.NEF"),
        (".svg (no decoder)", "1.svg"),
        (".txt (no picture)", "labels.txt"),
    ],
)
def test_files_that_are_no_data_are_skipped_with_its_reason(tmp_path, reason, name):
    touch(tmp_path, "cat/good.png", name)
    found = list_folder(tmp_path)
    assert found.names == ["cat/good.png"]
    ((why, skipped),) = found.skipped.items()
    assert why == reason
    assert len(skipped) == 1
    assert name.startswith(skipped[0])


def test_names_that_only_resemble_skipped_ones_are_data():
    for name in ("a.b", "MACOSX", "thumb", "thumbs", "eaDir", "_1.png", "desktop"):
        assert why_skipped(name) is None


@pytest.mark.parametrize("place", ["", "runs/1/", "runs/1/samples/"])
def test_pictures_of_runs_are_no_data_unless_their_folder_is_named(tmp_path, place):
    touch(tmp_path, "1.png", "runs/1/config.toml", "runs/1/manifest.json", "runs/1/samples/2.png", "runs/config.toml")
    found = list_folder(tmp_path / place)
    assert found.names == {"": ["1.png"], "runs/1/": [], "runs/1/samples/": ["2.png"]}[place]
    assert found.skipped.get(reasons.RUNS, []) == {"": ["runs/1/"], "runs/1/": ["./"], "runs/1/samples/": []}[place]


def test_content_decides_where_the_suffix_does_not(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    content = (tmp_path / "picture.png").read_bytes()
    for name in ("none", "1.dat", "2.0001", "3.heic"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "BMW.dat").write_bytes(b"BM is how this text begins, and it is no picture")
    (tmp_path / "P5").write_bytes(b"P5 is a name")
    (tmp_path / "raw.dng").write_bytes(content)
    found = list_folder(tmp_path)
    assert found.names == ["1.dat", "2.0001", "3.heic", "none", "picture.png"]
    assert found.skipped == {
        ".dat (no picture)": ["BMW.dat"],
        ".dng (no decoder)": ["raw.dng"],
        "other": ["P5"],
    }


def test_links_to_folders_are_followed_once(tmp_path):
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    touch(data, "cat/1.png", "z/2.png")
    touch(elsewhere, "3.png", "deep/4.png")
    for link, target in {
        "dog": elsewhere,
        "dog again": elsewhere,
        "a link to cat": data / "cat",
        "cat/up": data,
        "above": tmp_path,
        "deep": elsewhere / "deep",
    }.items():
        (data / link).symlink_to(target)
    (elsewhere / "back").symlink_to(data)
    found = list_folder(data)
    assert found.names == ["cat/1.png", "deep/4.png", "dog/3.png", "z/2.png"]
    assert found.skipped == {
        reasons.AGAIN: ["a link to cat/", "above/", "cat/up/", "dog/back/", "dog/deep/", "dog again/"]
    }


@pipes
def test_pipes_and_broken_links_are_skipped_whatever_their_names(tmp_path):
    touch(tmp_path, "good.png", "folder.png/inside.png")
    os.mkfifo(tmp_path / "1.png")
    (tmp_path / "3.png").symlink_to("nowhere")
    (tmp_path / "4.png").symlink_to("4.png")
    found = list_folder(tmp_path)
    assert found.names == ["folder.png/inside.png", "good.png"]
    assert found.skipped == {reasons.SPECIAL: ["1.png"], reasons.BROKEN_LINKS: ["3.png", "4.png"]}


def test_deep_folders_are_searched(tmp_path):
    """Recursive walks fail, also that of pytest's cleanup, so the folders are removed here."""
    deep = [os.fspath(tmp_path)]
    for _ in range(1100):
        deep.append(f"{deep[-1]}/d")
        os.mkdir(deep[-1])
    try:
        Path(deep[-1], "a.png").touch()
        assert len(list_folder(tmp_path).names) == 1
    finally:
        os.unlink(f"{deep[-1]}/a.png")
        for folder in reversed(deep[1:]):
            os.rmdir(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look into everything")
def test_folder_without_permission_is_skipped_inside_and_an_error_at_the_top(tmp_path):
    touch(tmp_path, "good.png")
    (tmp_path / "closed").mkdir(mode=0)
    assert list_folder(tmp_path).skipped == {reasons.CLOSED: ["closed/"]}
    with pytest.raises(DataError, match=r"cannot read folder .*closed"):
        list_folder(tmp_path / "closed")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that fails when it is read")
def test_file_that_fails_is_not_called_one_without_permission(tmp_path):
    (tmp_path / "data").symlink_to("/proc/self/mem")
    (tmp_path / "data.png").symlink_to("/proc/self/mem")  # fails when it is decoded
    assert list_folder(tmp_path).skipped == {reasons.UNREADABLE: ["data"]}


def test_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"cannot read folder .*absent: No such file"):
        list_folder(tmp_path / "absent")


def test_empty_folders_are_those_without_pictures_at_any_depth():
    assert empty_folders(["a/", "a/b/", "c/", "c/d/", "e/"], ["a/b/1.png", "2.png"]) == ["c/", "c/d/", "e/"]


def test_memory_for_many_pictures_is_little_more_than_their_names(tmp_path):
    count = 5000
    for number in range(count):
        touch(tmp_path, f"{number // 200:02}/{number:05}.png")
    list_folder(tmp_path)
    tracemalloc.start()
    found = list_folder(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.names) == count
    assert peak < 2 * (len("00/00000.png") + 65) * count + 150_000  # strings, and keys to sort them by
