"""Saves that are killed at every operation, and at random times: `python tests/torture/crashes.py 500`.

After a crash, every checkpoint that was reported as saved must be valid, and no other files may stay.
"""

import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

from gancore.checkpoint import store as checkpoint

KEEP = 2
KILLED = 137
PATCHED = ("open", "write", "fsync", "pread", "close", "replace", "unlink")


def tensors(step):
    """Tensors that differ in every step, and are large enough for a partial write."""
    return {"first": torch.full((100, 100), float(step)), "last": torch.arange(step, step + 1000)}


def about(step):
    return {
        "config": {},
        "data_format": {
            **{"shape": [1, 8, 8], "condition": None, "classes": []},
            **{"dtype": "uint8", "value_range": None, "mirrors": False},
        },
        "progress": {"step": step, "images_seen": 4 * step, "seconds": 0.5},
        "made_with": {"plugins": {"gancore": "1.0"}},
    }


def save(folder, step, report):
    """Save as a run does: save the step, report it, remove old checkpoints, and save the best one."""
    checkpoint.save(checkpoint.path_of(folder, step), tensors(step), about(step))
    report(step)
    checkpoint.prune(folder, KEEP, step)
    checkpoint.save(checkpoint.best_of(folder), tensors(step), about(step))


def inspect(folder, reported, last):
    """What is wrong with a folder after a crash while steps up to `last` were saved. Removes temporary files."""
    found = checkpoint.newest_valid(folder)
    if found.checkpoint is None:
        return "no valid checkpoint is left"
    wrong = []
    step = found.checkpoint.about["progress"]["step"]
    if not reported <= step <= last:
        wrong.append(f"step {reported} was reported, and {step} is the newest")
    if found.rejected:
        wrong.append(f"rejected: {found.rejected}")
    kept = checkpoint.kept(folder)
    if len(kept) < KEEP:
        wrong.append(f"kept {len(kept)}")
    best = checkpoint.best_of(folder)
    for path in [*kept, best]:
        saved = checkpoint.load_run(path)
        step = saved.about["progress"]["step"]
        if path not in (best, checkpoint.path_of(folder, step)):
            wrong.append(f"{path.name} is of step {step}")
        if not all(torch.equal(saved.tensors[name], value) for name, value in tensors(step).items()):
            wrong.append(f"{path.name} holds other tensors")
    checkpoint.remove_temporary_files(folder)
    other = {path.name for path in folder.iterdir()} - {path.name for path in [*kept, best]}
    return "; ".join([*wrong, *([f"other files: {other}"] if other else [])])


