"""The laws of each kind, and how a component is judged by one: on drawn cases, down to the smallest that breaks it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, Verbosity, find, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable
from pydantic import ValidationError

from gancore.component import Component
from gancore.errors import ConfigError, DataError, GancoreError, PluginError
from gancore.metrics import Extractor, Metric
from gancore.testing import data, general, networks, observing, process, scoring
from gancore.testing.cases import Case, Inapplicable, LawBroken, Untried
from gancore.testing.form import lacks_form
from gancore.testing.general import unequal
from gancore.testing.harness import observed
from gancore.testing.strategies import Bounds, Offers, cases, components

Law = Callable[[Component, Case], None]
LawOfClasses = Callable[[type[Component]], None]

EXAMPLES = 10
"""Cases in which a law is tried."""
_BOUNDS = Bounds(largest=24, reach=100.0, letters="qxz")
_VAIN = 4
"""Cases to an example that a component may refuse before it is given up."""
_PAIRS = 200
"""Pairs of components of which one should tell that a field does something."""


class Given(Extractor):
    """Stands for an extractor: what a metric is given of features and classes is drawn."""

    name = "given"

    def build(self, shape: object, num_classes: object, root: object) -> Any:  # Any: it builds nothing
        raise ConfigError("this extractor stands for others, and reads nothing")


def every_field_does_something(offered: type[Component]) -> None:
    """For every field there are two components that differ in it alone, and that can be told apart at work.

    The fields that gancore's own classes declare are left out, since the loop reads them.
    """
    ours = [base for base in offered.__mro__ if base.__module__.partition(".")[0] == "gancore"]
    loops = {key for base in ours for key in getattr(base, "model_fields", ())}
    drawn = st.tuples(drawn_components(offered), drawn_components(offered), cases())
    for field in offered.model_fields:
        if field in loops:
            continue
        tried = vain = 0

        def differs(pair: tuple[Component, Component, Case], field: str = field) -> bool:
            nonlocal tried, vain
            if not tried and vain >= _VAIN * _PAIRS:
                return False
            told = _told_apart(pair[0], field, getattr(pair[1], field), pair[2])
            if told is None:
                vain += 1
                reject()
            tried += 1
            return told

        try:
            find(drawn, differs, settings=settings(_settings(_PAIRS), phases=[Phase.generate]))
        except (NoSuchExample, Unsatisfiable):
            if not tried:
                raise Untried from None
            raise LawBroken(f"the field {field} changes nothing: {tried} pairs of values gave the same") from None


LAWS: dict[str, tuple[Law | LawOfClasses, ...]] = {
    "generator": (
        networks.output_has_the_promised_shape,
        networks.gradient_reaches_every_parameter,
        networks.images_lie_in_their_range,
        networks.latents_change_what_it_makes,
        networks.labels_change_what_it_makes,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.an_image_does_not_depend_on_its_batch,
    ),
    "discriminator": (
        networks.output_has_the_promised_shape,
        networks.logits_are_no_probabilities,
        networks.gradient_reaches_every_parameter,
        networks.gradient_reaches_the_images,
        networks.mixing_is_found_out,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
    ),
    "loss": (
        scoring.losses_are_finite_scalars,
        scoring.gradient_reaches_what_is_scored,
        scoring.a_loss_does_not_grow_with_the_batch,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.scores_do_not_depend_on_order,
    ),
    "dataset": (
        data.items_have_the_promised_form,
        data.items_depend_on_their_index_alone,
        data.parts_are_datasets,
        data.progress_is_a_rising_share,
    ),
    "regularizer": (
        scoring.penalties_are_finite_scalars,
        scoring.gradient_reaches_its_player,
        scoring.a_penalty_is_the_mean_of_its_parts,
        scoring.it_projects_in_place,
        scoring.strength_keeps_its_range,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.scores_do_not_depend_on_order,
    ),
    "augmentation": (
        networks.output_has_the_promised_shape,
        networks.gradient_reaches_the_images,
        networks.strength_zero_changes_nothing,
        networks.little_strength_leaves_images_alone,
        networks.every_image_is_changed_by_itself,
        scoring.strength_keeps_its_range,
        general.stays_on_its_device,
        general.stays_in_single_precision,
        general.accepts_a_batch_of_one,
        general.an_image_does_not_depend_on_its_batch,
    ),
    "metric": (
        data.measurements_are_numbers,
        data.it_looks_only_at_what_it_needs,
        data.it_says_when_there_are_too_few_images,
        general.scores_do_not_depend_on_order,
    ),
    "extractor": (
        networks.output_has_the_promised_shape,
        general.chance_has_no_say_in_features,
        general.stays_on_its_device,
        general.accepts_a_batch_of_one,
        general.an_image_does_not_depend_on_its_batch,
    ),
    "observer": (
        observing.it_bears_whatever_is_told,
        observing.what_the_run_wrote_stays_as_it_was,
        observing.it_joins_a_run_that_goes_on,
    ),
}
"""The laws that are a kind's own. `laws_of` adds those of all kinds."""


def laws_of(offered: type[Component]) -> tuple[Law | LawOfClasses, ...]:
    """All laws of a component's kind; of a kind that is not known here, the round trip alone."""
    return tuple(law for law, kinds in kinds_of_laws().items() if offered.kind in kinds) or (
        general.survives_a_round_trip,
    )


