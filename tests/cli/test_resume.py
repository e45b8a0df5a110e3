"""Interrupting and resuming: real processes, real signals."""

import json
import os
import re
import shlex
import shutil
import signal
import tomllib
from pathlib import Path

import interruptions
import pytest
import torch
from interruptions import TRAPS, draw, outcome

from gancore.checkpoint import store as checkpoint
from gancore.run.run import Run
from helpers.cli_runner import BY_HAND, Gancore

RUN = (
    *("--plugin", TRAPS, "train", *BY_HAND, "--steps", 12, "--batch-size", 8, "--device", "cpu"),
    *("--set", 'loss={name = "trapped", loss = {name = "bce"}}', "--set", "generator.widths=[8]"),
    *("--set", "discriminator.widths=[8]", "--set", "checkpoint.every_steps=5", "--set", "checkpoint.best=looks"),
    *("--set", "metrics.looks={}", "--set", "evaluate.samples=16", "--set", "evaluate.every_kimg=0.03"),
    *("--set", "log.every_steps=1", "--set", "sample.every_kimg=0.04", "--set", "sample.count=4"),
    *("--set", "observers.watcher={}"),
)
STREAMED = (
    *("--set", 'dataset={name = "trapped", dataset = {name = "digits"}, count = 30}', "--set", "training.data=stream"),
)


