import broken_components as broken
import pytest
import torch
from hypothesis import given, settings
from pydantic import Field

from gancore import testing
from gancore.metrics import Measurement, Metric
from gancore.testing import Case, check_law, components, laws_of


def with_output(base, convert):
    """Return a component whose network converts the output of a correct one."""

    class Converted(broken.Net):
        def finish(self, out):
            return convert(super().finish(out))

    return type("Converting", (base,), {"net": Converted, "__annotations__": {}, "__module__": __name__})


class NoStrength(broken.CorrectPenalty):
    def strength(self, time):
        return None


class ReturnsATuple(broken.CorrectAugmentation):
    def apply(self, images, strength):
        return (super().apply(images, strength), strength)


class ComplexLoss(broken.CorrectLoss):
    def generator(self, fake, real):
        return super().generator(fake, real) * 1j


class NoIdeal(Metric):
    name, needs, better = "no-ideal", frozenset({"images"}), "lower"

    def measure(self, inputs):
        return Measurement(1.0, ideal=None)


class ListDataset(broken.CorrectDataset):
    def build(self, root):
        return [(torch.zeros(1, 4, 4, dtype=torch.uint8), 0, 1)] * 3


WRONG_FORMATS = [
    (with_output(broken.CorrectGenerator, lambda out: (out, out)), "output_has_the_promised_shape"),
    (with_output(broken.CorrectGenerator, lambda out: None), "output_has_the_promised_shape"),
    (with_output(broken.CorrectGenerator, lambda out: out[:0]), "output_has_the_promised_shape"),
    (with_output(broken.CorrectDiscriminator, lambda out: [out]), "output_has_the_promised_shape"),
    (with_output(broken.CorrectDiscriminator, lambda out: out[:, :0]), "output_has_the_promised_shape"),
    (ReturnsATuple, "output_has_the_promised_shape"),
    (ComplexLoss, "losses_are_finite_scalars"),
    (NoStrength, "strength_is_in_range"),
    (NoIdeal, "measurements_are_numbers"),
    (ListDataset, "items_have_the_promised_format"),
]


@pytest.mark.parametrize(("component", "law"), WRONG_FORMATS)
def test_wrong_format_is_reported_and_no_other_law_crashes(component, law):
    breaches = {each.__name__ for each in laws_of(component) if check_law(component, each, examples=2).breach}
    assert law in breaches
    assert not breaches & {"errors_are_config_or_data_errors", "gradient_reaches_every_parameter"}


def law_with_a_bug(component, case):
    raise KeyError("images")


def test_bug_in_a_law_is_not_reported_as_a_breach():
    with pytest.raises(KeyError, match="images"):
        check_law(broken.CorrectLoss, law_with_a_bug)
    assert check_law(ComplexLoss, law_with_a_bug).cases == 0


def test_logits_that_are_not_finite_skip_the_law_on_mixing():
    component = with_output(broken.CorrectDiscriminator, lambda out: out * float("nan"))
    assert check_law(component, testing.preflight_detects_sample_mixing, examples=2).cases == 0


def test_strength_zero_must_return_a_tensor():
    class NoneAtZero(broken.CorrectAugmentation):
        def apply(self, images, strength):
            return super().apply(images, strength) if strength else None

    with pytest.raises(testing.LawBroken, match="must be a tensor at strength 0 too; received NoneType"):
        testing.strength_zero_changes_nothing(NoneAtZero(), Case())


class SixScales(broken.CorrectLoss):
    scales: tuple[float, ...] = Field(default=(1.0,) * 6, min_length=6)
    label: str = Field(default="a label", min_length=6)


@settings(max_examples=5)
@given(components(SixScales))
def test_components_respect_a_minimal_length_above_the_drawn_one(component):
    assert min(len(component.scales), len(component.label)) >= 6


class BrokenByDefault(broken.CorrectLoss):
    size: int = 5000

    def generator(self, fake, real):
        return super().generator(fake, real) * (float("nan") if self.size == 5000 else 1.0)


def test_component_with_all_defaults_is_checked_first():
    breach = check_law(BrokenByDefault, testing.losses_are_finite_scalars).breach
    assert breach is not None
    assert breach.call.startswith("losses_are_finite_scalars(BrokenByDefault(size=5000), ")
