"""The contract as laws: what a component promises, tried on small cases drawn from its own fields.

A law is a function named as a sentence. `conformance` makes pytest's cases of all laws of a plugin, and the command
`gancore plugins check` tries them without pytest. Nothing else in gancore imports this package.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError(
        "gancore.testing draws its cases with hypothesis, which is not installed: pip install 'gancore[test]'",
        name="hypothesis",
    )

from gancore.testing.cases import Case, LawBroken
from gancore.testing.data import (
    it_looks_only_at_what_it_needs,
    it_says_when_there_are_too_few_images,
    items_depend_on_their_index_alone,
    items_have_the_promised_form,
    measurements_are_numbers,
    parts_are_datasets,
    progress_is_a_rising_share,
)
from gancore.testing.general import (
    accepts_a_batch_of_one,
    an_image_does_not_depend_on_its_batch,
    chance_has_no_say_in_features,
    either_works_or_says_why_not,
    leaves_its_inputs_alone,
    same_seed_same_result,
    scores_do_not_depend_on_order,
    stays_in_single_precision,
    stays_on_its_device,
    survives_a_round_trip,
    what_it_builds_keeps_no_graph,
    what_it_builds_survives_a_round_trip,
)
from gancore.testing.networks import (
    every_image_is_changed_by_itself,
    gradient_reaches_every_parameter,
    gradient_reaches_the_images,
    images_lie_in_their_range,
    labels_change_what_it_makes,
    latents_change_what_it_makes,
    little_strength_leaves_images_alone,
    logits_are_no_probabilities,
    mixing_is_found_out,
    output_has_the_promised_shape,
    strength_zero_changes_nothing,
)
from gancore.testing.observing import (
    it_bears_whatever_is_told,
    it_joins_a_run_that_goes_on,
    what_the_run_wrote_stays_as_it_was,
)
from gancore.testing.process import leaves_the_process_as_it_was
from gancore.testing.pytest_door import Trial, check, conformance
from gancore.testing.runner import Breach, Given, Verdict, every_field_does_something, judge, laws_of
from gancore.testing.scoring import (
    a_loss_does_not_grow_with_the_batch,
    a_penalty_is_the_mean_of_its_parts,
    gradient_reaches_its_player,
    gradient_reaches_what_is_scored,
    it_projects_in_place,
    losses_are_finite_scalars,
    penalties_are_finite_scalars,
    strength_keeps_its_range,
)
from gancore.testing.strategies import Bounds, cases, components, shapes

__all__ = [
    "Bounds",
    "Breach",
    "Case",
    "Given",
    "LawBroken",
    "Trial",
    "Verdict",
    "a_loss_does_not_grow_with_the_batch",
    "a_penalty_is_the_mean_of_its_parts",
    "accepts_a_batch_of_one",
    "an_image_does_not_depend_on_its_batch",
    "cases",
    "chance_has_no_say_in_features",
    "check",
    "components",
    "conformance",
    "either_works_or_says_why_not",
    "every_field_does_something",
    "every_image_is_changed_by_itself",
    "gradient_reaches_every_parameter",
    "gradient_reaches_its_player",
    "gradient_reaches_the_images",
    "gradient_reaches_what_is_scored",
    "images_lie_in_their_range",
    "it_bears_whatever_is_told",
    "it_joins_a_run_that_goes_on",
    "it_looks_only_at_what_it_needs",
    "it_projects_in_place",
    "it_says_when_there_are_too_few_images",
    "items_depend_on_their_index_alone",
    "items_have_the_promised_form",
    "judge",
    "labels_change_what_it_makes",
    "latents_change_what_it_makes",
    "laws_of",
    "leaves_its_inputs_alone",
    "leaves_the_process_as_it_was",
    "little_strength_leaves_images_alone",
    "logits_are_no_probabilities",
    "losses_are_finite_scalars",
    "measurements_are_numbers",
    "mixing_is_found_out",
    "output_has_the_promised_shape",
    "parts_are_datasets",
    "penalties_are_finite_scalars",
    "progress_is_a_rising_share",
    "same_seed_same_result",
    "scores_do_not_depend_on_order",
    "shapes",
    "stays_in_single_precision",
    "stays_on_its_device",
    "strength_keeps_its_range",
    "strength_zero_changes_nothing",
    "survives_a_round_trip",
    "what_it_builds_keeps_no_graph",
    "what_it_builds_survives_a_round_trip",
    "what_the_run_wrote_stays_as_it_was",
]
