import gancore_plugins
from gancore.catalog.catalog import Catalog
from gancore.testing import conformance
from gancore.testing.general import errors_are_config_or_data_errors
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
    if case.law is not errors_are_config_or_data_errors:
        case()
        return
    result = case.check()
    assert result.breach is None
    assert bool(result.cases) == (case.component.name not in NEED_FILES), "a law is tried unless files are missing"


def test_contract_covers_the_whole_catalog():
    (ours,) = [plugin for plugin in Catalog.installed().plugins if plugin.package == "gancore"]
    marked = {parameter.values[0].key for parameter in test_contract.pytestmark[0].args[1]}
    assert marked == {test.key for test in law_tests(ours.components)}
