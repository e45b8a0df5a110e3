"""The conformance suite of a plugin: all of its components with all laws, for pytest and for the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gancore.catalog.catalog import Plugin, read_plugin
from gancore.component import Component
from gancore.errors import ConfigError, PluginError, unknown_name
from gancore.testing.cases import LawBroken
from gancore.testing.runner import Law, LawResult, check_law, laws_of

F = TypeVar("F", bound=Callable[..., Any])  # Any: a test function of any signature

Known = Mapping[tuple[str, str, str], str]
"""Reasons for known breaches, by kind, component name and law name."""


@dataclass(frozen=True)
class LawTest:
    """A component and a law. Calling it raises LawBroken if the component breaks the law."""

    component: type[Component]
    law: Law

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, component name and law name."""
        return (self.component.kind, self.component.name, self.law.__name__)

    def __call__(self) -> None:
        breach = check_law(self.component, self.law).breach
        if breach is not None:
            raise LawBroken(str(breach))


def law_tests(components: Iterable[type[Component]]) -> list[LawTest]:
    """Return every component with every law of its kind."""
    return [LawTest(component, law) for component in components for law in laws_of(component)]


def _tests_of(plugin: Plugin) -> list[LawTest]:
    """Return the tests of a plugin. Raises PluginError if it offers nothing: it would always pass."""
    if not plugin.names:
        raise PluginError(
            f"plugin {plugin.name!r} offers no component, recipe or command",
            "offer some in a hook marked with @hookimpl",
        )
    return law_tests(plugin.components)


def check(plugin: Plugin) -> Iterator[LawResult]:
    """Check all components of a plugin, as the catalog reads it, by all laws of their kinds.

    Raises PluginError if it offers nothing.
    """
    for test in _tests_of(plugin):
        yield check_law(test.component, test.law)


def conformance(plugin: object, *, known: Known | None = None) -> Callable[[F], F]:
    """Parametrize a test that takes `case`, and calls it, with every component of a plugin and law of its kind.

    `plugin` is the target of the entry point: a module, or any object with hooks. `known` maps laws that are known to
    be broken, by kind, component name and law name, to the reason: these cases must fail, and pytest reports them as
    expected failures. Raises PluginError for a plugin that cannot be read or offers nothing, ConfigError for an unknown
    case in `known`.
    """
    import pytest

    name = getattr(plugin, "__name__", type(plugin).__name__)
    tests, known = _tests_of(read_plugin(plugin, name, name, "")), known or {}
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
