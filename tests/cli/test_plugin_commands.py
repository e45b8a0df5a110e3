"""Commands of plugins: `gancore NAME` from an installed package or a file."""

import json
import subprocess
import sys

import pytest

from helpers.cli_runner import BY_HAND, Gancore
from helpers.fake_distributions import LOSS, pip_install, unpack

FORKED = True

TOOLS = '''
import os
import pathlib
import sys

import click

import gancore
from gancore import hookimpl

pathlib.Path(os.environ.get("CANARY", os.devnull)).touch()
print("printed at import")


@click.command()
@click.argument("number", type=int)
def double(number):
    """Print twice NUMBER."""
    click.echo(f"twice {number} is {2 * number}")
    return number


@click.command()
@click.argument("how")
@click.pass_context
def fail(context, how):
    """Fail in some way."""
    if how == "exit":
        context.exit(3)
    if how == "stop":
        sys.exit("stopped")
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "deny":
        raise PermissionError(13, "Permission denied", "/far")
    raise {
        "raise": ValueError("no luck"),
        "message": click.ClickException("no pictures here"),
        "usage": click.UsageError("a wrong value"),
        "config": gancore.ConfigError("the config is wrong", "correct it"),
        "plugin": gancore.PluginError("the part is wrong", "correct it"),
    }[how]


@click.group()
def more():
    """More commands."""


@more.command()
def inner():
    """Print a word."""
    click.echo("inside")


@hookimpl
def gancore_commands():
    return [double, fail, more]
'''

COMMAND = """
import click

from gancore import hookimpl


@click.command("{name}")
def command():
    click.echo("from {plugin}")


@hookimpl
def gancore_commands():
    return [command]
"""


def command(plugin, name):
    return COMMAND.format(plugin=plugin, name=name)


def warnings(done):
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


@pytest.fixture(scope="module")
def tools_site(tmp_path_factory):
    """Folder in which pip has installed plugin `tools` of package `tools-gan` 1.2."""
    folder = tmp_path_factory.mktemp("tools")
    return pip_install(
        folder / "site", folder / "project", TOOLS, name="tools-gan", version="1.2", plugin="tools", module="tools_gan"
    )


@pytest.fixture
def tools(gancore):
    """The command with the same plugin as a file."""
    (gancore.folder / "tools.py").write_text(TOOLS)
    return lambda *arguments, **environment: gancore("--plugin", "tools.py", *arguments, **environment)


# Installed packages


def test_installed_command_runs_prints_and_is_listed(gancore, tools_site):
    site = str(tools_site)
    done = Gancore(gancore.folder).works("double", "21", PYTHONPATH=site)  # in a process of its own
    assert (done.stdout, done.stderr) == ("twice 21 is 42\n", "printed at import\n")
    assert (
        "Usage: gancore tools-gan:double [OPTIONS] NUMBER"
        in gancore.works("tools-gan:double", "-h", PYTHONPATH=site).stdout
    )
    rows = json.loads(gancore.works("plugins", "list", "--json", PYTHONPATH=site).stdout)
    assert {row["name"]: row["commands"] for row in rows} == {"builtin": [], "tools": ["double", "fail", "more"]}


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--help"], {}),
        (["--version"], {}),
        (["train", "--help"], {}),
        (["plugins", "list", "--no-load"], {}),
        (["--no-plugins", "double", "1"], {}),
        (["double", "1"], {"GANCORE_DISABLE_PLUGINS": "tools"}),
        (["t"], {"_GANCORE_COMPLETE": "zsh"}),
    ],
    ids=lambda value: " ".join(value),
)
def test_help_completion_and_switched_off_plugins_import_no_plugin(tmp_path, tools_site, arguments, environment):
    canary = tmp_path / "canary"
    done = Gancore(tmp_path)(*arguments, PYTHONPATH=str(tools_site), CANARY=str(canary), **environment)
    assert not canary.exists()
    assert "double" not in done.stdout
    if "double" in arguments:
        assert done.returncode == 5
        assert "plugin 'tools' of tools-gan 1.2 (tools = tools_gan): it is switched off by" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["trian"]], ids=lambda arguments: arguments[0])
def test_help_and_wrong_names_without_plugins_load_no_torch(tmp_path, arguments):
    code = "from gancore_cli.main import main\ntry: main(sys.argv[1:])\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", f"import sys; {code}", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "AssertionError" not in done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr
    assert arguments == ["--help"] or done.stderr.endswith("\nnext: gancore train --help\n")


def test_broken_plugins_cost_one_warning_each_and_other_commands_run(gancore):
    site = unpack(gancore.folder / "site", "fine", command("fine", "wave"))
    unpack(site, "raises", "raise RuntimeError('no such luck')")
    unpack(site, "hook", "from gancore import hookimpl\n@hookimpl\ndef gancore_commands(): return 1 / 0\n")
    unpack(site, "wrong", "from gancore import hookimpl\n@hookimpl\ndef gancore_commands(): return [print]\n")
    done = gancore.works("wave", PYTHONPATH=str(site))
    assert done.stdout == "from fine\n"
    for plugin, cause in (
        ("raises", "RuntimeError: no such luck"),
        ("hook", "ZeroDivisionError: division by zero"),
        ("wrong", "gancore_commands must return click commands; received <built-in function print>"),
    ):
        (line,) = [line for line in warnings(done) if f"plugin '{plugin}'" in line]
        assert cause in line
        assert f"GANCORE_DISABLE_PLUGINS={plugin}" in line
    assert warnings(gancore.works("recipes", PYTHONPATH=str(site))) == warnings(done)
    unknown = gancore("wove", PYTHONPATH=str(site))
    assert unknown.returncode == 5
    assert "unknown command 'wove'; did you mean 'wave'?" in unknown.stderr


