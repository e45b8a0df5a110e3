"""Isolation of third-party plugins: a broken plugin affects only the runs that use it."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256

import pytest
import torch

from gancore.checkpoint.store import kept, load
from helpers.cli_runner import BY_HAND, Gancore
from helpers.fake_distributions import LOSS, pip_install, unpack

FORKED = True

PARTS = ["--generator", "mlp", "--discriminator", "mlp", "--dataset", "digits"]
FOO = (
    """
import os
from pathlib import Path

import torch
from torch import nn

from gancore import Loss

Path(os.environ["CANARY"]).touch()
"""
    + LOSS.format(name="mine").replace("return [Named]", "return [Named, Late]")
    + """

class Late(Loss):
    name = "late"

    def build(self, spec):
        return LateModule()


class LateModule(nn.Module):
    needs_real = False

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def discriminator(self, real, fake):
        return fake.logits.mean() - real.logits.mean()

    def generator(self, fake, real):
        self.steps += 1
        if self.steps == 37:
            {what}
        return -fake.logits.mean()
"""
)
CANARY = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n"


class Site(Gancore):
    """The command with a folder of packages on its path, and the file `canary` exists if a plugin was imported.

    Without a fork server it is a new Python, for plugins that change what the end of a process does.
    """

    def __init__(self, folder, site, fork_server=None):
        super().__init__(folder, fork_server)
        self.site, self.canary = site, folder / "canary"

    def __call__(self, *arguments, **environment):
        self.canary.unlink(missing_ok=True)
        path = os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))
        environment = {"PYTHONPATH": path, "CANARY": str(self.canary), **environment}
        if self.fork_server:
            return self.fork_server.run(self.folder, *arguments, **environment)
        return super().__call__(*arguments, **environment)


@pytest.fixture(scope="module")
def foo_site(tmp_path_factory):
    """Folder in which pip has installed plugin `foo` of package `foo-gan` 1.2, with the losses `mine` and `late`."""
    folder = tmp_path_factory.mktemp("foo")
    source = FOO.replace("{what}", "raise ValueError('no luck')")
    return pip_install(
        folder / "site", folder / "project", source, name="foo-gan", version="1.2", plugin="foo", module="foo_gan"
    )


@pytest.fixture
def foo(tmp_path, foo_site, zygote):
    return Site(tmp_path, foo_site, zygote)


@pytest.fixture(scope="module")
def foo_run(tmp_path_factory, foo_site, zygote):
    """Folder with a run that uses loss `mine`, trained with the plugin."""
    command = Site(tmp_path_factory.mktemp("run"), foo_site, zygote)
    command.works("train", *PARTS, "--loss", "mine", "--steps", 2, "--out", "run")
    assert command.canary.exists()
    return command


@pytest.fixture
def moved(foo_run, tmp_path, zygote):
    """A copy of the run, without the plugin."""
    shutil.copytree(foo_run.folder / "run", tmp_path / "run")
    empty = tmp_path / "site"
    empty.mkdir()
    return Site(tmp_path, empty, zygote)


def warnings(done):
    return [line for line in done.stderr.splitlines() if line.startswith("warning: ")]


def weights(path):
    return load(kept(path / "checkpoints")[-1]).tensors


BROKEN = {  # source of a plugin's module, and the cause in the warning
    "lacks": ("import a_module_that_is_absent", "ModuleNotFoundError: No module named 'a_module_that_is_absent'"),
    "raises": ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
    "leaves": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "mute": (
        "class Mute(Exception):\n    def __str__(self): raise KeyError\nraise Mute",
        "Mute: (no message: str() raised KeyError)",
    ),
    "nameless": (
        "class Meta(type):\n    @property\n    def __name__(cls): raise KeyError\n"
        "class Nameless(Exception, metaclass=Meta): pass\nraise Nameless",
        "Nameless",
    ),
    "twolines": ("raise type('Two\\nlines', (BaseException,), {})", "Two lines"),
    "hungry": ("raise MemoryError", "memory ran out"),
    "opener": ("raise OSError(24, 'Too many open files')", "this process may open"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "closes": (
        "import sys\nfor stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__): stream.close()",
        "it offers nothing",
    ),
    "signed": (
        LOSS.format(name="x").replace("gancore_losses()", "gancore_losses(shape)"),
        "gancore_losses must take no argument; received 'shape'",
    ),
    "misspelled": (
        LOSS.format(name="x").replace("gancore_losses", "gancore_lossess"),
        "unknown hook 'gancore_lossess'; did you mean 'gancore_losses'",
    ),
    "unmarked": (LOSS.format(name="x").replace("@hookimpl", ""), "gancore_losses is not marked as a hook"),
}


@pytest.fixture(scope="module")
def broken_site(tmp_path_factory):
    site = tmp_path_factory.mktemp("broken")
    for plugin, (source, _) in BROKEN.items():
        unpack(site, plugin, source, version="3.1")
    unpack(site, "future", CANARY, version="9.0", group="gancore.v99")
    return unpack(site, "claims", LOSS.format(name="bce"))


# P01, P02, P03, P05, P06


def test_broken_plugins_change_no_run_and_give_one_warning_each(tmp_path, broken_site, trained_run):
    gancore = Site(tmp_path, broken_site)
    done = gancore.works("train", *BY_HAND, "--steps", 2, "--out", "with")
    assert not gancore.canary.exists()
    trained_run(tmp_path / "alone", "--steps", 2)
    first, second = weights(tmp_path / "with"), weights(tmp_path / "alone")
    assert all(torch.equal(first[name], second[name]) for name in second)
    lines = warnings(done)
    causes = {plugin: cause for plugin, (_, cause) in BROKEN.items()} | {"future": "it needs gancore API 99, this is 1"}
    for plugin, cause in causes.items():
        version = "9.0" if plugin == "future" else "3.1"
        (line,) = [line for line in lines if f"plugin {plugin!r} of {plugin}-gan {version}" in line]
        assert f"({plugin} = {plugin}_gan)" in line
        assert cause in line
        assert f"Switch it off with: GANCORE_DISABLE_PLUGINS={plugin}" in line
    (line,) = [line for line in lines if "plugin 'claims' of claims-gan 1.0" in line]
    assert "offers loss bce, but the built-in keeps that name; use claims-gan:bce for the plugin's" in line
    assert len(lines) == len(causes) + 1


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["plugins", "list"], ["list", "loss"]], ids=" ".join)
def test_broken_plugins_do_not_affect_core_commands(tmp_path, broken_site, arguments, zygote):
    gancore = Site(tmp_path, broken_site, zygote)
    gancore.works(*arguments)
    assert not gancore.canary.exists()


@pytest.mark.parametrize("plugin", ["lacks", "signed", "future"])
def test_broken_plugin_that_a_run_uses_exits_with_5_and_the_cause(tmp_path, broken_site, plugin, zygote):
    gancore = Site(tmp_path, broken_site, zygote)
    line = gancore.fails(5, "train", *PARTS, "--loss", f"{plugin}-gan:x")
    assert f"unknown loss '{plugin}-gan:x'" in line
    cause = BROKEN[plugin][1] if plugin in BROKEN else "it needs gancore API 99, this is 1"
    assert cause in line
    assert line.count("Not loaded: ") == 1
    assert ";" not in line.partition("Not loaded: ")[2].replace(cause, "")  # no other plugin is mentioned
    assert not gancore.canary.exists()


def test_broken_plugin_traceback_is_shown_with_v(tmp_path, zygote):
    gancore = Site(tmp_path, unpack(tmp_path / "site", "raises", "def deep():\n    1 / 0\ndeep()"), zygote)
    done = gancore("train", *PARTS, "--loss", "raises-gan:x", "-v")
    assert done.returncode == 5
    assert "in deep" in done.stderr


def test_plugin_with_several_contract_versions_is_loaded(tmp_path, zygote):
    site = unpack(tmp_path / "site", "both", LOSS.format(name="mine"))
    lists = site / "both_gan-1.0.dist-info" / "entry_points.txt"
    lists.write_text(lists.read_text() + "\n[gancore.v2]\nboth = both_v2\n")
    (row,) = [
        row
        for row in json.loads(Site(tmp_path, site, zygote).works("plugins", "list", "--json").stdout)
        if row["name"] == "both"
    ]
    assert (row["error"], row["components"]) == (None, ["loss mine"])


@pytest.mark.parametrize("garbled", [b"[gancore.v1]\nnonsense\n", b"\xff\xfe"])
def test_damaged_entry_points_hide_no_other_plugin(tmp_path, garbled, zygote):
    site = unpack(tmp_path / "site", "fine", LOSS.format(name="mine"))
    unpack(site, "garbled", "")
    (site / "garbled_gan-1.0.dist-info" / "entry_points.txt").write_bytes(garbled)
    for how in (["--no-load"], []):
        rows = json.loads(Site(tmp_path, site, zygote).works("plugins", "list", "--json", *how).stdout)
        rows = {row["name"]: row for row in rows}
        assert rows["builtin"]["error"] is None
        assert rows["fine"]["error"] is None
        if b"gancore" in garbled:
            assert "its entry_points.txt cannot be read" in rows["garbled-gan"]["error"]


def test_process_settings_changed_by_an_import_change_no_run(tmp_path, trained_run, zygote):
    source = "import os, torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\nos.chdir('/')\n"
    gancore = Site(tmp_path, unpack(tmp_path / "site", "messy", source + LOSS.format(name="mine")), zygote)
    gancore.works("train", *BY_HAND, "--steps", 2, "--out", "with")
    trained_run(tmp_path / "alone", "--steps", 2)
    first, second = weights(tmp_path / "with"), weights(tmp_path / "alone")
    assert all(torch.equal(first[name], second[name]) for name in second)


# P04


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_ambiguous_name_is_rejected_and_both_plugins_are_listed(tmp_path, order, zygote):
    for plugin, version in (("a", "1.0"), ("b", "2.0")):
        unpack(tmp_path / plugin, plugin, LOSS.format(name="twin"), version=version)
    gancore = Site(tmp_path, os.pathsep.join(str(tmp_path / each) for each in order), zygote)
    rows = [row for row in json.loads(gancore.works("list", "loss", "--json").stdout) if row["name"] == "twin"]
    assert [(row["package"], row["version"]) for row in rows] == [("a-gan", "1.0"), ("b-gan", "2.0")]
    done = gancore("train", *PARTS, "--loss", "twin")
    assert done.returncode == 5
    assert "loss 'twin' is ambiguous: a-gan 1.0 and b-gan 2.0 offer it" in done.stderr
    assert "next: choose one: a-gan:twin or b-gan:twin" in done.stderr
    gancore.works("train", *PARTS, "--loss", "b-gan:twin", "--dry-run")


# P07


def test_run_records_the_plugins_that_it_needs(foo_run):
    need = {
        "plugin": "foo",
        "package": "foo-gan",
        "version": "1.2",
        "sha256": None,
        "components": ["loss mine"],
    }
    manifest = json.loads((foo_run.folder / "run" / "manifest.json").read_text())
    about = load(kept(foo_run.folder / "run" / "checkpoints")[-1]).about
    assert manifest["needs"] == about["made_with"]["needs"] == [need]


def test_checkpoint_without_its_plugin_says_what_to_install(moved):
    path = kept(moved.folder / "run" / "checkpoints")[-1]
    before = path.read_bytes()
    done = moved("sample", "run")
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "error: run needs plugin foo 1.2 of package foo-gan, which is not installed",
        "kept: nothing was changed",
        "next: pip install foo-gan==1.2",
    ]
    assert path.read_bytes() == before


def test_checkpoint_with_another_plugin_version_gives_a_warning(moved, foo_site):
    site = moved.folder / "newer"
    shutil.copytree(foo_site, site)
    info = (site / "foo_gan-1.2.dist-info").rename(site / "foo_gan-1.3.dist-info")
    (info / "METADATA").write_text((info / "METADATA").read_text().replace("Version: 1.2", "Version: 1.3"))
    moved.site = site
    done = moved.works("sample", "run", "-n", 1)
    assert warnings(done) == ["warning: run was made with plugin foo 1.2 of package foo-gan, and 1.3 is installed"]


def test_checkpoint_does_not_import_a_plugin_that_is_switched_off(moved, foo_site):
    moved.site = foo_site
    line = moved.fails(5, "sample", "run", GANCORE_DISABLE_PLUGINS="foo")
    assert "needs plugin foo 1.2 of package foo-gan: it is switched off by GANCORE_DISABLE_PLUGINS" in line
    assert not moved.canary.exists()


def test_checkpoint_needs_its_plugin_not_one_with_equal_names(moved, foo_site):
    other = unpack(moved.folder / "other", "bar", LOSS.format(name="mine"))
    moved.site = other
    assert "needs plugin foo 1.2 of package foo-gan" in moved.fails(5, "sample", "run")
    moved.site = os.pathsep.join([str(other), str(foo_site)])
    moved.works("sample", "run", "-n", 1)


# P08


@pytest.mark.parametrize("name", ["foo", "foo-gan", "Foo_Gan", "other, foo"])
def test_plugin_switched_off_by_the_environment_is_not_imported(foo, name):
    rows = json.loads(foo.works("plugins", "list", "--json", GANCORE_DISABLE_PLUGINS=name).stdout)
    assert {row["name"]: row["off"] for row in rows} == {"builtin": None, "foo": "GANCORE_DISABLE_PLUGINS"}
    assert not foo.canary.exists()


def test_plugin_switched_off_by_the_settings_is_not_imported(foo):
    settings = foo.folder / "settings.toml"
    settings.write_text('plugins.off = ["foo"]\n')
    line = foo.fails(5, "train", *PARTS, "--loss", "mine", GANCORE_SETTINGS=str(settings))
    assert f"plugin 'foo' of foo-gan 1.2 (foo = foo_gan): it is switched off by {settings}" in line
    assert not foo.canary.exists()
    assert json.loads(foo.works("list", "loss", "--json").stdout)
    assert foo.canary.exists()


def test_option_no_plugins_imports_only_the_builtins(foo):
    done = foo.works("--no-plugins", "train", *BY_HAND, "--dry-run")
    assert warnings(done) == []
    assert not foo.canary.exists()


def test_plugins_list_no_load_imports_nothing(foo):
    rows = json.loads(foo.works("plugins", "list", "--no-load", "--json").stdout)
    assert [(row["name"], row["version"]) for row in rows if row["name"] == "foo"] == [("foo", "1.2")]
    assert not foo.canary.exists()


# P09


def test_plugin_that_fails_in_step_37_ends_the_run_and_keeps_the_last_checkpoint(foo):
    done = foo("train", *PARTS, "--loss", "late", "--set", "checkpoint.every_steps=10", "--out", "run")
    assert done.returncode == 5
    assert done.stderr.splitlines()[-3:] == [
        "error: plugin 'foo' of foo-gan 1.2 (foo = foo_gan), loss 'late': at step 37, the loss failed in generator(): "
        "ValueError: no luck",
        "kept: checkpoint run/checkpoints/step-00000030.safetensors",
        "next: -v shows where; see docs/contract.md",
    ]
    assert load(foo.folder / "run" / "checkpoints" / "step-00000030.safetensors").about["progress"]["step"] == 30


def test_plugin_that_exits_during_training_does_not_exit_with_0(tmp_path, zygote):
    gancore = Site(tmp_path, unpack(tmp_path / "site", "foo", FOO.replace("{what}", "raise SystemExit(0)")), zygote)
    done = gancore("train", *PARTS, "--loss", "late")
    assert done.returncode == 5
    assert "at step 37, the loss failed in generator(): SystemExit: 0" in done.stderr


def test_plugin_that_exits_in_a_property_does_not_exit_with_0(tmp_path, zygote):
    source = LOSS.format(name="mine").replace(
        "    def disc", "    needs_real = property(lambda self: exit(0))\n\n    def disc"
    )
    gancore = Site(tmp_path, unpack(tmp_path / "site", "foo", source), zygote)
    assert "the loss failed in needs_real: SystemExit: 0" in gancore.fails(5, "train", *PARTS, "--loss", "mine")
    assert "<lambda>" in gancore("train", *PARTS, "--loss", "mine", "-v").stderr


# P10


def test_loss_of_the_wrong_form_is_reported_before_anything_is_written(tmp_path, zygote):
    source = LOSS.format(name="vector").replace("-fake.logits.mean()", "-fake.logits")
    gancore = Site(tmp_path, unpack(tmp_path / "site", "foo", source), zygote)
    line = gancore.fails(5, "train", *PARTS, "--loss", "vector")
    assert "plugin 'foo' of foo-gan 1.0 (foo = foo_gan), loss 'vector': a loss must return a scalar tensor" in line
    assert "received shape (4, 1), torch.float32" in line
    assert not (tmp_path / "runs").exists()


# P11


def test_slow_import_is_named_and_can_be_avoided(tmp_path, zygote):
    """The module waits until the command has printed its name. If it never does, the test ends with the command."""
    source = "import os, time\nwhile not os.path.exists(os.environ['CANARY']): time.sleep(0.05)\n"
    site = unpack(tmp_path / "site", "slow", source + LOSS.format(name="mine"))
    gancore = Site(tmp_path, site, zygote)
    for arguments in (["--version"], ["plugins", "list", "--no-load"], ["--no-plugins", "list"]):
        gancore.works(*arguments)
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "CANARY": str(gancore.canary)}
    source = "from gancore_cli import catalog, main; catalog._NOTICE_SECONDS = 1; main.main()"  # instead of 10
    with subprocess.Popen(
        [sys.executable, "-c", source, "list", "loss"], env=environment, stdout=-1, stderr=-1, text=True
    ) as process:
        try:
            assert "still importing plugin slow (1 s)\n" in process.stderr  # lines of other plugins may come first
            gancore.canary.touch()
            assert "mine" in process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode == 0


def test_interrupted_import_names_the_plugin_and_how_to_avoid_it(tmp_path, zygote):
    site = unpack(tmp_path / "site", "stuck", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    gancore = Site(tmp_path, site, zygote)
    done = gancore("list", "loss")
    assert done.returncode == 130
    hint = "set GANCORE_DISABLE_PLUGINS=stuck to run without plugin stuck, whose import was interrupted"
    assert f"next: {hint}" in done.stderr


# P12


def test_output_of_a_plugin_is_never_part_of_the_result(tmp_path, zygote):
    source = """
