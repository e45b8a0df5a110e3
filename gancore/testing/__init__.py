"""The contract as laws: promises of components, checked on small cases drawn from their own fields.

A law is a function whose name is a sentence. `conformance` parametrizes a pytest test with all laws of a plugin, and
the command `gancore plugins check` runs them without pytest. Nothing else in gancore imports this package.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("hypothesis") is None:
    raise ModuleNotFoundError(
        "gancore.testing needs hypothesis, which is not installed: pip install 'gancore[test]'",
        name="hypothesis",
    )

from gancore.testing.cases import Case as Case
from gancore.testing.cases import LawBroken as LawBroken
from gancore.testing.cases import OwnCases as OwnCases
from gancore.testing.datasets import damaged_images_score_worse as damaged_images_score_worse
from gancore.testing.datasets import items_depend_only_on_their_index as items_depend_only_on_their_index
from gancore.testing.datasets import items_have_the_promised_format as items_have_the_promised_format
from gancore.testing.datasets import measurements_are_numbers as measurements_are_numbers
from gancore.testing.datasets import needs_lists_all_inputs_used as needs_lists_all_inputs_used
from gancore.testing.datasets import parts_are_different_datasets as parts_are_different_datasets
from gancore.testing.datasets import progress_rises_from_0_to_1 as progress_rises_from_0_to_1
from gancore.testing.datasets import too_few_images_raise_data_error as too_few_images_raise_data_error
from gancore.testing.exporters import export_is_one_complete_path as export_is_one_complete_path
from gancore.testing.exporters import (
    export_leaves_the_generator_unchanged as export_leaves_the_generator_unchanged,
)
from gancore.testing.general import accepts_a_batch_of_one as accepts_a_batch_of_one
from gancore.testing.general import batch_order_does_not_matter as batch_order_does_not_matter
from gancore.testing.general import config_round_trips as config_round_trips
from gancore.testing.general import errors_are_config_or_data_errors as errors_are_config_or_data_errors
from gancore.testing.general import features_are_deterministic as features_are_deterministic
from gancore.testing.general import inputs_are_not_modified as inputs_are_not_modified
from gancore.testing.general import same_seed_same_result as same_seed_same_result
from gancore.testing.general import samples_are_independent_in_evaluation as samples_are_independent_in_evaluation
from gancore.testing.general import state_dict_round_trips as state_dict_round_trips
from gancore.testing.general import state_holds_no_graph as state_holds_no_graph
from gancore.testing.general import stays_in_single_precision as stays_in_single_precision
from gancore.testing.general import stays_on_its_device as stays_on_its_device
from gancore.testing.losses import (
    generator_loss_is_attached_to_the_fakes as generator_loss_is_attached_to_the_fakes,
)
from gancore.testing.losses import loss_does_not_grow_with_the_batch as loss_does_not_grow_with_the_batch
from gancore.testing.losses import loss_gradient_reaches_the_scores as loss_gradient_reaches_the_scores
from gancore.testing.losses import losses_are_finite_scalars as losses_are_finite_scalars
from gancore.testing.losses import losses_oppose_each_other as losses_oppose_each_other
from gancore.testing.losses import penalties_are_finite_scalars as penalties_are_finite_scalars
from gancore.testing.losses import penalty_gradient_reaches_its_network as penalty_gradient_reaches_its_network
from gancore.testing.losses import penalty_is_a_mean_over_the_batch as penalty_is_a_mean_over_the_batch
from gancore.testing.losses import project_works_in_place as project_works_in_place
from gancore.testing.losses import strength_is_in_range as strength_is_in_range
from gancore.testing.networks import condition_changes_the_images as condition_changes_the_images
from gancore.testing.networks import condition_changes_the_logits as condition_changes_the_logits
from gancore.testing.networks import dropout_follows_the_mode as dropout_follows_the_mode
from gancore.testing.networks import gradient_reaches_every_parameter as gradient_reaches_every_parameter
from gancore.testing.networks import gradient_reaches_the_images as gradient_reaches_the_images
from gancore.testing.networks import images_are_augmented_independently as images_are_augmented_independently
from gancore.testing.networks import images_are_in_range as images_are_in_range
from gancore.testing.networks import latent_changes_the_images as latent_changes_the_images
from gancore.testing.networks import logits_are_not_probabilities as logits_are_not_probabilities
from gancore.testing.networks import low_strength_leaves_images_unchanged as low_strength_leaves_images_unchanged
from gancore.testing.networks import output_has_the_promised_shape as output_has_the_promised_shape
from gancore.testing.networks import preflight_detects_sample_mixing as preflight_detects_sample_mixing
from gancore.testing.networks import strength_zero_changes_nothing as strength_zero_changes_nothing
from gancore.testing.networks import truncation_ends_at_one_image as truncation_ends_at_one_image
from gancore.testing.observers import handles_a_resumed_run as handles_a_resumed_run
from gancore.testing.observers import handles_unusual_events as handles_unusual_events
from gancore.testing.observers import keeps_its_files_on_resume as keeps_its_files_on_resume
from gancore.testing.observers import run_files_are_not_modified as run_files_are_not_modified
from gancore.testing.observers import writes_only_in_the_run_folder as writes_only_in_the_run_folder
from gancore.testing.process import process_state_is_not_modified as process_state_is_not_modified
from gancore.testing.runner import Breach as Breach
from gancore.testing.runner import LawResult as LawResult
from gancore.testing.runner import StubExtractor as StubExtractor
from gancore.testing.runner import check_law as check_law
from gancore.testing.runner import laws_of as laws_of
from gancore.testing.strategies import Bounds as Bounds
from gancore.testing.strategies import cases as cases
from gancore.testing.strategies import components as components
from gancore.testing.strategies import shapes as shapes
from gancore.testing.suite import LawTest as LawTest
from gancore.testing.suite import check as check
from gancore.testing.suite import conformance as conformance
