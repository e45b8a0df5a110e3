"""The laws have teeth: each broken component is caught by the law meant for it, and by no other."""

import broken_components as zoo
import pytest

from gancore import testing
from gancore.testing import LawBroken, judge, laws_of
from gancore.testing.pytest_door import Trial

BROKEN_LAWS = {name for _, names in zoo.BROKEN for name in names[:1]}


def breaches(component):
    found = {law.__name__: judge(component, law).breach for law in laws_of(component)}
    return {name: str(breach) for name, breach in found.items() if breach is not None}


@pytest.mark.parametrize(("component", "expected"), zoo.BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_the_law_meant_for_it_notices_and_no_other(component, expected):
    found = breaches(component)
    assert set(found) == set(expected), found


@pytest.mark.parametrize("component", zoo.SOUND, ids=lambda component: component.__name__)
def test_what_the_broken_ones_are_made_of_breaks_no_law(component):
    assert breaches(component) == {}


def test_the_zoo_has_many_animals_of_every_kind_and_one_for_every_law():
    kinds = [component.kind for component, _ in zoo.BROKEN]
    assert len(kinds) >= 30
    for kind in testing.judging.LAWS:
        assert kinds.count(kind) >= 2, kind
        laws = {law.__name__ for component in zoo.SOUND if component.kind == kind for law in laws_of(component)}
        assert laws <= BROKEN_LAWS, kind


@pytest.mark.parametrize(
    ("component", "law", "call"),
    [
        (zoo.WideIsWrong, testing.output_has_the_promised_shape, "WideIsWrong(width=21)"),
        (zoo.LogOfSigmoid, testing.losses_are_finite_scalars, "LogOfSigmoid("),
        (zoo.BareNumber, testing.measurements_are_numbers, "BareNumber(extractor=Given())"),
        (zoo.Idle, testing.every_field_does_something, "every_field_does_something(Idle)"),
    ],
)
def test_a_breach_is_one_line_whose_call_can_be_pasted_back(component, law, call):
    with pytest.raises(LawBroken) as caught:
        Trial(component, law)()
    line = str(caught.value)
    assert call in line
    assert "\n" not in line
    pasted, _, reason = line.partition("): ")
    public = {name: getattr(testing, name) for name in testing.__all__}
    with pytest.raises(LawBroken) as again:
        eval(pasted + ")", public | vars(zoo))  # noqa: S307  # it is meant to be pasted
    assert str(again.value) == reason


def test_the_same_component_is_always_tried_in_the_same_way():
    first, second = (judge(zoo.WideIsWrong, testing.output_has_the_promised_shape) for _ in range(2))
    assert first == second
