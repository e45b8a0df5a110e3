"""Wording: plain technical English in docstrings, messages, help texts, comments, names and pages."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    *(path for folder in ("gancore", "plugins", "cli", "examples") for path in (ROOT / folder).rglob("*.py")),
    *(path for folder in ("cli", "plugins") for path in (ROOT / folder).rglob("*.t*ml*")),
    *(ROOT / "benchmarks").rglob("*.py"),
]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

# Each was used here for something that the field has a word for; CONTRIBUTING.md has the glossary.
OLD_WORDS = re.compile(
    r"\b(?:told|amid|amidst|mend(?:s|ed|ing)?|strangers?|owe[ds]?|owing|who(?:m)?ever|beside|nobody|"
    r"ha(?:s|ve|d|ving) (?:a|no|its|their) say|so (?:many|often|much)|go(?:es|ing|ne)? on(?: with)?|went on|"
    r"(?:is|are|was|were) none|verdicts?|judge[sd]?|judg(?:e)?ments?|rehears\w*|litter|in vain|aftermath|midst)\b",
    re.IGNORECASE,
)
# A test's name begins with its subject, so that grep finds all tests of it.
NO_SUBJECT = re.compile(
    r"test_(?:an?|the|what|which|who|whoever|whose|where|when|that|this|it|its|one|two|all|any|every|each|some|no|not|"
    r"nothing|nobody|none|only|with|without|of|in|on|at|by|for|from|after|before|so|if|there|is|are|both|either|"
    r"neither|other|others|another|many|more|most|few|such|as|how)(?:_|$)"
)


def pieces_of(path):
    """Line number and text of everything in a Python file that is read as prose, and of its names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name).replace("_", " ").strip()
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg.replace("_", " ").strip()
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def old_words_in(path):
    if path.suffix == ".py":
        return [f"{path}:{line}: {found[0]!r}" for line, text in pieces_of(path) for found in OLD_WORDS.finditer(text)]
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [f"{path}:{line}: {found[0]!r}" for line, text in lines for found in OLD_WORDS.finditer(text)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_wording_of_sources_has_no_old_words(path):
    assert old_words_in(path) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_wording_of_pages_has_no_old_words(path):
    assert old_words_in(path) == []


def test_wording_check_finds_old_words_in_docstrings_messages_comments_and_names(tmp_path):
    path = tmp_path / "odd.py"
    path.write_text('"""What is told."""\n# amid the loop\ndef mended(owed):\n    raise ValueError(f"{owed} goes on")\n')
    assert [each.rsplit(": ", 1)[1] for each in old_words_in(path)] == [
        "'told'",
        "'mended'",
        "'owed'",
        "'goes on'",
        "'amid'",
    ]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_wording_of_test_names_begins_with_the_subject(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in nodes if NO_SUBJECT.match(node.name)] == []
    words = [node.name.replace("_", " ") for node in nodes if node.name.startswith("test_")]
    assert [text for text in words if OLD_WORDS.search(text)] == []


if __name__ == "__main__":
    import sys

    for name in sys.argv[1:]:
        for each in Path(name).rglob("*") if Path(name).is_dir() else [Path(name)]:
            if each.suffix in {".py", ".md", ".toml", ".tmpl"} and ".git" not in each.parts:
                print(*old_words_in(each), sep="\n", end="\n" if old_words_in(each) else "")
                if each.name.startswith("test_"):
                    for node in ast.walk(ast.parse(each.read_text())):
                        if isinstance(node, ast.FunctionDef) and NO_SUBJECT.match(node.name):
                            print(f"{each}:{node.lineno}: {node.name}")