# One file


def test_command_of_a_built_in_name_does_not_replace_it(gancore):
    (gancore.folder / "mine.py").write_text(command("mine", "recipes"))
    done = gancore.works("--plugin", "mine.py", "recipes")
    assert "vanilla" in done.stdout
    (line,) = warnings(done)
    assert "offers command recipes, but the built-in keeps that name; use mine.py:recipes for the plugin's" in line
    assert gancore.works("--plugin", "mine.py", "mine.py:recipes").stdout == "from mine\n"


def test_command_of_two_plugins_is_ambiguous(gancore):
    for plugin in ("a", "b"):
        (gancore.folder / f"{plugin}.py").write_text(command(plugin, "twin"))
    files = ["--plugin", "b.py", "--plugin", "a.py"]
    done = gancore(*files, "twin")
    assert done.returncode == 5
    assert "error: command 'twin' is ambiguous: a.py " in done.stderr
    assert "next: choose one: a.py:twin or b.py:twin" in done.stderr
    assert gancore.works(*files, "b.py:twin").stdout == "from b\n"


@pytest.mark.parametrize(
    ("how", "code", "error", "following"),
    [
        ("message", 5, "command 'fail': no pictures here", "gancore --plugin tools.py fail --help"),
        ("usage", 2, "error: a wrong value", "gancore --plugin tools.py fail --help"),
        ("config", 2, "error: the config is wrong", "correct it"),
        ("plugin", 5, "error: the part is wrong", "correct it"),
        ("deny", 7, "error: cannot access /far: Permission denied", "check the path"),
        ("interrupt", 130, "error: interrupted", "gancore --plugin tools.py fail --help"),
    ],
)
def test_error_of_a_command_is_three_lines(tools, how, code, error, following):
    done = tools("fail", how)
    assert done.returncode == code
    lines = done.stderr.splitlines()[-3:]
    assert error in lines[0]
    assert lines[1] == ("kept: nothing was changed" if how == "usage" else "kept: what the command wrote before")
    assert lines[2].startswith(f"next: {following}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("how", "error", "following"),
    [
        ("raise", "ValueError: no luck", ""),
        ("stop", "it ended the process: SystemExit: stopped", ": click.Context.exit sets the exit code of a command"),
    ],
)
def test_exception_in_a_command_names_the_plugin_and_shows_where(tools, how, error, following):
    done = tools("fail", how)
    assert done.returncode == 5
    assert 'tools.py", line' in done.stderr
    line, kept, following_line = done.stderr.splitlines()[-3:]
    assert line.startswith("error: plugin 'tools' of tools.py ")
    assert line.endswith(f"(tools.py), command 'fail': {error}")
    assert kept == "kept: what the command wrote before"
    assert following_line == f"next: report it with the traceback to the author of tools.py{following}"
    assert "bug in gancore" not in done.stderr


def test_command_chooses_its_exit_code_by_context_exit(tools):
    assert tools("fail", "exit").returncode == 3
    assert tools("double", "5").returncode == 0  # it returns 5


def test_group_of_a_plugin_has_help_and_commands(tools):
    assert tools("more", "inner").stdout == "inside\n"
    assert "inner  Print a word." in tools("more", "--help").stdout
    assert tools("more").returncode == 2
    assert "next: gancore --plugin tools.py more inner --help" in tools("more", "inner", "--nonsense").stderr


def test_wrong_usage_of_a_command_points_to_its_help(tools):
    done = tools("double", "x")
    assert done.returncode == 2
    assert "'x' is not a valid integer" in done.stderr
    assert done.stderr.splitlines()[-1] == "next: gancore --plugin tools.py double --help"


def test_file_without_that_command_names_those_it_has(tools):
    done = tools("doubel", "3")
    assert done.returncode == 2
    assert "unknown command 'doubel'; did you mean 'double'" in done.stderr
    assert "train" in done.stderr


def test_file_that_cannot_be_loaded_is_an_error(gancore):
    (gancore.folder / "mine.py").write_text("import nowhere_at_all")
    assert "plugin file mine.py cannot be loaded: " in gancore.fails(5, "--plugin", "mine.py", "double")


def test_plugin_with_a_loss_and_a_command_offers_both(gancore):
    (gancore.folder / "mine.py").write_text(LOSS.format(name="mine") + command("mine", "wave"))
    gancore.works("--plugin", "mine.py", "train", *BY_HAND[:4], "--loss", "mine", "--dataset", "digits", "--dry-run")
    assert gancore.works("--plugin", "mine.py", "wave").stdout == "from mine\n"


def test_plugin_with_only_commands_has_no_laws(gancore):
    (gancore.folder / "mine.py").write_text(command("mine", "wave"))
    done = gancore.works("plugins", "check", "mine.py")
    assert "offers only commands, for which there are no laws" in done.stderr
