import os
import subprocess
import sys
import types
from xml.etree import ElementTree

import broken_components as broken
import pytest
from torch import nn

from gancore import testing
from gancore.errors import ConfigError, DataError, PluginError
from gancore.hookspecs import hookimpl
from gancore.testing import Case, OwnCases, check_law, conformance
from gancore.testing.runner import EXAMPLES
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
import gancore_{name}
from gancore.testing import conformance

@conformance(gancore_{name}, known={known})
def test_contract(case):
    case()
"""
CORRECT = "(fake.logits - 1).square().mean()"
BROKEN = "-fake.logits.sigmoid().log().mean()"
LAW = "losses_are_finite_scalars"
FILES = {
    "correct": (CORRECT, None),
    "broken": (BROKEN, None),
    "known": (BROKEN, {("loss", "mine", LAW): "a demonstration"}),
    "outdated": (CORRECT, {("loss", "mine", LAW): "it was broken once"}),
}
"""Files of tests: the loss of their plugin, and its known breaches."""


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """What pytest reports of each file: the outcome and the message of each law. One process runs them all."""
    folder = tmp_path_factory.mktemp("contract")
    for name, (generator, known) in FILES.items():
        (folder / f"gancore_{name}.py").write_text(PLUGIN.format(generator=generator))
        (folder / f"test_{name}.py").write_text(TEST.format(name=name, known=known))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--junitxml=report.xml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    found = {name: {} for name in FILES}
    for test in ElementTree.parse(folder / "report.xml").iter("testcase"):  # noqa: S314  # of our own
        outcomes = [(each.get("type") or each.tag, each.get("message")) for each in test]
        assert len(outcomes) <= 1
        law = test.get("name").removeprefix("test_contract[loss-mine-").removesuffix("]")
        found[test.get("classname").removeprefix("test_")][law] = outcomes[0] if outcomes else ("passed", "")
    return found


def others(laws):
    """The outcomes of all laws but the one that a loss breaks."""
    return [outcome for law, (outcome, _) in laws.items() if law != LAW]


def test_conformance_passes_for_a_correct_plugin(reported):
    laws = reported["correct"]
    assert laws[LAW] == ("passed", "")
    assert set(others(laws)) == {"passed", "pytest.skip"}


def test_conformance_fails_for_a_broken_law_unless_it_is_known(reported):
    outcome, message = reported["broken"][LAW]
    assert outcome == "failure"
    assert f"LawBroken: {LAW}(Mine(), Case(" in message
    assert reported["known"][LAW] == ("pytest.xfail", "a demonstration")
    for name in ("broken", "known"):
        assert others(reported[name]) == others(reported["correct"])


def test_known_breach_that_passes_fails(reported):
    assert reported["outdated"][LAW] == ("failure", "[XPASS(strict)] it was broken once")
    assert others(reported["outdated"]) == others(reported["correct"])


def test_law_that_does_not_concern_a_component_skips_with_the_reason(reported):
    skipped = [message for outcome, message in reported["correct"].values() if outcome == "pytest.skip"]
    assert len(skipped) == 3
    assert "not applicable: it is no module, so it has no buffers" in skipped


class OneShape(broken.CorrectDiscriminator):
    def build(self, spec):
        if spec.shape != (1, 2, 11):
            raise ConfigError("only 2x11")
        return super().build(spec)


class ReadsRoot(broken.CorrectDataset):
    def build(self, root):
        if not (root / "here.txt").exists():
            raise DataError("here.txt is missing")
        return super().build(root)


def test_own_shapes_are_drawn():
    law = testing.output_has_the_promised_shape
    refused = check_law(OneShape, law)
    assert (refused.outcome, refused.reason, refused.cases) == ("refused", "only 2x11", 0)
    assert check_law(OneShape, law, own=OwnCases(shapes=((1, 2, 11),))).cases == EXAMPLES


def test_own_root_has_the_files_of_datasets(tmp_path):
    law = testing.items_have_the_promised_format
    missing = check_law(ReadsRoot, law)
    assert (missing.outcome, missing.reason) == ("not tried", "here.txt is missing")
    (tmp_path / "here.txt").touch()
    assert check_law(ReadsRoot, law, own=OwnCases(root=tmp_path)).outcome == "held"


def test_own_case_is_tried_with_default_fields():
    case = Case(shape=(1, 2, 11), seed=7)
    law = testing.output_has_the_promised_shape
    assert check_law(OneShape, law, own=OwnCases(cases=(case,))).cases == 1
    test = conformance(Plugin, cases=[case], shapes=[(1, 2, 11)]).args[1][0].values[0]
    assert test.own == OwnCases(shapes=((1, 2, 11),), cases=(case,))


class FailsOnItsOwnCase(broken.CorrectDiscriminator):
    def build(self, spec):
        return super().build(spec) if spec.latent_dim != 77 else nn.Identity()


def test_own_case_that_breaks_a_law_is_reported_as_it_is():
    own = OwnCases(cases=(Case(latent_dim=77),))
    breach = check_law(FailsOnItsOwnCase, testing.output_has_the_promised_shape, own=own).breach
    assert breach.call == "output_has_the_promised_shape(FailsOnItsOwnCase(), Case(latent_dim=77))"


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
