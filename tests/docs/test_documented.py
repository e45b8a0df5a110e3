"""Nothing is missing from the pages."""

import ast
import inspect
import json
import re
import runpy
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


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("gancore_")])
def test_every_hook_is_in_the_contract(hook):
    assert f"`{hook}`" in page("contract.md")


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_has_its_heading_and_below_it_its_help(path):
    words = " ".join(path)
    found = re.search(rf"^##+ {words}\n(.*?)(?=^#|\Z)", page("commands.md"), re.MULTILINE | re.DOTALL)
    assert found, f"commands.md has no heading {words!r}"
    assert f"```console\n$ {words} --help\nUsage: {words} " in found[1], f"no help below the heading {words!r}"


@pytest.mark.parametrize("field", describe(RunConfig), ids=lambda field: field["key"])
def test_every_key_of_a_config_has_its_row(field):
    assert row(field) in config_table()


def test_the_config_table_has_no_other_rows():
    keys = [field["key"] for field in describe(RunConfig)]
    assert [line.split("`")[1] for line in config_table()] == keys


def test_the_reference_is_what_the_code_says():
    written = runpy.run_path(str(ROOT / "docs" / "reference.py"))["reference"]()
    assert page("reference.md") == written, "python docs/reference.py"


def test_stability_names_every_file_in_which_the_interface_is_written_down():
    for file in (ROOT / "tests" / "frozen").iterdir():
        assert f"`tests/frozen/{file.name}`" in page("stability.md")


def test_exit_codes_are_those_of_main():
    sentence = inspect.getdoc(main).partition("\n\n")[2]
    codes = re.findall(r"\b(\d+) [a-zA-Z]", sentence)
    table = re.findall(r"^\| (\d+) \|", page("commands.md"), re.MULTILINE)
    assert len(codes) >= 8
    assert table == codes


@pytest.mark.parametrize("name", gancore.__all__)
def test_every_public_name_is_used_or_explained_somewhere(name):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    fenced_or_quoted = [
        part
        for file in pages
        for part in re.findall(r"```python\n.*?```|`[^`\n]+`", file.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert any(re.search(rf"\b{name}\b", part) for part in fenced_or_quoted)


def classes_of_the_package():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "gancore").glob("*.py"))]
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def inherits_docstring(method, owner, classes):
    """A base class of the package explains the method of the same name."""
    for base in owner.bases:
        parent = classes.get(base.id if isinstance(base, ast.Name) else "")
        if parent is not None:
            same = [item for item in parent.body if isinstance(item, ast.FunctionDef) and item.name == method.name]
            if any(ast.get_docstring(item) for item in same) or inherits_docstring(method, parent, classes):
                return True
    return False


def speaks_for_itself(node):
    """A property that only returns an expression, or a protocol's method, which is a signature alone."""
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if "property" in decorators and len(node.body) == 1 and isinstance(node.body[0], ast.Return):
        return True
    return len(node.body) == 1 and ast.unparse(node.body[0]) == "..."


def undocumented(tree, classes, owner=None):
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                exempt = isinstance(node, ast.FunctionDef) and (
                    speaks_for_itself(node) or (owner is not None and inherits_docstring(node, owner, classes))
                )
                if not exempt:
                    yield f"{node.name}, line {node.lineno}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, classes, node)


@pytest.mark.parametrize("file", sorted((ROOT / "gancore").glob("*.py")), ids=lambda file: file.name)
def test_everything_public_has_a_docstring(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module itself"
    assert list(undocumented(tree, classes_of_the_package())) == []


def anchor(heading):
    """As GitHub and MyST make them."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: file.name)
def test_every_relative_link_leads_somewhere(file):
    text = re.sub(r"```.*?```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        there = (file.parent / target).resolve() if target else file
        assert there.is_file(), target
        assert there.is_relative_to(ROOT), target
        if fragment:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


def test_the_table_of_laws_is_what_the_laws_say():
    from gancore.testing.runner import LAWS, kinds_of_laws

    expected = [
        f"| `{law.__name__}` | {'all' if len(kinds) == len(LAWS) else ', '.join(kinds)} | "
        f"{' '.join(inspect.getdoc(law).partition(chr(10) * 2)[0].split())} |"
        for law, kinds in kinds_of_laws().items()
    ]
    assert [line for line in page("testing.md").splitlines() if line.startswith("| `")] == expected
