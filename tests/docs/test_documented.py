"""The pages document everything that is public."""

import ast
import inspect
import json
import re
import runpy
import tomllib
from functools import cache
from pathlib import Path

import click
import pytest

import gancore
from gancore import hookspecs
from gancore.config.describe import describe
from gancore.config.run import RunConfig
from gancore_cli.main import gancore as command_line
from gancore_cli.main import main

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@cache
def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(command=command_line, path=("gancore",)):
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))


def row(field):
    default = "" if field["default"] is None else f"`{json.dumps(field['default'])}`"
    return f"| `{field['key']}` | {field['type']} | {default} | {field['bounds']} | {field['help']} |"


def config_table():
    return [line for line in page("config.md").splitlines() if line.startswith("| `")]


def test_hooks_are_in_the_contract():
    hooks = [name for name in vars(hookspecs) if name.startswith("gancore_")]
    assert hooks
    assert [hook for hook in hooks if f"`{hook}`" not in page("contract.md")] == []


def has_heading_with_help(words):
    found = re.search(rf"^##+ {words}\n(.*?)(?=^#|\Z)", page("commands.md"), re.MULTILINE | re.DOTALL)
    return found and f"```console\n$ {words} --help\nUsage: {words} " in found[1]


def test_commands_have_a_heading_with_their_help():
    paths = [" ".join(path) for path, _ in commands()]
    assert [words for words in paths if not has_heading_with_help(words)] == []


def test_command_helps_in_the_page_equal_the_code():
    assert page("commands.md") == runpy.run_path(str(ROOT / "docs" / "help_texts.py"))["page"](), (
        "python docs/help_texts.py"
    )


@pytest.mark.parametrize(("path", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in commands()])
def test_command_help_fits_80_columns_and_has_an_example(path, command):
    shown = click.Context(command, info_name=" ".join(path), terminal_width=78).get_help()
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    if not isinstance(command, click.Group):
        assert re.search(rf"^    {' '.join(path).replace(' run', '( run)?')}\b", shown, re.MULTILINE)


def test_config_table_has_a_row_for_each_key_and_no_other():
    assert config_table() == [row(field) for field in describe(RunConfig)]


def test_reference_equals_the_code():
    written = runpy.run_path(str(ROOT / "docs" / "reference.py"))["reference"]()
    assert page("reference.md") == written, "python docs/reference.py"


def test_stability_names_each_file_of_the_frozen_interface():
    for file in (ROOT / "tests" / "frozen").iterdir():
        assert f"`tests/frozen/{file.name}`" in page("stability.md")


def test_exit_codes_equal_those_of_main():
    sentence = inspect.getdoc(main).partition("\n\n")[2]
    codes = re.findall(r"\b(\d+) [a-zA-Z]", sentence)
    table = re.findall(r"^\| (\d+) \|", page("commands.md"), re.MULTILINE)
    assert len(codes) >= 8
    assert table == codes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("generator", "network families"),
        ("loss", "losses"),
        ("regularizer", "regularizers"),
        ("augmentation", "augmentations"),
        ("dataset", "datasets"),
        ("metric", "metrics"),
        ("exporter", "export formats"),
    ],
)
def test_readme_counts_the_built_in_components(kind, words):
    catalog = gancore.Catalog.installed()
    count = sum(plugin.package == "gancore" for _, plugin in catalog.offers(catalog.kinds[kind]))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert re.findall(rf"(\d+) {words}\b", readme) == [str(count)]


def test_public_names_are_used_or_explained_on_a_page():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    fenced_or_quoted = [
        part
        for file in pages
        for part in re.findall(r"```python\n.*?```|`[^`\n]+`", file.read_text(encoding="utf-8"), re.DOTALL)
    ]
    words = {word for part in fenced_or_quoted for word in re.findall(r"\w+", part)}
    assert [name for name in gancore.__all__ if name not in words] == []


@cache
def classes_of_the_package():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in FILES]
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def inherits_docstring(method, owner, classes):
    """Return whether a base class of the package documents the method of the same name."""
    for base in owner.bases:
        parent = classes.get(base.id if isinstance(base, ast.Name) else "")
        if parent is not None:
            same = [item for item in parent.body if isinstance(item, ast.FunctionDef) and item.name == method.name]
            if any(ast.get_docstring(item) for item in same) or inherits_docstring(method, parent, classes):
                return True
    return False


def is_self_explanatory(node):
    """Return whether this is a property that only returns an expression, or a method of a protocol."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if "property" in decorators and len(node.body) == 1 and isinstance(node.body[0], ast.Return):
        return True
    return len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def undocumented(tree, classes, owner=None):
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                exempt = isinstance(node, ast.FunctionDef) and (
                    is_self_explanatory(node) or (owner is not None and inherits_docstring(node, owner, classes))
                )
                if not exempt:
                    yield f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, classes, node)


FILES = sorted((ROOT / "gancore").rglob("*.py"))
assert len(FILES) > 100, "the folder has another name"
FACES = [file for file in FILES if file.name == "__init__.py" and file.parent != ROOT / "gancore"]
"""The `__init__.py` of a folder only imports names, and needs no docstring."""


def undocumented_in(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    itself = [] if file in FACES or ast.get_docstring(tree) else ["the module itself"]
    return [*itself, *undocumented(tree, classes_of_the_package())]


def test_public_objects_have_docstrings():
    assert {str(file.relative_to(ROOT)): found for file in FILES if (found := undocumented_in(file))} == {}


def anchor(heading):
    """Return the anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: file.name)
def test_relative_links_have_targets(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        linked = (file.parent / target).resolve() if target else file
        assert linked.is_file(), target
        assert linked.is_relative_to(ROOT), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


def test_laws_table_equals_the_docstrings_of_the_laws():
    from gancore.testing.runner import KINDS, LAWS

    expected = [
        f"| `{law.__name__}` | {'all' if kinds.split() == [*KINDS] else kinds.replace(' ', ', ')} | "
        f"{' '.join(inspect.getdoc(law).partition(chr(10) * 2)[0].split())} |"
        for law, kinds in LAWS.items()
    ]
    assert [line for line in page("testing.md").splitlines() if line.startswith("| `")] == expected


def test_core_diagram_shows_each_layer_in_order():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["gancore"]]
    drawn = re.findall(r">(\w+)</text>", page("core.svg"))
    parts = [part for layer in reversed(layers) for part in re.findall(r"\w+", layer)]
    assert [name for name in drawn if not name.startswith("gancore") and name != "imports"] == parts
