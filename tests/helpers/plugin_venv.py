"""The virtual environment of a plugin author, with gancore installed, and a shell."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

COMMANDS = ("gancore", "pip", "pytest", "hatchling")
HAS_LAWS = find_spec("gancore.testing") is not None
"""Whether gancore.testing can be imported: it needs hypothesis."""


class Environment:
    """A virtual environment that sees the packages of this interpreter and installs without network access."""

    def __init__(self, folder):
        self.folder, self.site = folder, folder / "venv"
        pip = ["--without-pip"] * (find_spec("pip") is not None)  # installing it takes half of the time
        subprocess.run([sys.executable, "-m", "venv", *pip, self.site], check=True)
        print_path = [sys.executable, "-I", "-c", "import sys; print(*sys.path, sep='\\n')"]
        path = subprocess.run(print_path, capture_output=True, text=True, check=True).stdout
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        (self.site / "lib" / python / "site-packages" / "outer.pth").write_text(path)
        for script in entry_points(group="console_scripts"):
            if script.name in COMMANDS:
                self._write(script)

    def _write(self, script):
        """Write a console script like pip does."""
        file = self.site / "bin" / script.name
        lines = [f"#!{self.site}/bin/python", "import sys", f"from {script.module} import {script.attr}"]
        file.write_text("\n".join([*lines, f"sys.exit({script.attr}())", ""]))
        file.chmod(0o755)

    def __call__(self, command, folder=None):
        """Run a shell command, with standard error in standard output, as on a terminal."""
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "PIP_", "PYTHON"))},
            "PATH": f"{self.site / 'bin'}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",  # they are installed already
            "PIP_NO_BUILD_ISOLATION": "0",  # pip inverts it: 0 turns isolation off
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        return subprocess.run(  # noqa: S602  # the commands are from our own documentation
            command,
            shell=True,
            cwd=folder or self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    def works(self, command, folder=None):
        done = self(command, folder)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout
