"""The conformance suite of a plugin: all of its components with all laws, for pytest and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gancore.catalog.catalog import Plugin, read_plugin
from gancore.component import Component
from gancore.contracts import Shape
from gancore.errors import ConfigError, PluginError, unknown_name
from gancore.testing.cases import NO_OWN_CASES, Case, LawBroken, OwnCases
from gancore.testing.runner import Law, LawResult, check_law, laws_of

F = TypeVar("F", bound=Callable[..., Any])  # Any: a test function of any signature

Known = Mapping[tuple[str, str, str], str]
"""Reasons for known breaches, by kind, component name and law name."""


@dataclass(frozen=True)
class LawTest:
    """A component and a law. Calling it raises LawBroken if the component breaks the law.

    It skips the pytest test, with the reason, if the law held in no case: none was tried, or all were refused.
    """

    component: type[Component]
    law: Law
    own: OwnCases = NO_OWN_CASES

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, component name and law name."""
        return (self.component.kind, self.component.name, self.law.__name__)

    def check(self) -> LawResult:
        """Return the result of the law."""
        return check_law(self.component, self.law, own=self.own)

    def __call__(self) -> None:
        import pytest

        result = self.check()
        if result.breach is not None:
            raise LawBroken(str(result.breach))
        if result.outcome != "held":
            pytest.skip(f"{result.outcome}: {result.reason}")


def law_tests(components: Iterable[type[Component]], own: OwnCases = NO_OWN_CASES) -> list[LawTest]:
    """Return every component with every law of its kind."""
    return [LawTest(component, law, own) for component in components for law in laws_of(component)]


def _tests_of(plugin: Plugin, own: OwnCases = NO_OWN_CASES) -> list[LawTest]:
    """Return the tests of a plugin. Raises PluginError if it offers nothing: it would always pass."""
    if not plugin.names:
        raise PluginError(
            f"plugin {plugin.name!r} offers no component, recipe or command",
            "offer some in a hook marked with @hookimpl",
        )
    return law_tests(plugin.components, own)


def check(plugin: Plugin) -> Iterator[LawResult]:
    """Check all components of a plugin, as the catalog reads it, by all laws of their kinds.

    Raises PluginError if it offers nothing.
    """
    for test in _tests_of(plugin):
        yield test.check()


def conformance(
    plugin: object,
    *,
    known: Known | None = None,
    shapes: Iterable[Shape] = (),
    root: Path | None = None,
    cases: Iterable[Case] = (),
) -> Callable[[F], F]:
    """Parametrize a test that takes `case`, and calls it, with every component of a plugin and law of its kind.

    `plugin` is the target of the entry point: a module, or any object with hooks. `known` maps laws that are known to
    be broken, by kind, component name and law name, to the reason: these cases must fail, and pytest reports them as
    expected failures. `shapes` replace the shapes that are drawn; datasets read files below `root`; each of `cases` is
    tried as well, with the components' default fields. A law that held in no case skips its test, with the reason.
    Raises PluginError for a plugin that cannot be read or offers nothing, ConfigError for an unknown case in `known`.
    """
    import pytest

    name = getattr(plugin, "__name__", type(plugin).__name__)
    own = OwnCases(tuple(shapes), root, tuple(cases))
    tests, known = _tests_of(read_plugin(plugin, name, name, ""), own), known or {}
    parameters = []
    for test in tests:
        reason = known.get(test.key)
        marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=LawBroken)]
        parameters.append(pytest.param(test, id="-".join(test.key), marks=marks))
    labels = {"-".join(test.key) for test in tests}
    for label in map("-".join, known):
        if label not in labels:
            raise ConfigError(unknown_name("case", label, labels), "correct the key in `known`")
    return pytest.mark.parametrize("case", parameters)
