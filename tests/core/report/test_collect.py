import os

import pytest

from gancore.errors import CheckpointError
from gancore.report.collect import collect
from helpers.run_folders import run_folder


def written(folder, *lines, **manifest):
    lines = [{"epoch": 0.1, "seconds": 1.0, **line} for line in lines]
    return run_folder(folder, lines, evaluation={}, **manifest)


def test_collect_of_a_run_finds_everything(digits):
    run = collect(digits)
    assert run.notes == ()
    assert run.name == f"{digits.parent.name}/digits"
    assert run.config["training"]["conditional"] is True
    assert list(run.scores) == ["kid-random"]
    assert run.scores["kid-random"].better == "lower"
    assert run.scores["kid-random"].real_data is not None
    assert [step for step, _ in run.pictures] == sorted({0, *(step for step, _ in run.pictures)})
    assert run.real == digits / "samples/real.png"
    assert [event.kind for event in run.events] == ["collapse"]  # the generator is hardly trained
    assert len(run.curve("generator_loss")) == 12


@pytest.mark.parametrize("name", ["config.toml", "manifest.json", "metrics.jsonl", "evaluation.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff{", b"1]", b'{"step": 1, "metrics": 3}\n'])
def test_collect_notes_what_is_damaged(copied, name, content):
    (copied / name).write_bytes(content)
    is_sound = name == "metrics.jsonl" and content[:1] in (b"", b"{")
    assert any(name in note for note in collect(copied).notes) == (not is_sound)


@pytest.mark.parametrize("name", ["config.toml", "manifest.json", "evaluation.json"])
def test_collect_notes_a_folder_and_a_pipe_in_the_place_of_a_file(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    assert any(name in note for note in collect(copied).notes)
    (copied / name).unlink()
    (copied / name).mkdir()
    assert any(name in note for note in collect(copied).notes)


def test_collect_counts_damaged_lines(copied):
    with (copied / "metrics.jsonl").open("a") as log:
        log.write('{"step": 13, "kimg"\n')
    assert [note for note in collect(copied).notes if "1 damaged line" in note]


def test_collect_without_a_run_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="there is no run in"):
        collect(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file, not the folder of a run"):
        collect(tmp_path / "file")


def test_events_of_the_log_and_of_the_manifest_are_joined(tmp_path):
    loss = {"discriminator_loss": 1.0, "generator_loss": 1.0}
    run = collect(
        written(
            tmp_path / "run",
            {"step": 1, "kimg": 1, **loss},
            {"step": 2, "kimg": 2, **loss, "generator_loss": None},
            {"step": 3, "kimg": 3, "diversity": 0.1},
            {"step": 4, "kimg": 4, "diversity": 0.1},
            {"step": 5, "kimg": 5, "diversity": 0.1},
            {"step": 6, "kimg": 6, "diversity": None},
            events=[
                {"step": 4, "kimg": 4.0, "kind": "collapse", "text": "collapse suspected: recorded"},
                {"step": 9, "kimg": 9.0, "kind": "nonfinite", "text": "skipped"},
                {"step": "x"},
                7,
            ],
        )
    )
    assert [(event.step, event.kind, event.text) for event in run.events] == [
        (2, "nonfinite", "not finite in the log: generator_loss"),
        (4, "collapse", "collapse suspected: recorded"),
        (9, "nonfinite", "skipped"),
    ]


def test_metrics_of_the_log_are_not_their_details(tmp_path):
    folder = written(tmp_path / "run", {"step": 1, "kimg": 1, "modes": 8, "modes.reverse_kl": 0.1, "diversity": 1})
    run = collect(folder)
    assert {name: (score.value, score.better) for name, score in run.scores.items()} == {"modes": (8, None)}
    assert {name: score.value for name, score in run.further_scores.items()} == {"modes.reverse_kl": 0.1}
