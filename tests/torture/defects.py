"""Mutation tests: defects in a copy of the source that the tests must notice.

    python tests/torture/defects.py [NUMBER …]

Each is a small change that could be made by mistake: a flush omitted, an error swallowed, a state not restored. The
tests that it lists must fail. The program prints a table, and exits with 1 if fewer than 29 are noticed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENOUGH = 29


@dataclass(frozen=True)
class Defect:
    """A change at one place in one file, and the tests that should notice it."""

    summary: str
    file: str
    old: str
    new: str
    tests: str


STATE = "gancore/training/state.py"
RECORDER = "gancore/run/recorder.py"
STORE = "gancore/checkpoint/store.py"
ATOMIC = "gancore/utils/atomic.py"
LOCK = "gancore/utils/lock.py"
RESUME = "tests/core/run/test_resume.py"
CLI = "tests/cli/test_resume.py"
DEFECTS = [
    Defect(
        "the state of the noise is not restored",
        STATE,
        'self.noise.set_state(states["noise"].clone())',
        'states["noise"].clone()',
        f"{RESUME} tests/core/training/test_gan.py",
    ),
    Defect(
        "the state of torch's global generators is not restored",
        STATE,
        "        self.randomness.states = {name: states[name].clone() for name in self.randomness.states}",
        "        pass",
        f"{RESUME} tests/core/training/test_gan.py",
    ),
    Defect(
        "the state of optimizers is not restored",
        STATE,
        "state.load_optimizer(self.optimizers[player], modules, tensors)",
        "pass",
        f"{RESUME} tests/core/training/test_gan.py",
    ),
    Defect(
        "the data restart at the first batch",
        "gancore/training/loop.py",
        "gan.feed.batches(progress.images_seen,",
        "gan.feed.batches(0,",
        RESUME,
    ),
    Defect(
        "a checkpoint does not hold the most recent penalties",
        RECORDER,
        "state.model_dump(),",
        'state.model_copy(update={"penalties": {}}).model_dump(),',
        RESUME,
    ),
    Defect(
        "log lines after the resumed step stay",
        "gancore/run/resume.py",
        "truncate_log(self.directory.metrics, self.step, ",
        "truncate_log(self.directory.metrics, self.step + 99, ",
        RESUME,
    ),
    Defect(
        "log lines of the resumed step are all removed",
        "gancore/run/log.py",
        "lines -= at == step",
        "lines -= 99 * (at == step)",
        "tests/core/run/test_log.py",
    ),
    Defect(
        "a checkpoint does not list pending tasks",
        RECORDER,
        "state.model_dump(),",
        'state.model_copy(update={"pending": []}).model_dump(),',
        f"{RESUME} {CLI}",
    ),
    Defect(
        "a checkpoint does not hold the best value so far",
        RECORDER,
        "state.model_dump(),",
        'state.model_copy(update={"best": None}).model_dump(),',
        f"{RESUME} {CLI}",
    ),
    Defect(
        "a step is interrupted before its end",
        "gancore/run/interrupt.py",
        "        if not self._depth:\n            raise Interrupted(signal)",
        "        raise Interrupted(signal)",
        "tests/core/run/test_interrupt.py",
    ),
    Defect(
        "an interrupted run leaves no checkpoint of its last step",
        RECORDER,
        "self._saved != self._gan.progress.step:",
        "False:",
        f"{CLI} -k signal",
    ),
    Defect(
        "a second signal does not end the process at once",
        "cli/gancore_cli/signals.py",
        "os._exit(128 + number)",
        "return",
        f"{CLI} -k second",
    ),
    Defect(
        "SIGTERM is not handled",
        "cli/gancore_cli/signals.py",
        'signal.SIGTERM: "terminated",',
        "",
        f"{CLI} -k TERM",
    ),
    Defect(
        "the folder of a run is not locked",
        LOCK,
        "            lock.acquire()\n",
        "",
        "tests/core/run/test_lock.py tests/core/utils/test_lock.py",
    ),
    Defect(
        "the lock of a run does not name its process",
        LOCK,
        'os.write(descriptor, f"{os.getpid()}\\n".encode())',
        "pass",
        "tests/core/run/test_lock.py",
    ),
    Defect(
        "a file has its name before its content is on the disk",
        ATOMIC,
        "    if durable:\n        flush(temporary)\n    os.replace(temporary, path)\n",
        "    os.replace(temporary, path)\n    flush(path)\n",
        "tests/core/utils/test_atomic.py",
    ),
    Defect(
        "temporary files of a killed process stay",
        "gancore/run/directory.py",
        "    def _clear(self) -> None:\n",
        "    def _clear(self) -> None:\n        return\n",
        f"{CLI} -k before_its_first",
    ),
    Defect(
        "a checkpoint is not flushed",
        STORE,
        "            os.fsync(descriptor)\n",
        "",
        "tests/core/checkpoint/test_crashes.py tests/core/checkpoint/test_store.py",
    ),
    Defect(
        "the folder of a file is not flushed",
        ATOMIC,
        "        flush(path.parent)",
        "        pass",
        "tests/core/checkpoint/test_crashes.py tests/core/utils/test_atomic.py",
    ),
    Defect(
        "a checkpoint is not read back",
        STORE,
        "if os.pread(descriptor, _CHUNK, start) != content[start : start + _CHUNK]:",
        "if False:",
        "tests/core/checkpoint",
    ),
    Defect(
        "old checkpoints are removed before the new one is saved",
        RECORDER,
        "checkpoint.save(path, self._tensors(), self._about())\n",
        "checkpoint.prune(folder, 1, step), checkpoint.save(path, self._tensors(), self._about())\n",
        "tests/core/run/test_recorder.py tests/core/training/test_finite.py",
    ),
    Defect(
        "an error of the disk is swallowed",
        ATOMIC,
        '        raise StorageError(f"cannot write to',
        '        return\n        raise StorageError(f"cannot write to',
        "tests/core/checkpoint/test_store.py tests/core/checkpoint/test_crashes.py",
    ),
    Defect(
        "the digest is not compared",
        "gancore/checkpoint/format.py",
        "if _digest(tensors, about) != digest:",
        "if False:",
        "tests/core/checkpoint/test_format.py tests/core/checkpoint/test_store.py",
    ),
    Defect(
        "the newest checkpoint is used without validation",
        STORE,
        "for path in reversed(_named(Path(folder))):",
        "for path in _named(Path(folder))[-1:]:",
        f"tests/core/checkpoint/test_checkpoint_folder.py {CLI} -k 'damaged or folder'",
    ),
    Defect(
        "a checkpoint under the name of another step is used",
        STORE,
        "if _NAME.fullmatch(path.name) and path.name != path_of(path.parent, step).name:",
        "if False:",
        "tests/core/checkpoint/test_checkpoint_folder.py",
    ),
    Defect(
        "a link in place of a checkpoint is not replaced",
        STORE,
        "if os.path.lexists(path) and not os.path.isfile(path) and not path.is_symlink():",
        "if os.path.lexists(path) and not os.path.isfile(path):",
        "tests/core/checkpoint/test_store.py",
    ),
    Defect(
        "the update of G is not checked for NaN",
        "gancore/training/finite.py",
        "            if bad.any():",
        "            if bad.any() and checked.player == 'discriminator':",
        "tests/core/training/test_finite.py -k 'names or overflows'",
    ),
    Defect(
        "state that is not finite is saved",
        RECORDER,
        "self._gan.state.not_finite(tensors)",
        "[]",
        "tests/core/training/test_finite.py tests/core/run/test_recorder.py tests/core/training/test_recovery.py",
    ),
    Defect(
        "a rollback repeats the same noise",
        "gancore/training/recovery.py",
        "    gan.state.reseed(number)",
        "    pass",
        "tests/core/training/test_recovery.py",
    ),
    Defect(
        "random draws of a dataset depend on the process that loads it",
        "gancore/data/loader.py",
        'with blame("dataset"), seeded(derive_seed(self.seed, "items", position)):',
        'with blame("dataset"):',
        "tests/core/data/test_feed.py tests/core/training/test_loop.py",
    ),
    Defect(
        "changed data are not noticed",
        "gancore/run/resume.py",
        'if about.get("data", gan.feed.fingerprint) != gan.feed.fingerprint:',
        "if False:",
        f"{CLI} -k changed_data",
    ),
    Defect(
        "a config that was changed by hand is not noticed",
        "gancore/run/resume.py",
        "if wrong := refused(changed, before, now):",
        "if wrong := []:",
        f"{CLI} -k changed_by_hand",
    ),
    Defect(
        "a pipe in place of a file is read",
        "gancore/utils/files.py",
        "if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):",
        "if False:",
        "tests/core/utils/test_files.py",
    ),
    Defect(
        "pictures of any size are decoded",
        "plugins/gancore_plugins/readers/picture.py",
        "if (pixels := opened.width * opened.height) > max_pixels:",
        "if (pixels := 0):",
        "tests/plugins/readers/test_picture.py tests/plugins/datasets/test_folder.py",
    ),
    Defect(
        "the death of a loader's worker is attributed to the dataset",
        "gancore/data/loader.py",
        "raise self._death() from error\n        if failure",
        "raise\n        if failure",
        f"{CLI} -k worker",
    ),
    Defect(
        "a signal to all processes of a run ends the loader's workers",
        "gancore/data/loader.py",
        "signal.signal(number, signal.SIG_IGN)",
        "signal.signal(number, signal.SIG_DFL)",
        "tests/core/data/test_loader.py",
    ),
    Defect(
        "Python waits for the loader's workers for ever when it exits",
        "gancore/data/loader.py",
        "atexit.register(self.close)",
        "pass",
        "tests/core/data/test_loader.py -k exits",
    ),
]


def noticed(defect: Defect) -> str:
    """Return `noticed` if the tests fail, or what happened instead."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "copy"
        ignored = shutil.ignore_patterns(".git", "__pycache__", ".hypothesis", "runs", ".pytest_cache", ".mypy_cache")
        shutil.copytree(ROOT, copy, ignore=ignored)
        path = copy / defect.file
        source = path.read_text(encoding="utf-8")
        if source.count(defect.old) != 1:
            return f"the text occurs {source.count(defect.old)} times in {defect.file}, not once"
        path.write_text(source.replace(defect.old, defect.new), encoding="utf-8")
        found = os.pathsep.join(map(str, (copy, copy / "plugins", copy / "cli")))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-n0",
            "-p",
            "no:cacheprovider",
            *shlex.split(defect.tests),
        ]
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": found}, capture_output=True, text=True, check=False
        )
        if done.returncode and "\nFAILED " not in done.stdout:
            return "the tests themselves do not work"
        return {0: "not noticed", 1: "noticed"}.get(done.returncode, f"pytest ended with {done.returncode}")


def main() -> None:
    chosen = [int(number) for number in sys.argv[1:]] or range(1, len(DEFECTS) + 1)
    print("| | defect | file | tests |\n| --: | --- | --- | --- |", flush=True)
    good = 0
    for number in chosen:
        defect = DEFECTS[number - 1]
        result = noticed(defect)
        good += result == "noticed"
        print(f"| {number} | {defect.summary} | {defect.file} | {result} |", flush=True)
    print(f"\n{good} of {len(chosen)} noticed", flush=True)
    sys.exit(good < min(ENOUGH, len(chosen)))


if __name__ == "__main__":
    main()
