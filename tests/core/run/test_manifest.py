import json
import shutil
from pathlib import Path

import pytest

import gancore
from gancore.errors import CheckpointError, ConfigError
from helpers.small_runs import recorded, small_run
from helpers.tiny_components import catalog

DAMAGED = {
    "empty": b"",
    "cut": b'{"recipe": null, "data": {"ite',
    "zeros": b"\x00" * 700,
    "list": b"[]",
    "text": b'"manifest"',
    "no UTF-8": b'{"recipe": "\xff"}',
    "deep": b"[" * 100_000,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory, _, _ = recorded(tmp_path_factory.mktemp("finished") / "run")
    return directory


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    return small_run(tmp_path / "run")


def manifest_of(run):
    return json.loads(run.directory.manifest.read_text())


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_manifest_is_reported_and_written_again(finished, run, content):
    before = manifest_of(run)
    run.directory.manifest.write_bytes(content)
    problem = f"{run.directory.manifest} is damaged"
    opened = gancore.open(run.path, catalog=catalog(), device="cpu")
    assert [warning[: len(problem)] for warning in opened.warnings] == [problem]
    assert opened.config == gancore.open(finished.path, catalog=catalog()).config
    assert opened.data == {}
    trained = opened.load()
    assert any(warning.startswith(problem) for warning in trained.warnings)
    assert len(trained.sample(2)) == 2
    list(run.resume(steps=9))
    assert any(warning.startswith(problem) and "written again" in warning for warning in run.warnings)
    after = manifest_of(run)
    assert [entry["step"] for entry in after.pop("resumed")] == [7]
    assert after == before


def test_missing_manifest_is_written_again(run):
    before = manifest_of(run)
    run.directory.manifest.unlink()
    list(run.resume())  # nothing to train
    assert any("manifest.json is missing" in warning for warning in run.warnings)
    assert before.items() <= manifest_of(run).items()


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("recipe", 5), ("data", []), ("needs", {}), ("needs", [{"plugin": 1}]), ("plugins", None), ("resumed", ["a"])],
)
def test_wrong_entry_of_a_manifest_is_named_and_the_others_stay(run, key, wrong):
    before = manifest_of(run)
    run.directory.manifest.write_text(json.dumps({**before, "mine": "kept", key: wrong}))
    list(run.resume(steps=8))
    assert any(f"manifest.json is damaged: {key} is wrong or missing" in warning for warning in run.warnings)
    after = manifest_of(run)
    assert (after.pop("mine"), [entry["step"] for entry in after.pop("resumed")]) == ("kept", [7])
    assert after == before


def test_sound_manifest_is_not_reported(run):
    list(run.resume(steps=8))
    assert not any("manifest" in warning for warning in run.warnings)
    assert not gancore.open(run.path, catalog=catalog()).warnings
    assert not run.load().warnings


def test_weights_that_the_run_began_from_are_restored_to_its_manifest(finished, tmp_path):
    run = small_run(tmp_path / "run", init_from=finished.path)
    list(run.train())
    before = manifest_of(run)
    assert len(before["init_from"]) == 64
    run.directory.manifest.write_text("")
    list(run.resume(steps=8))
    assert manifest_of(run)["init_from"] == before["init_from"]


def test_run_without_checkpoint_and_manifest_is_not_started_with_other_weights(run):
    for file in [*run.checkpoints, run.directory.metrics, run.directory.manifest]:
        file.unlink()
    with pytest.raises(CheckpointError, match="not known which weights it was to begin with") as found:
        list(run.resume())
    assert "gancore train" in found.value.hint


def test_manifest_lists_the_newest_thousand_resumes(run):
    before = manifest_of(run)
    before["resumed"] = [{"step": number} for number in range(1500)]
    run.directory.manifest.write_text(json.dumps(before))
    list(run.resume(steps=8))
    assert [entry["step"] for entry in manifest_of(run)["resumed"]] == [*range(501, 1500), 7]


def test_manifest_that_is_no_file_is_reported(run):
    run.directory.manifest.unlink()
    run.directory.manifest.mkdir()
    assert "manifest.json cannot be read" in run.load().warnings[0]
    run.directory.manifest.rmdir()
    run.directory.manifest.symlink_to(Path("nowhere"))
    assert "manifest.json is missing" in run.load().warnings[0]


@pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"\n \n"])
def test_blank_config_is_taken_from_the_newest_checkpoint_and_written_again(finished, run, content):
    before = run.directory.config.read_text()
    run.directory.config.write_bytes(content)
    opened = gancore.open(run.path, catalog=catalog(), device="cpu")
    assert opened.config == gancore.open(finished.path, catalog=catalog()).config
    list(opened.resume(steps=8))
    assert any("config.toml is blank" in warning for warning in opened.warnings)
    assert run.directory.config.read_text() == before.replace("7 steps", "8 steps")


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"nonsense = 1\n", b'seed = "a"\n', b"schema = 1\n"])
def test_wrong_config_of_a_run_is_kept_and_the_hint_says_how_to_restore_it(run, content):
    run.directory.config.write_bytes(content)
    with pytest.raises(ConfigError) as found:
        list(gancore.open(run.path, catalog=catalog(), device="cpu").resume(steps=8))
    assert (
        found.value.hint == f"correct {run.directory.config}, or empty it to take the config of the newest checkpoint"
    )
    assert run.directory.config.read_bytes() == content
