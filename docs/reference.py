"""Generate reference.md, the page of all hooks and built-in components: `python docs/reference.py`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

from gancore import hookspecs
from gancore.catalog.catalog import BUILT_IN, Catalog
from gancore.component import Component
from gancore.config.describe import describe
from gancore.metrics import Metric

PAGE = Path(__file__).with_name("reference.md")

HEAD = """\
# Component fields

Every hook, and every built-in component with its fields. `gancore show KIND NAME` prints the same. This page is
generated from the code by `python docs/reference.py`.

[Built-in components](components.md) and [Evaluation](evaluation.md) explain what the components do, the
[Contract](contract.md) what their kinds must do. The keys of a run's config are in [Config](config.md#keys), commands
and their options in [Commands](commands.md).
"""


def reference() -> str:
    """Return the text of the page."""
    catalog = Catalog(plugin for plugin in Catalog.installed().plugins if plugin.package == BUILT_IN)
    return "\n".join([HEAD, *_hooks(), *_components(catalog)]).rstrip() + "\n"


def _hooks() -> Iterator[str]:
    yield "## Hooks\n"
    yield from _table(
        ("hook", "returns", "what it does"),
        (
            (f"`{name}`", f"`{inspect.signature(hook).return_annotation}`", _first_line(hook))
            for name, hook in vars(hookspecs).items()
            if name.startswith("gancore_")
        ),
    )


def _components(catalog: Catalog) -> Iterator[str]:
    for name, kind in catalog.kinds.items():
        plural = "losses" if name == "loss" else f"{name}s"
        yield f"## {plural.capitalize()}\n"
        yield f"{kind.summary()}\n"
        for component, _ in catalog.offers(kind):
            yield from _component(component)


def _component(component: type[Component]) -> Iterator[str]:
    yield f"### {component.kind} {component.name}\n"
    yield f"{_escaped(component.summary())}\n"
    if issubclass(component, Metric):
        needs = ", ".join(sorted(component.needs))
        yield f"{component.better.capitalize()} is better. Looks at: {needs}.\n"
    fields = describe(component)
    if not fields:
        yield "It has no fields.\n"
        return
    yield from _table(
        ("field", "type", "default", "bounds", "meaning"),
        (
            (
                f"`{field['key']}`",
                field["type"],
                "" if field["default"] is None else f"`{json.dumps(field['default'])}`",
                field["bounds"],
                _escaped(field["help"]),
            )
            for field in fields
        ),
    )


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for row in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def _escaped(text: str) -> str:
    """Return the text with the characters escaped that Markdown reads as emphasis or a tag."""
    for character in "*_<":
        text = text.replace(character, f"\\{character}")
    return text


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
