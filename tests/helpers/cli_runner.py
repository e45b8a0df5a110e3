"""Run the command `gancore` in a subprocess."""

import os
import subprocess
import sys

BY_HAND = ["--generator", "mlp", "--discriminator", "mlp", "--loss", "bce", "--dataset", "digits"]


def read_all(leader):
    """Return all output of a pseudo-terminal, until its other end is closed."""
    output = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(leader)
    return output.decode()


class Gancore:
    """The command in a folder of its own. With a fork server, processes start with everything imported."""

    def __init__(self, folder, fork_server=None):
        self.folder, self.fork_server = folder, fork_server

    def __call__(self, *arguments, **environment):
        if self.fork_server:
            return self.fork_server.run(self.folder, *arguments, **environment)
        return subprocess.run(
            [sys.executable, "-m", "gancore_cli", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100", **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def works(self, *arguments, **environment):
        """Assert that the command succeeds, and return the completed process."""
        done = self(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, code, *arguments, **environment):
        """Assert that the command fails with `code` and the three lines of an error, and return their first line.

        Lines about the data and the networks may come before them. Several mistakes follow the first line.
        """
        done = self(*arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stderr)
        *before, kept, hint = done.stderr.splitlines()
        start = max(index for index, line in enumerate(before) if not line.startswith("  ("))
        first, *mistakes = before[start:]
        assert [line.split(":")[0] for line in (first, kept, hint)] == ["error", "kept", "next"], done.stderr
        assert all(line.partition(": ")[2] for line in (kept, hint))
        assert mistakes or first.partition(": ")[2]
        return "\n".join([first, *mistakes])
