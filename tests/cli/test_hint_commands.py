"""Commands in hints can be pasted into a shell."""

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gancore_cli.main
from gancore.errors import PluginError
from gancore_cli.hints import one_line_command, with_plugins
from gancore_cli.options import PluginOptions

ODD = "my plug's\n.py"


def said(capsys, arguments, monkeypatch, hint):
    def fail(**_options):
        error = PluginError("x\ny", hint)
        error.kept = "checkpoint a\nb"
        raise error

    monkeypatch.setattr(gancore_cli.main.gancore.commands["resume"], "callback", fail)
    monkeypatch.setattr("gancore_cli.startup.begin", lambda: None)
    with pytest.raises(SystemExit):
        gancore_cli.main.main(arguments)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        ("gancore resume 'a\nb'", ["resume", "a\nb"]),
        ("gancore --plugin more.py COMMAND", ["--plugin", "more.py", "--no-plugins", "--plugin", ODD, "resume", "r"]),
    ],
)
def test_hint_repeats_the_plugins_of_the_command_on_one_line(tmp_path, monkeypatch, capsys, hint, words):
    monkeypatch.chdir(tmp_path)
    Path(ODD).touch()
    given_options = ["--no-plugins", "--plugin", ODD]
    lines = said(capsys, [*given_options, "resume", "r"], monkeypatch, hint)
    assert lines[:2] == ["error: x y", r"kept: checkpoint a\nb"]
    (line,) = lines[2:]
    wanted = words if "COMMAND" in hint else [*given_options, *words]
    script = f"gancore() {{ printf '%s\\0' \"$@\"; }}; {line.removeprefix('next: ')}"
    pasted = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert pasted.split("\0")[:-1] == wanted


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), max_size=3))
def test_hint_command_is_one_printable_line(words):
    line = one_line_command(shlex.join(words))
    assert line.isprintable()
    if all(word.isprintable() for word in words):
        assert shlex.split(line) == words


def test_hint_repeats_the_plugins_after_prose_too():
    hint = with_plugins("change it; then: gancore resume r, or gancore list", PluginOptions(no_plugins=True))
    assert hint == "change it; then: gancore --no-plugins resume r, or gancore --no-plugins list"
