import json

import pytest

from helpers.fake_distributions import unpack

FORKED = True

PLUGIN = """
from __future__ import annotations

from typing import Literal

from pydantic import Field

from gancore import Loss, hookimpl


class Mine(Loss):
    name = "mine"
    target: Literal[1, 2] = Field(default=1, description="of real images")

    def discriminator(self, real, fake):
        return (real.logits - self.target).square().mean() + fake.logits.square().mean()

    def generator(self, fake, real):
        return GENERATOR


@hookimpl
def gancore_losses():
    return [Mine]
"""

DATASET = """
from gancore import DataError, Dataset, hookimpl


class Mine(Dataset):
    name = "mine"

    def build(self, root):
        raise DataError("no pictures here")


@hookimpl
def gancore_datasets():
    return [Mine]
"""
REFUSAL = """refuse()


def refuse():
    from gancore import ConfigError

    raise ConfigError("only on Sundays")
"""
MISSING = """track()


def track():
    from gancore import ConfigError

    try:
        import no_such_tracker
    except ImportError as error:
        raise ConfigError("the package no_such_tracker is not installed") from error
"""
COMMAND = """
import click

from gancore import hookimpl


@click.command("wave")
def wave():
    pass


@hookimpl
def gancore_commands():
    return [wave]
"""
LAWLESS = "offers only commands, for which there are no laws"
"""The end of a note: such a plugin is found and read, and no law takes time."""
UNCONCERNED = {"state_dict_round_trips", "state_holds_no_graph", "gradient_reaches_every_parameter"}
HOLDS = "loss mine: 14 laws hold, 3 not applicable\n"


def write_plugin(gancore, generator):
    file = gancore.folder / "my_loss.py"
    file.write_text(PLUGIN.replace("GENERATOR", generator))
    return file


def test_check_passes_for_a_correct_plugin(gancore):
    file = write_plugin(gancore, "(fake.logits - 1).square().mean()")
    assert gancore.works("plugins", "check", file).stdout == HOLDS
    rows = json.loads(gancore.works("plugins", "check", file, "--json").stdout)["laws"]
    assert {(row["kind"], row["name"], row["breach"]) for row in rows} == {("loss", "mine", None)}
    outcomes = {row["law"]: row["outcome"] for row in rows}
    assert {law for law, outcome in outcomes.items() if outcome != "held"} == UNCONCERNED
    assert all(row["cases"] and not row["reason"] for row in rows if row["law"] not in UNCONCERNED)


def test_laws_that_were_not_tried_are_listed_with_the_reason(gancore):
    (gancore.folder / "my_data.py").write_text(DATASET)
    lines = gancore.works("plugins", "check", "my_data.py").stdout.splitlines()
    assert lines[0] == "dataset mine: 2 laws hold, 5 not tried, 1 not applicable"
    assert lines[1].startswith("  not tried: errors_are_config_or_data_errors, ")
    assert lines[1].endswith(": no pictures here")


def test_refused_cases_are_not_taken_for_a_law_that_holds(gancore):
    file = write_plugin(gancore, REFUSAL)
    lines = gancore.works("plugins", "check", file).stdout.splitlines()
    assert lines[0].startswith("loss mine: 1 law holds, ")
    assert "losses_are_finite_scalars" in lines[1]
    assert lines[1].startswith("  refused: ")
    assert lines[1].endswith(": only on Sundays")


def test_component_without_its_package_is_not_tested_and_exits_with_5(gancore):
    file = write_plugin(gancore, MISSING)
    done = gancore("plugins", "check", file)
    assert done.returncode == 5
    assert " not tested" in done.stdout.splitlines()[0]
    assert "losses_are_finite_scalars" in done.stdout.splitlines()[1]
    assert "was not tested by" in done.stderr
    assert "the package no_such_tracker is not installed" in done.stderr


def test_broken_law_exits_with_5_and_a_call_to_paste(gancore):
    file = write_plugin(gancore, "-fake.logits.sigmoid().log().mean()")
    error = gancore.fails(5, "plugins", "check", file)
    assert "losses_are_finite_scalars(Mine(target=1), Case(" in error
    done = gancore("plugins", "check", file, "--json")
    assert done.returncode == 5
    (breach,) = [row["breach"] for row in json.loads(done.stdout)["laws"] if row["breach"]]
    assert breach in error


def test_check_imports_a_module_by_name(gancore):
    (gancore.folder / "my_command.py").write_text(COMMAND)
    assert LAWLESS in gancore.works("plugins", "check", "my_command", PYTHONPATH=str(gancore.folder)).stderr


