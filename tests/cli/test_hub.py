import hashlib
import json

import pytest

from helpers.hub_server import TOKEN, Repository, hub_server
from helpers.model_folders import folder_of, untrained

FORKED = True


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with an exported generator."""
    place = tmp_path_factory.mktemp("exported")
    return folder_of(untrained(place / "x.safetensors", condition=3), place / "model")


@pytest.fixture
def hub(exported):
    """A hub with the generator in `ann/digits`, tagged `v1`, under a newer commit of other weights."""
    with hub_server() as hub:
        repository = hub.repositories["ann/digits"] = Repository()
        files = {path.name: path.read_bytes() for path in exported.iterdir()}
        repository.tags["v1"] = repository.commit({**files, "README.md": b"# Digits", "setup.py": b"raise SystemExit"})
        repository.commit({"config.json": b"{}"})
        yield hub


@pytest.fixture
def sample(gancore, hub):
    """Sample from an address of the hub, with the cache in `cache`."""

    def run(address, code=0, **more):
        environment = hub.environment(gancore.folder / "cache") | more
        words = ("sample", address, "-n", 3, "--out", "out.npy", "--device", "cpu")
        return gancore.fails(code, *words, **environment) if code else gancore.works(*words, **environment)

    return run


def test_hub_gives_the_same_bits_as_the_folder(gancore, hub, sample, exported):
    sample("hf://ann/digits@v1")
    first = (gancore.folder / "out.npy").read_bytes()
    gancore.works("sample", exported, "-n", 3, "--out", "out.npy", "--device", "cpu")
    assert first == (gancore.folder / "out.npy").read_bytes()
    assert {line.rpartition("/")[2] for line in hub.requested} == {"config.json", "model.safetensors"}  # no code


def test_hub_is_not_asked_again_for_a_pinned_commit_that_is_in_the_cache(hub, sample):
    commit = hub.repositories["ann/digits"].tags["v1"]
    sample(f"hf://ann/digits@{commit}")
    hub.requested.clear()
    sample(f"hf://ann/digits@{commit}")
    assert hub.requested == []


def test_hub_can_be_out_of_reach_once_a_generator_is_in_the_cache(hub, sample):
    sample("hf://ann/digits@v1")
    hub.requested.clear()
    sample("hf://ann/digits@v1", HF_HUB_OFFLINE="1")
    assert hub.requested == []
    sample("hf://ann/digits@v1", HF_ENDPOINT="http://127.0.0.1:1")
    assert "hf://ann/digits is not in the cache" in sample("hf://ann/digits", 4, HF_HUB_OFFLINE="1")
    assert "the hub cannot be reached" in sample("hf://ann/other", 4, HF_ENDPOINT="http://127.0.0.1:1")


def test_hub_loads_no_weights_of_a_foreign_repository(hub, sample):
    assert "does not describe a generator of gancore" in sample("hf://ann/digits", 4)
    assert not any("safetensors" in line for line in hub.requested)


def test_hub_names_what_is_missing(hub, sample):
    hub.repositories["ann/text"] = Repository()
    hub.repositories["ann/text"].commit({"README.md": b"# Text"})
    assert "has no such revision" in sample("hf://ann/digits@v2", 4)
    assert "there is no hf://ann/nothing, or it is private" in sample("hf://ann/nothing", 4)
    assert "holds no generator of gancore" in sample("hf://ann/text", 4)
    assert "received hf://ann" in sample("hf://ann", 4)
    hub.failing = "resolve"
    assert "it answered 503" in sample("hf://ann/digits@v1", 4)


def test_private_repository_needs_a_token(hub, sample):
    hub.repositories["ann/digits"].private = True
    assert "or it is private" in sample("hf://ann/digits@v1", 4)
    assert TOKEN not in sample("hf://ann/digits@v1", HF_TOKEN=TOKEN).stderr


def test_damaged_download_is_refused(hub, sample, exported):
    content = json.loads((exported / "config.json").read_text())
    weights = bytearray((exported / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    files = {"config.json": json.dumps(content).encode(), "model.safetensors": bytes(weights)}
    hub.repositories["ann/digits"].commit(files)
    assert "does not have the SHA-256" in sample("hf://ann/digits", 4)
    assert content["weights"]["sha256"] != hashlib.sha256(weights).hexdigest()
