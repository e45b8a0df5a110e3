"""The lock file of development agrees with pyproject.toml."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-dev.lock"


def pinned():
    """Return the requirements of the lock file by name; several for those whose version depends on Python's."""
    found = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def direct():
    """Return what pyproject.toml asks for with the extra `dev`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, pending, found = project["optional-dependencies"], ["dev"], list(map(Requirement, project["dependencies"]))
    while pending:
        for requirement in map(Requirement, extras[pending.pop()]):
            if requirement.name == project["name"]:
                pending += requirement.extras
            else:
                found.append(requirement)
    return found


def test_lock_file_pins_a_version_that_satisfies_each_dependency():
    versions = pinned()
    for requirement in direct():
        pins = versions.get(canonicalize_name(requirement.name), [])
        assert pins, f"{requirement.name} is missing; CONTRIBUTING.md has the command that writes the file"
        for pin in pins:
            (version,) = pin.specifier
            assert version.operator == "=="
            assert requirement.specifier.contains(version.version), f"{pin} is not {requirement}"


def test_lock_file_names_no_server():
    assert not re.search(r"https?:|file:|--(extra-)?index-url|--find-links", LOCK.read_text(encoding="utf-8"))
