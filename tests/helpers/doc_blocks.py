"""The pages of the documentation and their fenced blocks."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
AUTHOR_PAGES = [ROOT / "docs" / "first-plugin.md"]
"""Pages that install packages, and are therefore tested in a virtual environment of their own."""


@dataclass
class Block:
    """The text between two fences. `line` is the number of its first line in the file, from 1."""

    file: Path
    line: int
    language: str
    text: str

    @property
    def place(self):
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def blocks_of(file, text, offset=0):
    found, lines = [], text.split("\n")
    opened = None
    for number, line in enumerate(lines):
        if opened is None and line.startswith("```"):
            opened = number
        elif opened is not None and line == "```":
            body = "\n".join(lines[opened + 1 : number]) + "\n"
            found.append(Block(file, offset + opened + 2, lines[opened][3:], body))
            opened = None
        elif opened is not None and line.startswith("```"):
            break
    assert opened is None, f"{file.name}:{offset + opened + 1}: this fence is not closed"
    return [block for block in found if not block.language.startswith("{")]  # Sphinx reads its own directives


def page_blocks(page):
    return blocks_of(page, page.read_text(encoding="utf-8"))


def output_lines(text):
    """The lines of a command's output, without surrounding blank lines and trailing spaces."""
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def sessions_of(block):
    """The commands of a console block, each with the output that follows it."""
    first, *sessions = ("\n" + block.text).split("\n$ ")
    assert not first, f"{block.place}: begins without a command"
    return [session.partition("\n")[::2] for session in sessions]