@pytest.fixture
def run(zygote, tmp_path):
    """Runs a command in a folder of its own."""
    return lambda *arguments, **environment: zygote.run(tmp_path, *arguments, **environment)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return interruptions.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    """What the uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    done = zygote.run(folder, *RUN, "--out", "run", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    return outcome(folder / "run")


def last_step(folder):
    return checkpoint.select(folder).checkpoint.about["progress"]["step"]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def three_lines(done):
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines()[-3:])
    assert list(lines) == ["error", "kept", "next"], done.stderr
    assert "Traceback" not in done.stderr
    return lines


SCHEDULES = 12


@pytest.mark.parametrize("number", range(SCHEDULES))
def test_interrupted_run_ends_as_one_that_was_not_interrupted(zygote, data, tmp_path, number):
    schedule = draw(number)
    assert not interruptions.check(schedule, zygote, data, tmp_path), schedule


_OTHER_FILES = {"array", "paired", "table"}
"""Datasets of files of the user, of which the schedules draw `folder` alone."""


def test_schedules_use_everything_that_is_shipped():
    from gancore.catalog.catalog import Catalog
    from gancore.config.optimizers import Name
    from gancore.contracts import Augmentation, Dataset, Loss, Regularizer

    text = " ".join(map(str, map(draw, range(SCHEDULES))))
    named = {*re.findall(r'name = "([\w-]+)"', text), *re.findall(r" (?:regularizers|augmentations)\.([\w-]+)", text)}
    catalog = Catalog.installed()
    for kind in (Loss, Regularizer, Augmentation, Dataset):
        for component, _ in catalog.offers(kind):
            assert component.name in named | _OTHER_FILES, component
    for name in Name.__args__:
        assert f'"{name}"' in text


ENDS = {"TERM": (143, "terminated"), "INT": (130, "interrupted")}
_TRAPS = ("discriminator:7:TERM", "generator:7:TERM", "look:3:TERM", "picture:2:TERM", "file:7:TERM", "generator:7:INT")


@pytest.mark.parametrize("trap", _TRAPS)
def test_signal_ends_a_run_after_its_step_with_a_checkpoint(run, tmp_path, whole, trap):
    code, what = ENDS[trap.rpartition(":")[2]]
    done = run(*RUN, "--out", "run", "-q", GANCORE_TRAP=trap)
    assert done.returncode == code
    step = last_step(tmp_path / "run")
    assert three_lines(done) == {
        "error": what,
        "kept": f"checkpoint run/checkpoints/step-{step:08d}.safetensors",
        "next": f"gancore --plugin {TRAPS} resume run",
    }
    assert 3 <= step <= 8
    assert step == lines(tmp_path / "run")[-1]["step"], "no step that was made is lost"
    done = run("--plugin", TRAPS, "resume", "run")
    assert done.returncode == 0, done.stderr
    assert f"run resumes from step {step}" in done.stderr
    assert outcome(tmp_path / "run") == whole


def test_signal_while_the_parts_are_built_leaves_nothing(run, tmp_path):
    built = 'discriminator={name = "trapped", discriminator = {name = "mlp"}}'
    words = [word for word in RUN if word != "discriminator.widths=[8]"]
    del words[words.index("--set", words.index("generator.widths=[8]"))]
    done = run(*words, "--set", built, "--out", "run", GANCORE_TRAP="start:0:TERM")
    assert done.returncode == 143
    assert three_lines(done)["kept"] == "nothing was changed"
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def whole_streamed(zygote, tmp_path_factory):
    """What the uninterrupted run leaves that streams its data."""
    folder = tmp_path_factory.mktemp("streamed")
    done = zygote.run(folder, *RUN, *STREAMED, "--out", "run", "-q")
    assert done.returncode == 0, done.stderr
    return outcome(folder / "run")


@pytest.mark.parametrize("call", [3, 45, 90])
def test_signal_while_data_is_read_leaves_a_resumable_run(run, tmp_path, whole_streamed, call):
    done = run(*RUN, *STREAMED, "--out", "run", "-q", GANCORE_TRAP=f"item:{call}:TERM")
    assert done.returncode == 143
    again = run(*RUN, *STREAMED, "--out", "run", "-q", "--resume")
    assert again.returncode == 0, again.stderr
    assert outcome(tmp_path / "run") == whole_streamed


def test_second_signal_ends_a_run_at_once_and_tears_nothing(run, tmp_path, whole):
    done = run(*RUN, "--out", "run", "-q", GANCORE_TRAP="generator:7:TWICE")
    assert done.returncode == 130
    assert done.stderr == ""
    assert last_step(tmp_path / "run") == 5
    assert run("--plugin", TRAPS, "resume", "run", "-q").returncode == 0
    assert outcome(tmp_path / "run") == whole


def test_plugin_error_keeps_the_last_checkpoint(run, tmp_path, whole):
    done = run(*RUN, "--out", "run", "-q", GANCORE_TRAP="discriminator:9:ERROR")
    assert done.returncode == 5
    said = three_lines(done)
    assert "at step" in said["error"]
    assert said["kept"] == "checkpoint run/checkpoints/step-00000005.safetensors"
    assert run("--plugin", TRAPS, "resume", "run", "-q").returncode == 0
    assert outcome(tmp_path / "run") == whole


def test_train_resume_starts_resumes_and_leaves_a_finished_run_alone(run, tmp_path, whole):
    words = (*RUN, "--out", "run", "--resume", "-q")
    assert run(*words, GANCORE_TRAP="generator:6:KILL").returncode == -signal.SIGKILL
    assert run(*words, GANCORE_TRAP="discriminator:2:KILL").returncode == -signal.SIGKILL
    assert run(*words).returncode == 0
    assert outcome(tmp_path / "run") == whole
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    done = run(*(word for word in words if word != "-q"))
    assert done.returncode == 0
    assert "the run had reached its total of 12 steps at step 12" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_longer_total_extends_a_run(run, tmp_path):
    for name, steps in (("long", 17), ("short", 12)):
        assert run(*RUN, "--steps", steps, "--out", name, "-q").returncode == 0
    assert run("--plugin", TRAPS, "resume", "short", "--steps", 17, "-q").returncode == 0
    long, extended = outcome(tmp_path / "long"), outcome(tmp_path / "short")
    assert extended["tensors"] == long["tensors"]
    trained = [[line for line in each["log"] if "generator_loss" in line] for each in (long, extended)]
    assert trained[0] == trained[1]
    assert (tmp_path / "short" / "config.toml").read_text() == (tmp_path / "long" / "config.toml").read_text()
    assert run("--plugin", TRAPS, "resume", "short", "--steps", 3).stdout.startswith(
        "done: the run had reached its total"
    )


def test_damaged_newest_checkpoint_is_named_and_the_one_before_it_is_used(run, tmp_path, whole):
    assert run(*RUN, "--out", "run", "-q", GANCORE_TRAP="generator:11:KILL").returncode == -signal.SIGKILL
    newest = checkpoint.select(tmp_path / "run").path
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    done = run("--plugin", TRAPS, "resume", "run")
    assert done.returncode == 0
    warning = next(line for line in done.stderr.splitlines() if line.startswith("warning"))
    assert newest.name in warning
    assert "damaged" in warning
    assert outcome(tmp_path / "run") == whole


def test_resume_without_a_valid_checkpoint_starts_nothing_over(run, tmp_path):
    assert run(*RUN, "--out", "run", "-q", GANCORE_TRAP="generator:7:KILL").returncode == -signal.SIGKILL
    files = list((tmp_path / "run" / "checkpoints").iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    done = run("--plugin", TRAPS, "resume", "run")
    assert done.returncode == 4
    assert "there is no valid checkpoint in run" in three_lines(done)["error"]
    for file in files:
        file.unlink()
    assert run(*RUN, "--out", "run", "--resume").returncode == 4


def test_run_killed_before_its_first_checkpoint_starts_anew(run, tmp_path, whole):
    assert run(*RUN, "--out", "run", "-q", GANCORE_TRAP="generator:7:KILL").returncode == -signal.SIGKILL
    folder = tmp_path / "run"
    for path in (*folder.glob("checkpoints/*"), *folder.glob("samples/*"), folder / "metrics.jsonl"):
        path.unlink()
    (folder / "samples" / ".step-00000000.png.0123456789abcdef.tmp").write_bytes(b"torn")
    (folder / "checkpoints" / ".step-00000000.safetensors.0123456789abcdef.tmp").write_bytes(b"torn")
    assert run("--plugin", TRAPS, "resume", "run", "-q").returncode == 0
    assert outcome(folder) == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "latent.dim=7"], "the run in run has another config: latent.dim was 100, now 7"),
        (["--set", "optimizer.generator.lr=1e-3", "--seed", 3], "seed was 0, now 3; optimizer.generator.lr was 0.0002"),
    ],
)
def test_train_resume_refuses_a_run_with_another_config(run, words, message):
    assert run(*RUN, "--steps", 2, "--out", "run", "-q").returncode == 0
    done = run(*RUN, *words, "--out", "run", "--resume")
    assert done.returncode == 4
    assert message in three_lines(done)["error"]


def test_config_changed_by_hand_is_followed_if_the_state_carries_it_and_else_refused(run, tmp_path):
    assert run(*RUN, "--steps", 2, "--out", "run", "-q").returncode == 0
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("batch_size = 8", "batch_size = 9"))
    done = run("--plugin", TRAPS, "resume", "run", "--steps", 4)
    assert done.returncode == 0, done.stderr
    assert "resuming is not bit-exact: batch_size was 8, now 9" in done.stderr
    config.write_text(config.read_text().replace("dim = 100", "dim = 7"))
    done = run("--plugin", TRAPS, "resume", "run", "--steps", 6)
    assert done.returncode == 4
    assert "latent.dim was 100, now 7" in three_lines(done)["error"]


def test_setting_that_a_run_cannot_change_names_a_command_that_works(run, tmp_path):
    words = ("--plugin", TRAPS)
    assert run(*RUN, "--steps", 2, "--out", "a run", "-q").returncode == 0
    done = run(*words, "resume", "a run", "--set", "seed=3", "--set", "log.every_steps=2")
    assert done.returncode == 2
    said = three_lines(done)
    assert said["error"] == "a run cannot change this when it is resumed: seed was 0, now 3"
    command = shlex.split(said["next"].partition(": ")[2])
    assert command[0] == "gancore"
    done = run(*words, *command[1:], "-q")
    assert done.returncode == 0, done.stderr
    config = tomllib.loads((tmp_path / "NEW" / "config.toml").read_text())
    assert (config["seed"], config["log"]["every_steps"], config["duration"]) == (3, 2, "2 steps")


def test_settings_of_a_resumed_run_are_options(run, tmp_path):
    assert run(*RUN, "--steps", 2, "--out", "run", "-q").returncode == 0
    options = ("--batch-size", 9, "--precision", "bf16", "--threads", 2, "--set", "optimizer.generator.lr=1e-4")
    done = run("--plugin", TRAPS, "resume", "run", "--steps", 3, *options, "--set", "log.every_steps=2")
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "bit-exact" in line]
    changes = "batch_size was 8, now 9", "training.precision was fp32, now bf16", "lr was 0.0002, now 0.0001"
    for change in (*changes, "threads was 1, now 2"):
        assert change in warning
    assert "log" not in warning
    assert "changed: log.every_steps was 1, now 2" in done.stderr
    resumed = json.loads((tmp_path / "run" / "manifest.json").read_text())["resumed"]
    assert resumed[0]["changed"]["log.every_steps"] == [1, 2]


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_resume_of_a_folder_without_a_run_makes_nothing(run, tmp_path, name):
    (tmp_path / "empty").mkdir()
    done = run("resume", name)
    assert done.returncode == 4
    assert three_lines(done)["error"] == f"there is no run in {name}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_changed_facts_are_reported_in_one_warning(run, tmp_path):
    assert run(*RUN, "--out", "run", "-q", GANCORE_TRAP="generator:7:TERM").returncode == 143
    newest = checkpoint.select(tmp_path / "run").path
    saved = checkpoint.load(newest)
    about = dict(saved.about) | {"made_with": saved.about["made_with"] | {"torch": "2.11.0", "threads": 64}}
    checkpoint.save(newest, saved.tensors, about)
    done = run("--plugin", TRAPS, "resume", "run")
    assert done.returncode == 0
    (warning,) = [line for line in done.stderr.splitlines() if "bit-exact" in line]
    assert warning == (
        f"warning: resuming is not bit-exact: torch was 2.11.0, now {torch.__version__}; threads was 64, now 1"
    )


def test_changed_data_is_reported(run, tmp_path, data):
    words = (
        "train",
        *BY_HAND,
        "--steps",
        9,
        "--batch-size",
        8,
        "--set",
        'dataset={name = "folder", path = "pictures", size = 8}',
    )
    (tmp_path / "pictures").mkdir()
    for picture in (data / "pictures").iterdir():
        (tmp_path / "pictures" / picture.name).write_bytes(picture.read_bytes())
    where = ("--data-dir", tmp_path / "kept", "--out", "run")
    assert run(*words, *where, "-q").returncode == 0
    (tmp_path / "pictures" / "00.png").write_bytes((tmp_path / "pictures" / "01.png").read_bytes())
    done = run("resume", "run", "--steps", 11, "--data-dir", tmp_path / "kept")
    assert done.returncode == 0
    assert "the training data has changed since the checkpoint" in done.stderr


@pytest.fixture
def moved(zygote, data, tmp_path):
    """A function that runs a command in a folder below `tmp_path`, after a short run there on `work/pictures`."""
    work = tmp_path / "work"
    shutil.copytree(data / "pictures", work / "pictures")
    size = ("--steps", 3, "--batch-size", 8, "--set", "evaluate.samples=16")
    words = (*BY_HAND[:-2], *size, "--set", 'dataset={name = "folder", path = "pictures", size = 8}')
    done = zygote.run(work, "train", *words, "--out", tmp_path / "run", "--data-dir", tmp_path / "kept", "-q")
    assert (done.returncode, done.stderr) == (0, "")

    def at(folder, *words, **environment):
        (tmp_path / folder).mkdir(exist_ok=True)
        return zygote.run(tmp_path / folder, *words, "--data-dir", "../kept", **environment)

    return at


def test_relative_path_of_data_is_stored_so_that_the_run_works_from_any_folder(moved, tmp_path):
    path = str(tmp_path / "work" / "pictures")
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["dataset"]["path"] == path
    assert str(tmp_path) not in (tmp_path / "run" / "manifest.json").read_text()
    done = moved("elsewhere", "resume", "../run", "--steps", 5)
    assert done.returncode == 0, done.stderr
    assert "bit-exact" not in done.stderr
    measure = ("evaluate", "../run", "--metric", "density-random", "-n", 16, "-q")
    for words in (measure, ("sample", "../run", "-n", 4, "--out", "a.png", "-q")):
        done = moved("elsewhere", *words)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_moved_data_is_followed_by_resume_and_evaluate(moved, tmp_path):
    old, new = tmp_path / "work" / "pictures", tmp_path / "moved"
    old.rename(new)
    measure = ("evaluate", "../run", "--metric", "density-random", "-n", 16, "-q")
    for words in (("resume", "../run", "--steps", 5), measure):
        done = moved("work", *words)
        assert done.returncode == 3
        said = three_lines(done)
        assert said["error"] == f"the data of the run is not at {old} any more"
        assert "gancore resume ../run --data PATH" in said["next"]
    done = moved("work", "resume", "../run", "--data", "../moved")
    assert done.returncode == 0, done.stderr
    assert "bit-exact" not in done.stderr
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["dataset"]["path"] == str(new)
    assert moved("elsewhere", *measure).returncode == 0


def test_lock_refuses_a_second_run_in_the_folder(zygote, tmp_path):
    words = [*map(str, RUN), "--set", "training.data=stream", *STREAMED[:2], "--steps", "100000", "--out", "run", "-q"]
    first = zygote.start(tmp_path, *words)
    try:
        zygote.wait_until(first, lambda: list(tmp_path.glob("run/checkpoints/step*")))
        for command in (words, [*words, "--resume"], ["--plugin", str(TRAPS), "resume", "run"]):
            done = zygote.run(tmp_path, *command)
            assert done.returncode == 8
            assert three_lines(done)["error"] == f"run is in use by process {first}"
    finally:
        os.kill(first, signal.SIGKILL)
        zygote.wait(first)
    assert zygote.run(tmp_path, "--plugin", TRAPS, "resume", "run", "--steps", 3, "-q").returncode == 0


def test_lock_of_a_killed_run_is_released_even_while_its_workers_live(zygote, tmp_path):
    words = [*map(str, RUN), *STREAMED, "--set", "training.workers=2", "--steps", "100000", "--out", "run", "-q"]
    process = zygote.start(tmp_path, *words)
    zygote.wait_until(process, lambda: len(list(tmp_path.glob("run/checkpoints/step*"))) == 2)
    os.kill(process, signal.SIGKILL)
    zygote.wait(process)
    assert zygote.run(tmp_path, "--plugin", TRAPS, "resume", "run", "--steps", 3, "-q").returncode == 0


def test_worker_that_is_killed_ends_the_run_with_exit_code_9(zygote, tmp_path):
    words = [*map(str, RUN), *STREAMED, "--set", "training.workers=2", "--steps", "100000", "--out", "run", "-q"]
    process = zygote.start(tmp_path, *words)
    zygote.wait_until(process, lambda: len(list(tmp_path.glob("run/checkpoints/step*"))) == 2)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    done = zygote.wait(process)
    assert done.returncode == 9
    said = three_lines(done)
    assert "a data loading worker died: it ended by signal SIGKILL, as when memory runs out" in said["error"]
    assert said["kept"].startswith("checkpoint run/")
    assert said["next"] == f"gancore --plugin {TRAPS} resume run"


def test_resuming_as_json_is_one_document(zygote, tmp_path):
    gancore = Gancore(tmp_path, zygote)
    gancore.works("train", *BY_HAND, "--steps", 2, "--out", "run", "-q")
    document = json.loads(gancore.works("resume", "run", "--steps", 3, "--json").stdout)
    assert document["last"]["step"] == 3
    assert document["checkpoint"] == "run/checkpoints/step-00000003.safetensors"


def test_resume_of_a_run_with_python_objects_says_how_to_open_it(run, tmp_path):
    parts = {"discriminator": "mlp", "loss": "bce", "dataset": "digits"}
    generator = torch.nn.Sequential(torch.nn.Linear(100, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
    list(Run(generator=generator, **parts, steps=1, out=tmp_path / "run", device="cpu").train())
    for words in (("resume", "run", "--steps", 2), ("sample", "run", "--out", "a.png"), ("train", "run/config.toml")):
        done = run(*words)
        assert done.returncode == 2, words
        said = three_lines(done)
        assert said["error"].endswith(
            "needs Python objects that no file can rebuild; missing: generator (torch.nn.modules.container.Sequential)"
        )
        assert "generator=..." in said["next"]


def test_totals_exclude_each_other_and_resume_needs_a_folder(run):
    assert run("resume", "run", "--steps", 3, "--epochs", 2).returncode == 2
    assert run(*RUN, "--resume").returncode == 2
