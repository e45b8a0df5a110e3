"""What completes each argument and option in a shell: names of components, runs, paths, and keys of the config.

Nothing here imports torch or a plugin. The items of type `plain` are whole words, those of type `part` only begin one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import click
from click.shell_completion import CompletionItem

from gancore_cli.completion_cache import Component, Key, Names, parts_of_run, recall

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

PART = "part"
"""Type of an item after which no space is inserted."""

_MOST = 1000
"""Maximum number of files and folders that are listed."""

_COMPONENT = re.compile(r"name of an? (\w+), or its table")
_LABELS = "tables, each under a label: "


def components(kind: str) -> Completer:
    """Return a completer for the names of a kind of component."""
    return lambda _context, _parameter, text: [*_words(text, _summaries(recall().components.get(kind, {})))]


def kinds(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a kind of component."""
    return [*_words(text, dict.fromkeys(recall().components, ""))]


def kinds_and_run(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a kind of component, `recipe` or `run`."""
    more = {"recipe": "a complete config", "run": "the keys of a run's config"}
    return [*_words(text, {**dict.fromkeys(recall().components, ""), **more})]


def names_of_kind(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a component of the kind that the command line names, a recipe, or the folder of a run."""
    if context.params.get("kind") == "run":
        return runs(context, parameter, text)
    if context.params.get("kind") == "recipe":
        return [*_words(text, {name: recipe.summary for name, recipe in recall().recipes.items()})]
    return components(str(context.params.get("kind")))(context, parameter, text)


def metrics(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a metric with its extractor, such as `fd-classifier`."""
    return [*_words(text, _metrics(recall()))]


def plugins_and_files(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a plugin, or the file of one."""
    return [*_words(text, recall().plugins), *_paths(text, suffixes=(".py",))]


def python_files(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a Python file."""
    return [*_paths(text, suffixes=(".py",))]


def recipes_and_paths(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a recipe, a config file, or the path of data."""
    recipes = {name: recipe.summary for name, recipe in recall().recipes.items()}
    return [*_words(text, recipes), *_paths(text, suffixes=None if text else (".toml",))]


def datasets_and_paths(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a dataset, or the path of data."""
    return [*_words(text, _summaries(recall().components.get("dataset", {}))), *_paths(text)]


def runs(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete the folder of a run; without any, a folder."""
    return [*_runs(text)] or [*_paths(text, suffixes=())]


def runs_and_checkpoints(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete the folder of a run; without any, a checkpoint or a folder."""
    return [*_runs(text)] or [*_paths(text, suffixes=(".safetensors",))]


def runs_and_paths(_context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete the folder of a run, or any path."""
    found = [*_runs(text)]
    known = {f"{item.value}/" for item in found}
    return [*found, *(item for item in _paths(text) if item.value not in known)]


def settings(context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a key of the config, and after `=` its value."""
    names, given = recall(), _given(context)
    run = given.get("run")
    recipe = names.recipes.get(str(given.get("recipe") or "digits"))
    parts = parts_of_run(Path(run)) if run else dict(recipe.parts if recipe else {})
    parts |= {part: str(given[part]) for part in names.components if given.get(part)}
    return [*_assignments(text, _keys(names, parts), names)]


def dataset_settings(context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a key of a dataset, with or without `dataset.`, and after `=` its value."""
    names = recall()
    known, source = names.components.get("dataset", {}), str(_given(context).get("source"))
    of_files = {name: each for name, each in known.items() if any(key["key"] == "path" for key in each.keys)}
    chosen = {source: known[source]} if source in known else of_files
    keys = {key["key"]: key for each in chosen.values() for key in each.keys}
    prefix = "dataset." if text.startswith("dataset.") else ""
    return [*_assignments(text, {f"{prefix}{key}": row for key, row in keys.items()}, names)]


def exporter_settings(context: click.Context, _parameter: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete a key of the exporter that the command line names, else of any, and after `=` its value."""
    names, chosen = recall(), str(_given(context).get("name"))
    known = names.components.get("exporter", {})
    offers = {chosen: known[chosen]} if chosen in known else known
    return [*_assignments(text, {key["key"]: key for each in offers.values() for key in each.keys}, names)]


def plugin_commands(built_in: Iterable[str], text: str) -> list[CompletionItem]:
    """Complete the name of a plugin's command."""
    return [item for item in _words(text, recall().commands) if item.value not in built_in]


def _given(context: click.Context) -> dict[str, Any]:  # Any: the values of parameters
    """Return the parameters of a command that is being completed at an option.

    click has parsed them up to that option, which lacks its value, so arguments may be missing.
    """
    words, name = context.obj, context.info_name
    if words and name in words:
        complete = words[words.index(name) + 1 :]
        while complete and complete[-1].startswith("-"):
            complete.pop()
        with context.command.make_context(name, complete, resilient_parsing=True) as parsed:
            return parsed.params
    return context.params


def _summaries(offers: Mapping[str, Component]) -> dict[str, str]:
    return {name: component.summary for name, component in offers.items()}


def _words(text: str, known: Mapping[str, str]) -> Iterator[CompletionItem]:
    """Yield the names that begin with a text, each with its help."""
    return (CompletionItem(name, help=about) for name, about in known.items() if name.startswith(text))


def _metrics(names: Names) -> dict[str, str]:
    """Return the names of metrics in results."""
    found = {}
    for name, metric in names.components.get("metric", {}).items():
        with_extractor = any(key["key"] == "extractor" for key in metric.keys)
        for extractor in names.components.get("extractor", {}) if with_extractor else ():
            found[f"{name}-{extractor}"] = metric.summary
        if not with_extractor:
            found[name] = metric.summary
    return found


def _keys(names: Names, parts: Mapping[str, str]) -> dict[str, Key]:
    """Return the keys of a config with these parts, and of all components that may have a label."""
    found: dict[str, Key] = {}
    for row in names.keys:
        key, kind = row["key"], _kind_of(row["type"])
        offers = names.components.get(kind, {}) if kind else {}
        if row["type"].startswith(_LABELS):
            for name, component in offers.items():
                found |= _of_component(f"{key}.{name}", component)
            continue
        found[key] = row
        if kind and parts.get(kind) in offers:
            found |= _of_component(key, offers[parts[kind]])
    return found


def _of_component(place: str, component: Component) -> dict[str, Key]:
    return {f"{place}.{row['key']}": row for row in component.keys}


def _kind_of(type_: str) -> str | None:
    found = _COMPONENT.search(type_)
    return found[1] if found else None


def _assignments(text: str, keys: Mapping[str, Key], names: Names) -> Iterator[CompletionItem]:
    """Yield one more component of the keys that begin with a text; after `=` yield values."""
    key, equals, value = text.partition("=")
    if equals:
        if key.endswith("path"):
            yield from _paths(value, before=f"{key}=")
        elif key in keys:
            yield from _words(text, {f"{key}={each}": "" for each in _values(keys[key], names)})
        return
    found: dict[str, str] = {}
    for known, row in keys.items():
        if known.startswith(text):
            name, dot, _ = known[len(text) :].partition(".")
            found.setdefault(f"{text}{name}{dot or '='}", "" if dot else f"{row['help']} ({row['type']})")
    yield from (CompletionItem(item, type=PART, help=about) for item, about in found.items())


def _values(row: Key, names: Names) -> Iterator[str]:
    """Yield the values of a key that can be listed, as `--set` takes them."""
    kind = _kind_of(row["type"])
    if kind:
        yield from names.components.get(kind, {})
    elif row["key"] == "checkpoint.best":
        yield from _metrics(names)
    for choice in row["type"].split(" or "):
        if choice == "bool":
            yield from ("true", "false")
        elif choice == "absent":
            yield "none"
        elif re.fullmatch(r'"[\w.+-]+"', choice):
            yield choice.strip('"')


def _runs(text: str) -> Iterator[CompletionItem]:
    """Yield the runs that begin with a path, and those in folders that do, such as `runs/`."""
    for path in _listed(text):
        if _is_run(path):
            yield CompletionItem(_shown(text, path))
        elif path.is_dir():
            inner = f"{_shown(text, path)}/"
            yield from (CompletionItem(_shown(inner, run)) for run in _listed(inner) if _is_run(run))


def _is_run(path: Path) -> bool:
    return (path / "config.toml").is_file() and (path / "checkpoints").is_dir()


def _paths(text: str, *, before: str = "", suffixes: tuple[str, ...] | None = None) -> Iterator[CompletionItem]:
    """Yield folders that begin with a path, and files with a suffix; without suffixes all files."""
    for path in _listed(text):
        if path.is_dir():
            yield CompletionItem(f"{before}{_shown(text, path)}/", type=PART)
        elif suffixes is None or path.name.endswith(suffixes):
            yield CompletionItem(f"{before}{_shown(text, path)}")


def _shown(text: str, path: Path) -> str:
    """Return a path with the folder as the user has written it."""
    return os.path.join(os.path.dirname(text), path.name)


def _listed(text: str) -> Iterable[Path]:
    """Return what is in a folder and begins with a name, hidden files only if the name does."""
    folder, begin = os.path.split(text)
    with suppress(OSError), os.scandir(os.path.expanduser(folder) or ".") as entries:
        names = (entry.name for entry in entries)
        found = (name for name in names if name.startswith(begin or "") and (begin or not name.startswith(".")))
        return [Path(os.path.expanduser(folder), name) for name in sorted(islice(found, _MOST))]
    return ()