def kinds_of_laws() -> dict[Law | LawOfClasses, list[str]]:
    """Every law, with the kinds that it judges."""
    found: dict[Law | LawOfClasses, list[str]] = {}
    for kind, own in LAWS.items():
        first = (general.survives_a_round_trip, general.either_works_or_says_why_not)
        for law in (*first, *own, *_last(kind)):
            found.setdefault(law, []).append(kind)
    return found


def _last(kind: str) -> tuple[Law | LawOfClasses, ...]:
    """The laws of most kinds: an observer makes nothing, a dataset is given nothing, and some build no module."""
    if kind == "observer":
        return (process.leaves_the_process_as_it_was,)
    kept = (general.what_it_builds_survives_a_round_trip, general.what_it_builds_keeps_no_graph)
    built = {"dataset": (), "metric": (), "extractor": kept[:1]}.get(kind, kept)
    given = () if kind == "dataset" else (general.leaves_its_inputs_alone,)
    return (
        general.same_seed_same_result,
        process.leaves_the_process_as_it_was,
        *built,
        *given,
        every_field_does_something,
    )


@dataclass(frozen=True)
class Breach:
    """A law that is broken: the smallest call that shows it, as it is written in Python, and what it says."""

    call: str
    reason: str

    def __str__(self) -> str:
        return f"{self.call}: {self.reason}"


@dataclass(frozen=True)
class Verdict:
    """What was found of a component and a law: in how many cases it could be tried, and the breach, if there is one."""

    component: type[Component]
    law: str
    tried: int
    breach: Breach | None = None


def judge(offered: type[Component], law: Law | LawOfClasses, examples: int = EXAMPLES) -> Verdict:
    """Tries a law on components of a class. The same class is always tried in the same way, without a network."""
    with _offline(), process.as_it_was(), TemporaryDirectory(prefix="gancore-testing-") as root:
        if law is every_field_does_something:
            return _judge_class(offered)
        return _judge_cases(offered, law, examples, Path(root))  # type: ignore[arg-type]  # the one law of classes is judged


def _judge_class(offered: type[Component]) -> Verdict:
    name = every_field_does_something.__name__
    try:
        every_field_does_something(offered)
    except LawBroken as error:
        return Verdict(offered, name, 1, Breach(f"{name}({offered.__name__})", str(error)))
    except Untried:
        return Verdict(offered, name, 0)
    return Verdict(offered, name, 1)


def _judge_cases(offered: type[Component], law: Law, examples: int, root: Path) -> Verdict:
    tried, vain, breaches = 0, 0, list[Breach]()

    @settings(_settings(examples))
    @given(drawn_components(offered), cases())
    def holds(component: Component, case: Case) -> None:
        nonlocal tried, vain
        if not tried and vain >= _VAIN * examples:
            return
        try:
            law(component, replace(case, root=root))
        except (ConfigError, DataError, PluginError, Untried) as error:  # refused, or for another law to say
            # Files that are not there are there for no other case either.
            missing = isinstance(error, DataError)
            vain += _VAIN * examples if isinstance(error, Inapplicable) else examples if missing else 1
            reject()
        except LawBroken as error:
            breaches.append(Breach(f"{law.__name__}({component!r}, {case!r})", " ".join(str(error).split())))
            raise
        except Exception:
            if not lacks_form(component, replace(case, root=root)):
                raise  # a mistake in the law
            reject()
        tried += 1

    try:
        holds()
    except (LawBroken, Flaky):
        pass  # the last breach is the smallest
    except Unsatisfiable:
        pass  # it was never tried
    return Verdict(offered, law.__name__, tried, breaches[-1] if breaches else None)


def drawn_components(offered: type[Component]) -> st.SearchStrategy[Any]:  # Any: of the class
    """Small components of the class; metrics that look through an extractor look through one that stands for others."""
    if issubclass(offered, Metric):
        looks = offered.needs & {"features", "labels"}
        return components(offered, _Stand(), _BOUNDS, extractor=st.just(Given()) if looks else st.none())
    return components(offered, _Stand(), _BOUNDS)


class _Stand(Offers):
    """Of abstract kinds there are none, but for what stands for an extractor."""

    def offers(self, kind: type[Any], /) -> list[tuple[type[Any], object]]:  # Any: whatever is asked for
        return [(Given, None)] if issubclass(Given, kind) else []


def _told_apart(component: Component, field: str, value: object, case: Case) -> bool | None:
    """Whether another value of the field makes a difference; None where that cannot be tried."""
    fields = {key: getattr(component, key) for key in type(component).model_fields}
    try:
        other = type(component)(**fields | {field: value})
        if other == component:
            return None
        return unequal(observed(component, case), observed(other, case)) is not None
    except (GancoreError, ValidationError, Untried):
        return None


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


@contextmanager
def _offline() -> Iterator[None]:
    """No component finds a server, so that a dataset whose files are missing says so instead of fetching them."""

    def refuse(*_: object, **__: object) -> Any:  # Any: nothing is returned
        raise OSError("laws are tried without a network")

    with patch.object(socket, "getaddrinfo", refuse):
        yield
