"""Processes that begin where everything is imported already: real ones, in a tenth of the time."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCE = """
import json, os, signal, sys
import sklearn.datasets, torch, gancore.run.recording, gancore.run.resume, gancore_plugins, gancore_cli.main
from gancore_cli.main import main

torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first one imports torch's compiler, which takes seconds
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.chdir(asked["folder"])
        os.environ.update(asked["environment"])
        for number, name in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
        try:
            main(asked["arguments"])
        except SystemExit as error:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code or 0)
        finally:
            os._exit(99)
    print(json.dumps({"process": child}), file=answers, flush=True)
    _, status = os.waitpid(child, 0)
    print(json.dumps({"returncode": os.waitstatus_to_exitcode(status)}), file=answers, flush=True)
answers.close()
"""


class Zygote:
    """Runs `gancore ARGUMENTS`, one at a time, each in a process that is forked from one with all imports.

    Python takes assertions out of them (-O), and warnings are errors.
    """

    def __init__(self):
        self._said = tempfile.TemporaryDirectory(prefix="gancore-said-")
        self._process = subprocess.Popen(
            [sys.executable, "-O", "-c", _SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "COLUMNS": "100"},
        )

    def start(self, folder, *arguments, **environment):
        """The number of the process. `wait` must follow."""
        self._files = tuple(Path(self._said.name) / name for name in ("out", "err"))
        out, err = map(str, self._files)
        asked = {
            "folder": str(folder),
            "arguments": [*map(str, arguments)],
            "environment": environment,
            "out": out,
            "err": err,
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["process"]

    def wait(self):
        """What has become of it, as `subprocess.run` tells it."""
        code = json.loads(self._process.stdout.readline())["returncode"]
        out, err = (path.read_text() for path in self._files)
        return subprocess.CompletedProcess([], code, out, err)

    def run(self, folder, *arguments, **environment):
        """Both of these."""
        self.start(folder, *arguments, **environment)
        return self.wait()

    def close(self):
        self._process.communicate(timeout=30)
        self._said.cleanup()
