"""The door for pytest, as the author of a plugin uses it."""

import os
import subprocess
import sys
import types

import broken_components as zoo
import pytest

from gancore.errors import ConfigError, PluginError
from gancore.hookspecs import hookimpl
from gancore.testing import conformance, judge
from gancore.testing.pytest_door import trials

PLUGIN = """
from gancore import Loss, hookimpl


class Mine(Loss):
    name = "mine"

    def discriminator(self, real, fake):
        return (real.logits - 1).square().mean() + fake.logits.square().mean()

    def generator(self, fake, real):
        return {generator}


@hookimpl
def gancore_losses():
    return [Mine]
"""
TEST = """
import gancore_mine
from gancore.testing import conformance

@conformance(gancore_mine, known={known})
def test_contract(case):
    case()
"""
SOUND = "(fake.logits - 1).square().mean()"
BROKEN = "-fake.logits.sigmoid().log().mean()"


def pytest_of(folder, generator, known=None):
    (folder / "gancore_mine.py").write_text(PLUGIN.format(generator=generator))
    (folder / "test_contract.py").write_text(TEST.format(known=known))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q", "test_contract.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_sound_plugin_passes_with_a_test_of_three_lines(tmp_path):
    code, said = pytest_of(tmp_path, SOUND)
    assert code == 0, said
    assert "PASSED test_contract.py::test_contract[loss-mine-losses_are_finite_scalars]" in said


def test_a_broken_law_fails_alone_unless_it_is_known(tmp_path):
    code, said = pytest_of(tmp_path, BROKEN)
    assert code == 1, said
    assert "1 failed" in said
    assert "LawBroken: losses_are_finite_scalars(Mine(), Case(" in said
    code, said = pytest_of(tmp_path, BROKEN, {("loss", "mine", "losses_are_finite_scalars"): "it is a demonstration"})
    assert code == 0, said
    assert "1 xfailed" in said


def test_a_breach_that_is_known_and_gone_fails(tmp_path):
    code, said = pytest_of(tmp_path, SOUND, {("loss", "mine", "losses_are_finite_scalars"): "it was broken once"})
    assert code == 1, said
    assert "[XPASS(strict)] it was broken once" in said


class Plugin:
    @staticmethod
    @hookimpl
    def gancore_losses():
        return [zoo.SoundLoss]


class Misspelled:
    @staticmethod
    @hookimpl
    def gancore_loses():
        return [zoo.SoundLoss]


def test_what_is_known_must_be_there():
    with pytest.raises(ConfigError, match="did you mean 'loss-sound-losses_are_finite_scalars'"):
        conformance(Plugin, known={("loss", "sound", "losses_are_finite_scalar"): "a slip of the pen"})


def test_a_plugin_that_cannot_be_read_is_told_at_once():
    with pytest.raises(PluginError, match="gancore_loses"):
        conformance(Misspelled)


def test_a_plugin_that_offers_nothing_is_told_instead_of_passing():
    with pytest.raises(PluginError, match="it offers nothing"):
        conformance(types.ModuleType("gancore_empty"))


def test_a_kind_without_laws_survives_a_round_trip_at_least():
    class Strange(zoo.SoundLoss):
        kind = "strange"

    (trial,) = trials([Strange])
    assert trial.key == ("strange", "sound", "survives_a_round_trip")
    assert judge(trial.component, trial.law).breach is None


def test_without_hypothesis_it_says_what_to_install(tmp_path):
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'hypothesis' else find(name, *a)\n"
        "from gancore_cli.main import main; main(['plugins', 'check', 'builtin'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "next: pip install 'gancore[test]'" in done.stderr
