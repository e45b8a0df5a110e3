"""The real command `gancore`, as a subprocess."""

import os
import subprocess
import sys

BY_HAND = ["--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "digits"]


def read_all(leader):
    """All that is shown on a terminal, until its other end is closed."""
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(leader)
    return seen.decode()


class Gancore:
    """The real command in a folder of its own. With a zygote, its process has all imports from the start."""

    def __init__(self, folder, zygote=None):
        self.folder, self.zygote = folder, zygote

    def __call__(self, *arguments, **environment):
        if self.zygote and "PYTHONPATH" not in environment:
            return self.zygote.run(self.folder, *arguments, **environment)
        return subprocess.run(
            [sys.executable, "-m", "gancore_cli", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def works(self, *arguments, **environment):
        done = self(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, code, *arguments, **environment):
        """The one line of the error, after a look at the form of all three."""
        done = self(*arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stderr)
        lines = done.stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == ["error", "kept", "next"], done.stderr
        assert all(line.partition(": ")[2] for line in lines)
        return lines[0]
