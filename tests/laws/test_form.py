"""What gives another form than its kind promises is told so by the law on that form, and stops no other law."""

import broken_components as zoo
import pytest
import torch
from hypothesis import given, settings
from pydantic import Field

from gancore import testing
from gancore.metrics import Measurement, Metric
from gancore.testing import Case, components, judge, laws_of


def giving(base, mangle):
    """A sound network of this kind whose output is mangled."""

    class Mangled(zoo.Net):
        def end(self, made):
            return mangle(super().end(made))

    return type("Mangling", (base,), {"net": Mangled, "__annotations__": {}, "__module__": __name__})


class Weak(zoo.SoundPenalty):
    def strength(self, moment):
        return None


class Augmenting(zoo.SoundAugmentation):
    def apply(self, images, strength):
        return (super().apply(images, strength), strength)


class Complex(zoo.SoundLoss):
    def generator(self, fake, real):
        return super().generator(fake, real) * 1j


class Without(Metric):
    name, needs, better = "without", frozenset({"images"}), "lower"

    def measure(self, evidence):
        return Measurement(1.0, ideal=None)


class Listing(zoo.SoundDataset):
    def build(self, root):
        return [(torch.zeros(1, 4, 4, dtype=torch.uint8), 0, 1)] * 3


FORMLESS = [
    (giving(zoo.SoundGenerator, lambda made: (made, made)), "output_has_the_promised_shape"),
    (giving(zoo.SoundGenerator, lambda made: None), "output_has_the_promised_shape"),
    (giving(zoo.SoundGenerator, lambda made: made[:0]), "output_has_the_promised_shape"),
    (giving(zoo.SoundDiscriminator, lambda made: [made]), "output_has_the_promised_shape"),
    (giving(zoo.SoundDiscriminator, lambda made: made[:, :0]), "output_has_the_promised_shape"),
    (Augmenting, "output_has_the_promised_shape"),
    (Complex, "losses_are_finite_scalars"),
    (Weak, "strength_keeps_its_range"),
    (Without, "measurements_are_numbers"),
    (Listing, "items_have_the_promised_form"),
]


@pytest.mark.parametrize(("component", "of_form"), FORMLESS)
def test_the_law_on_form_says_so_and_every_other_law_ends(component, of_form):
    breaches = {law.__name__ for law in laws_of(component) if judge(component, law, examples=2).breach}
    assert of_form in breaches
    assert not breaches & {"either_works_or_says_why_not", "gradient_reaches_every_parameter"}


def stumbles(component, case):
    raise KeyError("images")


def test_a_mistake_in_a_law_is_not_taken_for_one_of_the_component():
    with pytest.raises(KeyError, match="images"):
        judge(zoo.SoundLoss, stumbles)
    assert judge(Complex, stumbles).tried == 0


def test_logits_that_are_not_finite_do_not_stop_the_law_on_mixing():
    broken = giving(zoo.SoundDiscriminator, lambda made: made * float("nan"))
    assert judge(broken, testing.mixing_is_found_out, examples=2).tried == 0


def test_what_is_no_tensor_at_strength_zero_alone_is_noticed():
    class Idle(zoo.SoundAugmentation):
        def apply(self, images, strength):
            return super().apply(images, strength) if strength else None

    with pytest.raises(testing.LawBroken, match="must be a tensor at strength 0 too; received NoneType"):
        testing.strength_zero_changes_nothing(Idle(), Case())


class SixScales(zoo.SoundLoss):
    scales: tuple[float, ...] = Field(default=(1.0,) * 6, min_length=6)
    label: str = Field(default="a label", min_length=6)


@settings(max_examples=5)
@given(components(SixScales))
def test_a_field_may_be_longer_than_what_is_drawn_without_bounds(component):
    assert min(len(component.scales), len(component.label)) >= 6


class BrokenAsItComes(zoo.SoundLoss):
    size: int = 5000

    def generator(self, fake, real):
        return super().generator(fake, real) * (float("nan") if self.size == 5000 else 1.0)


def test_the_component_that_has_all_defaults_is_the_first_that_is_tried():
    breach = judge(BrokenAsItComes, testing.losses_are_finite_scalars).breach
    assert breach is not None
    assert breach.call.startswith("losses_are_finite_scalars(BrokenAsItComes(size=5000), ")
