import json
import shutil
from pathlib import Path

import pytest

import gancore
from gancore.checkpoint.manifest import MANIFEST, Manifest, read_manifest, sound
from gancore.errors import CheckpointError, ConfigError
from gancore.run.directory import RunDirectory
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
def test_damaged_manifest_has_no_entries_and_a_problem(tmp_path, content):
    (tmp_path / MANIFEST).write_bytes(content)
    read = read_manifest(tmp_path)
    assert read.entries == {}
    kind = "JSON" if content not in (DAMAGED["list"], DAMAGED["text"]) else "a JSON object"
    assert read.problem == f"{tmp_path / MANIFEST} is damaged: it is not {kind}"


def test_damaged_manifest_is_reported_and_written_again(finished, run):
    before = manifest_of(run)
    run.directory.manifest.write_bytes(DAMAGED["cut"])
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


SOUND = {"recipe": "digits", "init_from": None, "plugins": {}, "needs": [], "data": {}, "mine": "kept"}


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("recipe", 5),
        ("init_from", {}),
        ("plugins", None),
        ("plugins", {"gancore": 1}),
        ("needs", {}),
        ("needs", [{"plugin": 1}]),
        ("data", []),
        ("resumed", ["a"]),
    ],
)
def test_wrong_entry_of_a_manifest_is_left_out_and_named(key, wrong):
    read = sound({**SOUND, key: wrong}, "it")
    assert read.entries == {other: value for other, value in SOUND.items() if other != key}
    assert read.problem == f"it is damaged: {key} is wrong or missing"


def test_missing_entries_of_a_manifest_are_named():
    assert sound(SOUND, "it") == Manifest(SOUND, None)
    assert sound({"data": {}}, "it").problem == "it is damaged: recipe, init_from, plugins, needs are wrong or missing"


def test_wrong_entries_of_a_manifest_are_named_and_written_again(run):
    before = manifest_of(run)
    wrong = {"recipe": 5, "plugins": None, "needs": {}, "data": [], "resumed": ["a"]}
    run.directory.manifest.write_text(json.dumps({**before, "mine": "kept", **wrong}))
    list(run.resume(steps=8))
    named = f"manifest.json is damaged: {', '.join(wrong)} are wrong or missing"
    assert any(named in warning for warning in run.warnings)
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
    assert found.value.hint == f"start it again: gancore train {run.directory.config} --out NEW"


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


def test_config_is_blank_without_a_character_that_is_seen(tmp_path):
    directory = RunDirectory(tmp_path)
    assert not directory.has_blank_config
    for content, is_blank in ((b"", True), (b"\x00" * 500, True), (b"\n \n", True), (b"\n#\n", False)):
        directory.config.write_bytes(content)
        assert directory.has_blank_config is is_blank


def test_blank_config_is_taken_from_the_newest_checkpoint_and_written_again(finished, run):
    before = run.directory.config.read_text()
    run.directory.config.write_bytes(b"\x00" * 500)
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
