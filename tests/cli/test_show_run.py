import json
import os
import pty
import shlex
import subprocess
import sys

import pytest

from gancore.utils.sparkline import BLOCKS
from helpers.cli_runner import BY_HAND, Gancore, read_all
from helpers.run_folders import evaluation_line, run_folder, score, training_line

FORKED = True


@pytest.fixture
def run(gancore):
    """A run written by hand, which ended early."""
    lines = [
        evaluation_line(0, 9.0),
        *(training_line(step) for step in range(10, 101, 10)),
        evaluation_line(100, 3.0),
        training_line(110),
        evaluation_line(110, 4.0),
    ]
    evaluation = {"fd-classifier": score(4.0, real=0.09)}
    folder = run_folder(gancore.folder / "run", lines, evaluation, device="cpu")
    (folder / "evaluation.json").write_text(json.dumps({"step": 110, "metrics": evaluation, "warnings": []}))
    return folder


def test_show_run_prints_the_state_of_a_run(gancore, run):
    done = gancore.works("show", "run", "run")
    assert done.stderr == ""
    assert done.stdout.splitlines().pop().split() == ["gancore", "report", "run"]
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines()[:-1])
    assert {key: value.strip() for key, value in lines.items()} == {
        "run": "run",
        "from": "recipe ring, data ring, seed 0",
        "state": "interrupted",
        "progress": "step 110, 55% of 200 steps",
        "data seen": "11.0 kimg, 1.10 epochs",
        "time": "0:02, 5,000 images/s on cpu",
        "D loss": "█▄▃▂▂▁▁▁▁▁▁  1.009",
        "G loss": "▄▄▄▄▄▄▄▄▄▄▄  0.5",
        "fd-classifier": "█▁▂  4 (real 0.09, best 3 at step 100)",
        "checkpoint": "no valid one",
        "size": lines["size"].strip(),
        "next": "gancore train run/config.toml",
    }
    assert {line[14] + line[15].strip() != " " for line in done.stdout.splitlines()} == {True}  # values are aligned


def test_show_run_without_a_run_shows_the_keys_and_needs_a_run_otherwise(gancore):
    assert "checkpoint.keep" in gancore.works("show", "run").stdout
    assert "there is no run in nowhere" in gancore.fails(4, "show", "run", "nowhere")


def test_show_run_as_json_is_one_document(gancore, run):
    (run / "manifest.json").write_text("{")
    document = json.loads(gancore.works("show", "run", "run", "--json").stdout)
    assert (document["state"], document["step"], document["done"], document["process"]) == (
        "interrupted",
        110,
        0.55,
        None,
    )
    assert document["metrics"]["fd-classifier"]["best"] == {"step": 100, "value": 3.0}
    assert document["warnings"] == ["run/manifest.json is damaged: it is not JSON"]
    assert document["next"] == ["gancore train run/config.toml", "gancore report run"]


def test_show_run_uses_plain_text_where_blocks_cannot_be_printed(gancore, run):
    text = Gancore(gancore.folder).works("show", "run", "run", PYTHONIOENCODING="latin-1").stdout
    assert text.isascii()
    assert "fd-classifier: 4 (real 0.09, best 3 at step 100)" in text


def test_show_run_names_python_parts(gancore):
    run_folder(gancore.folder / "run", config={"generator": {"name": "object", "type": "x.Y"}})
    assert "next:          in Python: gancore.open('run', generator=…)" in gancore.works("show", "run", "run").stdout


def test_show_run_prints_commands_that_work_when_pasted(gancore):
    gancore.works("train", *BY_HAND, "--steps", 3, "--out", "a run", "--set", "metrics.modes={}", "--dataset", "ring")
    shown = json.loads(gancore.works("show", "run", "a run", "--json").stdout)
    assert shown["next"] == [
        "gancore sample 'a run' -n 64 --out samples.png",
        "gancore report 'a run'",
        "gancore resume 'a run' --steps 6",
    ]
    for command in shown["next"]:
        gancore.works(*shlex.split(command)[1:])
    assert (gancore.folder / "samples.png").exists()
    assert json.loads(gancore.works("show", "run", "a run", "--json").stdout)["step"] == 6


@pytest.mark.parametrize(("terminal", "expected"), [("xterm", True), ("dumb", False)])
def test_train_ends_with_sparklines_on_a_terminal(gancore, terminal, expected):
    leader, follower = pty.openpty()
    settings = ["--steps", "6", "--set", "log.every_steps=1", "--out", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gancore_cli", "train", *BY_HAND, *settings],
        cwd=gancore.folder,
        stdout=follower,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80", "TERM": terminal},
    )
    os.close(follower)
    text = read_all(leader)
    process.communicate()
    assert process.returncode == 0
    curves = [line.split() for line in text.splitlines() if "loss: " in line]
    assert [words[:2] for words in curves] == ([["D", "loss:"], ["G", "loss:"]] if expected else [])
    for words in curves:
        assert len(words[2]) == 6
        assert set(words[2]) <= set(BLOCKS)


def test_train_prints_plain_text_elsewhere(finished):
    assert "loss" not in finished.made.stdout
    assert "next:" in finished.made.stdout
