"""Templates of a new plugin package: one for each of its files, and one for each kind of component.

The template of a kind is a complete plugin. A module with several kinds merges their imports, sorted, and then has the
rest of each. The result is formatted like `ruff format` does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from importlib.resources import files
from string import Template

USES: Mapping[str, str] = {
    "generator": "--generator $name",
    "discriminator": "--discriminator $name",
    "loss": "--loss $name",
    "dataset": "--dataset $name",
    "regularizer": '--set "regularizers.$name={}"',
    "augmentation": '--set "augmentations.$name={}"',
    "metric": '--set "metrics.$name={}"',
    "extractor": '--set "metrics.kid-$name={}"',
    "observer": '--set "observers.$name={}"',
}
"""The kinds, in their order in a module, with the options of `gancore train` that use the component."""

_LINE = 120
"""Maximum line length."""


def package_files(name: str, kinds: Iterable[str], *, version: str, group: str) -> dict[str, str]:
    """Return the files of a package `gancore-NAME` with a component of each kind, by path.

    `version` is the oldest supported version of gancore, `group` the group of the entry point.
    """
    chosen = [kind for kind in USES if kind in set(kinds)]
    values = {
        "name": name,
        "package": f"gancore-{name}",
        "module": module_name(name),
        "title": "".join(part.capitalize() for part in name.split("-")),
        "offers": _as_text(chosen),
        "first": chosen[0],
        "use": use_of(name, chosen),
        "version": version,
        "group": group,
    }
    return {
        "pyproject.toml": _fill("pyproject.toml", values),
        "README.md": _fill("README.md", values),
        f"{values['module']}.py": _module(chosen, values),
        "tests/test_contract.py": _fill("test_contract.py", values),
    }


def module_name(name: str) -> str:
    """Return the name of the module of the package `gancore-NAME`."""
    return f"gancore_{name.replace('-', '_')}"


def use_of(name: str, kinds: Iterable[str]) -> str:
    """Return the command that trains with a component of each kind."""
    return " ".join(["gancore train", *(Template(USES[kind]).substitute(name=name) for kind in kinds)])


def _fill(file: str, values: Mapping[str, str]) -> str:
    text = files(__name__).joinpath(f"{file}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _module(kinds: Iterable[str], values: Mapping[str, str]) -> str:
    parts = [_fill(f"kinds/{kind}.py", values) for kind in kinds]
    bodies = []
    for part in parts:
        end = max(node.end_lineno or 0 for node in _imports(part))
        bodies.append("\n".join(part.splitlines()[end:]).strip("\n"))
    summary = f'"""The plugin of {values["package"]}."""'
    return "\n\n\n".join(["\n\n".join([summary, *_merge_imports(parts)]), *bodies]) + "\n"


def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]


def _merge_imports(parts: Iterable[str]) -> list[str]:
    """Merge imports: the standard library, then other packages; `import` before `from` statements."""
    names: dict[str, set[str]] = {}
    modules: set[str] = set()
    for node in (node for part in parts for node in _imports(part)):
        found = {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.setdefault(node.module or "", set()).update(found)
        else:
            modules |= found
    sections = []
    for standard in (True, False):
        lines = [f"import {module}" for module in sorted(modules) if _is_standard(module) == standard]
        lines += [_import(module, names[module]) for module in sorted(names) if _is_standard(module) == standard]
        sections.append("\n".join(lines))
    return [section for section in sections if section]


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _import(module: str, names: set[str]) -> str:
    """Return the import, classes before functions, on several lines if it is too long for one."""
    ordered = sorted(names, key=lambda name: (not name[0].isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in ordered), ")"])


def _as_text(kinds: list[str]) -> str:
    """Return the kinds as text, like `a loss, a generator and an extractor`."""
    each = [f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in kinds]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
