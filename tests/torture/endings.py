"""Signals, environments and limits that end a command: `python tests/torture/endings.py [WORD]`.

Each case is a real command in a shell of its own, with what it must answer: the exit code, and words in the order in
which they are printed. WORD selects the cases whose names contain it.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HELPERS = Path(__file__).parents[1] / "helpers"
CARELESS = HELPERS / "careless_plugin.py"
TRAPS = HELPERS / "crash_plugin.py"
TINY = (
    "--generator mlp --discriminator mlp --loss bce --dataset digits --device cpu --batch-size 8 "
    "--set generator.widths=[8] --set discriminator.widths=[8]"
)
ENDLESS = f"gancore train {TINY} --minutes 9 --out run -q"
BEGUN = "until ls run/checkpoints/step-* >/dev/null 2>&1; do sleep 0.1; done"
RUN = f"gancore train {TINY} --steps 3 --out run -q"
HOMELESS = (
    "mkdir site; printf 'import pwd\\ndef unknown(_number): raise KeyError\\npwd.getpwuid = unknown\\n' "
    "> site/sitecustomize.py; unset HOME GANCORE_CACHE GANCORE_SETTINGS XDG_CACHE_HOME XDG_CONFIG_HOME; "
    "export PYTHONPATH=$PWD/site:$PYTHONPATH"
)
"""Makes commands those of a user whom the system does not know, such as a number that a container runs as."""


@dataclass(frozen=True)
class Case:
    """A script for bash, in which `gancore` is the command, and which first runs `before`.

    Its exit code must be `code`, its output must have `said` in this order, and no traceback.
    """

    name: str
    script: str
    code: int
    said: tuple[str, ...] = ()
    before: str = ""


CASES = [
    *(
        Case(
            f"{name} ends a run with its step saved",
            f"{ENDLESS} & P=$!; {BEGUN}; kill -{name} $P; wait $P",
            code,
            (what, "kept: checkpoint run/checkpoints/step-", "next: gancore resume run"),
        )
        for name, code, what in (
            ("HUP", 129, "SIGHUP"),
            ("TERM", 143, "terminated"),
            ("INT", 130, "interrupted"),
            ("XCPU", 152, "ulimit -t"),
        )
    ),
    Case(
        "a run below nohup ignores SIGHUP",
        f"nohup {ENDLESS} & P=$!; {BEGUN}; kill -HUP $P; sleep 1; kill $P; wait $P",
        143,
    ),
    Case(
        "timeout, which sends two signals, ends a run with its step saved",
        f"timeout 999 {ENDLESS} & P=$!; {BEGUN}; kill -TERM $P; wait $P",
        143,
        ("terminated", "kept: checkpoint"),
    ),
    Case(
        "a limit of processor time ends a run with its step saved",
        f"ulimit -S -t 30; {ENDLESS}",
        152,
        ("ulimit -t", "kept: checkpoint"),
    ),
    Case(
        "few files", f"ulimit -n 6; {RUN}", 10, ("Too many open files; this process may open 6 files", "ulimit -n 4096")
    ),
    Case(
        "few files for workers",
        f"ulimit -n 16; {RUN} --set training.data=stream --set training.workers=6",
        10,
        ("worker cannot be started", "this process may open 16 files"),
    ),
    Case("little memory", f"ulimit -v 2500000; {RUN}", 10, ("note: this process may have", "memory ran out")),
    Case(
        "a deleted working directory", f"mkdir gone; cd gone; rmdir ../gone; {RUN}", 7, ("has been deleted", "next: cd")
    ),
    Case("all streams closed", f"{RUN} <&- >&- 2>&- && gancore checkpoint verify run >/dev/null", 0),
    Case("a reader that has gone", f"{RUN} --json | true; exit ${{PIPESTATUS[0]}}", 0),
    Case(
        "a full disk for the result",
        f"{RUN} --json >/dev/full",
        7,
        ("cannot write the result", "kept: checkpoint run/"),
    ),
    Case("no home", f"env -u HOME -u GANCORE_CACHE -u XDG_CACHE_HOME {RUN}", 0),
    Case("a folder of temporary files that is missing", f"TMPDIR=/nonexistent {RUN}", 0),
    Case("no home that the system knows", f"{HOMELESS}; TMPDIR=/nonexistent gancore recipes", 0, ("vanilla",)),
    Case(
        "no home that the system knows for a cache",
        f"{HOMELESS}; {RUN}; CODE=$?; GANCORE_CACHE=cache {RUN} || exit 1; exit $CODE",
        2,
        ("there is no cache folder: HOME is not set", "next: name a folder: export GANCORE_CACHE="),
    ),
    Case(
        "the locale C with a path of other letters",
        "export LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0; "
        f"gancore train {TINY} --steps 3 --out r→é && gancore sample r→é -n 4 --out ü.png && ls r→é/config.toml ü.png",
        0,
        ("r→é/config.toml", "ü.png"),
    ),
    Case(
        "two resumes at once, of which one ends",
        "gancore resume run --steps 9000 -q & P=$!; gancore resume run --steps 9000 -q; A=$?; wait $P; B=$?; "
        'gancore checkpoint verify run; echo "$A and $B"; [ $((A + B)) = 8 ] && [ $((A * B)) = 0 ]',
        0,
        before=RUN,
    ),
    Case(
        "modules of the working folder with the names of packages",
        f"echo 'raise RuntimeError(1)' | tee torch.py click.py json.py gancore.py numpy.py >/dev/null; {RUN}",
        0,
    ),
    Case("the locale C", f"LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {RUN} && gancore recipes", 0, ("vanilla",)),
    Case(
        "an encoding without the name of a folder",
        f"PYTHONIOENCODING=latin-1 gancore train {TINY} --steps 3 --out r→x",
        0,
    ),
    Case(
        "a run of minutes counts the time for which it is stopped",
        f"gancore train {TINY} --minutes 0.5 --out run -q & P=$!; until [ -s run/metrics.jsonl ]; do sleep 0.1; done; "
        "kill -STOP $P; sleep 31; kill -CONT $P; SECONDS=0; wait $P && [ $SECONDS -lt 15 ] && "
        "gancore checkpoint verify run",
        0,
    ),
    Case(
        "a run of minutes ignores jumps of the system's clock",
        "mkdir site; printf 'import itertools, time\\nnow, jumps = time.time, itertools.cycle([-1e6, 1e6])\\n"
        "time.time = lambda: now() + next(jumps)\\n' > site/sitecustomize.py; "
        f"export PYTHONPATH=$PWD/site:$PYTHONPATH; gancore train {TINY} --minutes 0.1 --out run -q && "
        "grep -Eo '\"seconds\": ?[0-9]+' run/metrics.jsonl | tail -n 1 | tr -d ' '",
        0,
        ('"seconds":',),
    ),
    Case(
        "a stopped run continues",
        f"{RUN} --steps 300 & P=$!; {BEGUN}; kill -TSTP $P; sleep 1; kill -CONT $P; wait $P",
        0,
    ),
]


def check(case, folder):
    """Run a case in an empty folder, and return what is wrong with it; empty if nothing is."""
    command = folder / "bin" / "gancore"
    command.parent.mkdir()
    command.write_text(f'#!/bin/bash\nexec {sys.executable} -m gancore_cli "$@"\n')
    command.chmod(0o755)
    place = folder / "here"
    place.mkdir()
    environment = {**os.environ, "COLUMNS": "100", "PATH": f"{command.parent}:{os.environ['PATH']}"}
    for script in filter(None, (case.before, case.script)):
        done = subprocess.run(["/bin/bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True)
    output, wrong, at = done.stdout + done.stderr, [], 0
    if done.returncode != case.code:
        wrong.append(f"exit code {done.returncode} instead of {case.code}")
    for words in case.said:
        found = output.find(words, at)
        if found < 0:
            wrong.append(f"{words!r} is missing")
        at = max(at, found)
    wrong += [f"{words!r} is printed" for words in ("Traceback", "a bug in gancore") if words in output]
    return "\n".join([*wrong, output]) if wrong else ""


def main():
    """Run the selected cases, and exit with the number of those that fail."""
    chosen = [case for case in CASES if all(word in case.name for word in sys.argv[1:])]
    failed = 0
    for case in chosen:
        with tempfile.TemporaryDirectory(prefix="gancore-endings-") as folder:
            wrong = check(case, Path(folder))
        failed += bool(wrong)
        print(f"{'FAILED' if wrong else 'ok':<7}{case.name}", *wrong.splitlines(), sep="\n       ", flush=True)
    print(f"{len(chosen)} cases, {failed} failed")
    sys.exit(failed)


if __name__ == "__main__":
    main()
