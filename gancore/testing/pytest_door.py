"""Two doors to the laws: one for pytest, and one without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gancore.catalog.catalog import Plugin, read_plugin
from gancore.component import Component
from gancore.errors import ConfigError, PluginError, unknown_name
from gancore.testing.cases import LawBroken
from gancore.testing.runner import Law, LawOfClasses, Verdict, judge, laws_of

if TYPE_CHECKING:
    import pytest

Known = Mapping[tuple[str, str, str], str]
"""Why a law is broken, by kind, name of the component, and name of the law."""


@dataclass(frozen=True)
class Trial:
    """A component and a law, still to be judged: calling it raises LawBroken if the law is broken."""

    component: type[Component]
    law: Law | LawOfClasses

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, name and law."""
        return (self.component.kind, self.component.name, self.law.__name__)

    def verdict(self) -> Verdict:
        """The component judged by the law."""
        return judge(self.component, self.law)

    def __call__(self) -> None:
        breach = self.verdict().breach
        if breach is not None:
            raise LawBroken(str(breach))


def trials(components: Iterable[type[Component]]) -> list[Trial]:
    """Every component with every law of its kind."""
    return [Trial(component, law) for component in components for law in laws_of(component)]


def _trials_of(plugin: Plugin) -> list[Trial]:
    """Those of all that a plugin offers. Raises PluginError for one that offers nothing, which would always pass."""
    if not plugin.components and not plugin.recipes:
        raise PluginError(
            f"plugin {plugin.name!r} offers neither component nor recipe", "offer some by a hook, with @hookimpl"
        )
    return trials(plugin.components)


def check(plugin: Plugin) -> Iterator[Verdict]:
    """All components of a plugin, as the catalog reads it, judged by all laws, one after the other.

    Raises PluginError if it offers nothing.
    """
    for trial in _trials_of(plugin):
        yield trial.verdict()


def conformance(plugin: object, *, known: Known | None = None) -> pytest.MarkDecorator | Callable[..., object]:
    """Makes of a test that takes `case`, and calls it, one case for every component of a plugin and law of its kind.

    `plugin` is what the entry point names: a module, or any object with hooks. `known` has the laws that are known to
    be broken, by kind, name and law, each with the reason: such a case must fail, and is reported as expected. Raises
    PluginError for a plugin that cannot be read or offers nothing, ConfigError for a known breach of what there
    is not.
    """
    import pytest

    name = getattr(plugin, "__name__", type(plugin).__name__)
    found, known = _trials_of(read_plugin(plugin, name, name, "")), known or {}
    labels = {"-".join(trial.key) for trial in found}
    for key in known:
        if "-".join(key) not in labels:
            raise ConfigError(unknown_name("case", "-".join(key), labels), "correct the key in `known`")
    return pytest.mark.parametrize("case", [_parameter(trial, known.get(trial.key)) for trial in found])


def _parameter(trial: Trial, reason: str | None) -> object:
    import pytest

    marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=LawBroken)]
    return pytest.param(trial, id="-".join(trial.key), marks=marks)
