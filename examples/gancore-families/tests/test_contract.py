import pytest

import gancore_families
from gancore.testing import conformance


@pytest.mark.long
@conformance(gancore_families)
def test_contract(case):
    case()
