"""Favorites: what is saved, what is kept, and what is said of a damaged file."""

import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.errors import DataError, StorageError
from gancore.explore.favorites import Favorites
from gancore.explore.point import Point

POINT = Point(checkpoint="step-00000007.safetensors", base=5, moves={2: 1.5}, truncation=0.7)


@pytest.fixture
def favorites(tmp_path):
    return Favorites(tmp_path)


def test_favorites_are_read_back_in_order_with_their_pictures(favorites):
    saved = [favorites.add(POINT.model_copy(update={"base": seed}), f"seed {seed}", b"png%d" % seed) for seed in (3, 1)]
    assert Favorites(favorites.folder.parent).read() == saved
    assert [favorites.picture_path(favorite.name).read_bytes() for favorite in saved] == [b"png3", b"png1"]
    favorites.remove(saved[0].name)
    assert favorites.read() == saved[1:]
    assert sorted(os.listdir(favorites.folder)) == [f"favorite-{saved[1].name}.png", "favorites.json"]


@settings(max_examples=20)
@given(
    base=st.integers(0, 2**53 - 1) | st.text("0123456789abcdef", min_size=16, max_size=16),
    amount=st.floats(0, 1),
    moves=st.dictionaries(st.integers(1, 65536), st.floats(-100, 100), max_size=5),
    title=st.text(max_size=300),
)
def test_favorites_keep_every_point_exactly(tmp_path_factory, base, amount, moves, title):
    favorites = Favorites(tmp_path_factory.mktemp("run"))
    point = Point(checkpoint="best.safetensors", base=base, other=1, amount=amount, moves=moves, raw=True, condition=2)
    favorites.add(point, title, b"")
    (read,) = favorites.read()
    assert read.point == point
    assert read.title == title[:200]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 2, "favorites": []}', b"\xff\xfe"])
def test_damaged_favorites_are_said_and_not_overwritten(favorites, content):
    favorites.folder.mkdir()
    favorites.path.write_bytes(content)
    for change in (favorites.read, lambda: favorites.add(POINT, "one", b"png"), lambda: favorites.remove("x")):
        with pytest.raises(DataError, match=r"the favorites cannot be read: .*favorites\.json"):
            change()
    assert favorites.path.read_bytes() == content
    assert os.listdir(favorites.folder) == ["favorites.json"]


def test_favorites_with_a_foreign_name_are_refused(favorites):
    saved = favorites.add(POINT, "one", b"png")
    document = json.loads(favorites.path.read_text())
    document["favorites"][0]["name"] = "../../config"
    favorites.path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"favorites\.0\.name"):
        favorites.read()
    with pytest.raises(DataError, match="there is no favorite"):
        favorites.picture_path("../../config")
    assert favorites.picture_path(saved.name).is_file()


def test_favorites_of_two_explorers_are_all_kept(favorites):
    def save(number):
        for seed in range(5):
            Favorites(favorites.folder.parent).add(POINT.model_copy(update={"base": seed}), str(number), b"png")

    threads = [threading.Thread(target=save, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(favorites.read()) == 15


def test_favorites_in_the_place_of_a_file_are_an_error(favorites):
    favorites.folder.write_text("a file")
    with pytest.raises(StorageError, match="cannot write to"):
        favorites.add(POINT, "one", b"png")


@pytest.mark.parametrize("kind", ["pipe", "link", "text", "folder", "link to the folder"])
def test_picture_of_a_favorite_is_a_png_of_the_folder_and_nothing_else(favorites, tmp_path, kind):
    png = b"\x89PNG\r\n\x1a\n and more"
    name = favorites.add(POINT, "one", png).name
    path = favorites.picture_path(name)
    assert favorites.picture(name) == png
    (tmp_path / "elsewhere.png").write_bytes(png)
    if kind == "link to the folder":
        favorites.folder.rename(tmp_path / "elsewhere")
        favorites.folder.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere.png")
    elif kind == "text":
        path.write_text("root:x:0:0")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=f"the picture of favorite {name}"):
        favorites.picture(name)
