"""Folders of checkpoints: which one a run resumes from, and what is removed."""

import os

import crashes
import pytest
import torch

from gancore.checkpoint import store as checkpoint
from gancore.errors import CheckpointError, StorageError


def about(step, **changes):
    """The document of a run's checkpoint."""
    return crashes.about(step) | changes


def data(**changes):
    """The description of a run's data."""
    return {"data_format": crashes.about(1)["data_format"] | changes}


def saved(folder, *steps):
    for step in steps:
        checkpoint.save(checkpoint.path_of(folder, step), {"weight": torch.full((4,), step)}, about(step))
    return [checkpoint.path_of(folder, step) for step in steps]


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_newest_valid_of_a_folder_without_checkpoints_is_empty(tmp_path):
    assert checkpoint.newest_valid(tmp_path) == checkpoint.Found(None, None)
    assert checkpoint.newest_valid(tmp_path / "nowhere") == checkpoint.Found(None, None)


def test_newest_valid_skips_and_reports_invalid_checkpoints(tmp_path):
    paths = saved(tmp_path, 1, 2, 3, 4)
    damage(paths[3])
    paths[2].write_bytes(b"")
    before = {path: path.read_bytes() for path in paths}
    found = checkpoint.newest_valid(tmp_path)
    assert found.path == paths[1]
    assert found.checkpoint.about["progress"]["step"] == 2
    assert found.checkpoint.tensors["weight"].tolist() == [2] * 4
    assert [path for path, _ in found.rejected] == [paths[3], paths[2]]
    assert "SHA-256" in found.rejected[0][1]
    assert all(str(path) in reason for path, reason in found.rejected)
    assert {path: path.read_bytes() for path in paths} == before


def test_newest_valid_reports_all_if_every_checkpoint_is_damaged(tmp_path):
    for path in (paths := saved(tmp_path, 1, 2)):
        damage(path)
    found = checkpoint.newest_valid(tmp_path)
    assert found.checkpoint is None
    assert found.path is None
    assert [path for path, _ in found.rejected] == paths[::-1]


def test_newest_valid_rejects_a_checkpoint_under_the_name_of_another_step(tmp_path):
    old, new = saved(tmp_path, 1, 2)
    new.write_bytes(old.read_bytes())
    found = checkpoint.newest_valid(tmp_path)
    assert found.path == old
    assert found.rejected == ((new, f"{new} is a checkpoint of step 1 under another name"),)


def test_newest_valid_rejects_a_file_that_does_not_describe_a_run(tmp_path):
    (old,) = saved(tmp_path, 1)
    new = checkpoint.path_of(tmp_path, 2)
    checkpoint.save(new, {}, {"accuracy": 1.0})
    found = checkpoint.newest_valid(tmp_path)
    assert found.path == old
    assert "does not describe a run" in found.rejected[0][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": []},
        {"config": None},
        {"data_format": None},
        {"data_format": {"shape": [1, 8, 8], "condition": None}},
        data(shape=[]),
        data(shape=[1] * 17),
        data(shape=[1, 8, -8]),
        data(shape=[1.0]),
        data(shape=[2**80]),
        data(shape="188"),
        data(condition=0),
        data(condition=True),
        data(condition="ten"),
        data(condition=[]),
        data(condition=[1, 0]),
        data(classes="ab"),
        data(classes=[1, 2]),
        data(dtype="float16"),
        data(value_range=[0.0]),
        data(scales={"shape": [2], "means": [0.0], "stds": [1.0, 1.0]}),
        data(scales={"shape": [2**31] * 16, "means": [0.0], "stds": [1.0]}),
        data(shape=[2], scales={"shape": [2], "means": [0.0, 0.0], "stds": [1.0, 0.0]}),
        data(shape=[2], scales={"shape": [3], "means": [0.0] * 3, "stds": [1.0] * 3}),
        data(shape=[2], scales={"shape": [1, 2], "means": [0.0] * 2, "stds": [1.0] * 2}),
        data(columns=["age"]),
        data(shape=[2], columns=["age"]),
        data(mirrors=1),
        {"progress": None},
        {"progress": {"step": 1, "images_seen": 4}},
        {"progress": {"step": "1", "images_seen": 4, "seconds": 0.5}},
        {"progress": {"step": -1, "images_seen": 4, "seconds": 0.5}},
        {"progress": {"step": 1.5, "images_seen": 4, "seconds": 0.5}},
        {"progress": {"step": 1, "images_seen": 10**400, "seconds": 0.5}},
        {"progress": {"step": 1, "images_seen": 4, "seconds": -0.5}},
        {"made_with": {}},
        {"made_with": {"plugins": ["gancore"]}},
        {"made_with": {"plugins": {"gancore": 1}}},
        {"made_with": {"plugins": {"gancore\x1b[2J": "1.0"}}},
    ],
    ids=str,
)
def test_load_run_refuses_a_document_with_wrong_fields(tmp_path, changes):
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint.save(path, {}, about(1, **changes))
    with pytest.raises(CheckpointError, match="does not describe a run"):
        checkpoint.load_run(path)
    checkpoint.save(path, {}, about(1, more={"field": "ignored"}))
    assert checkpoint.load_run(path).about["more"] == {"field": "ignored"}


def test_prune_leaves_the_newest_and_the_one_that_was_just_saved(tmp_path):
    paths = saved(tmp_path, 1, 2, 3, 40, 50)
    checkpoint.prune(tmp_path, 2, 3)
    assert names(tmp_path) == [path.name for path in paths[1:]]
    checkpoint.prune(tmp_path, 2)
    assert names(tmp_path) == [path.name for path in paths[3:]]


