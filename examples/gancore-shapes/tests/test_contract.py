import gancore_shapes
from gancore.testing import conformance


@conformance(gancore_shapes)
def test_contract(case):
    case()
