import gzip
import io
import tarfile

import pytest

from gancore_plugins.datasets.archive import take

WANTED = {"folder/wanted": "kept"}


def entry(name="folder/wanted", content=b"abc", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, content


def packed(path, *entries, form=tarfile.GNU_FORMAT):
    with tarfile.open(path, "w:gz", format=form) as members:
        for member, content in entries:
            members.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def extracted(path, tmp_path, most=100):
    into = tmp_path / "into"
    into.mkdir(exist_ok=True)
    take(path, WANTED, most, into)
    return into


def test_archive_extracts_only_the_wanted_file_under_its_new_name(tmp_path):
    path = packed(tmp_path / "a.tgz", entry("folder", b"", type=tarfile.DIRTYPE), entry("folder/other"), entry())
    into = extracted(path, tmp_path)
    assert [file.name for file in into.iterdir()] == ["kept"]
    assert (into / "kept").read_bytes() == b"abc"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("../x"), entry()], "unsafe path in archive a.tgz: '../x'"),
        ([entry("folder/../../x"), entry()], "unsafe path"),
        ([entry("/etc/passwd"), entry()], "unsafe path"),
        ([entry(type=tarfile.SYMTYPE, linkname="/etc/passwd")], "neither a file nor a folder"),
        ([entry("x", type=tarfile.LNKTYPE, linkname="folder/wanted"), entry()], "neither a file nor a folder"),
        ([entry("x", b"", type=tarfile.CHRTYPE), entry()], "neither a file nor a folder"),
        ([entry("x", b"", type=tarfile.FIFOTYPE), entry()], "neither a file nor a folder"),
        ([entry(content=bytes(101))], "101 bytes, more than 100"),
        ([entry(f"f{number}") for number in range(101)], "more than 100 entries"),
        ([entry("other")], "does not contain folder/wanted"),
        ([], "does not contain"),
    ],
)
def test_archive_with_suspicious_entries_is_refused(tmp_path, entries, words):
    path = packed(tmp_path / "a.tgz", *entries)
    with pytest.raises(OSError, match=words):
        extracted(path, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tgz", "into"]


def test_archive_with_a_huge_declared_name_is_not_read(tmp_path):
    """A header declares the length of a long name, and the module tarfile reads all of it at once."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    (tmp_path / "a.tgz").write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)))
    with pytest.raises(OSError, match="declares more data than allowed"):
        extracted(tmp_path / "a.tgz", tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_archive_that_is_truncated_is_refused(tmp_path, keep):
    path = packed(tmp_path / "a.tgz", entry(content=bytes(range(100))))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((OSError, EOFError, tarfile.TarError)):
        extracted(path, tmp_path)
