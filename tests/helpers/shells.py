"""Real shells that complete lines, as at a press of the Tab key."""

import os
import pty
import re
import subprocess
from itertools import pairwise

from helpers.cli_runner import read_all

COMMANDS = {"bash": ["bash", "--noprofile", "--rcfile", ".bashrc", "-i"], "zsh": ["zsh", "-i"]}


def completed(shell, home, lines, **environment):
    """Complete lines in an interactive shell with this home, and return the last words, or the items of fish."""
    environment = {**os.environ, "HOME": str(home), "TERM": "dumb", "PS1": "> ", **environment}
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR", "BASH_COMPLETION_USER_DIR"):
        environment.pop(name, None)
    if shell == "fish":
        script = "for line in $argv; set -l found (complete -C $line); echo (string split -f 1 \\t -- $found[1]); end"
        command = [shell, "-c", script, *lines]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=60)
        return done.stdout.splitlines(), done.stderr
    return _typed(shell, home, lines, environment)


def _typed(shell, home, lines, environment):
    """Press Tab after each line. Then make arguments of printf of it: keys are read in order, without waiting."""
    process, leader = pty.fork()
    if not process:
        os.chdir(home)
        os.execvpe(COMMANDS[shell][0], COMMANDS[shell], environment)  # noqa: S606  # a shell, by its arguments
    begin, end = "\x01", "\x05"  # Ctrl-A and Ctrl-E move the cursor
    for line in lines:
        os.write(leader, f"{line}\t{begin}printf '<%s>\\n' {end} '.'\n".encode())
    os.write(leader, b"exit\n")
    output = read_all(leader)
    os.waitpid(process, 0)
    words = re.findall(r"^(?:\x1b[^\n<]*)?<(.*)>\r*$", output, flags=re.MULTILINE)
    return [word for word, following in pairwise(words) if following == "."], output