class Disk:
    """Counts the operations of the process, and ends it before, halfway through, or after one of them.

    With `power`, as in a power failure, data that was not flushed is lost: contents of files, and names in folders.
    """

    def __init__(self, at, when, power):
        self.at, self.when, self.power = at, when, power
        self.done, self.unflushed, self.renamed, self.folders = [], set(), [], {}
        self.real = {name: getattr(os, name) for name in PATCHED}
        for name in PATCHED:
            setattr(os, name, self.watched(name))

    def watched(self, name):
        def operation(*arguments, **options):
            self.done.append(name)
            due = len(self.done) == self.at
            if due and self.when == "before":
                self.end()
            if due and self.when == "halfway" and name == "write":
                descriptor, content = arguments
                self.unflushed.add(descriptor)
                self.real["write"](descriptor, content[: len(content) // 2])
                self.end()
            result = self.real[name](*arguments, **options)
            self.remember(name, arguments, result)
            if due:
                self.end()
            return result

        return operation

    def remember(self, name, arguments, result):
        if name == "open" and os.path.isdir(arguments[0]):
            self.folders[result] = Path(arguments[0])
        elif name == "open":
            self.folders.pop(result, None)
        elif name == "write":
            self.unflushed.add(arguments[0])
        elif name == "fsync" and arguments[0] in self.folders:
            self.renamed = [each for each in self.renamed if each[1].parent != self.folders[arguments[0]]]
        elif name == "fsync":
            self.unflushed.discard(arguments[0])
        elif name == "close" and arguments[0] in self.unflushed:  # a power failure loses it, closed or not
            raise AssertionError("a file was closed before it was flushed")
        elif name == "replace":
            self.renamed.append((Path(arguments[0]), Path(arguments[1])))

    def end(self):
        if self.power:
            for descriptor in self.unflushed:
                os.ftruncate(descriptor, 0)
            for temporary, path in self.renamed:
                if path.name.startswith("step-"):  # the previous best is not known here
                    os.rename(path, temporary)
        os._exit(KILLED)


def forked(work):
    """Run `work` in a child process; return its ID, and the pipe with the steps that it reports."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about threads, of which the child uses none
        child = os.fork()
    if child == 0:
        code = 1
        try:
            really = os.write
            work(lambda step: really(writing, f"{step}\n".encode()))
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child, reading):
    with open(reading) as pipe:
        reported = [int(line) for line in pipe.read().split()]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), max(reported, default=0)


def begun(folder):
    """Fill the folder with two checkpoints and a best one."""
    first = folder.with_name("begun")
    if not first.exists():
        first.mkdir()
        for step in (1, 2):
            save(first, step, lambda step: None)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(first, folder)


def every_operation(folder):
    """Crash at each operation of a save; yield the case, and what is wrong after it."""
    named = [name for name in operations(folder) if name != "report"]
    for power, when in itertools.product((False, True), ("before", "halfway", "after")):
        for at, name in enumerate(named, 1):
            if when == "halfway" and name != "write":
                continue
            begun(folder)

            def work(report, at=at, when=when, power=power):
                Disk(at, when, power)
                save(folder, 3, report)

            status, reported = ended(*forked(work))
            wrong = inspect(folder, max(reported, 2), 3)
            yield (at, name, when, power), wrong if status == KILLED else f"status {status}"


def operations(folder):
    """The names of all operations of a save, in order."""
    begun(folder)

    def work(report):
        disk = Disk(0, "", False)
        save(folder, 3, lambda step: disk.done.append("report"))
        for name in disk.done:
            report([*PATCHED, "report"].index(name))

    child, reading = forked(work)
    with open(reading) as pipe:
        names = [[*PATCHED, "report"][int(line)] for line in pipe.read().split()]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return names


def random_times(folder, count, seed=0):
    """Kill a process that only saves, again and again; the next one resumes from what is left."""
    chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
    begun(folder)
    begin = time.perf_counter()
    save(folder, 3, lambda step: None)
    longest = 4 * (time.perf_counter() - begin)
    for index in range(count):
        start = checkpoint.newest_valid(folder).checkpoint.about["progress"]["step"]

        def work(report, start=start):
            report(start)
            for step in itertools.count(start + 1):
                save(folder, step, report)

        child, reading = forked(work)
        select.select([reading], [], [])  # it has begun
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        status, reported = ended(child, reading)
        wrong = inspect(folder, max(reported, start), 10**9)
        yield (index, reported - start), wrong if status == -signal.SIGKILL else f"status {status}"


SAVES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import crashes
crashes.save(Path(sys.argv[1]), 3, lambda step: print(step, flush=True))
"""


def traced(folder, calls, injected, where=Path(__file__).parent):
    """Run a save under strace, which kills it or makes its system calls fail."""
    begun(folder)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{injected}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", SAVES, folder, where], capture_output=True, text=True, check=False
    )
    reported = max(map(int, done.stdout.split()), default=2)
    return done, inspect(folder, reported, 3)


def under_a_tracer(folder):
    for calls, injected in itertools.product(
        ("rename,renameat,renameat2", "fsync", "unlink,unlinkat"),
        ("signal=KILL:when=1", "signal=KILL:when=2", "error=EIO:when=1", "error=ENOSPC:when=2"),
    ):
        done, wrong = traced(folder, calls, injected)
        last = (done.stderr.strip().splitlines() or ["-"])[-1]
        failed = "error=" in injected and done.returncode != 0 and "StorageError" not in last
        yield (calls, injected, done.returncode, last), wrong or ("another error" if failed else "")


def main(count):
    """Try all cases, and print what is broken."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "checkpoints"
        print("a save is:", " ".join(operations(folder)))
        broken = 0
        parts = {
            "every operation": every_operation(folder),
            "random times": random_times(folder, count),
            **({"under strace": under_a_tracer(folder)} if shutil.which("strace") else {}),
        }
        for name, cases in parts.items():
            begin, seen, saves = time.perf_counter(), 0, 0
            for case, wrong in cases:
                seen += 1
                saves += case[1] if name == "random times" else 0
                if name == "under strace":
                    print("   ", *case)
                if wrong:
                    broken += 1
                    print(f"{name}: {case}: {wrong}")
            more = f", {saves} saves" if saves else ""
            print(f"{name}: {seen} crashes{more}, {time.perf_counter() - begin:.0f} s")
    print(json.dumps({"broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 500))