def test_unknown_plugin_is_an_error_with_its_name(gancore):
    assert "unknown plugin 'nowhere'. Known: builtin" in gancore.fails(2, "plugins", "check", "nowhere")
    assert "cannot read plugin file nowhere.py" in gancore.fails(2, "plugins", "check", "nowhere.py")
    for name in ("json.nowhere", "json.decoder.nowhere", "nowhere.nothing", ".json"):
        assert f"unknown plugin {name!r}" in gancore.fails(2, "plugins", "check", name)


def test_plugin_that_offers_nothing_exits_with_5(gancore):
    (gancore.folder / "empty.py").write_text("")
    assert "empty.py: it offers nothing" in gancore.fails(5, "plugins", "check", "empty.py")
    assert "json: it offers nothing" in gancore.fails(5, "plugins", "check", "json", "--json")


def test_file_that_exits_at_import_exits_with_5(gancore):
    (gancore.folder / "exiting.py").write_text("import sys\nsys.exit(0)\n")
    assert "exiting.py cannot be imported: SystemExit" in gancore.fails(5, "plugins", "check", "exiting.py")


def test_file_that_cannot_be_imported_exits_with_5(gancore):
    (gancore.folder / "broken.py").write_text("import a_missing_module\n")
    assert "ModuleNotFoundError" in gancore.fails(5, "plugins", "check", "broken.py")


@pytest.mark.parametrize(("source", "reason"), [("1 / 0", "ZeroDivisionError"), ("import lacking", "'lacking'")])
def test_module_below_a_package_that_cannot_be_imported_exits_with_5(gancore, source, reason):
    package = gancore.folder / "unsound"
    package.mkdir()
    (package / "__init__.py").write_text(f"{source}\n")
    (package / "loss.py").write_text(PLUGIN.replace("GENERATOR", "fake.logits.mean()"))
    error = gancore.fails(5, "plugins", "check", "unsound.loss", PYTHONPATH=str(gancore.folder))
    assert error.startswith("error: unsound.loss cannot be imported: ")
    assert reason in error


@pytest.mark.parametrize("name", ["foo", "foo-gan", "Foo_Gan"])
def test_plugin_that_is_switched_off_exits_with_5(gancore, name):
    site = unpack(gancore.folder / "site", "foo", COMMAND)
    assert LAWLESS in gancore.works("plugins", "check", name, PYTHONPATH=str(site)).stderr
    line = gancore.fails(5, "plugins", "check", name, PYTHONPATH=str(site), GANCORE_DISABLE_PLUGINS="foo")
    assert "plugin 'foo' of foo-gan 1.0 (foo = foo_gan) is not loaded: it is switched off by GANCORE_DIS" in line


def test_verbose_shows_why_an_installed_plugin_is_not_loaded(gancore):
    site = unpack(gancore.folder / "site", "foo", "def deep():\n    1 / 0\ndeep()")
    done = gancore("plugins", "check", "foo", "-v", PYTHONPATH=str(site))
    assert done.returncode == 5
    assert "in deep" in done.stderr


def test_ambiguous_plugin_name_is_refused(gancore):
    site = unpack(gancore.folder / "site", "one", COMMAND)
    unpack(site, "two", COMMAND)
    for package in ("one", "two"):
        (site / f"{package}_gan-1.0.dist-info" / "entry_points.txt").write_text(f"[gancore.v1]\nsame = {package}_gan\n")
    line = gancore.fails(2, "plugins", "check", "same", PYTHONPATH=str(site))
    assert "'same' is ambiguous: plugin 'same' of one-gan 1.0 (same = one_gan); plugin 'same' of two-gan 1.0" in line
    done = gancore.works("plugins", "check", "two-gan", PYTHONPATH=str(site))
    assert f"two-gan 1.0 (same = two_gan) {LAWLESS}" in done.stderr


def test_plugin_with_only_recipes_has_no_laws(gancore):
    (gancore.folder / "mine.toml").write_text("# Small batches.\nbatch_size = 8\n")
    source = (
        "from pathlib import Path\nfrom gancore import hookimpl\n@hookimpl\n"
        f"def gancore_recipes(): return [Path({str(gancore.folder / 'mine.toml')!r})]\n"
    )
    site = unpack(gancore.folder / "site", "foo", source)
    done = gancore.works("plugins", "check", "foo", PYTHONPATH=str(site))
    assert "offers only recipes, for which there are no laws" in done.stderr
