import gancore_families
from gancore.testing import conformance


@conformance(gancore_families)
def test_contract(case):
    case()