def test_prune_counts_no_damaged_checkpoint_and_removes_it_once_it_is_old(tmp_path):
    paths = saved(tmp_path, 1, 2, 3, 4, 5)
    checkpoint.prune(tmp_path, 2, 4, damaged=[paths[2]])
    assert names(tmp_path) == [path.name for path in paths[1:]]
    checkpoint.prune(tmp_path, 2, damaged=[paths[2]])
    assert names(tmp_path) == [path.name for path in paths[3:]]
    checkpoint.prune(tmp_path, 1, damaged=paths)
    assert names(tmp_path) == [path.name for path in paths[3:]]


def test_temporary_files_are_removed_and_other_files_stay(tmp_path):
    (kept,) = saved(tmp_path, 1)
    token = "0" * 16
    ours = [tmp_path / f".step-00000002.safetensors.{token}.tmp", tmp_path / f".best.safetensors.{token}.tmp"]
    for path in ours:
        path.write_text("half")
    others = [
        f".step-2.safetensors.{token}.tmp",
        f".step-00000002.safetensors.{token[1:]}.tmp",
        f"step-00000002.safetensors.{token}.tmp",
        f".step-00000002.safetensors.{token}.tmp~",
        ".mine.tmp",
    ]
    for name in others:
        (tmp_path / name).write_text("mine")
    folder, link = (tmp_path / f".step-0000000{step}.safetensors.{token}.tmp" for step in (3, 4))
    folder.mkdir()
    link.symlink_to(kept)
    pipe = tmp_path / f".step-00000005.safetensors.{token}.tmp"
    os.mkfifo(pipe)
    assert checkpoint.remove_temporary_files(tmp_path) == sorted(ours)
    assert names(tmp_path) == sorted([kept.name, *others, folder.name, link.name, pipe.name])
    assert checkpoint.remove_temporary_files(tmp_path) == []
    assert checkpoint.remove_temporary_files(tmp_path / "nowhere") == []


def test_temporary_file_that_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / ".best.safetensors.0123456789abcdef.tmp").write_text("half")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        checkpoint.remove_temporary_files(tmp_path)


def test_select_takes_the_newest_valid_one_of_a_run_and_names_the_others(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    first, second, third = saved(folder, 1, 2, 3)
    damage(third)
    second.write_bytes(b"")
    for run in (tmp_path, folder):
        chosen = checkpoint.select(run)
        assert (chosen.path, chosen.checkpoint.about["progress"]["step"]) == (first, 1)
        newer, older = chosen.warnings
        assert str(third) in newer
        assert str(second) in older
        assert all(warning.endswith("; step-00000001.safetensors is used") for warning in chosen.warnings)
    damage(first)
    with pytest.raises(CheckpointError, match="there is no valid checkpoint in") as found:
        checkpoint.select(tmp_path)
    assert all(str(path) in str(found.value) for path in (first, second, third))


def test_select_replaces_neither_a_named_file_nor_the_best_one(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    saved(folder, 1, 2)
    checkpoint.save(checkpoint.best_of(folder), {}, about(1))
    assert checkpoint.select(tmp_path, best=True).path == checkpoint.best_of(folder)
    for path in (checkpoint.best_of(folder), checkpoint.path_of(folder, 2)):
        damage(path)
    with pytest.raises(CheckpointError, match="best"):
        checkpoint.select(tmp_path, best=True)
    with pytest.raises(CheckpointError, match="step-00000002"):
        checkpoint.select(checkpoint.path_of(folder, 2))
    assert checkpoint.select(checkpoint.path_of(folder, 1)).warnings == ()
    with pytest.raises(CheckpointError, match="not a checkpoint file"):
        checkpoint.select(checkpoint.path_of(folder, 1), best=True)


def test_link_to_a_valid_checkpoint_counts_as_it_until_it_is_pruned(tmp_path):
    folder, moved = tmp_path / "checkpoints", tmp_path / "moved"
    folder.mkdir()
    moved.mkdir()
    for path in saved(moved, 1, 2):
        (folder / path.name).symlink_to(path)
    newest = checkpoint.path_of(folder, 2)
    found = checkpoint.newest_valid(folder)
    assert (found.path, found.rejected, found.checkpoint.about["progress"]["step"]) == (newest, (), 2)
    assert checkpoint.find_checkpoints(tmp_path) == checkpoint.kept(folder) == [checkpoint.path_of(folder, 1), newest]
    checkpoint.prune(folder, 1)
    assert names(folder) == [newest.name]
    assert len(names(moved)) == 2


def test_whatever_else_has_the_name_of_a_checkpoint_is_named_as_not_valid(tmp_path):
    (path,) = saved(tmp_path, 1)
    folder, link, pipe, best = (
        tmp_path / f"{name}.safetensors" for name in ("step-00000002", "step-00000003", "step-00000004", "best")
    )
    folder.mkdir()
    link.symlink_to("nowhere")
    os.mkfifo(pipe)
    best.symlink_to("elsewhere")
    chosen = checkpoint.select(tmp_path)
    assert chosen.path == path
    texts = ["not a regular file", "a link to nowhere", "Is a directory"]
    for text, other, warning in zip(texts, (pipe, link, folder), chosen.warnings, strict=True):
        assert text in warning
        assert str(other) in warning
    listed = {one.name: checkpoint.verify(one).problem for one in checkpoint.find_checkpoints(tmp_path)}
    assert [name for name, problem in listed.items() if problem is None] == [path.name]
    assert list(listed) == [path.name, folder.name, link.name, pipe.name, best.name]
    with pytest.raises(CheckpointError, match="a link to elsewhere"):
        checkpoint.select(tmp_path, best=True)
