"""What a new plugin package is made of: one template for each of its files, and one for each kind of component.

The template of a kind is a whole plugin. A module of several kinds has their imports once, in order, and then the rest
of each: what comes out is as `ruff` would have it.
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
"""The kinds that have a template, in the order of a module, each with the words by which `gancore train` uses it."""

_LINE = 120
"""Characters in a line, at most."""


def package_files(name: str, kinds: Iterable[str], *, version: str, group: str) -> dict[str, str]:
    """The files of a package `gancore-NAME` with a component of each kind, by their paths in it.

    `version` is the oldest gancore that it works with, `group` that of the entry point.
    """
    chosen = [kind for kind in USES if kind in set(kinds)]
    words = {
        "name": name,
        "package": f"gancore-{name}",
        "module": module_name(name),
        "title": "".join(part.capitalize() for part in name.split("-")),
        "offers": _listed(chosen),
        "first": chosen[0],
        "use": use_of(name, chosen),
        "version": version,
        "group": group,
    }
    return {
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        f"{words['module']}.py": _module(chosen, words),
        "tests/test_contract.py": _filled("test_contract.py", words),
    }


def module_name(name: str) -> str:
    """The module of the package `gancore-NAME`."""
    return f"gancore_{name.replace('-', '_')}"


def use_of(name: str, kinds: Iterable[str]) -> str:
    """The command that trains with a component of each kind."""
    return " ".join(["gancore train", *(Template(USES[kind]).substitute(name=name) for kind in kinds)])


def _filled(file: str, words: Mapping[str, str]) -> str:
    text = files(__name__).joinpath(f"{file}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _module(kinds: Iterable[str], words: Mapping[str, str]) -> str:
    parts = [_filled(f"kinds/{kind}.py", words) for kind in kinds]
    bodies = []
    for part in parts:
        end = max(node.end_lineno or 0 for node in _imports(part))
        bodies.append("\n".join(part.splitlines()[end:]).strip("\n"))
    summary = f'"""The plugin of {words["package"]}."""'
    return "\n\n\n".join(["\n\n".join([summary, *_merged(parts)]), *bodies]) + "\n"


def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]


def _merged(parts: Iterable[str]) -> list[str]:
    """The imports of all parts: those of the standard library, then the others, whole modules before names of them."""
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
    """Classes before functions, and one name a line where they do not fit in one."""
    ordered = sorted(names, key=lambda name: (not name[0].isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in ordered), ")"])


def _listed(kinds: list[str]) -> str:
    """A loss, a generator and an extractor."""
    each = [f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in kinds]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
