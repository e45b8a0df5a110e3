"""The laws of each kind, and how a component is checked by one: on drawn cases, down to a minimal counterexample."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from gancore.component import Component
from gancore.errors import ConfigError, DataError, GancoreError, PluginError
from gancore.metrics import Extractor, Metric
from gancore.testing import datasets, general, losses, networks, observers, process
from gancore.testing.cases import Case, CaseSkipped, LawBroken, NotApplicable
from gancore.testing.strategies import Bounds, Offers, cases, components

Law = Callable[[Component, Case], None]

EXAMPLES = 10
"""Number of cases that a law is checked on."""
_SEED = 1
_BOUNDS = Bounds(largest=24, reach=100.0, letters="qxz")
_MAX_SKIPPED = 4 * EXAMPLES
"""Number of skipped cases after which a law is given up, if no case was checked."""


class StubExtractor(Extractor):
    """The extractor in the metrics that are checked. It extracts nothing: their features and logits are drawn."""

    name = "stub"

    def build(self, shape: object, num_classes: object, root: object) -> Any:  # Any: never returns
        raise ConfigError("this extractor is a stub for checks of metrics; it extracts nothing")


_ALL = "generator discriminator loss dataset regularizer augmentation metric extractor observer"
KINDS = _ALL.split()
"""The kinds that have laws."""
LAWS: dict[Law, str] = {
    general.config_round_trips: _ALL,
    general.errors_are_config_or_data_errors: _ALL,
    networks.output_has_the_promised_shape: "generator discriminator augmentation extractor",
    networks.gradient_reaches_every_parameter: "generator discriminator",
    networks.images_are_in_range: "generator",
    networks.latent_changes_the_images: "generator",
    networks.labels_change_the_images: "generator",
    general.stays_on_its_device: "generator discriminator loss regularizer augmentation extractor",
    general.stays_in_single_precision: "generator discriminator loss regularizer augmentation",
    general.accepts_a_batch_of_one: "generator discriminator loss regularizer augmentation extractor",
    general.samples_are_independent_in_evaluation: "generator augmentation extractor",
    general.same_seed_same_result: "generator discriminator loss dataset regularizer augmentation metric extractor",
    process.process_state_is_not_modified: _ALL,
    general.state_dict_round_trips: "generator discriminator loss regularizer augmentation extractor",
    general.state_holds_no_graph: "generator discriminator loss regularizer augmentation",
    general.inputs_are_not_modified: "generator discriminator loss regularizer augmentation metric extractor",
    networks.logits_are_not_probabilities: "discriminator",
    networks.gradient_reaches_the_images: "discriminator augmentation",
    networks.preflight_detects_sample_mixing: "discriminator",
    losses.losses_are_finite_scalars: "loss",
    losses.loss_gradient_reaches_the_scores: "loss",
    losses.loss_does_not_grow_with_the_batch: "loss",
    general.batch_order_does_not_matter: "loss regularizer metric",
    datasets.items_have_the_promised_format: "dataset",
    datasets.items_depend_only_on_their_index: "dataset",
    datasets.parts_are_different_datasets: "dataset",
    datasets.progress_rises_from_0_to_1: "dataset",
    losses.penalties_are_finite_scalars: "regularizer",
    losses.penalty_gradient_reaches_its_network: "regularizer",
    losses.penalty_is_a_mean_over_the_batch: "regularizer",
    losses.project_works_in_place: "regularizer",
    losses.strength_is_in_range: "regularizer augmentation",
    networks.strength_zero_changes_nothing: "augmentation",
    networks.low_strength_leaves_images_unchanged: "augmentation",
    networks.images_are_augmented_independently: "augmentation",
    datasets.measurements_are_numbers: "metric",
    datasets.needs_lists_all_inputs_used: "metric",
    datasets.too_few_images_raise_data_error: "metric",
    general.features_are_deterministic: "extractor",
    observers.handles_unusual_events: "observer",
    observers.run_files_are_not_modified: "observer",
    observers.handles_a_resumed_run: "observer",
}
"""All laws, each with the kinds that it applies to."""
_FORMAT_LAWS = (
    networks.output_has_the_promised_shape,
    losses.losses_are_finite_scalars,
    losses.penalties_are_finite_scalars,
    losses.strength_is_in_range,
    datasets.items_have_the_promised_format,
    datasets.measurements_are_numbers,
)
"""The laws on the format of outputs, which the other laws rely on."""


def laws_of(component: type[Component]) -> tuple[Law, ...]:
    """Return all laws of a component's kind; for an unknown kind, `config_round_trips` only."""
    laws = tuple(law for law, kinds in LAWS.items() if component.kind in kinds.split())
    return laws or (general.config_round_trips,)


