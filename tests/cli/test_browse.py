import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from gancore_cli.main import main

FORKED = True


def test_list_names_components_and_their_packages(gancore):
    rows = json.loads(gancore.works("list", "--json").stdout)
    names = {(row["kind"], row["name"], row["package"]) for row in rows}
    assert {
        ("generator", "mlp", "gancore"),
        ("discriminator", "mlp", "gancore"),
        ("loss", "bce", "gancore"),
        ("loss", "minimax", "gancore"),
        ("dataset", "mnist", "gancore"),
        ("dataset", "digits", "gancore"),
    } <= names
    assert all(row["summary"] and row["version"] for row in rows)
    text = gancore.works("list", "loss").stdout
    assert "minimax" in text
    assert "mnist" not in text


def test_show_lists_fields_with_bounds_default_and_meaning(gancore):
    document = json.loads(gancore.works("show", "generator", "mlp", "--json").stdout)
    fields = {field["key"]: field for field in document["fields"]}
    assert fields["widths"]["default"] == [256, 512]
    assert fields["slope"]["bounds"] == ">= 0, <= 1"
    assert all(field["help"] for field in document["fields"])
    text = gancore.works("show", "generator", "mlp").stdout
    assert "[256, 512]" in text
    assert "generator mlp, from gancore" in text


def test_show_run_lists_the_keys_of_the_config(gancore):
    fields = {field["key"]: field for field in json.loads(gancore.works("show", "run", "--json").stdout)["fields"]}
    assert fields["checkpoint.keep"]["bounds"] == ">= 2"
    assert fields["optimizer.generator.lr"]["default"] == 0.0002


def test_recipes_and_plugins_are_listed(gancore):
    recipes = {row["name"]: row for row in json.loads(gancore.works("recipes", "--json").stdout)}
    assert {"vanilla", "digits"} <= set(recipes)
    assert all(row["summary"] for row in recipes.values())
    plugins = {row["name"]: row for row in json.loads(gancore.works("plugins", "list", "--json").stdout)}
    assert plugins["builtin"]["error"] is None
    assert "generator mlp" in plugins["builtin"]["components"]
    assert "vanilla" in gancore.works("recipes").stdout
    assert "builtin" in gancore.works("plugins", "list").stdout


def test_broken_plugin_is_a_warning_and_other_plugins_work(gancore):
    site = gancore.folder / "site"
    info = site / "gancore_broken-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gancore-broken\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text("[gancore.v1]\nbroken = gancore_broken\n")
    (site / "gancore_broken.py").write_text("import missing_module\n")
    done = gancore.works("list", PYTHONPATH=str(site))
    assert "mnist" in done.stdout
    assert done.stderr.splitlines() == [
        "warning: plugin 'broken' of gancore-broken 3.1 (broken = gancore_broken) is not loaded: ModuleNotFoundError: "
        "No module named 'missing_module'. Switch it off with: GANCORE_DISABLE_PLUGINS=broken"
    ]
    plugins = json.loads(gancore.works("plugins", "list", "--json", PYTHONPATH=str(site)).stdout)
    assert {row["name"]: bool(row["error"]) for row in plugins} == {"builtin": False, "broken": True}


HELP = [
    [],
    ["train"],
    ["sample"],
    ["list"],
    ["show"],
    ["recipes"],
    ["plugins"],
    ["plugins", "list"],
    ["plugins", "check"],
    ["plugins", "new"],
]
SPY = """
import sys
from gancore_cli.main import main
try:
    main({arguments!r})
except SystemExit as error:
    heavy = sorted({{"torch", "pydantic", "numpy", "rich", "pluggy", "gancore_plugins"}} & sys.modules.keys())
    print(error.code, *heavy, file=sys.stderr)
"""


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_imports_neither_torch_nor_plugins(command):
    code = SPY.format(arguments=[*command, "--help"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("Usage: gancore")
    assert done.stderr == "0\n"


def test_version_is_that_of_the_package(gancore):
    from importlib.metadata import version

    assert gancore.works("--version").stdout == f"gancore {version('gancore')}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "run"], 0),
        (["train", "nowhere", "--json"], 2),
        (["--help"], 0),
        (["--version"], 0),
    ],
)
def test_closed_pipe_is_not_an_error(arguments, expected):
    command = [sys.executable, "-m", "gancore_cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == expected
    assert "Traceback" not in stderr
    assert "Broken pipe" not in stderr


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("list > /dev/full", 7, "cannot write the result: No space left on device"),
        ("--help > /dev/full", 7, "cannot access standard output: No space left on device"),
        ("list >&-", 0, ""),
        ("train --generator mlp --discriminator mlp --loss bce --dataset digits --steps 2 2> /dev/full", 0, ""),
        ("train --generator mlp --discriminator mlp --loss bce --dataset digits --steps 2 2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_an_error_only_for_results(tmp_path, command, code, message):
    line = f"{shlex.quote(sys.executable)} -m gancore_cli {command}"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {message}" if message else "")
    assert "Traceback" not in done.stderr
    assert ("done: 2 steps" in done.stdout) == (command.startswith("train"))


def test_permission_error_names_the_path(tmp_path, monkeypatch, capsys):
    (tmp_path / "private").mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    for command in (["sample"], ["resume"], ["evaluate"], ["checkpoint", "verify"]):
        with pytest.raises(SystemExit):
            main([*command, "nowhere"])  # imports all modules as a user with permission
    capsys.readouterr()
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        else:
            (tmp_path / "private").chmod(0)
        for command in (["sample"], ["resume"], ["evaluate"], ["checkpoint", "verify"]):
            with pytest.raises(SystemExit) as exit_info:
                main([*command, "private/run"])
            assert exit_info.value.code == 7
            error, _, hint = capsys.readouterr().err.splitlines()
            assert re.fullmatch("error: cannot access (private/.*|samples.png): Permission denied", error)
            assert hint == "next: check the path, its permissions, and the free space of the disk"
    finally:
        os.seteuid(user)
        (tmp_path / "private").chmod(0o700)


def test_show_metric_prints_its_inputs_and_the_better_direction(gancore):
    text = gancore.works("show", "metric", "kid").stdout
    assert "lower is better; needs features, reference" in text
    assert "subset_size" in text
    document = json.loads(gancore.works("show", "metric", "coverage", "--json").stdout)
    assert (document["better"], document["needs"]) == ("higher", ["features", "reference"])
