import errno
import hashlib
import io
import os
import pickle
import resource
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore.checkpoint import store as checkpoint
from gancore.errors import CheckpointError, StorageError

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")


@st.composite
def tensors(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    dtype = draw(st.sampled_from(DTYPES))
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    return values.to(dtype)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@given(stored=st.dictionaries(names, tensors(), max_size=5), about=st.dictionaries(st.text(), json_values, max_size=4))
def test_round_trip_is_bit_exact(folder, stored, about):
    path = folder / "step-00000001.safetensors"
    checkpoint.save(path, stored, about)
    found = checkpoint.load(path)
    assert found.tensors.keys() == stored.keys()
    for name, value in stored.items():
        assert found.tensors[name].dtype == value.dtype
        assert torch.equal(found.tensors[name], value)
    assert found.about == {"format": 1, **about}


@pytest.fixture
def sound(tmp_path):
    path = checkpoint.path_of(tmp_path, 7)
    checkpoint.save(
        path, {"weight": torch.arange(12.0).reshape(3, 4)}, {"config": {"text": 'a "sha256":"' + "f" * 64 + '"'}}
    )
    return path


def test_flipped_bit_is_noticed_anywhere(sound, tmp_path):
    content = sound.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        damaged.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            checkpoint.load(damaged)


def test_digest_is_that_of_document_names_dtypes_shapes_and_data(sound):
    with safetensors.safe_open(sound, "pt") as file:
        metadata, weight = file.metadata(), file.get_tensor("weight")
    described = metadata["gancore"] + '["weight", "torch.float32", [3, 4]]'
    assert hashlib.sha256(described.encode() + weight.numpy().tobytes()).hexdigest() == metadata["sha256"]
    assert checkpoint.load(sound).digest == metadata["sha256"]


def test_digest_of_equal_content_is_equal(sound, tmp_path):
    saved = checkpoint.load(sound)
    checkpoint.save(tmp_path / "b.safetensors", dict(reversed(saved.tensors.items())), saved.about)
    assert checkpoint.load(tmp_path / "b.safetensors").digest == saved.digest


def test_file_is_plain_safetensors(sound):
    assert torch.equal(safetensors.torch.load_file(sound)["weight"], torch.arange(12.0).reshape(3, 4))


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def zipped(content):
    """As torch.save packs it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return packed.getvalue()


@pytest.mark.parametrize(("pack", "protocol"), [*((bytes, protocol) for protocol in (0, 1, 2, 4, 5)), (zipped, 2)])
@pytest.mark.parametrize("name", ["step-00000001.safetensors", "a"])
def test_pickle_is_refused_under_any_name_and_never_runs(tmp_path, name, pack, protocol):
    canary = tmp_path / "canary"
    path = tmp_path / name
    bomb = pickle.dumps(Bomb(str(canary)), protocol)
    path.write_bytes(pack(bomb))
    with pytest.raises(CheckpointError, match="it looks like a pickle, which can run code"):
        checkpoint.load(path)
    assert not canary.exists()
    pickle.loads(bomb)  # noqa: S301  # the pickle does run code when it is loaded
    assert canary.exists()


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.pkl", "a.PICKLE"])
def test_file_of_pickles_is_refused_by_its_name(sound, name):
    with pytest.raises(CheckpointError, match="is refused by its name: pickled files can run code"):
        checkpoint.load(sound.rename(sound.with_name(name)))


def test_pickle_after_a_valid_file_is_damage(sound, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(sound.read_bytes() + pickle.dumps(Bomb(str(tmp_path / "canary"))))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)
    assert not (tmp_path / "canary").exists()


def test_safetensors_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of gancore"):
        checkpoint.load(path)


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    weight = torch.arange(6.0)
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"one": weight, "two": weight, "part": weight[2:4], "turned": weight.view(2, 3).T}, {})
    found = checkpoint.load(path).tensors
    assert torch.equal(found["one"], found["two"])
    assert found["part"].tolist() == [2.0, 3.0]
    assert torch.equal(found["turned"], weight.view(2, 3).T)


def test_checkpoints_are_listed_and_pruned_without_other_files(tmp_path):
    for step in (3, 20, 100_000_000):
        checkpoint.save(checkpoint.path_of(tmp_path, step), {}, {})
    (tmp_path / "step-00000004.safetensors").symlink_to("nowhere")
    (tmp_path / "step-00000005.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".step-00000006.safetensors.1.tmp").write_text("half")
    assert [path.name for path in checkpoint.kept(tmp_path)] == [
        "step-00000003.safetensors",
        "step-00000020.safetensors",
        "step-100000000.safetensors",
    ]
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in checkpoint.kept(tmp_path)] == [
        "step-00000020.safetensors",
        "step-100000000.safetensors",
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert checkpoint.kept(tmp_path / "nowhere") == []


@pytest.fixture
def small_disk():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_file_size_limit_is_an_error_and_changes_nothing(sound, small_disk):
    before = sound.read_bytes()
    with pytest.raises(StorageError, match="cannot write to"):
        checkpoint.save(sound, {"weight": torch.zeros(1_000_000)}, {})
    assert sound.read_bytes() == before
    assert [path.name for path in sound.parent.iterdir()] == [sound.name]


def test_save_to_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        checkpoint.save(tmp_path / "nowhere" / "a.safetensors", {}, {})


def test_load_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="directory"):
        checkpoint.load(tmp_path)


def test_about_must_be_finite_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "a.safetensors", {}, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


OPERATIONS = ["open", "write", "fsync", "pread", "close", "replace"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        *((operation, "ENOSPC") for operation in OPERATIONS),
        *(("write", code) for code in ("EIO", "EACCES", "EROFS", "EDQUOT", "EMFILE")),
    ],
)
def test_save_that_fails_at_any_operation_is_an_error_and_changes_nothing(sound, monkeypatch, operation, code):
    before = sound.read_bytes()
    real = getattr(os, operation)
    failed = []

    def refuse(*arguments, **options):
        result = real(*arguments, **options) if operation == "close" else None
        if failed:
            return result if operation == "close" else real(*arguments, **options)
        failed.append(operation)
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, operation, refuse)
    with pytest.raises(StorageError, match=os.strerror(getattr(errno, code))) as caught:
        checkpoint.save(sound, {"weight": torch.zeros(4)}, {})
    assert str(sound) in str(caught.value)
    assert sound.read_bytes() == before
    assert [path.name for path in sound.parent.iterdir()] == [sound.name]


def test_save_whose_folder_cannot_be_flushed_is_an_error(sound, monkeypatch):
    real = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="Input/output error"):
        checkpoint.save(sound, {"weight": torch.zeros(4)}, {})
    assert checkpoint.load(sound).tensors["weight"].tolist() == [0] * 4
    assert [path.name for path in sound.parent.iterdir()] == [sound.name]


def test_save_that_reads_back_differently_is_an_error_and_changes_nothing(sound, monkeypatch):
    before = sound.read_bytes()
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: real(*arguments).replace(b"\x3f", b"\x3e"))
    with pytest.raises(StorageError, match="read back"):
        checkpoint.save(sound, {"weight": torch.ones(4)}, {})
    assert sound.read_bytes() == before
    assert [path.name for path in sound.parent.iterdir()] == [sound.name]


def test_save_replaces_links_but_no_special_files(sound, tmp_path):
    before = sound.read_bytes()
    link, dangling, folder, pipe = (checkpoint.path_of(tmp_path, step) for step in (1, 2, 3, 4))
    link.symlink_to(sound)
    dangling.symlink_to(tmp_path / "nowhere")
    folder.mkdir()
    os.mkfifo(pipe)
    names = sorted(path.name for path in tmp_path.iterdir())
    for path in (folder, pipe):
        with pytest.raises(StorageError, match=r"is a (folder|special file)"):
            checkpoint.save(path, {"weight": torch.zeros(4)}, {})
    for path in (link, dangling):
        checkpoint.save(path, {"weight": torch.zeros(4)}, {})
        assert not path.is_symlink()
        assert path.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert sound.read_bytes() == before


def test_load_of_a_pipe_or_a_device_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(CheckpointError, match="not a regular file"):
            checkpoint.load(path)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(3).to_sparse(), torch.empty(3, device="meta"), torch.zeros(3, dtype=torch.complex128)],
    ids=["sparse", "without values", "of a dtype that the format lacks"],
)
def test_tensor_that_cannot_be_saved_is_an_error(tmp_path, tensor):
    with pytest.raises(StorageError, match="'odd' cannot be written"):
        checkpoint.save(tmp_path / "a.safetensors", {"odd": tensor}, {})
    assert not list(tmp_path.iterdir())


SMALL = """
import sys
from pathlib import Path
import torch
from gancore.checkpoint import store as checkpoint
from gancore.errors import StorageError
folder = Path(sys.argv[1])
for step in range(100):
    try:
        checkpoint.save(checkpoint.path_of(folder, step), {"weight": torch.full((100_000,), float(step))}, {})
    except StorageError as error:
        print(error)
        break
for path in folder.iterdir():
    checkpoint.load(path)
print(len(list(folder.iterdir())), step)
"""


def test_full_disk_is_an_error_and_keeps_the_saved_checkpoints(tmp_path):
    command = 'exec unshare -rm sh -c "$0" sh "$@"'
    inside = 'mount -t tmpfs -o size=2m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["/bin/sh", "-c", command, inside, tmp_path, sys.executable, SMALL], capture_output=True, text=True
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no disk can be made small here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    error, counts = done.stdout.splitlines()
    assert "No space left on device" in error
    assert counts == "5 5"