@dataclass(frozen=True)
class Breach:
    """A broken law: the smallest call that shows it, as Python code, and the reason."""

    call: str
    reason: str

    def __str__(self) -> str:
        return f"{self.call}: {self.reason}"


@dataclass(frozen=True)
class LawResult:
    """The result of checking a component by a law: the number of cases checked, and the breach, if there is one."""

    component: type[Component]
    law: str
    cases: int
    breach: Breach | None = None


def check_law(component: type[Component], law: Law, examples: int = EXAMPLES) -> LawResult:
    """Check a law on drawn instances of a component, without network access, and always on the same ones."""
    with _offline(), process.restored_process_state(), TemporaryDirectory(prefix="gancore-testing-") as root:
        return _check(component, law, examples, Path(root))


def _check(cls: type[Component], law: Law, examples: int, root: Path) -> LawResult:
    checked, skipped, breaches = 0, 0, list[Breach]()

    @seed(_SEED)  # `derandomize` would draw other cases whenever this function is edited
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(drawn_components(cls), cases())
    def holds(component: Component, case: Case) -> None:
        nonlocal checked, skipped
        if not checked and skipped >= _MAX_SKIPPED:
            return
        try:
            law(component, replace(case, root=root))
        except NotApplicable:
            skipped = _MAX_SKIPPED
            reject()
        except (ConfigError, DataError, PluginError, CaseSkipped) as error:  # refused, or reported by another law
            skipped += EXAMPLES if isinstance(error, DataError) else 1  # files missing here are missing in all cases
            reject()
        except LawBroken as error:
            breaches.append(Breach(f"{law.__name__}({component!r}, {case!r})", " ".join(str(error).split())))
            raise
        except Exception:
            if not _breaks_a_format_law(component, replace(case, root=root)):
                raise  # a bug in the law
            reject()
        checked += 1

    try:
        holds()
    except (LawBroken, Flaky):
        pass  # the last breach is the smallest
    except Unsatisfiable:
        pass  # every case was skipped
    return LawResult(cls, law.__name__, checked, breaches[-1] if breaches else None)


def _breaks_a_format_law(component: Component, case: Case) -> bool:
    """Return whether outputs have a wrong format, on which other laws may fail with any error."""
    for law in _FORMAT_LAWS:
        if law in laws_of(type(component)):
            try:
                law(component, case)
            except LawBroken:
                return True
            except (GancoreError, CaseSkipped):
                continue
    return False


def drawn_components(component: type[Component]) -> st.SearchStrategy[Any]:  # Any: instances of the class
    """Draw small instances of the class; metrics that need an extractor get a stub."""
    if issubclass(component, Metric):
        needs_extractor = component.needs & {"features", "labels"}
        extractor = st.just(StubExtractor()) if needs_extractor else st.none()
        return components(component, _StubOffers(), _BOUNDS, extractor=extractor)
    return components(component, _StubOffers(), _BOUNDS)


class _StubOffers(Offers):
    """Offers the stub as the only component."""

    def offers(self, kind: type[Any], /) -> list[tuple[type[Any], object]]:  # Any: any kind
        return [(StubExtractor, None)] if issubclass(StubExtractor, kind) else []


@contextmanager
def _offline() -> Iterator[None]:
    """Make name resolution fail, so that a dataset whose files are missing raises instead of downloading them."""

    def refuse(*_: object, **__: object) -> Any:  # Any: never returns
        raise OSError("laws are checked without network access")

    with patch.object(socket, "getaddrinfo", refuse):
        yield
