"""The laws of each kind, and how a component is checked by one: on drawn cases, down to a minimal counterexample."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable
from pydantic import ValidationError

from gancore.component import Component
from gancore.contracts import Shape
from gancore.errors import ConfigError, DataError, GancoreError, PluginError
from gancore.metrics import Extractor, Metric
from gancore.testing import datasets, exporters, general, losses, networks, observers, process
from gancore.testing.cases import (
    NO_OWN_CASES,
    Case,
    CaseSkipped,
    LawBroken,
    NotApplicable,
    OwnCases,
    UnsuitedCase,
    UnsuitedComponent,
)
from gancore.testing.strategies import Bounds, Offers, cases, components

Law = Callable[[Component, Case], None]

EXAMPLES = 12
"""Number of cases that a law is checked on."""
_EXPORTS = 1
"""The same for exporters: tracing a network takes seconds."""
_SEED = 1
_BOUNDS = Bounds(largest=24, reach=100.0, letters="qxz")
_MAX_SKIPPED = 3 * EXAMPLES
"""Number of skipped cases after which no more are drawn."""


class StubExtractor(Extractor):
    """The extractor in the metrics that are checked. It extracts nothing: their features and logits are drawn."""

    name = "stub"

    def build(self, shape: object, num_classes: object, root: object) -> Any:  # Any: never returns
        raise ConfigError("this extractor is a stub for checks of metrics; it extracts nothing")


_ALL = "generator discriminator loss dataset regularizer augmentation metric extractor observer exporter"
KINDS = _ALL.split()
"""The kinds that have laws."""
LAWS: dict[Law, str] = {
    general.config_round_trips: _ALL,
    general.errors_are_config_or_data_errors: _ALL,
    networks.output_has_the_promised_shape: "generator discriminator augmentation extractor",
    networks.gradient_reaches_every_parameter: "generator discriminator loss regularizer augmentation",
    networks.images_are_in_range: "generator",
    networks.latent_changes_the_images: "generator",
    networks.condition_changes_the_images: "generator",
    networks.truncation_ends_at_one_image: "generator",
    networks.condition_changes_the_logits: "discriminator",
    networks.dropout_follows_the_mode: "generator discriminator",
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
    losses.losses_oppose_each_other: "loss",
    losses.generator_loss_is_attached_to_the_fakes: "loss",
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
    datasets.damaged_images_score_worse: "metric",
    general.features_are_deterministic: "extractor",
    observers.handles_unusual_events: "observer",
    observers.run_files_are_not_modified: "observer",
    observers.handles_a_resumed_run: "observer",
    observers.keeps_its_files_on_resume: "observer",
    observers.writes_only_in_the_run_folder: "observer",
    exporters.export_leaves_the_generator_unchanged: "exporter",
    exporters.export_is_one_complete_path: "exporter",
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

_NARROW = 0.25
"""Width factor of networks with all defaults, which may be wide, in most cases; the widths that are drawn are small."""
_ON_LARGER_CASES = (
    general.errors_are_config_or_data_errors,
    networks.output_has_the_promised_shape,
    networks.gradient_reaches_every_parameter,
)
"""Laws that are tried on `_LARGER_CASES` too."""
_LARGER_CASES = (
    Case(shape=(3, 32, 32), latent_dim=8),
    Case(shape=(1, 64, 64), latent_dim=8, width_factor=_NARROW),
    Case(shape=(1, 8, 16), latent_dim=8, width_factor=_NARROW),
    Case(shape=(1, 16, 16), latent_dim=8, width_factor=_NARROW, bounded=False),
    Case(shape=(2, 32), latent_dim=8, width_factor=_NARROW, bounded=False),
    Case(shape=(2, 4, 8, 8), latent_dim=8, width_factor=_NARROW, bounded=False),
    Case(shape=(1, 16, 16), latent_dim=8, width_factor=_NARROW, condition=(3,)),
    Case(shape=(1, 16, 16), latent_dim=8, width_factor=_NARROW, condition=(1, 16, 16)),
)

_IF_REFUSED = (
    Case(shape=(1, 16, 16), latent_dim=8, condition=(1, 16, 16)),
    Case(shape=(2, 16, 16), latent_dim=8, condition=(2, 16, 16)),
    Case(shape=(1, 64, 64), latent_dim=8),
)
"""Cases for components that refuse all others: those of pictures with a picture as the condition, or of one size."""


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


Outcome = Literal["held", "broken", "not tested", "refused", "not tried", "not applicable"]
"""What a law found: it held in at least one case; it was broken; every case needs a package that is not installed; the
component refused every case with ConfigError; it could be tried on none; it does not concern the component."""


@dataclass(frozen=True)
class LawResult:
    """The result of checking a component by a law.

    `cases` is the number of cases in which it held. `reason` says why in all outcomes but `held` and
    `broken`.
    """

    component: type[Component]
    law: str
    cases: int
    outcome: Outcome = "held"
    reason: str = ""
    breach: Breach | None = None


def check_law(
    component: type[Component], law: Law, examples: int = EXAMPLES, own: OwnCases = NO_OWN_CASES
) -> LawResult:
    """Check a law on drawn instances of a component, without network access, and always on the same ones.

    `own` are the author's cases. The component with all defaults is tried first on these, then on some larger shapes.
    """
    with _offline(), process.restored_process_state(), TemporaryDirectory(prefix="gancore-testing-") as root:
        trial = _Trial(component, law, own.root or Path(root))
        if component.kind == "exporter":
            examples = min(examples, _EXPORTS)
        try:
            for case in (*own.cases, *_larger_cases(component, law, own)):
                trial.check_default(case)
            trial.check_drawn(examples, own)
            if trial.is_refused and not own.shapes:
                for case in _IF_REFUSED:
                    trial.check_default(case)
        except LawBroken:
            pass  # it is among the breaches
        return trial.result()


_SETTINGS = partial(
    settings,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


@lru_cache(maxsize=4)
def _drawn(component: type[Component], shapes: Sequence[Shape]) -> Sequence[tuple[Component, Case]]:
    """Return components with cases, drawn once for all laws of a component: drawing takes as long as a law."""
    drawn: list[tuple[Component, Case]] = []

    @_SETTINGS(max_examples=EXAMPLES + _MAX_SKIPPED)
    @seed(_SEED)
    @given(drawn_components(component), _cases(component, shapes))
    def draw(component: Component, case: Case) -> None:
        is_default = not component.model_fields_set
        drawn.append((component, replace(case, width_factor=_NARROW) if is_default else case))

    with suppress(Unsatisfiable):
        draw()
    return drawn


def _cases(component: type[Component], shapes: Sequence[Shape]) -> st.SearchStrategy[Case]:
    stored = component.kind in ("augmentation", "extractor", "metric")
    return cases(st.sampled_from(shapes) if shapes else None, stored=stored)


def _larger_cases(component: type[Component], law: Law, own: OwnCases) -> Sequence[Case]:
    """Return cases that are too slow to draw for every law."""
    if own.shapes or law not in _ON_LARGER_CASES:
        return ()
    if component.kind in ("generator", "discriminator"):
        return _LARGER_CASES
    return [case for case in _LARGER_CASES if case.bounded] if component.kind == "augmentation" else ()


@dataclass
class _Trial:
    """A component that is checked by a law, and what was found so far."""

    component: type[Component]
    law: Law
    root: Path
    held: int = 0
    refused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unsuited_cases: list[str] = field(default_factory=list)
    unsuited_components: list[str] = field(default_factory=list)
    not_applicable: str | None = None
    breaches: list[Breach] = field(default_factory=list)

    def check_default(self, case: Case) -> None:
        """Check the component with all defaults, if every field has one."""
        try:
            stub = {"extractor": StubExtractor()} if _needs_extractor(self.component) else {}
            component = self.component(**stub)
        except ValidationError:
            return
        self.try_on(component, case)

    def check_drawn(self, examples: int, own: OwnCases) -> None:
        """Check drawn components in drawn cases. Raises LawBroken after the smallest breach was noted."""
        try:
            for component, case in _drawn(self.component, own.shapes):
                if self.held >= examples or self._is_given_up():
                    return
                self.try_on(component, case)
        except LawBroken:
            self._shrink(examples, own)

    def _shrink(self, examples: int, own: OwnCases) -> None:
        """Look for a smaller breach; the last one found is the smallest."""

        @_SETTINGS(max_examples=examples)
        @seed(_SEED)  # `derandomize` would draw other cases whenever this function is edited
        @given(drawn_components(self.component), _cases(self.component, own.shapes))
        def holds(component: Component, case: Case) -> None:
            if not self.try_on(component, case):
                reject()

        with suppress(LawBroken, Flaky, Unsatisfiable):
            holds()

    def try_on(self, component: Component, case: Case) -> bool:
        """Return whether the law held; False if the case was skipped. Raises LawBroken if it is broken."""
        case = replace(case, root=self.root)
        try:
            self.law(component, case)
        except NotApplicable as error:
            self.not_applicable = str(error)
            return False
        except (UnsuitedCase, UnsuitedComponent) as error:
            of_case = isinstance(error, UnsuitedCase)
            (self.unsuited_cases if of_case else self.unsuited_components).append(str(error))
            return False
        except ConfigError as error:
            is_missing = isinstance(error.__cause__, ImportError)  # a package that the component needs
            (self.missing if is_missing else self.refused).append(str(error))
            return False
        except (DataError, PluginError, CaseSkipped) as error:
            self.skipped.append(_reason(error))
            # Files missing here are missing in all cases.
            self.skipped += [self.skipped[-1]] * (_MAX_SKIPPED if isinstance(error, DataError) else 0)
            return False
        except LawBroken as error:
            call = f"{self.law.__name__}({component!r}, {case!r})"
            self.breaches.append(Breach(call, " ".join(str(error).split())))
            raise
        except Exception:
            if not _breaks_a_format_law(component, case):
                raise  # a bug in the law
            self.skipped.append("its outputs have a wrong format, which another law reports")
            return False
        self.held += 1
        return True

    @property
    def is_refused(self) -> bool:
        """Whether the component has refused every case that concerns it."""
        return bool(self.refused) and self._outcome()[0] == "refused"

    def _is_given_up(self) -> bool:
        tries = (self.refused, self.missing, self.skipped, self.unsuited_cases, self.unsuited_components)
        count = sum(map(len, tries))
        return count >= _MAX_SKIPPED or (self.not_applicable is not None and not self.held)

    def result(self) -> LawResult:
        """Return what was found. A law that held in no case gives its most frequent reason."""
        outcome, reasons = self._outcome()
        reason = " ".join(Counter(reasons).most_common(1)[0][0].split()) if reasons else ""
        breach = self.breaches[-1] if self.breaches else None
        return LawResult(self.component, self.law.__name__, self.held, outcome, reason, breach)

    def _outcome(self) -> tuple[Outcome, Sequence[str]]:
        if self.breaches:
            return "broken", ()
        if self.held:
            return "held", ()
        if self.not_applicable is not None:
            return "not applicable", (self.not_applicable,)
        if self.missing:
            return "not tested", self.missing
        if self.skipped:
            return "not tried", self.skipped
        if self.unsuited_components:
            return "not applicable", self.unsuited_components
        if self.refused:
            return "refused", self.refused
        return "not tried", self.unsuited_cases or ("no valid component or case was drawn",)


def _reason(error: Exception) -> str:
    """Return why a case was skipped."""
    if isinstance(error, PluginError):
        return f"it fails, which another law reports: {error}"
    return str(error)


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
        extractor = st.just(StubExtractor()) if _needs_extractor(component) else st.none()
        return components(component, _StubOffers(), _BOUNDS, extractor=extractor)
    return components(component, _StubOffers(), _BOUNDS)


def _needs_extractor(component: type[Component]) -> bool:
    return issubclass(component, Metric) and bool(component.needs & {"features", "labels"})


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
