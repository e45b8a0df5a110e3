import os
import subprocess
import sys
import types

import broken_components as broken
import pytest

from gancore.errors import ConfigError, PluginError
from gancore.hookspecs import hookimpl
from gancore.testing import check_law, conformance
from gancore.testing.suite import law_tests

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
CORRECT = "(fake.logits - 1).square().mean()"
BROKEN = "-fake.logits.sigmoid().log().mean()"


def run_pytest(folder, generator, known=None):
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


def test_conformance_passes_for_a_correct_plugin(tmp_path):
    code, output = run_pytest(tmp_path, CORRECT)
    assert code == 0, output
    assert "PASSED test_contract.py::test_contract[loss-mine-losses_are_finite_scalars]" in output


def test_conformance_fails_for_a_broken_law_unless_it_is_known(tmp_path):
    code, output = run_pytest(tmp_path, BROKEN)
    assert code == 1, output
    assert "1 failed" in output
    assert "LawBroken: losses_are_finite_scalars(Mine(), Case(" in output
    code, output = run_pytest(tmp_path, BROKEN, {("loss", "mine", "losses_are_finite_scalars"): "a demonstration"})
    assert code == 0, output
    assert "1 xfailed" in output


def test_known_breach_that_passes_fails(tmp_path):
    code, output = run_pytest(tmp_path, CORRECT, {("loss", "mine", "losses_are_finite_scalars"): "it was broken once"})
    assert code == 1, output
    assert "[XPASS(strict)] it was broken once" in output


class Plugin:
    @staticmethod
    @hookimpl
    def gancore_losses():
        return [broken.CorrectLoss]


class Misspelled:
    @staticmethod
    @hookimpl
    def gancore_loses():
        return [broken.CorrectLoss]


def test_known_breach_must_name_an_existing_case():
    with pytest.raises(ConfigError, match="did you mean 'loss-correct-losses_are_finite_scalars'"):
        conformance(Plugin, known={("loss", "correct", "losses_are_finite_scalar"): "a typo"})


def test_conformance_raises_for_a_plugin_that_cannot_be_read():
    with pytest.raises(PluginError, match="gancore_loses"):
        conformance(Misspelled)


def test_conformance_raises_for_a_plugin_that_offers_nothing():
    with pytest.raises(PluginError, match="it offers nothing"):
        conformance(types.ModuleType("gancore_empty"))


def test_laws_of_an_unknown_kind_are_config_round_trips():
    class Unknown(broken.CorrectLoss):
        kind = "unknown"

    (test,) = law_tests([Unknown])
    assert test.key == ("unknown", "correct", "config_round_trips")
    assert check_law(test.component, test.law).breach is None


def test_missing_hypothesis_is_an_error_with_the_command_to_install_it(tmp_path):
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'hypothesis' else find(name, *a)\n"
        "from gancore_cli.main import main; main(['plugins', 'check', 'builtin'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "next: pip install 'gancore[test]'" in done.stderr
