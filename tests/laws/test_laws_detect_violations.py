from types import MappingProxyType

import broken_components as broken
import pytest

from gancore import testing
from gancore.testing import LawBroken, LawTest, check_law, laws_of
from gancore.testing.runner import EXAMPLES

BROKEN_LAWS = {name for _, names in broken.BROKEN for name in names[:1]}


def breaches(component, expected=()):
    """Return broken laws; those that are not expected to be broken are tried on fewer cases."""
    found = {
        law.__name__: check_law(component, law, examples=EXAMPLES if law.__name__ in expected else 2).breach
        for law in laws_of(component)
    }
    return {name: str(breach) for name, breach in found.items() if breach is not None}


@pytest.mark.parametrize(("component", "expected"), broken.BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_component_breaks_its_law_and_no_other(component, expected):
    found = breaches(component, expected)
    assert set(found) == set(expected), found


@pytest.mark.parametrize("component", broken.CORRECT, ids=lambda component: component.__name__)
def test_correct_component_breaks_no_law(component):
    assert breaches(component, [law.__name__ for law in laws_of(component)]) == {}


def test_broken_components_cover_every_kind_and_every_law():
    kinds = [component.kind for component, _ in broken.BROKEN]
    assert len(kinds) >= 30
    for kind in testing.runner.KINDS:
        assert kinds.count(kind) >= 2, kind
        laws = {law.__name__ for component in broken.CORRECT if component.kind == kind for law in laws_of(component)}
        assert laws <= BROKEN_LAWS, kind


@pytest.mark.parametrize(
    ("component", "law", "call"),
    [
        (broken.WideIsWrong, testing.output_has_the_promised_shape, "WideIsWrong(width=13)"),
        (broken.LogOfSigmoid, testing.losses_are_finite_scalars, "LogOfSigmoid("),
        (broken.BareNumber, testing.measurements_are_numbers, "BareNumber(extractor=StubExtractor())"),
    ],
)
def test_breach_is_one_line_with_a_call_that_can_be_pasted(component, law, call):
    with pytest.raises(LawBroken) as caught:
        LawTest(component, law)()
    line = str(caught.value)
    assert call in line
    assert "\n" not in line
    pasted, _, reason = line.partition("): ")
    with pytest.raises(LawBroken) as again:
        eval(pasted + ")", vars(testing) | vars(broken))  # noqa: S307  # authors paste it too
    assert str(again.value) == reason


def test_check_law_is_deterministic():
    first, second = (check_law(broken.WideIsWrong, testing.output_has_the_promised_shape) for _ in range(2))
    assert first == second


class ReturnsAMapping(broken.CorrectExporter):
    def export(self, model, out):
        return MappingProxyType(super().export(model, out))


def test_facts_of_an_exporter_may_be_any_mapping():
    assert check_law(ReturnsAMapping, testing.export_is_one_complete_path).outcome == "held"
