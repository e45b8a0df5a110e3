"""The files in examples/launch parse, and the commands of gancore in them exist."""

import re
import shlex
import subprocess

import click
import pytest
import yaml

from gancore_cli.main import gancore
from helpers.doc_blocks import ROOT

FOLDER = ROOT / "examples" / "launch"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".md")


def strings_of(value):
    """The texts of a parsed file; a list of words is one."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return [shlex.join(value)]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in strings_of(child)]


def texts_of(path):
    """The texts of a file that may be commands. Kubernetes splits one into `command` and `args`."""
    if path.suffix != ".yaml":
        return [path.read_text()]
    document = yaml.safe_load(path.read_text())
    trainer = document.get("spec", {}).get("trainer", {})
    return [*strings_of(document), shlex.join([*trainer.get("command", ()), *trainer.get("args", ())])]


def commands_in(text):
    """The arguments of each command of gancore in a text."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found = [re.search(r"(?:\bgancore|-m gancore_cli) ((?:train|resume)\b.*)", line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_file_has_a_command_of_gancore_that_exists(path):
    commands = [command for text in texts_of(path) for command in commands_in(text)]
    assert commands
    for name, *arguments in commands:
        command = gancore.commands[name]
        context = command.make_context(name, arguments, parent=click.Context(gancore, **gancore.context_settings))
        assert context.params["recipe"] == "cifar10"
        assert context.params["resume"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_launch_file_says_whether_it_was_tried_as_the_table_does(path):
    comments = " ".join(line.removeprefix("#") for line in path.read_text().splitlines() if line.startswith("#"))
    (row,) = [line for line in (FOLDER / "README.md").read_text().splitlines() if f"`{path.name}`" in line]
    says_tried = row.split("|")[3].strip().startswith("yes")
    assert says_tried == ("Tried with" in comments)
    assert says_tried or "Untried: " in comments


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".sbatch"], ids=lambda path: path.name)
def test_launch_script_parses(path):
    assert subprocess.run(["bash", "-n", path], capture_output=True).stderr == b""  # noqa: S607