import atexit, os, subprocess, sys
atexit.register(print, "at the end")
print("printed")
os.write(1, b"written\\n")
sys.__stdout__.write("dunder\\n")
subprocess.run(["echo", "echoed"], check=True)
""" + LOSS.format(name="loud").replace("return -fake", "print('trained'); return -fake")
    gancore = Site(tmp_path, unpack(tmp_path / "site", "loud", source))
    done = gancore.works("train", *PARTS, "--loss", "loud", "--steps", 2, "--json")
    assert json.loads(done.stdout)["last"]["step"] == 2
    for word in ("printed", "written", "dunder", "echoed", "trained", "at the end"):
        assert word in done.stderr
    gancore.fork_server = zygote
    failed = gancore("train", *PARTS, "--loss", "quiet", "--json")
    assert json.loads(failed.stdout)["error"]["code"] == 2


# One file


@pytest.fixture
def mine(tmp_path, zygote):
    file = tmp_path / "my_loss.py"
    file.write_text(CANARY + LOSS.format(name="mine"))
    empty = tmp_path / "site"
    empty.mkdir()
    return Site(tmp_path, empty, zygote)


def test_plugin_file_is_loaded_by_the_command_that_names_it(mine):
    mine.works("--plugin", "./my_loss.py", "train", *PARTS, "--loss", "mine", "--steps", 2, "--out", "run")
    digest = sha256((mine.folder / "my_loss.py").read_bytes()).hexdigest()
    (need,) = json.loads((mine.folder / "run" / "manifest.json").read_text())["needs"]
    assert (need["package"], need["sha256"], need["components"]) == ("my_loss.py", digest, ["loss mine"])
    assert load(kept(mine.folder / "run" / "checkpoints")[-1]).about["made_with"]["needs"] == [need]
    assert not list(mine.folder.rglob("__pycache__"))

    done = mine("sample", "run")
    assert done.returncode == 5
    assert f"run needs plugin file my_loss.py (SHA-256 {digest}), which is not given" in done.stderr
    assert "next: gancore --plugin my_loss.py sample run\n" in done.stderr
    assert not mine.canary.exists()
    assert "unknown loss 'mine'" in mine.fails(2, "train", "run/config.toml")
    assert not mine.canary.exists()

    (mine.folder / "my_loss.py").rename(mine.folder / "renamed.py")
    assert warnings(mine.works("--plugin", "renamed.py", "sample", "run", "-n", 1)) == []
    (mine.folder / "my_loss.py").write_text(LOSS.format(name="mine"))
    (line,) = warnings(mine.works("--plugin", "my_loss.py", "sample", "run", "-n", 1))
    assert f"(SHA-256 {digest}), and my_loss.py has other content: SHA-256 " in line


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1", "it offers nothing"),
        (LOSS.format(name="x").replace("gancore_losses", "gancore_loses"), "unknown hook 'gancore_loses'"),
    ],
)
def test_plugin_file_without_a_valid_plugin_is_an_error(gancore, source, words):
    (gancore.folder / "my_loss.py").write_text(source)
    line = gancore.fails(5, "--plugin", "my_loss.py", "list")
    assert "plugin file my_loss.py cannot be loaded: " in line
    assert words in line


def test_plugin_file_that_is_missing_is_reported(gancore):
    assert "nowhere.py" in gancore.fails(2, "--plugin", "nowhere.py", "list")
