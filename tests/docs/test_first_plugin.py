"""The pages for plugin authors are tested in a virtual environment of their own, with a real pip."""

import re

import pytest

from helpers.doc_blocks import AUTHOR_PAGES, output_lines, page_blocks, sessions_of
from helpers.plugin_venv import HAS_LAWS, Environment


class Reader:
    """Follows the blocks of a page in order."""

    def __init__(self, folder):
        self.shell, self.folder = Environment(folder), folder
        self.code = 0

    def follow(self, block):
        if block.language == "python":
            named = re.match(r"# (\S+\.py)\n", block.text)
            (self.folder / named[1]).write_text(block.text.partition("\n")[2], encoding="utf-8")
        elif block.language == "console":
            sessions = sessions_of(block)
            following = [*sessions[1:], ("", "")]
            for (command, output), after in zip(sessions, following, strict=True):
                self.run(block, command, output, int(after[1]) if after[0] == "echo $?" else 0)

    def run(self, block, command, output, code):
        if command == "echo $?" or (command == "pytest" and not HAS_LAWS):
            return
        if command.startswith("cd "):
            self.folder = (self.folder / command.removeprefix("cd ")).resolve(strict=True)
            return
        done = self.shell(command.replace("--steps 200", "--steps 20"), self.folder)  # the output has no step
        assert done.returncode == code, f"{block.place}: $ {command}\n{done.stdout}"
        if output.strip():
            assert output_lines(done.stdout) == output_lines(output), f"{block.place}: $ {command}"


@pytest.mark.slow
@pytest.mark.parametrize("page", AUTHOR_PAGES, ids=lambda page: page.name)
def test_first_plugin_page_commands_print_what_it_shows(page, tmp_path):
    reader = Reader(tmp_path)
    for block in page_blocks(page):
        reader.follow(block)
