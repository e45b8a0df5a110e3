"""The built-ins keep the contract: they come through the same door as anyone's, so a new one is tested by existing."""

import pytest

import gancore_plugins
from gancore.catalog.catalog import Catalog
from gancore.testing import conformance, judge
from gancore.testing.pytest_door import trials

KNOWN = {
    ("generator", "r3gan", "images_lie_in_their_range"): "its images are not bounded by its form, as in the paper",
}
FILES = {"mnist", "fashion-mnist", "kmnist", "cifar10", "folder", "stacked-mnist", "inception"}
"""What finds no files in an empty folder: of these only the laws that need none are tried."""


@conformance(gancore_plugins, known=KNOWN)
def test_contract(case):
    case()


def test_all_that_the_catalog_has_is_tried():
    (ours,) = [plugin for plugin in Catalog.installed().plugins if plugin.package == "gancore"]
    marked = {trial.values[0].key for trial in test_contract.pytestmark[0].args[1]}
    assert marked == {trial.key for trial in trials(ours.components)}


@pytest.mark.parametrize(
    "trial",
    [trial for trial in trials(Catalog.installed().plugins[0].components) if "either_works" in trial.key[2]],
    ids=lambda trial: "-".join(trial.key[:2]),
)
def test_no_built_in_refuses_all_that_it_is_tried_on_but_for_those_that_need_files(trial):
    assert bool(judge(trial.component, trial.law).tried) == (trial.component.name not in FILES)
