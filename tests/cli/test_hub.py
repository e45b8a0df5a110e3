import hashlib
import json
import os

import pytest
from PIL import Image

from gancore.sampling.load import is_exported
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


@pytest.fixture
def pushing(gancore, exported, hub):
    """Export and push to a repository."""

    def run(repository, *words, code=0, token=TOKEN, **more):
        words = ("export", exported, "--out", "pushed", "--push", repository, *words)
        environment = hub.environment(gancore.folder / "cache", token) | more
        return gancore.fails(code, *words, **environment) if code else gancore.works(*words, **environment)

    return run


def test_push_makes_one_commit_of_all_files(gancore, hub, pushing):
    done = pushing("ann/new", "--set", "license=apache-2.0", "--json")
    repository = hub.repositories["ann/new"]
    (revision,) = repository.commits
    assert json.loads(done.stdout)["pushed"] == {"address": f"{hub.url}/ann/new", "revision": revision}
    files = {path.name: path.read_bytes() for path in (gancore.folder / "pushed").iterdir()}
    assert repository.files("main") == files
    assert set(files) == {"README.md", "config.json", "model.safetensors", "samples.png"}
    assert b"hf://ann/new" in files["README.md"]
    assert not repository.private
    assert TOKEN not in done.stdout + done.stderr


def test_push_to_a_repository_that_exists_adds_a_commit(hub, pushing):
    before = list(hub.repositories["ann/digits"].commits)
    assert ", commit " in pushing("ann/digits").stdout
    repository = hub.repositories["ann/digits"]
    assert len(repository.commits) == len(before) + 1
    assert "setup.py" in repository.files("main")


def test_push_is_private_if_asked(hub, pushing):
    pushing("ann/new", "--private")
    assert hub.repositories["ann/new"].private


def test_push_asked_to_be_private_uploads_nothing_to_a_public_repository(hub, pushing):
    before = list(hub.repositories["ann/digits"].commits)
    assert "exists on the hub and is public" in pushing("ann/digits", "--private", code=7)
    assert list(hub.repositories["ann/digits"].commits) == before


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"token": ""}, "a token"),
        ({"token": "hf_other"}, "wants a token that may write there"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, "could not be pushed to the hub"),
        ({"HF_HUB_OFFLINE": "1"}, "offline mode is enabled"),
    ],
    ids=["no token", "wrong token", "no network", "offline"],
)
def test_push_that_fails_keeps_the_folder_and_says_how_to_try_again(gancore, pushing, environment, said):
    error = pushing("ann/new", code=7, **environment)
    assert said in error
    assert is_exported(gancore.folder / "pushed")


def test_push_that_breaks_off_names_the_command_to_try_again(gancore, hub, exported):
    hub.failing, hub.status = "preupload", 413
    environment = hub.environment(gancore.folder / "cache", TOKEN)
    done = gancore("export", exported, "--out", "my pushed", "--push", "ann/new", **environment)
    assert done.returncode == 7
    error, kept, hint = done.stderr.splitlines()[-3:]
    assert "it answered 413" in error
    assert kept.endswith("the exported generator in my pushed")
    assert hint.endswith("try again: hf upload ann/new 'my pushed' .")


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--push", "new"), 2), (("--format", "pt2", "--push", "ann/new"), 2), (("--format", "hub", "--private"), 2)],
)
def test_push_that_cannot_work_writes_nothing(gancore, exported, words, code):
    assert gancore("export", exported, "--out", "pushed", *words).returncode == code
    assert not (gancore.folder / "pushed").exists()


def test_hub_without_its_extra_names_the_command_that_installs_it(gancore, exported):
    blocked = gancore.folder / "blocked" / "huggingface_hub"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(blocked.parent), os.environ.get("PYTHONPATH", "")])
    done = gancore("sample", "hf://ann/digits", PYTHONPATH=path)
    assert done.returncode == 2
    assert "needs huggingface_hub, which is not installed" in done.stderr
    assert "pip install 'gancore[hub]'" in done.stderr


def test_exported_folder_is_evaluated_where_its_data_is_absent(gancore):
    for number in range(20):
        path = gancore.folder / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 12 * number).save(path)
    parts = ("--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "pictures")
    gancore.works("train", *parts, "--set", "training.conditional=true", "--steps", 2, "--out", "run")
    gancore.works("export", "run", "--format", "hub", "--out", "model")
    words = ("--metric", "precision-random", "-n", 20, "--device", "cpu", "--json")
    before = json.loads(gancore.works("evaluate", "run", "--reference", "pictures", *words).stdout)
    (gancore.folder / "pictures").rename(gancore.folder / "moved")
    assert "not at pictures any more" in gancore.fails(3, "evaluate", "model", *words)
    done = gancore.works("evaluate", "model", "--reference", "moved", *words)
    assert (
        json.loads(done.stdout)["metrics"]["precision-random"]["value"]
        == before["metrics"]["precision-random"]["value"]
    )
    assert "conditions are drawn from the reference" in done.stderr
    document = json.loads((gancore.folder / "model" / "config.json").read_text())
    document["config"]["dataset"] = {"name": "object", "type": "mine.Pictures"}
    (gancore.folder / "model" / "config.json").write_text(json.dumps(document))
    assert "was a Python object" in gancore.fails(3, "evaluate", "model", *words)
    same = gancore.works("evaluate", "model", "--reference", "moved", *words)
    of_object, of_files = (json.loads(each.stdout)["metrics"]["precision-random"]["value"] for each in (same, done))
    assert of_object == of_files
    assert "conditions are drawn from the reference" in same.stderr
