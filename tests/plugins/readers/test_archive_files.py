import io
import shutil
import stat
import struct
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gancore.errors import DataError
from gancore_plugins.readers import archive as reader
from gancore_plugins.readers import listing as reasons
from gancore_plugins.readers.archive import archive_files, is_archive
from gancore_plugins.readers.listing import list_folder
from gancore_plugins.readers.picture import picture
from gancore_plugins.readers.picture_files import picture_files


def png(color=0):
    out = io.BytesIO()
    Image.new("L", (4, 4), color).save(out, "PNG")
    return out.getvalue()


PNG = png()


def packed(path, entries, method=zipfile.ZIP_DEFLATED):
    """Write an archive of pairs (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def read(files, name):
    with files.open(name) as file:
        return file.read()


def failure(path):
    with pytest.raises(DataError) as caught:
        archive_files(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


part = st.sampled_from(["cat", "dog", "2", "10", ".git", "__MACOSX", "@eaDir", "é"])
last = st.sampled_from(["1.png", "10.png", "._1.png", "Thumbs.db", "none", "a.txt", "config.toml", "manifest.json"])


@given(st.sets(st.tuples(st.lists(part, max_size=3).map(tuple), last), min_size=1), st.sampled_from([PNG, b"text"]))
@settings(max_examples=60, deadline=None)
def test_archive_lists_as_the_folder_that_it_unpacks_to(tmp_path_factory, paths, content):
    folder = tmp_path_factory.mktemp("in")
    for parts, name in paths:
        path = folder.joinpath(*parts, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    archive = archive_files(shutil.make_archive(str(folder) + "-packed", "zip", folder))
    listing = list_folder(folder)
    assert (archive.names, archive.skipped) == (listing.names, listing.skipped)
    assert archive.folders == listing.folders
    for name in archive.names:
        assert read(archive, name) == content
        assert archive.size(name) == len(content)


def test_archive_entries_that_are_not_read_are_skipped_with_their_reason(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    lzma = zipfile.ZipInfo("lzma.png")
    lzma.compress_type = zipfile.ZIP_LZMA
    names = ["/abs.png", "../up.png", "a/../b.png", "C:/c.png", "a//d.png"]
    with pytest.warns(UserWarning, match="Duplicate"):
        path = packed(
            tmp_path / "a.zip",
            [("1.png", PNG), ("1.png", png(9)), (link, "1.png"), (lzma, PNG), ("inner.zip", b"PK\3\4")]
            + [(name, PNG) for name in names],
        )
    files = archive_files(path)
    assert files.names == ["1.png"]
    assert read(files, "1.png") == png(9)  # as unpacking leaves it
    assert files.skipped == {
        reader.DUPLICATES: ["1.png"],
        reader.LINKS: ["link.png"],
        reader.METHOD: ["lzma.png"],
        reader.UNSAFE: sorted(names, key=reasons.natural),
        ".zip (no picture)": ["inner.zip"],
    }
    assert list(tmp_path.iterdir()) == [path]


def test_encrypted_entries_are_skipped(tmp_path):
    path = packed(tmp_path / "a.zip", [("1.png", PNG), ("2.png", PNG)])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag in the list of files
    path.write_bytes(data)
    assert archive_files(path).skipped == {reader.ENCRYPTED: ["1.png"]}


def test_names_with_backslashes_and_in_utf8_without_a_flag_are_read(tmp_path):
    path = packed(tmp_path / "a.zip", [("cat\\1.png", PNG), ("dög/2.png", PNG)])
    data = path.read_bytes()
    for place in (data.rindex(b"PK\3\4") + 6, data.rindex(b"PK\1\2") + 8):
        data = data[:place] + b"\0\0" + data[place + 2 :]  # as archives from a Mac
    path.write_bytes(data)
    assert archive_files(path).names == ["cat/1.png", "dög/2.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entry_is_read_only_as_far_as_it_declares(tmp_path, method):
    path = packed(tmp_path / "a.zip", [("1.png", bytes(10**6))], method)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2") + 24
    data[place : place + 4] = struct.pack("<I", 100)
    path.write_bytes(data)
    files = archive_files(path)
    assert files.size("1.png") == 100
    with pytest.raises(OSError, match="checksum is wrong"), files.open("1.png"):
        pass


def test_entry_that_declares_too_much_is_not_unpacked(tmp_path):
    files = archive_files(packed(tmp_path / "a.zip", [("1.png", bytes(2 << 20))]))
    with pytest.raises(DataError, match=r"2,097,152 bytes, more than the"), picture(files, "1.png", max_pixels=100):
        pass


@pytest.mark.parametrize("actual", [1, 2])
def test_large_entry_is_not_in_memory_as_a_whole(tmp_path, actual):
    size = reader.MOST_IN_MEMORY + 1
    path = packed(tmp_path / "a.zip", [("1.png", bytes(actual * size)), ("2", b"\x89PNG\r\n\x1a\n" + bytes(size))])
    if actual > 1:  # it declares half of its content, with the checksum of that
        data = bytearray(path.read_bytes())
        place = data.index(b"PK\1\2")
        data[place + 16 : place + 20] = struct.pack("<I", zlib.crc32(bytes(size)))
        data[place + 24 : place + 28] = struct.pack("<I", size)
        path.write_bytes(data)
    tracemalloc.start()
    files = archive_files(path)
    assert files.skipped == {"other": ["2"]}
    with pytest.raises(DataError, match="not the content of one"), picture(files, "1.png"):
        pass
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    with files.open("1.png") as file:
        assert len(file.read()) == size
        assert not file.read(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * size


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_large_entry_is_checked_before_it_is_read(tmp_path, method):
    path = packed(tmp_path / "a.zip", [("1.png", bytes(reader.MOST_IN_MEMORY) + b"end")], method)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 16] ^= 1
    path.write_bytes(data)
    with (
        pytest.raises(OSError, match="damaged in the archive: its checksum is wrong"),
        archive_files(path).open("1.png"),
    ):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_entry_without_a_suffix_is_skipped_as_damaged(tmp_path, method):
    path = packed(tmp_path / "a.zip", [("1.png", PNG), ("2", PNG)], method)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\3\4") + 33] ^= 255
    path.write_bytes(data)
    assert archive_files(path).skipped == {"damaged in the archive": ["2"]}


def test_damaged_entry_names_the_archive_and_the_picture(tmp_path):
    path = packed(tmp_path / "a.zip", [("cat/1.png", PNG)], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    files = archive_files(path)
    message = r"cannot read picture .*a\.zip/cat/1\.png: damaged in the archive"
    with pytest.raises(DataError, match=message), picture(files, "cat/1.png"):
        pass


def test_archive_that_is_cut_off_anywhere_is_an_error_or_reads_only_what_is_whole(tmp_path):
    whole = packed(tmp_path / "a.zip", [("1.png", PNG), ("2.png", PNG)]).read_bytes()
    for size in range(4, len(whole)):
        (tmp_path / "b.zip").write_bytes(whole[:size])
        failure(tmp_path / "b.zip")


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_archive_with_any_byte_changed_is_an_error_or_reads_as_before(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("in")
    whole = bytearray(packed(folder / "a.zip", [("1.png", PNG), ("none", PNG)]).read_bytes())
    whole[data.draw(st.integers(4, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "b.zip").write_bytes(whole)
    with suppress(DataError):
        files = archive_files(folder / "b.zip")
        for name in files.names:
            with picture(files, name) as opened:
                assert opened.convert("L").tobytes() == bytes(16)


@pytest.mark.parametrize("zip64", [False, True])
def test_archive_with_too_long_a_list_of_files_is_refused(tmp_path, zip64):
    size = reader.MOST_DIRECTORY + 1
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 0 if zip64 else size, 0, 0)
    if zip64:  # zipfile reads the size there, whatever the other record says
        record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, 0)
        end = record + struct.pack("<4sLQL", b"PK\6\7", 0, size, 1) + end
    with (tmp_path / "a.zip").open("wb") as file:
        file.seek(size)  # a hole
        file.write(end)
    assert "its list of files has 134,217,729 bytes; the most is 134,217,728" in failure(tmp_path / "a.zip")


def test_threads_read_at_once(tmp_path):
    contents = {f"{number}.png": png(number) for number in range(64)}
    files = archive_files(packed(tmp_path / "a.zip", contents.items()))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read(files, name), files.names)) == [contents[name] for name in files.names]


def test_identity_changes_with_the_content_and_not_with_the_time(tmp_path):
    def identity(info, content, method=zipfile.ZIP_DEFLATED):
        return archive_files(packed(tmp_path / "a.zip", [(info, content)], method)).identity("1.png")

    old, new = (zipfile.ZipInfo("1.png", (year, 1, 1, 0, 0, 0)) for year in (1990, 2020))
    assert identity(old, PNG) == identity(new, PNG) == identity("1.png", PNG, zipfile.ZIP_STORED)
    assert identity(old, PNG) != identity(old, png(1))


def test_archive_is_recognized_by_its_content(tmp_path):
    packed(tmp_path / "a", [("1.png", PNG)])
    (tmp_path / "b.zip").write_bytes(b"text")
    assert is_archive(tmp_path / "a")
    assert not is_archive(tmp_path / "b.zip")
    with pytest.raises(DataError, match="cannot read"):
        is_archive(tmp_path / "absent")


def test_path_of_pictures_may_be_a_folder_an_archive_or_a_picture(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_bytes(PNG)
    (tmp_path / "in" / "2.txt").write_bytes(b"text")
    packed(tmp_path / "a.zip", [("1.png", PNG), ("2.txt", b"text")])
    for place in ("in", "a.zip", "in/1.png"):
        files = picture_files(tmp_path / place)
        assert files.names == ["1.png"]
        assert read(files, "1.png") == PNG
    for name, message in {"in/2.txt": "neither a picture nor a zip archive", "absent": "no folder or archive"}.items():
        with pytest.raises(DataError, match=message):
            picture_files(tmp_path / name)
    with pytest.raises(DataError, match=r"no pictures in .*b.zip: it holds 1 \.txt \(no picture\)"):
        picture_files(packed(tmp_path / "b.zip", [("2.txt", b"text")]))
