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


LAWS: dict[str, tuple[Law, ...]] = {
    "generator": (
        networks.output_has_the_promised_shape,
        networks.gradient_reaches_every_parameter,
        networks.images_are_in_range,
        networks.latent_changes_the_images,
        networks.labels_change_the_images,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.samples_are_independent_in_evaluation,
    ),
    "discriminator": (
        networks.output_has_the_promised_shape,
        networks.logits_are_not_probabilities,
        networks.gradient_reaches_every_parameter,
        networks.gradient_reaches_the_images,
        networks.preflight_detects_sample_mixing,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
    ),
    "loss": (
        losses.losses_are_finite_scalars,
        losses.loss_gradient_reaches_the_scores,
        losses.loss_does_not_grow_with_the_batch,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.batch_order_does_not_matter,
    ),
    "dataset": (
        datasets.items_have_the_promised_format,
        datasets.items_depend_only_on_their_index,
        datasets.parts_are_different_datasets,
        datasets.progress_rises_from_0_to_1,
    ),
    "regularizer": (
        losses.penalties_are_finite_scalars,
        losses.penalty_gradient_reaches_its_network,
        losses.penalty_is_a_mean_over_the_batch,
        losses.project_works_in_place,
        losses.strength_is_in_range,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.batch_order_does_not_matter,
    ),
    "augmentation": (
        networks.output_has_the_promised_shape,
        networks.gradient_reaches_the_images,
        networks.strength_zero_changes_nothing,
        networks.low_strength_leaves_images_unchanged,
        networks.images_are_augmented_independently,
        losses.strength_is_in_range,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.samples_are_independent_in_evaluation,
    ),
    "metric": (
        datasets.measurements_are_numbers,
        datasets.needs_lists_all_inputs_used,
        datasets.too_few_images_raise_data_error,
        general.batch_order_does_not_matter,
    ),
    "extractor": (
        networks.output_has_the_promised_shape,
        general.features_are_deterministic,
        general.stays_on_its_device,
        general.accepts_a_batch_of_one,
        general.samples_are_independent_in_evaluation,
    ),
    "observer": (
        observers.handles_unusual_events,
        observers.run_files_are_not_modified,
        observers.handles_a_resumed_run,
    ),
}
"""The laws of single kinds; `laws_of` adds those of most kinds."""
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
    laws = tuple(law for law, kinds in kinds_by_law().items() if component.kind in kinds)
    return laws or (general.config_round_trips,)


def kinds_by_law() -> dict[Law, list[str]]:
    """Return every law with the kinds that it applies to."""
    found: dict[Law, list[str]] = {}
    for kind, own in LAWS.items():
        first = (general.config_round_trips, general.errors_are_config_or_data_errors)
        for law in (*first, *own, *_last(kind)):
            found.setdefault(law, []).append(kind)
    return found


def _last(kind: str) -> tuple[Law, ...]:
    """Return the laws of most kinds: an observer has no outputs, a dataset no inputs, and some build no module."""
    if kind == "observer":
        return (process.process_state_is_not_modified,)
    on_state = (general.state_dict_round_trips, general.state_holds_no_graph)
    state: tuple[Law, ...] = {"dataset": (), "metric": (), "extractor": on_state[:1]}.get(kind, on_state)
    inputs = () if kind == "dataset" else (general.inputs_are_not_modified,)
    return (general.same_seed_same_result, process.process_state_is_not_modified, *state, *inputs)


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
        if law in LAWS.get(component.kind, ()):
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
