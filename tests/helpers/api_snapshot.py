"""Snapshots of the public interface in tests/frozen. Update them with `python tests/helpers/api_snapshot.py`.

test_stability.py compares them with the code, so that every change of the interface shows in review.
"""

import ast
import dataclasses
import inspect
import json
from functools import cached_property
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from gancore import hookspecs
from gancore.config.describe import describe
from gancore.config.run import Options, RunConfig
from gancore.settings import Schedule, Settings

FOLDER = Path(__file__).parents[1] / "frozen"
MODULES = ["gancore", "gancore.contracts", "gancore.metrics", "gancore.observers", "gancore.exporters"]
CALLED = {"__call__", "__len__"}
"""Special methods that are part of the interface."""


class Verbatim(str):
    """Text whose repr is the text itself."""

    __slots__ = ()
    __repr__ = str.__str__


def verbatim(annotation):
    return Verbatim(annotation) if isinstance(annotation, str) else annotation


def shown(default):
    """Show modules and classes by name, since their repr contains a path."""
    return Verbatim(default.__name__) if isinstance(default, ModuleType | type) else default


def signature(function):
    found = inspect.signature(function)
    parameters = [
        each if each.default is each.empty else each.replace(default=shown(each.default))
        for each in found.parameters.values()
        if not each.name.startswith("_")
    ]
    parameters = [each.replace(annotation=verbatim(each.annotation)) for each in parameters]
    return str(found.replace(parameters=parameters, return_annotation=verbatim(found.return_annotation)))


def api():
    """Yield every public name with its signature, members or value."""
    seen = {}
    for module in MODULES:
        yield f"# {module}"
        for name in import_module(module).__all__:
            value = getattr(import_module(module), name)
            yield ""
            if isinstance(value, type) and value in seen:
                yield f"{name} is {seen[value]}"
                continue
            if isinstance(value, type):
                seen[value] = f"{module}.{name}"
            yield from described(name, value)
        yield ""


def described(name, value):
    if isinstance(value, type) and value.__module__.startswith("gancore"):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        yield from (f"    {line}" for line in members(value))
    elif inspect.isfunction(value):
        yield f"def {name}{signature(value)}"
    elif type(value).__module__ in ("builtins", "types", "typing"):
        yield f"{name} = {value!r}"
    else:
        yield f"{name}: {type(value).__name__}"


def members(cls):
    """Yield constructor, fields, attributes and methods of a class, including those of private bases."""
    if dataclasses.is_dataclass(cls):
        yield f"__init__{signature(cls.__init__)}"
    elif "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):
        yield f"__init__{signature(cls.__init__)}"
        yield f"attributes: {', '.join(attributes(cls.__init__))}"
    if issubclass(cls, Settings) and not issubclass(cls, Options):  # those keys are in config.txt
        yield from map(field, describe(cls))
    public = import_module("gancore").__all__
    public_homes = {home for base in cls.__mro__[1:] if base.__name__ in public for home in base.__mro__}
    seen = {}
    for home in reversed(cls.__mro__):
        if home.__module__.startswith("gancore") and home not in public_homes:
            seen |= dict(own(home))
    yield from (seen[name] for name in sorted(seen))


def attributes(constructor):
    """Return the public attributes that a constructor sets."""
    names = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(dedent(inspect.getsource(constructor))))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    ]
    return sorted({name.removeprefix("self.") for name in names if name.startswith("self.") and "._" not in name})


def own(cls):
    fields = {each.name for each in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" in str(annotation) and not name.startswith(("_", "model_")):
            value = f" = {vars(cls)[name]!r}" if name in vars(cls) else ""
            yield name, f"{name}: {annotation}{value}"
    for name, value in vars(cls).items():
        if (name.startswith("_") and name not in CALLED) or name.startswith("model_") or name in fields:
            continue
        if isinstance(value, property | cached_property):
            function = value.fget if isinstance(value, property) else value.func
            yield name, f"property {name}{signature(function)}"
        elif isinstance(value, classmethod | staticmethod):
            yield name, f"{type(value).__name__} {name}{signature(value.__func__)}"
        elif inspect.isfunction(value):
            abstract = "abstract " if getattr(value, "__isabstractmethod__", False) else ""
            yield name, f"{abstract}def {name}{signature(value)}"
        elif isinstance(value, str) and name not in inspect.get_annotations(cls):
            yield name, f"{name} = {value!r}"


def field(described):
    default = "" if described["default"] is None else f" = {json.dumps(described['default'])}"
    bounds = f"  [{described['bounds']}]" if described["bounds"] else ""
    return f"{described['key']}: {described['type']}{default}{bounds}"


def config():
    """Yield every key of a run with its type, default and bounds."""
    yield from map(field, describe(RunConfig))
    yield ""
    yield "# A schedule, or a piece of one, {from, to, kimg, shape}"
    yield ""
    yield from map(field, describe(Schedule))


def hooks():
    """Yield the group of entry points and every hook."""
    yield f"entry points: {hookspecs.ENTRY_POINTS}"
    yield ""
    for name, value in vars(hookspecs).items():
        if name.startswith("gancore_"):
            yield f"{name}{signature(value)}"


SUBJECTS = {"api.txt": api, "config.txt": config, "hooks.txt": hooks}


def frozen(subject):
    """Return the expected content of the file of a subject."""
    return "\n".join(SUBJECTS[subject]()).rstrip() + "\n"


if __name__ == "__main__":
    for subject in SUBJECTS:
        (FOLDER / subject).write_text(frozen(subject), encoding="utf-8")
