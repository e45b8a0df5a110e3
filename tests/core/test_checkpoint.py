import hashlib
import itertools
import os
import pickle
import resource
import stat
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from gancore import checkpoint
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
def test_a_round_trip_is_bit_for_bit(folder, stored, about):
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


def test_every_flipped_bit_is_noticed(sound, tmp_path):
    content = sound.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        damaged.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            checkpoint.load(damaged)


def test_every_truncation_is_noticed(sound, tmp_path):
    content = sound.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for length in range(len(content)):
        damaged.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(damaged)


def test_the_digest_is_that_of_the_file_with_the_digest_as_zeros(sound):
    content = sound.read_bytes()
    with safetensors.safe_open(sound, "pt") as file:
        digest = file.metadata()["sha256"]
    assert hashlib.sha256(content.replace(digest.encode(), b"0" * 64)).hexdigest() == digest


def test_other_programs_read_it_as_plain_safetensors(sound):
    assert torch.equal(safetensors.torch.load_file(sound)["weight"], torch.arange(12.0).reshape(3, 4))


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (self.canary,)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.pkl", "step-00000001.safetensors", "a"])
def test_a_pickle_is_refused_under_any_name_and_never_runs(tmp_path, name):
    canary = tmp_path / "canary"
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(str(canary))))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  # the bomb is live: only our reader left it alone
    assert canary.exists()


def test_a_safetensors_file_of_another_program_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of gancore"):
        checkpoint.load(path)


def test_a_newer_format_is_refused_by_both_versions(sound, tmp_path):
    path = tmp_path / "newer.safetensors"
    checkpoint.save(path, {}, {})
    content = path.read_bytes().replace(rb"\"format\": 1", rb"\"format\": 9")
    with safetensors.safe_open(path, "pt") as file:
        digest = file.metadata()["sha256"].encode()
    blank = content.replace(digest, b"0" * 64)
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode()))
    with pytest.raises(CheckpointError, match=r"format 9.*format 1"):
        checkpoint.load(path)


@pytest.mark.parametrize("length", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_an_absurd_header_length_is_refused_at_once(tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}" * 50)
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_tensors_that_share_memory_are_kept_apart(tmp_path):
    weight = torch.arange(6.0)
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"one": weight, "two": weight, "part": weight[2:4], "turned": weight.view(2, 3).T}, {})
    found = checkpoint.load(path).tensors
    assert torch.equal(found["one"], found["two"])
    assert found["part"].tolist() == [2.0, 3.0]
    assert torch.equal(found["turned"], weight.view(2, 3).T)


def test_the_users_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        path = tmp_path / "a.safetensors"
        checkpoint.save(path, {"weight": torch.zeros(2)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_only_whole_checkpoints_of_ours_count(tmp_path):
    for step in (3, 20, 100_000_000):
        checkpoint.save(checkpoint.path_of(tmp_path, step), {}, {})
    (tmp_path / "step-00000004.safetensors").symlink_to(tmp_path / "step-00000003.safetensors")
    (tmp_path / "step-00000005.safetensors").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".step-00000006.safetensors.1.tmp").write_text("litter")
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


CRASH = """
import os, sys, torch
from pathlib import Path
from gancore import checkpoint
at, when = int(sys.argv[2]), sys.argv[3]
count = 0
def fatal(name):
    real = getattr(os, name)
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count == at and when == "before": os._exit(9)
        result = real(*args, **kwargs)
        if count == at: os._exit(9)
        return result
    setattr(os, name, wrapped)
for name in ("replace", "fsync", "open", "close", "unlink", "chmod"): fatal(name)
checkpoint.save(Path(sys.argv[1]), {"weight": torch.ones(4)}, {})
print("saved", count)
"""


def test_a_crash_at_any_operation_leaves_the_old_file_or_the_new_one(tmp_path):
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint.save(path, {"weight": torch.zeros(4)}, {})
    old = path.read_bytes()
    seen, said = set(), ""
    for at in itertools.count(1):
        for when in ("before", "after"):
            path.write_bytes(old)
            done = subprocess.run([sys.executable, "-c", CRASH, path, str(at), when], capture_output=True, text=True)
            assert done.returncode == (0 if done.stdout else 9), done.stderr
            found = checkpoint.load(path).tensors["weight"].tolist()
            assert found in ([0.0] * 4, [1.0] * 4)
            seen.add(found[0])
            said = done.stdout
        if said:
            break
    assert said == f"saved {at}\n"  # every operation has been the last one; after the very last nothing can be lost
    assert at > 5
    assert found == [1.0] * 4
    assert seen == {0.0, 1.0}


@pytest.fixture
def small_disk():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_and_harms_nothing(sound, small_disk):
    before = sound.read_bytes()
    with pytest.raises(StorageError, match="cannot save"):
        checkpoint.save(sound, {"weight": torch.zeros(1_000_000)}, {})
    assert sound.read_bytes() == before
    assert [path.name for path in sound.parent.iterdir()] == [sound.name]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        checkpoint.save(tmp_path / "nowhere" / "a.safetensors", {}, {})


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="No such file"):
        checkpoint.load(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="directory"):
        checkpoint.load(tmp_path)


def test_about_must_be_finite_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(tmp_path / "a.safetensors", {}, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())
