"""A fork server for the command `gancore`: a process starts in a tenth of the time, with everything imported."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Not tensorboard and huggingface_hub, which tests replace by other modules on PYTHONPATH.
_SOURCE = """
import gc, json, os, signal, sys
import optuna, sklearn.datasets, torch, torch_fidelity
import gancore.report.page, gancore.run.recorder, gancore.run.resume, gancore.run.run, gancore.sampling.load
import gancore.study.page, gancore.study.study, gancore.testing, gancore_plugins, gancore_cli.main
from gancore_cli.main import main

torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # the first one imports torch's compiler, which takes seconds
gc.collect()
gc.freeze()  # commands collect garbage when they end: of their own objects, not of all that was imported
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    request = json.loads(line)
    if "process" in request:
        _, status = os.waitpid(request["process"], 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
        continue
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.chdir(request["folder"])
        os.environ.update(request["environment"])
        sys.path[:0] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
        for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), number)
        try:
            main(request["arguments"])
        except SystemExit as error:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.code or 0)
        finally:
            os._exit(99)
    print(child, file=answers, flush=True)
answers.close()
"""


class Zygote:
    """Runs `gancore ARGUMENTS`, several at a time, in processes forked from one that has imported everything.

    Assertions are disabled (-O), and warnings are errors.
    """

    def __init__(self):
        self._output = tempfile.TemporaryDirectory(prefix="gancore-output-")
        self._files = {}  # of standard output and standard error, by process
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, "-O", "-c", _SOURCE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "COLUMNS": "100"},
        )

    def _ask(self, request):
        """Return the number that the server answers."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, folder, *arguments, **environment):
        """Start the command, and return its process id, which `wait` takes."""
        self._started += 1
        out, err = files = [Path(self._output.name) / f"{self._started}-{name}" for name in ("out", "err")]
        request = {
            "folder": str(folder),
            "arguments": [*map(str, arguments)],
            "environment": environment,
            "out": str(out),
            "err": str(err),
        }
        process = self._ask(request)
        self._files[process] = files
        return process

    def wait_for_line(self, process):
        """Return the first line that the command writes to standard error, once it is there."""
        path = self._files[process][1]
        self.wait_until(process, lambda: path.exists() and "\n" in path.read_text())
        return path.read_text().partition("\n")[0]

    def wait_until(self, process, holds):
        """Wait until a condition holds; kill the command after a minute, and raise what it has written."""
        for _ in range(1200):
            if holds():
                return
            time.sleep(0.05)
        os.kill(process, signal.SIGKILL)
        raise TimeoutError(self.wait(process).stderr)

    def wait(self, process):
        """Wait for the command, and return what `subprocess.run` would."""
        code = self._ask({"process": process})
        files = self._files.pop(process)
        out, err = (path.read_text() for path in files)
        for path in files:
            path.unlink()
        return subprocess.CompletedProcess([], code, out, err)

    def run(self, folder, *arguments, **environment):
        """Run the command and wait for it."""
        return self.wait(self.start(folder, *arguments, **environment))

    def close(self):
        """Stop the fork server."""
        self._process.communicate(timeout=30)
        self._output.cleanup()
