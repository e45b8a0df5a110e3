from gancore.testing import conformance

import gancore_shapes


@conformance(gancore_shapes)
def test_contract(case):
    case()
