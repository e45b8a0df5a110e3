import pytest

import gancore_plugins
from gancore.catalog.catalog import Catalog
from gancore.testing import check_law, conformance
from gancore.testing.suite import law_tests

KNOWN = {
    ("generator", "r3gan", "images_are_in_range"): "has no tanh, as in the paper",
    ("generator", "style", "images_are_in_range"): "has no tanh, as in the paper",
}
NEED_FILES = {
    *("mnist", "fashion-mnist", "kmnist", "cifar10", "stacked-mnist", "inception"),
    *("folder", "paired", "array", "table"),
}
"""Components that need files, so that most laws cannot be checked on them."""


@conformance(gancore_plugins, known=KNOWN)
def test_contract(case):
    case()


def test_contract_covers_the_whole_catalog():
    (ours,) = [plugin for plugin in Catalog.installed().plugins if plugin.package == "gancore"]
    marked = {parameter.values[0].key for parameter in test_contract.pytestmark[0].args[1]}
    assert marked == {test.key for test in law_tests(ours.components)}


@pytest.mark.parametrize(
    "test",
    [
        test
        for test in law_tests(Catalog.installed().plugins[0].components)
        if test.key[2] == "errors_are_config_or_data_errors" and test.component.kind != "exporter"  # which take seconds
    ],
    ids=lambda test: "-".join(test.key[:2]),
)
def test_builtins_that_need_no_files_are_checked(test):
    assert bool(check_law(test.component, test.law, examples=1).cases) == (test.component.name not in NEED_FILES)
