"""Templates of a new plugin package: one for each of its files, and one for each kind of component.

A plugin with one component is one module. One with several, or with a recipe, is a package: each component is in a
module of its own, named like its kind, and the hooks are in `__init__.py`. All is formatted like `ruff format` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from string import Template

RECIPE = "recipe"

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
    "exporter": "",
    RECIPE: "$name",
}
"""The kinds, in their order in a package, with the arguments of `gancore train` that use each."""

_EXPORT = "gancore export runs/0001 --format $name"

_BUILT_IN = {"generator": "mlp", "discriminator": "mlp", "loss": "bce", "dataset": "digits"}
"""The parts of a recipe whose kinds are not in the package."""

_TABLES = {
    "regularizer": "[regularizers.$name]",
    "augmentation": "[augmentations.$name]",
    "metric": "[metrics.$name]",
    "extractor": "[metrics.kid-$name]",
    "observer": "[observers.$name]",
}
"""The tables by which a recipe uses the other kinds."""

_RECIPES_HOOK = """\
@hookimpl
def gancore_recipes() -> list[Traversable]:
    return [file for file in files(__name__).joinpath("recipes").iterdir() if file.name.endswith(".toml")]"""

_ADD_COMPONENT = (
    "To add a component, write its class and return it in the hook of its kind. `pytest` then checks it too."
)
_ADD_RECIPE = "To add a recipe, write another file in `recipes`; `pytest` then trains it too."

_LINE = 120
"""Maximum line length."""


@dataclass(frozen=True)
class NewPackage:
    """A package `gancore-NAME` with a component of each kind.

    `version` is the oldest supported version of gancore, `group` the group of the entry point.
    """

    name: str
    kinds: tuple[str, ...]
    version: str
    group: str

    @property
    def package(self) -> str:
        """The name of the distribution."""
        return f"gancore-{self.name}"

    @property
    def module(self) -> str:
        """The name of the module or of the package that is imported."""
        return self.package.replace("-", "_")

    @cached_property
    def names(self) -> dict[str, str]:
        """The name of each component, by kind: NAME for a recipe and for a single component, else NAME-KIND."""
        ordered = [kind for kind in USES if kind in self.kinds]
        return {kind: self.name if kind == RECIPE or len(ordered) == 1 else f"{self.name}-{kind}" for kind in ordered}

    @property
    def commands(self) -> list[str]:
        """The commands that use each component."""
        kinds = [RECIPE] if self._has_recipe else list(self.names)  # the recipe uses the other components
        uses = [Template(USES[kind]).substitute(name=self.names[kind]) for kind in kinds if USES[kind]]
        export = [Template(_EXPORT).substitute(name=self.names[kind]) for kind in self.names if not USES[kind]]
        return [*([" ".join(["gancore train", *uses])] if uses else []), *export]

    def files(self) -> dict[str, str]:
        """Return the content of each file of the package, by its path."""
        made = {name: _fill(name, self._values) for name in ("pyproject.toml", "README.md")}
        if self._is_folder:
            made |= {f"{self.module}/__init__.py": self._hooks(), f"{self.module}/py.typed": ""}
            made |= {self._file(kind): self._module(kind) for kind in self._components}
        else:
            made[self._file(self._components[0])] = self._only_module()
        if self._has_recipe:
            made[self._file(RECIPE)] = self._recipe()
        tests = {"test_contract.py": self._components, "test_recipes.py": self._has_recipe}
        return made | {f"tests/{test}": _fill(test, self._values) for test, needed in tests.items() if needed}

    @property
    def _components(self) -> list[str]:
        return [kind for kind in self.names if kind != RECIPE]

    @property
    def _has_recipe(self) -> bool:
        return RECIPE in self.names

    @property
    def _is_folder(self) -> bool:
        """Whether the plugin is a folder of modules, and not one module."""
        return self._has_recipe or len(self.names) > 1

    @property
    def _values(self) -> dict[str, str]:
        rows = [f"| {kind} | `{name}` | `{self._file(kind)}` |" for kind, name in self.names.items()]
        first = self._components[:1]
        return {
            "package": self.package,
            "module": self.module,
            "offers": _as_text(list(self.names)),
            "rows": "\n".join(rows),
            "more": "\n".join([_ADD_COMPONENT] * bool(first) + [_ADD_RECIPE] * self._has_recipe),
            "show": f"gancore show {first[0]} {self.names[first[0]]}" if first else "gancore recipes",
            "use": "\n$ ".join(self.commands),
            "sources": self.module if self._is_folder else f"{self.module}.py",
            "version": self.version,
            "group": self.group,
            "name": self.name,
        }

    def _file(self, kind: str) -> str:
        """Return the path of a component or recipe."""
        if kind == RECIPE:
            return f"{self.module}/recipes/{self.name}.toml"
        return f"{self.module}/{kind}.py" if self._is_folder else f"{self.module}.py"

    def _class(self, kind: str) -> str:
        return "".join(part.capitalize() for part in (*self.name.split("-"), kind))

    def _module(self, kind: str) -> str:
        name = self.names[kind]
        values = {"name": name, "class_name": self._class(kind), "summary": f"The {kind} {name}."}
        return _fill(f"kinds/{kind}.py", values)

    def _only_module(self) -> str:
        """Return a module with the component and its hook."""
        (kind,) = self._components
        lines = self._module(kind).splitlines()
        prefix = "from gancore import "
        position = next(number for number, line in enumerate(lines) if line.startswith(prefix))
        lines[position] = _import("gancore", {*lines[position].removeprefix(prefix).split(", "), "hookimpl"})
        return "\n".join([*lines, "", "", *self._hook(kind)]) + "\n"

    def _hooks(self) -> str:
        """Return the module with all hooks."""
        components = self._components
        bases = {kind.capitalize() for kind in components}
        sections = [[_import("gancore", {*bases, "hookimpl"})]]
        if self._has_recipe:
            traversable = "from importlib.resources.abc import Traversable"
            sections.insert(0, ["from importlib.resources import files", traversable])
        if components:
            sections.append([_import(f"{self.module}.{kind}", {self._class(kind)}) for kind in sorted(components)])
        head = ["\n".join(lines) for lines in sections]
        hooks = ["\n".join(self._hook(kind)) for kind in components]
        if self._has_recipe:
            hooks.append(_RECIPES_HOOK)
        summary = f'"""The plugin {self.name}: its hooks return what it offers."""'
        return "\n\n\n".join(["\n\n".join([summary, *head]), *hooks]) + "\n"

    def _hook(self, kind: str) -> list[str]:
        plural = {"loss": "losses"}.get(kind, f"{kind}s")
        return [
            "@hookimpl",
            f"def gancore_{plural}() -> list[type[{kind.capitalize()}]]:",
            f"    return [{self._class(kind)}]",
        ]

    def _recipe(self) -> str:
        parts = {kind: self.names.get(kind, built_in) for kind, built_in in _BUILT_IN.items()}
        others = [Template(_TABLES[kind]).substitute(name=self.names[kind]) for kind in self.names if kind in _TABLES]
        tables = "".join(f"\n{table}\n" for table in others)
        return _fill("recipe.toml", {**parts, "tables": tables})


def _fill(file: str, values: Mapping[str, str]) -> str:
    text = files(__name__).joinpath(f"{file}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _import(module: str, names: Iterable[str]) -> str:
    """Return the import, on several lines if it is too long for one. Classes come before functions."""
    ordered = sorted(names, key=lambda name: (not name[0].isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= _LINE:
        return line
    return "\n".join([f"from {module} import (", *(f"    {name}," for name in ordered), ")"])


def _as_text(kinds: list[str]) -> str:
    """Return the kinds as text, like `a loss, a generator and an extractor`."""
    each = [f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in kinds]
    return " and ".join([", ".join(each[:-1]), each[-1]] if len(each) > 1 else each)
