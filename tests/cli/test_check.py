"""The door without pytest."""

import json

import pytest

from helpers.fake_distributions import LOSS, unpack

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


def plugin(gancore, generator):
    file = gancore.folder / "my_loss.py"
    file.write_text(PLUGIN.replace("GENERATOR", generator))
    return file


def test_a_sound_plugin_is_told_so(gancore):
    file = plugin(gancore, "(fake.logits - 1).square().mean()")
    assert gancore.works("plugins", "check", file).stdout.startswith("loss mine: 13 laws hold")
    rows = json.loads(gancore.works("plugins", "check", file, "--json").stdout)["laws"]
    assert {(row["kind"], row["name"], row["breach"]) for row in rows} == {("loss", "mine", None)}
    assert all(row["cases"] for row in rows if not row["law"].startswith("what_it_builds"))


def test_a_broken_law_is_an_error_of_the_plugin_with_one_line_to_paste(gancore):
    file = plugin(gancore, "-fake.logits.sigmoid().log().mean()")
    error = gancore.fails(5, "plugins", "check", file)
    assert "losses_are_finite_scalars(Mine(target=1), Case(" in error
    done = gancore("plugins", "check", file, "--json")
    assert done.returncode == 5
    (breach,) = [row["breach"] for row in json.loads(done.stdout)["laws"] if row["breach"]]
    assert breach in error


def test_a_module_is_found_where_python_finds_it(gancore):
    plugin(gancore, "(fake.logits - 1).square().mean()")
    done = gancore.works("plugins", "check", "my_loss", PYTHONPATH=str(gancore.folder))
    assert done.stdout.startswith("loss mine: 13 laws hold")


def test_what_is_no_plugin_is_told_by_its_name(gancore):
    assert "unknown plugin 'nowhere'. Known: builtin" in gancore.fails(2, "plugins", "check", "nowhere")
    assert "cannot read plugin file nowhere.py" in gancore.fails(2, "plugins", "check", "nowhere.py")


def test_what_offers_nothing_is_not_taken_for_sound(gancore):
    (gancore.folder / "empty.py").write_text("")
    assert "empty.py: it offers nothing" in gancore.fails(5, "plugins", "check", "empty.py")
    assert "json: it offers nothing" in gancore.fails(5, "plugins", "check", "json", "--json")


def test_a_file_that_exits_is_an_error_of_the_plugin(gancore):
    (gancore.folder / "gone.py").write_text("import sys\nsys.exit(0)\n")
    assert "gone.py cannot be imported: SystemExit" in gancore.fails(5, "plugins", "check", "gone.py")


def test_a_file_that_cannot_be_imported_is_an_error_of_the_plugin(gancore):
    (gancore.folder / "broken.py").write_text("import a_module_that_is_nowhere\n")
    assert "ModuleNotFoundError" in gancore.fails(5, "plugins", "check", "broken.py")


@pytest.mark.parametrize("named", ["foo", "foo-gan", "Foo_Gan"])
def test_a_plugin_that_is_switched_off_is_not_found_sound(gancore, named):
    site = unpack(gancore.folder / "site", "foo", LOSS.format(name="mine"))
    assert "loss mine: " in gancore.works("plugins", "check", named, PYTHONPATH=str(site)).stdout
    line = gancore.fails(5, "plugins", "check", named, PYTHONPATH=str(site), GANCORE_DISABLE_PLUGINS="foo")
    assert "plugin 'foo' of foo-gan 1.0 (foo = foo_gan) is not loaded: it is switched off by GANCORE_DIS" in line


def test_v_shows_why_an_installed_plugin_is_not_loaded(gancore):
    site = unpack(gancore.folder / "site", "foo", "def deep():\n    1 / 0\ndeep()")
    done = gancore("plugins", "check", "foo", "-v", PYTHONPATH=str(site))
    assert done.returncode == 5
    assert "in deep" in done.stderr


def test_of_two_plugins_of_one_name_none_is_checked_in_place_of_the_other(gancore):
    site = unpack(gancore.folder / "site", "one", LOSS.format(name="one"))
    unpack(site, "two", LOSS.format(name="two"))
    for package in ("one", "two"):
        (site / f"{package}_gan-1.0.dist-info" / "entry_points.txt").write_text(f"[gancore.v1]\nsame = {package}_gan\n")
    line = gancore.fails(2, "plugins", "check", "same", PYTHONPATH=str(site))
    assert "'same' is ambiguous: plugin 'same' of one-gan 1.0 (same = one_gan); plugin 'same' of two-gan 1.0" in line
    assert "loss two: " in gancore.works("plugins", "check", "two-gan", PYTHONPATH=str(site)).stdout


def test_a_plugin_of_recipes_alone_is_told_so(gancore):
    (gancore.folder / "mine.toml").write_text("# Small batches.\nbatch_size = 8\n")
    source = (
        "from pathlib import Path\nfrom gancore import hookimpl\n@hookimpl\n"
        f"def gancore_recipes(): return [Path({str(gancore.folder / 'mine.toml')!r})]\n"
    )
    site = unpack(gancore.folder / "site", "foo", source)
    done = gancore.works("plugins", "check", "foo", PYTHONPATH=str(site))
    assert "offers recipes alone, which no law tries" in done.stderr
