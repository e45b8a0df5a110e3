"""Commands that are ended by signals, whatever plugins make of them: real processes, real signals."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from gancore.checkpoint import store as checkpoint
from gancore.distributed.ranks import SINGLE_RANK
from gancore.errors import StorageError
from gancore_cli.options import Terminal
from gancore_cli.running import show_run
from gancore_cli.signals import handle_signals, is_signal
from helpers.cli_runner import BY_HAND
from helpers.small_runs import largest_file, small_run
from torture.endings import CARELESS, TRAPS

SMALL = ("--set", "generator.widths=[8]", "--set", "discriminator.widths=[8]", "--batch-size", 8, "--device", "cpu")
TRAPPED = ("--plugin", TRAPS, "train", *BY_HAND, *SMALL, "--set", 'loss={name = "trapped", loss = {name = "bce"}}')
SWALLOWED = (
    *("--plugin", CARELESS, "train", *BY_HAND, *SMALL, "--loss", "careless", "--steps", 6, "--out", "run"),
    *("--set", "metrics.counts={}", "--set", "evaluate.samples=16"),
)


@pytest.fixture
def run(zygote, tmp_path):
    """Runs a command in a folder of its own."""
    return lambda *arguments, **environment: zygote.run(tmp_path, *arguments, **environment)


def said(done):
    lines = dict(line.split(": ", 1) for line in done.stderr.splitlines()[-3:])
    assert list(lines) == ["error", "kept", "next"], done.stderr
    assert "Traceback" not in done.stderr
    return lines


@pytest.mark.parametrize(
    ("place", "how"),
    [
        *(("import", "swallow"), ("import", "convert"), ("import", "exit"), ("build", "swallow")),
        *(("build", "convert"), ("build", "exit"), ("measure", "swallow"), ("measure", "convert")),
    ],
)
def test_signal_that_a_plugin_does_not_let_pass_ends_the_run(run, tmp_path, place, how):
    done = run(*SWALLOWED, "-q", GANCORE_CARELESS=f"{place}:TERM:{how}")
    assert done.returncode == 143, done.stderr
    assert said(done)["error"] == "terminated"
    if place != "measure":
        assert (said(done)["kept"], list(tmp_path.iterdir())) == ("nothing was changed", [])
        return
    assert said(done)["next"] == f"gancore --plugin {CARELESS} resume run"
    assert not (tmp_path / "run" / "evaluation.json").exists()


@pytest.mark.parametrize("words", ["--plugin {} list loss", "plugins check {}", "--plugin {} data digits"])
def test_signal_that_an_import_swallows_ends_every_command(run, words):
    done = run(*words.format(CARELESS).split(), GANCORE_CARELESS="import:TERM:swallow")
    assert (done.returncode, done.stdout) == (143, "")
    assert said(done)["error"] == "terminated"


def test_signal_that_a_metric_swallows_ends_an_evaluation(run):
    assert run(*SWALLOWED, "-q").returncode == 0
    done = run("--plugin", CARELESS, "evaluate", "run", "-n", 16, GANCORE_CARELESS="measure:INT:swallow")
    assert (done.returncode, done.stdout) == (130, "")
    assert said(done)["next"] == f"gancore --plugin {CARELESS} evaluate run -n 16"


@pytest.mark.parametrize(
    ("how", "code", "what"),
    [
        ("HUP", 129, "the terminal or the connection has closed (SIGHUP)"),
        ("PAIR", 143, "terminated"),
        ("XCPU", 152, "the limit of processor time is reached (ulimit -t)"),
    ],
)
def test_signals_that_come_more_than_once_end_a_run_after_its_step(run, tmp_path, how, code, what):
    done = run(*TRAPPED, "--steps", 12, "--out", "run", "-q", GANCORE_TRAP=f"discriminator:7:{how}")
    assert done.returncode == code, done.stderr
    step = checkpoint.newest_valid(tmp_path / "run" / "checkpoints").checkpoint.about["progress"]["step"]
    assert said(done) == {
        "error": what,
        "kept": f"checkpoint run/checkpoints/step-{step:08d}.safetensors",
        "next": f"gancore --plugin {TRAPS} resume run",
    }
    assert step >= 6


def test_signal_that_is_ignored_as_below_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with handle_signals():
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("words", [("resume", "run"), ("resume", "run", "--steps", 20), ()])
def test_signal_before_the_first_step_of_a_resumed_run_says_how_to_resume(run, tmp_path, words):
    train = ["--plugin", str(TRAPS), "train", *BY_HAND, "--steps", "12", "--out", "run"]
    train += ["--set", 'discriminator={name = "trapped", discriminator = {name = "mlp"}}', "--batch-size", "8"]
    assert run(*train, "-q").returncode == 0
    kept = checkpoint.kept(tmp_path / "run" / "checkpoints")[-1].relative_to(tmp_path)
    before = (tmp_path / "run" / "config.toml").read_text()
    command = ["--plugin", str(TRAPS), *map(str, words or train[2:]), *([] if words else ["--resume"])]
    done = run(*command, GANCORE_TRAP="start:0:TERM")
    assert done.returncode == 143, done.stderr
    assert said(done) == {
        "error": "terminated",
        "kept": f"checkpoint {kept}",
        "next": shlex.join(["gancore", *command]),
    }
    assert (tmp_path / "run" / "config.toml").read_text() == before
    again = shlex.split(said(done)["next"])[1:]
    assert run(*again, "-q").returncode == 0


def test_result_of_a_command_is_not_json_after_a_signal(run):
    done = run("--plugin", CARELESS, "list", "loss", "--json", GANCORE_CARELESS="import:TERM:swallow")
    assert json.loads(done.stdout)["error"]["code"] == 143


def test_error_of_the_disk_while_a_signal_ends_a_run_stands_for_itself():
    from gancore.errors import PluginError, StorageError

    def ended(kind):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise kind("x") from None

    def raised(kind):
        with pytest.raises(kind) as caught:
            ended(kind)
        return caught.value

    assert not is_signal(raised(StorageError))
    assert is_signal(raised(PluginError))
    assert is_signal(raised(RuntimeError))
    assert not is_signal(PluginError("x"))


@pytest.mark.parametrize(
    ("place", "what", "words", "kept"),
    [
        ("build", "memory", ["memory ran out when 4,503,599,627,370,496 bytes", "loss"], "nothing was changed"),
        ("measure", "memory", ["memory ran out", "metric 'counts'"], "checkpoint run/checkpoints/step-00000000"),
        ("build", "files", ["this process may open", "(ulimit -n)"], "nothing was changed"),
        ("measure", "files", ["Too many open files", "(ulimit -n)"], "checkpoint run/checkpoints/step-00000000"),
    ],
)
def test_error_names_what_ran_out_with_its_limit(run, place, what, words, kept):
    done = run(*SWALLOWED, "-q", GANCORE_CARELESS=f"{place}:{what}:exhaust")
    assert done.returncode == 10, done.stderr
    assert all(each in said(done)["error"] for each in words), done.stderr
    assert said(done)["kept"].startswith(kept)
    assert "batch-size" in said(done)["next"] if what == "memory" else "ulimit -n 4096" in said(done)["next"]


def test_working_directory_that_was_deleted_is_named(tmp_path):
    script = f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m gancore_cli list loss"
    done = subprocess.run(["/bin/bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 7
    assert said(done)["error"] == "the working directory has been deleted"


def test_names_that_standard_error_cannot_encode_are_escaped(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "gancore_cli", "check\N{RIGHTWARDS ARROW}"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 2
    assert rb"'check\u2192'" in done.stderr


def test_commands_that_messages_name_are_quoted_for_a_shell(run):
    folder = "a b'c"
    train = ("--plugin", TRAPS, "train", *BY_HAND, "--set", "batch_size=8", "--out", folder)
    built = ("--set", 'discriminator={name = "trapped", discriminator = {name = "mlp"}}')
    built += ("--set", 'loss={name = "trapped", loss = {name = "bce"}}')
    lines = []
    for words, trap in (
        ((*train, *built, "--steps", 4), "discriminator:3:TERM"),
        ((*train, *built, "--steps", 4), ""),
        (("--plugin", TRAPS, "resume", folder), "start:0:TERM"),
        (("--plugin", TRAPS, "resume", folder, "--set", "generator.widths=[4]"), ""),
        (("train", folder), ""),
        (("--plugin", TRAPS, "resume", folder), ""),
    ):
        done = run(*words, GANCORE_TRAP=trap or "::")
        printed = (done.stderr + done.stdout).splitlines()
        lines.append(next(line for line in reversed(printed) if line.startswith("next:")))
    assert all(shlex.quote(folder) in line or shlex.quote(f"{folder}/config.toml") in line for line in lines), lines
    again = shlex.join(["gancore", "--plugin", str(TRAPS), "resume", folder])
    assert lines[0] == f"next: {again}"


def test_modules_of_the_working_directory_shadow_no_package(tmp_path):
    for name in ("torch", "numpy", "click", "gancore", "yaml", "tomllib"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadows')")
    done = subprocess.run([sys.executable, "-m", "gancore_cli", "list", "loss"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_run_that_cannot_be_written_after_its_start_says_how_to_resume(tmp_path):
    run = small_run(tmp_path / "run")
    with largest_file(1500), pytest.raises(StorageError) as caught:
        show_run(Terminal(False, True, False, sys.stdout), run, run.train(), SINGLE_RANK)
    assert caught.value.kept == f"{run.path}, without a checkpoint"
    assert caught.value.hint.endswith(f"; then: gancore resume {run.path}")
    assert len(list(run.resume())) == 7
