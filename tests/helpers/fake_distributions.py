"""Distributions with plugins: files as pip installs them, or a package installed by pip."""

import subprocess
import sys

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"

[project.entry-points."gancore.v1"]
{plugin} = "{module}"

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""

LOSS = """
from gancore import Loss, hookimpl


class Named(Loss):
    name = "{name}"

    def discriminator(self, real, fake):
        return fake.logits.mean() - real.logits.mean()

    def generator(self, fake, real):
        return -fake.logits.mean()


@hookimpl
def gancore_losses():
    return [Named]
"""


def unpack(site, plugin, source, *, name=None, version="1.0", group="gancore.v1"):
    """Write the files of an installed package with one module and an entry point for it."""
    name, module = name or f"{plugin}-gan", f"{plugin}_gan"
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{plugin} = {module}\n")
    (site / f"{module}.py").write_text(source)
    return site


def pip_install(site, project, source, *, name, version, plugin, module):
    """Build such a package and install it with pip."""
    project.mkdir(parents=True)
    text = PYPROJECT.format(name=name, version=version, plugin=plugin, module=module)
    (project / "pyproject.toml").write_text(text)
    (project / f"{module}.py").write_text(source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", site, project]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return site
