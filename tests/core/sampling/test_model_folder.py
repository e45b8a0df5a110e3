import hashlib
import json
import os
import pickle
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gancore.catalog.catalog import Catalog
from gancore.contracts import Generator
from gancore.errors import CheckpointError, GancoreError, PluginError
from gancore.sampling.load import is_exported, load
from helpers.model_folders import CASES, NAMES, SIZES, document_of, folder_of, untrained


@pytest.fixture(scope="module")
def installed():
    return Catalog.installed()


@pytest.fixture(scope="module")
def written(tmp_path_factory, installed):
    """A folder that tests copy before they change it."""
    place = tmp_path_factory.mktemp("written")
    return folder_of(untrained(place / "x.safetensors", condition=3, known=installed), place / "model", installed)


@pytest.fixture
def folder(tmp_path, written):
    return shutil.copytree(written, tmp_path / "model")


@contextmanager
def copied(folder):
    """Copy a folder for the block, in which a property may change it."""
    with tempfile.TemporaryDirectory() as place:
        yield shutil.copytree(folder, Path(place) / "model")


def test_generators_of_every_name_are_tried(installed):
    assert set(SIZES) == {component.name for component, _ in installed.offers(Generator)}


@given(st.sampled_from(CASES), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=10)
def test_folder_is_read_back_to_the_same_bits(installed, case, averaged, seed):
    name, condition = case
    with tempfile.TemporaryDirectory() as place:
        trained = untrained(Path(place) / "x.safetensors", name, condition, averaged, installed)
        read = load(folder_of(trained, Path(place) / "model", installed), device="cpu", catalog=installed)
    ours, theirs = trained.generator.state_dict(), read.generator.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    same = ("config", "spec", "sample_format", "step", "averaged", "classes", "class_counts", "columns")
    assert all(getattr(read, field) == getattr(trained, field) for field in same)
    assert not read.generator.training
    conditions = torch.rand(3, *condition) if isinstance(condition, tuple) else None
    assert torch.equal(read.sample(3, seed, conditions=conditions), trained.sample(3, seed, conditions=conditions))


def refusal(folder, **options):
    with pytest.raises(CheckpointError) as error:
        load(folder, device="cpu", **options)
    assert error.value.hint
    return error.value.message


def changed(folder, change):
    """Change the document of a folder."""
    document = json.loads((folder / "config.json").read_text())
    change(document)
    (folder / "config.json").write_text(json.dumps(document))


def test_folder_says_what_it_holds(folder):
    trained = load(folder, device="cpu")
    assert trained.classes == NAMES
    assert trained.path == folder / "model.safetensors"
    assert trained.digest == hashlib.sha256(trained.path.read_bytes()).hexdigest()
    assert all(load(folder / name, device="cpu").digest == trained.digest for name in os.listdir(folder))
    assert is_exported(folder)


def test_run_is_no_exported_generator_whatever_else_it_holds(folder):
    (folder / "checkpoints").mkdir()
    assert not is_exported(folder)
    assert "no checkpoint in" in refusal(folder)


def test_folder_has_only_the_weights_that_were_exported(folder):
    assert "holds only the averaged weights" in refusal(folder, raw=True)
    assert "--best takes a run directory" in refusal(folder, best=True)


def test_folder_of_current_weights_is_loaded_as_such(tmp_path):
    trained = untrained(tmp_path / "x.safetensors", averaged=False)
    read = load(folder_of(trained, tmp_path / "model", averaged=False), raw=True, device="cpu")
    assert not read.averaged


def test_folder_loads_where_the_data_is_absent(tmp_path):
    trained = untrained(tmp_path / "x.safetensors", dataset={"name": "folder", "path": "pictures.zip", "size": 8})
    assert load(folder_of(trained, tmp_path / "model"), device="cpu").config.dataset.path == "pictures.zip"


def test_folder_names_a_plugin_that_is_not_installed(tmp_path):
    need = {"plugin": "mine", "package": "gancore-mine", "version": "1.0", "sha256": None, "components": ["loss x"]}
    folder = folder_of(untrained(tmp_path / "x.safetensors"), tmp_path / "model", needs=[need])
    with pytest.raises(PluginError, match=r"needs plugin mine 1\.0 of package gancore-mine, which is not") as error:
        load(folder)
    assert error.value.hint == "pip install gancore-mine==1.0"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_with_one_file_missing_names_it(folder, name):
    (folder / name).unlink()
    assert refusal(folder) == f"cannot read {folder / name}: it is missing"


def test_folder_of_another_library_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')
    assert "does not describe a generator of gancore" in refusal(folder)
    changed(folder, lambda document: document.update(library_name="other\x1b[2J", format=1))
    assert r"it is of other\x1b[2J" in refusal(folder)


def test_folder_of_a_newer_format_is_refused(folder):
    changed(folder, lambda document: document.update(format=2))
    assert "needs a newer gancore" in refusal(folder)


def test_folder_with_a_large_description_is_refused(folder):
    changed(folder, lambda document: document.update(more="x" * 2**21))
    assert "is larger than 2,097,152 bytes" in refusal(folder)


def test_folder_with_weights_that_are_too_large_is_refused_before_they_are_read(folder):
    os.truncate(folder / "model.safetensors", (4 << 30) + 1)
    assert "is larger than 4,294,967,296 bytes" in refusal(folder)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"shape": [10**6, 10**6, 10**6]}, "at most 268,435,456 values"),
        ({"condition": [10**9, 10**9]}, "at most 268,435,456 values"),
        ({"dtype": "float32", "value_range": [5.0, 5.0]}, "the lower end of the value range comes first"),
        ({"condition": None, "classes": [str(number) for number in range(100_000)]}, "more than 65,536 classes"),
    ],
)
def test_folder_with_impossible_data_is_refused(folder, part, reason):
    changed(folder, lambda document: document["data_format"].update(part))
    assert reason in refusal(folder)


def test_folder_with_weights_of_another_generator_is_refused(folder, tmp_path):
    other = untrained(tmp_path / "x.safetensors", condition=3, generator="subpixel")
    changed(folder, lambda document: document.update(document_of(other)))
    assert "is of another generator" in refusal(folder)


@pytest.mark.parametrize("content", [pickle.dumps([1]), b"", b"\xff" * 100, (2**40).to_bytes(8, "little") + b"{}"])
def test_folder_with_foreign_weights_is_refused_even_if_their_digest_is_right(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert "does not have the SHA-256" in refusal(folder)
    digest = hashlib.sha256(content).hexdigest()
    changed(folder, lambda document: document["weights"].update(sha256=digest))
    refusal(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_with_a_pipe_is_refused_at_once(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refusal(folder)


@given(st.data())
@settings(max_examples=15)
def test_folder_that_is_damaged_is_refused_or_reads_the_same(installed, written, data):
    before = load(written, device="cpu", catalog=installed).generator.state_dict()
    with copied(written) as folder:
        path = folder / data.draw(st.sampled_from(["config.json", "model.safetensors"]))
        content = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content[: data.draw(st.sampled_from([len(content), position]))])
        try:
            after = load(folder, device="cpu", catalog=installed).generator.state_dict()
        except GancoreError as error:
            said = str(error)
        else:
            said = ""
            assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert said == "" or said.isprintable()


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=15)
def test_folder_with_another_description_is_refused_or_loads(installed, written, data):
    with copied(written) as folder:
        document = json.loads((folder / "config.json").read_text())
        part = document
        while True:
            key = data.draw(st.sampled_from(sorted(part)))
            if not isinstance(part[key], dict) or not part[key] or data.draw(st.booleans()):
                break
            part = part[key]
        if data.draw(st.booleans()):
            del part[key]
        else:
            part[key] = data.draw(documents)
        (folder / "config.json").write_text(json.dumps(document))
        with suppress(GancoreError):  # and nothing else
            load(folder, device="cpu", catalog=installed)
