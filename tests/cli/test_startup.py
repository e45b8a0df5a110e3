"""The start and end of the process: what is not imported, and what works all the same."""

import subprocess
import sys

from helpers.cli_runner import BY_HAND

TRAIN = f"""
import gc, sys
from gancore_cli.main import main
try:
    main(["train", *{BY_HAND!r}, "--steps", "2", "-q"])
except SystemExit as error:
    print(error.code, gc.isenabled())
unused = {{"torch._dynamo.eval_frame", "torchvision", "rich", "sklearn", "scipy", "pandas"}}
print(sorted(unused & sys.modules.keys()))
"""
STAND_IN = """
import inspect, sys
from gancore_cli import startup
startup.begin()
import torch

weight = torch.nn.Parameter(torch.zeros(2))
weight.grad = torch.ones(2)
optimizer = torch.optim.SGD([weight], lr=1.0)
optimizer.step()
inspect.getmodule(torch.zeros)  # asks all modules for their files
stand_in, asked = torch._dynamo, torch.optim.Optimizer.add_param_group.__wrapped__
assert not [name for name in sys.modules if name.startswith("torch._dynamo.")]
assert vars(asked)["__dynamo_disable"] is asked
"""
SAME = """
assert torch._dynamo is sys.modules["torch._dynamo"] is not stand_in
assert torch._dynamo.config is sys.modules["torch._dynamo.config"] is stand_in.config
assert torch._dynamo.config.__spec__.origin == torch._dynamo.config.__file__
assert torch.compile(torch.square, backend="eager")(torch.ones(2)).tolist() == [1, 1]
optimizer.step()
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})
assert vars(asked)["__dynamo_disable"] is not asked
assert weight.tolist() == [-2, -2]
"""
EACH = """
import os
for use in ("import torch._dynamo.config", "torch.compile(torch.square)"):
    child = os.fork()
    if not child:
        exec(use + same)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, use
"""
TWICE = """
import gc, sys, threading
from gancore_cli.main import main
started = []
start = threading.Thread.start
threading.Thread.start = lambda thread: started.append(thread) or start(thread)
for arguments in (["--version"], ["completion", "show", "fish", "-q"]):
    try:
        main(arguments)
    except SystemExit as error:
        assert not error.code
assert gc.isenabled()
assert not started
assert "torch" not in sys.modules
finders = [type(finder).__module__ for finder in sys.meta_path]
assert finders.count("gancore_cli.startup") == 1, finders
import torch
assert gc.isenabled()
assert len(started) == 2, started
"""
GARBAGE = """
import gc
from gancore_cli.main import main
gc.disable()
class Writer:
    def __del__(self): print("finalized", flush=True)
writer = Writer()
writer.itself = writer
del writer
main(["--version"])
"""

COMPILER = """
from gancore_cli import startup
startup.begin()
import torch, torch._dynamo.config
from gancore_cli.main import main
main(["--version"])
"""


def run(script, folder):
    """Return all output; once the command has ended, standard output goes to standard error."""
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_train_imports_no_unused_packages_and_collects_garbage(tmp_path):
    assert run(TRAIN, tmp_path) == "0 True\n[]\n"


def test_compiler_of_torch_is_imported_once_it_is_needed(tmp_path):
    run(STAND_IN + f"same = {SAME!r}" + EACH, tmp_path)


def test_commands_without_torch_keep_the_gc_and_start_no_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run(TWICE, tmp_path)


def test_garbage_is_finalized_before_the_process_ends(tmp_path):
    assert run(GARBAGE, tmp_path).splitlines()[1:] == ["finalized"]


def test_process_that_has_imported_the_compiler_ends_without_reports_of_leaks(tmp_path):
    assert len(run(COMPILER, tmp_path).splitlines()) == 1
