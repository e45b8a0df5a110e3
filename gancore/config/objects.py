"""Parts of a run that are passed as Python objects, such as a user's own `nn.Module`.

No file can rebuild an object, so the config names the part `object` and gives the type of the object:

    [generator]
    name = "object"
    type = "my_package.MyGenerator"

For each object a stand-in component is added to the catalog; its `build` returns the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from shlex import quote
from typing import Any

from gancore.catalog.catalog import Catalog, Plugin
from gancore.catalog.discovery import BUILT_IN
from gancore.component import Component
from gancore.config.layers import ConfigLayer, merge
from gancore.contracts import Dataset, Discriminator, Generator, Loss
from gancore.errors import ConfigError, DataError

OBJECT = "object"
"""The name of a part that was passed as an object."""
KINDS: Mapping[str, type[Component]] = {kind.kind: kind for kind in (Generator, Discriminator, Loss, Dataset)}
"""The parts that may be passed as objects, and their kinds."""


def table_of(value: object) -> dict[str, str]:
    """Return what the config holds for an object."""
    return {"name": OBJECT, "type": f"{type(value).__module__}.{type(value).__qualname__}"}


def is_object(table: object) -> bool:
    """Return whether this value of a config stands for an object."""
    return (table.get("name") if isinstance(table, Mapping) else table) == OBJECT


def with_objects(catalog: Catalog, objects: Mapping[str, object]) -> Catalog:
    """Return the catalog with a stand-in for each object, by part: generator, discriminator, loss, dataset."""
    if not objects:
        return catalog
    # The stand-ins count as built-in: no package has to be installed for them.
    stand_ins = tuple(_stand_in(KINDS[part], value) for part, value in objects.items())
    return Catalog((*catalog.plugins, Plugin("objects", BUILT_IN, version("gancore"), stand_ins)))


def with_absent_objects(
    catalog: Catalog,
    config: Mapping[str, Any],  # Any: data of a file
    path: str,
) -> Catalog:
    """Return the catalog with stand-ins for the objects in `config` that it has none for, the generator left out.

    The generator can be built and sampled without the others. To build one of these raises DataError, which names the
    `path` that the config is from.
    """
    hint = f"name other data, as in: gancore evaluate {quote(path)} --reference PATH"
    absent = {
        part: DataError(f"the {part} that {path} was trained with was a Python object, which it does not hold", hint)
        for part in _missing(config, catalog)
        if part != "generator"
    }
    return with_objects(catalog, absent)


def check_objects(config: Mapping[str, Any], catalog: Catalog, path: str | None = None) -> None:  # Any: data of a file
    """Raise ConfigError with every part that `config` names as an object and the catalog has no stand-in for.

    `path` is the run or checkpoint that the config is from, None for the config of a new run.
    """
    if missing := _missing(config, catalog):
        needed = [part for part in KINDS if is_object(config.get(part))]
        call = "gancore.Run(..." if path is None else f"gancore.open({path!r}"
        raise ConfigError(
            f"{path or 'this config'} needs Python objects that no file can rebuild; missing: "
            + ", ".join(f"{part} ({_type_in(config[part])})" for part in missing),
            f"pass them in Python: {call}, {', '.join(f'{part}=...' for part in needed)})",
        )


def check_parts(layers: Iterable[ConfigLayer], objects: Mapping[str, object], path: str) -> None:
    """Raise ConfigError unless `objects` are, by part, the objects that the run in the folder `path` was made with."""
    config, _ = merge(layers)
    for part in objects:
        if not is_object(config.get(part)):
            raise ConfigError(
                f"the run in {path} names its {part} in its config, so no object can replace it", f"leave {part}= out"
            )
    check_objects(config, with_objects(Catalog(()), objects), path)


def _missing(config: Mapping[str, Any], catalog: Catalog) -> list[str]:  # Any: data of a file
    """Return the parts that `config` names as objects and the catalog has no stand-in for."""
    needed = [part for part in KINDS if is_object(config.get(part))]
    return [part for part in needed if all(offered.name != OBJECT for offered, _ in catalog.offers(KINDS[part]))]


def _type_in(table: object) -> str:
    """Return the type that a config gives for an object; the config is untrusted input."""
    name = table.get("type") if isinstance(table, Mapping) else None
    return ascii(name)[1:-1][:200] if isinstance(name, str) else "of unknown type"


def _stand_in(kind: type[Component], value: object) -> type[Component]:
    """Return a component class of this kind whose `build` returns the object."""

    def build(_self: Component, *arguments: object) -> object:
        if isinstance(value, DataError):  # in the place of an object, see with_absent_objects
            raise DataError(value.message, value.hint)
        # A component that no plugin offers, such as a class in a notebook, is an object too.
        return value.build(*arguments) if isinstance(value, kind) else value  # type: ignore[attr-defined]

    body: dict[str, object] = {
        "__module__": __name__,
        "__doc__": f"A {kind.kind} that was passed as a Python object.",
        "__annotations__": {"type": str},
        "name": OBJECT,
        "build": build,
    }
    if kind is Loss:
        body |= {"needs_real": getattr(value, "needs_real", False), "whole_batch": getattr(value, "whole_batch", None)}
    made: type[Component] = type(kind)(f"Object{kind.__name__}", (kind,), body)  # type: ignore[misc]  # ABCMeta(name, …)
    return made
