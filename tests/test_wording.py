"""Wording: plain technical English in docstrings, messages, help texts, comments, names and pages."""

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = [
    *(path for folder in ("gancore", "plugins", "cli", "examples") for path in (ROOT / folder).rglob("*.py")),
    *(path for folder in ("gancore", "plugins", "cli") for path in (ROOT / folder).rglob("*.t*ml*")),
    *(ROOT / "benchmarks").rglob("*.py"),
]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
assert min(map(len, (SOURCES, PAGES, TESTS))) > 40, "a folder has another name"

# The field has a better word for each of these, see the glossary of CONTRIBUTING.md.
OLD_WORDS = re.compile(
    r"\b(?:told|amid|amidst|mend(?:s|ed|ing)?|strangers?|owe[ds]?|owing|who(?:m)?ever|beside|nobody|"
    r"ha(?:s|ve|d|ving) (?:a|no|its|their) say|so (?:many|often|much)|go(?:es|ing|ne)? on(?: with)?|went on|"
    r"(?:is|are|was|were) none|verdicts?|judge[sd]?|judg(?:e)?ments?|rehears\w*|litter|in vain|aftermath|midst)\b",
    re.IGNORECASE,
)
# The name of a test begins with its subject, so that grep finds all tests of it.
NO_SUBJECT = re.compile(
    r"test_(?:an?|the|what|which|who|whoever|whose|where|when|that|this|it|its|one|two|all|any|every|each|some|no|not|"
    r"nothing|nobody|none|only|with|without|of|in|on|at|by|for|from|after|before|so|if|there|is|are|both|either|"
    r"neither|other|others|another|many|more|most|few|such|as|how)(?:_|$)"
)


def texts_of(path):
    """Yield line number and text of each string, comment and name of a Python file, or of each line of another."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name).replace("_", " ")
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg.replace("_", " ")
    with path.open("rb") as file:
        comments = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    yield from ((token.start[0], token.string) for token in comments)


def old_words_in(path):
    found = [(line, word[0]) for line, text in texts_of(path) for word in OLD_WORDS.finditer(text)]
    return [f"line {line}: {word}" for line, word in sorted(found)]


def test_wording_has_no_old_words():
    assert {str(path.relative_to(ROOT)): found for path in SOURCES + PAGES if (found := old_words_in(path))} == {}


def test_wording_check_finds_old_words_in_docstrings_messages_comments_and_names(tmp_path):
    path = tmp_path / "example.py"
    text = [
        '"""This is told."""',
        "# amid the loop",
        "class Mended:",
        "    def f(owed):",
        '        raise E(f"{owed} goes on")',
    ]
    path.write_text("\n".join(text))
    assert old_words_in(path) == [
        "line 1: told",
        "line 2: amid",
        "line 3: Mended",
        "line 4: owed",
        "line 5: goes on",
    ]


def names_of_tests(path):
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def is_unclear(name):
    return NO_SUBJECT.match(name) or OLD_WORDS.search(name.replace("_", " "))


def test_wording_of_test_names_begins_with_the_subject():
    found = [f"{path.relative_to(ROOT)}: {name}" for path in TESTS for name in names_of_tests(path) if is_unclear(name)]
    assert found == []
