"""The laws on the form of what a component gives, which all other laws take for granted."""

from __future__ import annotations

from collections.abc import Callable

from gancore.component import Component
from gancore.errors import GancoreError
from gancore.testing import data, networks, scoring
from gancore.testing.cases import Case, LawBroken, Untried

_OF_FORM: dict[str, tuple[Callable[[Component, Case], None], ...]] = {
    "generator": (networks.output_has_the_promised_shape,),
    "discriminator": (networks.output_has_the_promised_shape,),
    "loss": (scoring.losses_are_finite_scalars,),
    "dataset": (data.items_have_the_promised_form,),
    "regularizer": (scoring.penalties_are_finite_scalars, scoring.strength_keeps_its_range),
    "augmentation": (networks.output_has_the_promised_shape, scoring.strength_keeps_its_range),
    "metric": (data.measurements_are_numbers,),
    "extractor": (networks.output_has_the_promised_shape,),
}


def lacks_form(component: Component, case: Case) -> bool:
    """Whether a law on form is broken here, so that another one may stumble over what it is given."""
    for law in _OF_FORM.get(component.kind, ()):
        try:
            law(component, case)
        except LawBroken:
            return True
        except (GancoreError, Untried):
            continue
    return False
