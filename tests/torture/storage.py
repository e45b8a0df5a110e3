"""Files and folders as they should not be: damaged, missing, misnamed, forbidden, on a full disk.

    python tests/torture/storage.py [CASE...]

Each case runs the command `gancore` in a folder of its own, in processes that are forked with everything imported. A
case holds if every command does what its assertions say, and no command ends with a traceback. The case `readonly`
drops privileges of root. Needs Linux.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from PIL import Image

QUICK = ("--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "digits")
TRAIN = ("train", *QUICK, "--set", "log.every_steps=1", "--set", "checkpoint.every_steps=2")
_WITHOUT = ~0b110
"""Capabilities without those to write and to read what permissions forbid."""
CASES: dict[str, Callable[[Shell], None]] = {}


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and all that it printed."""

    code: int
    text: str


class Shell:
    """Runs commands in a folder, forked from this process: with a umask, a limit of file size, or no privileges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = -1

    def start(self, *words: object, umask: int = 0o022, limit: int | None = None, plain: bool = False) -> int:
        # A pipe has no size that is limited; a file holds any output of a command that is not waited for.
        reader, writer = os.pipe() if limit is not None else (-1, -1)
        child = os.fork()
        if child:
            self._reader = reader
            if limit is not None:
                os.close(writer)
            return child
        try:
            os.chdir(self.folder)
            os.umask(umask)
            os.environ |= {"GANCORE_CACHE": str(self.folder / "cache"), "GANCORE_DATA": str(self.folder / "data")}
            if limit is None:
                writer = os.open(self.folder / ".output", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
            for number in (1, 2):
                os.dup2(writer, number)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            if plain:
                drop_privileges()
            from gancore_cli.main import main

            main([str(word) for word in words])
        except SystemExit as error:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error.code, int) else 1)
        finally:
            os._exit(99)

    def wait(self, child: int) -> Done:
        if self._reader != -1:
            with os.fdopen(self._reader, errors="replace") as pipe:
                text = pipe.read()
        _, status = os.waitpid(child, 0)
        if self._reader == -1:
            text = (self.folder / ".output").read_text(errors="replace")
        return Done(os.waitstatus_to_exitcode(status), text)

    def run(self, *words: object, **how: Any) -> Done:
        done = self.wait(self.start(*words, **how))
        assert "Traceback" not in done.text, (words, done.code, done.text[-3000:])
        assert done.code != 99, (words, done.text[-3000:])
        return done

    def works(self, *words: object, **how: Any) -> str:
        done = self.run(*words, **how)
        assert done.code == 0, (words, done.code, done.text[-1500:])
        return done.text

    def fails(self, code: int, *words: object, **how: Any) -> str:
        done = self.run(*words, **how)
        assert done.code == code, (words, done.code, done.text[-1500:])
        assert all(f"\n{part}: " in done.text for part in ("kept", "next")), done.text
        return done.text


def drop_privileges() -> None:
    """Let the permissions of files hold for this process though it is of root."""
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert library.capget(header, sets) == 0
    sets[0], sets[1] = sets[0] & _WITHOUT, sets[1] & _WITHOUT
    assert library.capset(header, sets) == 0


def case(test: Callable[[Shell], None]) -> Callable[[Shell], None]:
    CASES[test.__name__] = test
    return test


def trained(shell: Shell, name: str = "run", steps: int = 4) -> Path:
    shell.works(*TRAIN, "--steps", steps, "--out", name)
    return shell.folder / name


def pictures(folder: Path, count: int = 12) -> None:
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)


def wrong_modes(folder: Path, umask: int) -> list[str]:
    """Return the files and folders below a folder that do not follow the umask."""
    wanted = {True: 0o777 & ~umask, False: 0o666 & ~umask}
    found = {path: path.stat().st_mode & 0o7777 for path in folder.rglob("*") if path.name != ".output"}
    return [f"{path} {mode:o}" for path, mode in found.items() if mode != wanted[path.is_dir()]]


@case
def umask(shell: Shell) -> None:
    """Every file and folder that a command writes follows the umask."""
    for mask in (0o022, 0o002, 0o077):
        os.umask(mask)
        place = Shell(shell.folder / f"{mask:03o}")
        place.folder.mkdir()
        pictures(place.folder / "pictures")
        np.save(place.folder / "array.npy", np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
        watched = [
            "metrics.fd-classifier={}",
            "observers.tensorboard={}",
            "checkpoint.best=fd-classifier",
            "evaluate.samples=100",
        ]
        settings = [word for text in watched for word in ("--set", text)]
        place.works(*TRAIN, "--steps", 4, "--out", "sub/run", *settings, umask=mask)
        place.works("resume", "sub/run", "--steps", 6, umask=mask)
        for out in ("a.png", "new/b.npy", "c.safetensors", "folder"):
            place.works("sample", "sub/run", "--out", out, "-n", 5, umask=mask)
        place.works("train", "array.npy", "--steps", 2, "--out", "vectors", "--batch-size", 4, umask=mask)
        place.works("sample", "vectors", "--out", "d.csv", "-n", 5, umask=mask)
        place.works("evaluate", "sub/run", "--metric", "fd-classifier", "-n", 100, umask=mask)
        place.works("data", "pictures", "--sheet", "sheets/sheet.png", umask=mask)
        place.works("train", "./pictures", "--steps", 2, "--batch-size", 4, umask=mask)
        place.works("plugins", "new", "mine", umask=mask)
        assert (place.folder / "cache" / "extractors").is_dir()
        assert wrong_modes(place.folder, mask) == []
        assert len(list(place.folder.rglob("*"))) > 70


@case
def log(shell: Shell) -> None:
    """Damaged lines of the log are skipped, counted, said, and kept."""
    run = trained(shell)
    file = run / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    for damage in (
        b"\n",
        b"\0" * 4096 + b"\n",
        b"{}\n",
        b"[1]\n",
        b"\xff\n",
        b"x" * 50_000_000 + b"\n",
        b'{"step": 2, "k\n',
    ):
        shutil.rmtree(shell.folder / "copy", ignore_errors=True)
        shutil.copytree(run, shell.folder / "copy")
        (shell.folder / "copy/metrics.jsonl").write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
        assert "metrics.jsonl has 1 damaged line, which is skipped" in shell.works("resume", "copy", "--steps", 6)
        after = (shell.folder / "copy/metrics.jsonl").read_bytes()
        assert after.startswith(b"".join([*lines[:2], damage, *lines[2:]]))
        assert after.count(b"\n") == len(lines) + 3
    file.unlink()
    file.mkdir()
    assert "cannot read run/metrics.jsonl" in shell.fails(7, "resume", "run", "--steps", 6)


@case
def manifest(shell: Shell) -> None:
    """A damaged manifest is said by every command that opens the run, and written again when it is resumed."""
    run = trained(shell)
    before = json.loads((run / "manifest.json").read_text())
    for steps, damage in enumerate((b"", b"{", b"\0" * 100, b"[]", b'{"recipe": 1}'), 5):
        (run / "manifest.json").write_bytes(damage)
        for command in (("sample", "run", "--out", "s.png"), ("evaluate", "run", "--metric", "kid-random", "-n", 50)):
            assert "warning: run/manifest.json is damaged" in shell.works(*command)
        assert "is damaged" in shell.works("resume", "run", "--steps", steps)
        after = json.loads((run / "manifest.json").read_text())
        assert len(after.pop("resumed")) == 1
        assert after == before


@case
def newest(shell: Shell) -> None:
    """Commands that take a run pass over a damaged newest checkpoint, with a warning; a named file is refused."""
    run = trained(shell)
    file = run / "checkpoints" / "step-00000004.safetensors"
    whole = file.read_bytes()
    for damage in (b"", whole[:-9], b"\0" * len(whole), whole[:999] + b"x" + whole[1000:]):
        file.write_bytes(damage)
        commands = (
            ("sample", "run", "--out", "s.png"),
            ("evaluate", "run", "--metric", "kid-random", "-n", 50),
            (*TRAIN, "--init-from", "run", "--steps", 1),
        )
        for command in commands:
            text = shell.works(*command)
            assert "step-00000002.safetensors is used" in text, text
        shell.fails(4, "sample", "run/checkpoints/step-00000004.safetensors", "--out", "s.png")
    assert "step-00000002.safetensors is used" in shell.works("resume", "run")
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    for command in (("sample", "run"), ("evaluate", "run"), ("resume", "run")):
        assert "there is no valid checkpoint in" in shell.fails(4, *command)


@case
def settings(shell: Shell) -> None:
    """Settings that cannot work end a run before its folder exists."""
    (shell.folder / "file").write_text("mine")
    (shell.folder / "link").symlink_to("nowhere")
    wrong = (
        ("metrics.fd-random={}", "evaluate.samples=3"),
        ("metrics.precision-random={}", "evaluate.samples=3"),
        ("metrics.modes={}",),
        ("metrics.kid-random={}", "evaluate.samples=100000000000"),
        ("checkpoint.best=fd-classifier",),
        ("sample.count=0",),
        ("batch_size=5000",),
        ("observers.tensorboard.flush_seconds=0",),
    )
    for texts in wrong:
        done = shell.run(*TRAIN, "--steps", 2, "--out", "run", *[word for text in texts for word in ("--set", text)])
        assert done.code in (2, 3), (texts, done.text)
        assert not (shell.folder / "run").exists(), texts
    for out in ("file", "file/run", "link", "/proc/run", "/dev/null", ".", "x" * 300):
        assert shell.run(*TRAIN, "--steps", 2, "--out", out).code in (2, 7), out
    assert sorted(path.name for path in shell.folder.iterdir()) == [".output", "file", "link"]


@case
def names(shell: Shell) -> None:
    """Folders may have any name: that of a recipe, a number, with spaces, line breaks and emoji; a link is followed."""
    for name in ("vanilla", "digits"):
        (shell.folder / name).mkdir()
    assert "digits is the recipe" in shell.works("train", "digits", "--steps", 1, "--out", "from-recipe")
    for name in ("7", "a b", "a\nb", "é😀", "#", "-x", "'", "$HOME"):
        shell.works(*TRAIN, "--steps", 2, f"--out={name}")
        shell.works("sample", f"--out={name} s.png", "-n", 2, "--", name)
        shell.works("resume", "--steps", 3, "--", name)
        assert (shell.folder / f"{name} s.png").is_file()
    assert "7 is a run directory, not a recipe" in shell.fails(2, "train", "7")
    (shell.folder / "link").symlink_to("7")
    shell.works("resume", "link", "--steps", 5)
    shell.works("sample", "link", "--out", "link.png")
    assert (shell.folder / "7/checkpoints/step-00000005.safetensors").is_file()
    assert (shell.folder / "link").is_symlink()


@case
def config(shell: Shell) -> None:
    """A blank config of a run is taken from its newest checkpoint; a wrong one is kept, and named."""
    run = trained(shell)
    steps = 5
    for blank in (b"", b"\0" * 900, b" \n"):
        (run / "config.toml").write_bytes(blank)
        shell.works("sample", "run", "--out", "s.png")
        shell.works("evaluate", "run", "--metric", "kid-random", "-n", 50)
        assert "config.toml is blank" in shell.works("resume", "run", "--steps", steps)
        assert f'duration = "{steps} steps"' in (run / "config.toml").read_text()
        steps += 1
    for wrong in (b"seed = ", b"\xff", b'seed = "a"', b"nonsense = 1", b"schema = 1"):
        (run / "config.toml").write_bytes(wrong)
        shell.works("sample", "run", "--out", "s.png")
        assert "or empty it to take the config of the newest checkpoint" in shell.fails(2, "resume", "run")
        assert (run / "config.toml").read_bytes() == wrong
    for content in (b"", b"\0" * 50, b"\xff\xfe"):
        (shell.folder / "file.toml").write_bytes(content)
        shell.fails(2, "train", "file.toml")
    (shell.folder / "folder.toml").mkdir()
    (shell.folder / "link.toml").symlink_to("nowhere")
    for name in ("folder.toml", "link.toml"):
        assert f"cannot read {name}" in shell.fails(2, "train", name)


@case
def missing(shell: Shell) -> None:
    """What is deleted from a run is made again, or named."""
    for gone in ("samples", "metrics.jsonl", "manifest.json", "evaluation.json"):
        run = trained(shell, f"without {gone}")
        path = run / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shell.works("sample", run, "--out", "s.png")
        shell.works("resume", run, "--steps", 6)
        assert path.exists() or gone == "evaluation.json", gone
    run = trained(shell, "without checkpoints")
    shutil.rmtree(run / "checkpoints")
    assert "there is no checkpoint in" in shell.fails(4, "sample", run)
    assert "its checkpoints are gone" in shell.fails(4, "resume", run)
    assert (run / "metrics.jsonl").read_bytes().count(b"\n") == 4


@case
def replaced(shell: Shell) -> None:
    """A file where a folder is expected, a folder where a file is expected, and links to nowhere are named."""
    run = trained(shell)
    (run / "checkpoints" / "step-00000009.safetensors").mkdir()
    (run / "checkpoints" / "step-00000010.safetensors").symlink_to("nowhere")
    shell.works("sample", "run", "--out", "s.png")
    assert "step-00000009.safetensors: it is a folder" in shell.fails(7, "resume", "run", "--steps", 9)
    for name in ("samples", "checkpoints"):
        run = trained(shell, f"file {name}")
        shutil.rmtree(run / name)
        (run / name).write_text("")
        shell.fails(7 if name == "samples" else 4, "resume", run, "--steps", 9)
        assert (run / name).read_text() == ""
    for name, code in (("manifest.json", 7), ("config.toml", 4)):
        run = trained(shell, f"folder {name}")
        (run / name).unlink()
        (run / name).mkdir()
        shell.works("sample", run, "--out", "s.png")
        shell.fails(code, "resume", run, "--steps", 9)
    (shell.folder / "out.png").mkdir()
    (shell.folder / "out.npy").symlink_to("nowhere/at/all")
    (shell.folder / "file").write_text("")
    for out in ("file/s.png", "file/folder"):
        shell.fails(7, "sample", "run", "--out", out)
    shell.works("sample", "run", "--out", "out.png", "-n", 2)  # an empty folder gets pictures
    shell.works("sample", "run", "--out", "out.npy", "-n", 2)  # a link is replaced
    assert (shell.folder / "out.npy").is_file()
    assert not (shell.folder / "out.npy").is_symlink()


@case
def moved(shell: Shell) -> None:
    """A run that is moved, copied or deleted while it trains ends with an error, and can be resumed where it is."""
    for how in ("move", "copy", "delete"):
        run, other = shell.folder / how, shell.folder / f"{how} later"
        child = shell.start(*TRAIN, "--steps", 1_000_000, "--out", how)
        while len(list((run / "checkpoints").glob("step-*"))) < 2:
            time.sleep(0.02)
        if how == "copy":
            shutil.copytree(run, other, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns(".*"))
            os.kill(child, 15)
        elif how == "move":
            run.rename(other)
        else:
            shutil.rmtree(run, ignore_errors=True)
            shutil.rmtree(run, ignore_errors=True)
        done = shell.wait(child)
        assert "Traceback" not in done.text, done.text[-3000:]
        assert done.code == (143 if how == "copy" else 7), (how, done.code, done.text[-900:])
        assert f"{how}" in done.text
        if how != "delete":
            step = json.loads((other / "metrics.jsonl").read_bytes().splitlines()[-1])["step"]
            shell.works("resume", other, "--steps", step + 5)
            shell.works("sample", other, "--out", "s.png")


@case
def readonly(shell: Shell) -> None:
    """A run that may only be read can be sampled and evaluated; resuming it is refused, and changes nothing."""
    run = trained(shell)
    (run / "manifest.json").write_bytes(b"")
    (shell.folder / "home").mkdir()
    for path in [shell.folder, run, *run.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    shell.works("sample", "run", "--out", "home/s.png", plain=True)
    shell.works("evaluate", "run", "--metric", "kid-random", "-n", 50, plain=True)
    shell.works("checkpoint", "verify", "run", plain=True)
    assert "cannot write to" in shell.fails(7, "sample", "run", "--out", "run/s.png", plain=True).replace(
        "cannot write samples to", "cannot write to"
    )
    assert "cannot write to run" in shell.fails(7, "resume", "run", "--steps", 9, plain=True)
    assert "cannot write to" in shell.fails(7, *TRAIN, "--steps", 1, "--out", "new", plain=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    shell.folder.chmod(0o755)


@case
def full(shell: Shell) -> None:
    """On a full disk every file fails with its name, and what was there stays; with room, the run resumes."""
    limits = (0, 200, 1000, 1100, 2000, 6000, 15_000, 25_000, 500_000)
    for limit in limits:
        name = f"run{limit}"
        text = shell.fails(7, *TRAIN, "--steps", 3, "--out", name, limit=limit)
        assert name in text
        shell.works(*TRAIN, "--steps", 3, "--out", name, "--resume")
        left = [path for path in (shell.folder / name).rglob(".*") if path.name != ".lock"]
        assert left == [], left
        before = {path: path.read_bytes() for path in (shell.folder / name).rglob("*") if path.is_file()}
        shell.fails(7, "resume", name, "--steps", 9, limit=limit)
        kept = [
            path for path, content in before.items() if path.suffix == ".safetensors" and path.read_bytes() == content
        ]
        assert len(kept) == 2, kept
        assert (
            (shell.folder / name / "metrics.jsonl")
            .read_bytes()
            .startswith(before[shell.folder / name / "metrics.jsonl"])
        )
        shell.works("resume", name, "--steps", 9)
    for limit in (0, 100, 300):
        for out in ("s.png", "s.npy", "s.safetensors", *["folder"] * (limit < 140)):  # a small PNG has as many bytes
            shell.fails(7, "sample", "run0", "-n", 200, "--out", out, limit=limit)
            assert not list(shell.folder.glob(".s.*"))
            assert not (shell.folder / out).is_file()
        shell.fails(7, "data", "digits", "--sheet", "sheet.png", limit=limit)
        assert not (shell.folder / "sheet.png").exists()


def attempt(name: str) -> str | None:
    """Return why a case does not hold, or None if it does."""
    with tempfile.TemporaryDirectory(prefix=f"gancore-{name}-", ignore_cleanup_errors=True) as folder:
        try:
            CASES[name](Shell(Path(folder)))
        except Exception:
            return traceback.format_exc()
    return None


def main() -> None:
    for module in ("sklearn.datasets", "gancore.run.resume", "gancore_cli.main", "gancore_plugins"):
        import_module(module)
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first one imports torch's compiler
    failed = 0
    for name in sys.argv[1:] or CASES:
        problem = attempt(name)
        failed += problem is not None
        print(f"{name}: {'holds' if problem is None else problem}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
