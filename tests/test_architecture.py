"""Architecture: imports between parts, and public names. See also import-linter."""

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


def imports(path):
    """Yield the dotted names of all modules that a file imports, also inside of functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: use absolute imports"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_architecture_parts_of_the_core_have_at_most_64_arrows():
    graph = grimp.build_graph("gancore")
    arrows = {
        (importer, imported)
        for importer, imported in (
            (part_of(module), part_of(imported))
            for module in graph.modules
            for imported in graph.find_modules_directly_imported_by(module)
        )
        if importer != imported and "gancore" not in (importer, imported)
    }
    assert 0 < len(arrows) <= 64, sorted(arrows)


CONTRACT = {"settings", "component", "contracts", "metrics", "observers", "exporters", "hookspecs"}
"""The flat modules that a plugin author reads. `errors` is not counted as a part, since every part imports it."""


def part_of(module):
    """Return the part of the core that a module belongs to: a folder, the contract, or the package itself."""
    name = module.split(".")[1] if "." in module else "gancore"
    return {"errors": "gancore"}.get(name, "contract" if name in CONTRACT else name)


@pytest.mark.parametrize("folder", ["gancore", "plugins"])
def test_architecture_keeps_the_test_kit_out_of_training(folder):
    for path in (ROOT / folder).rglob("*.py"):
        if "testing" not in path.parts:
            assert not {name.split(".")[0] for name in imports(path)} & {"hypothesis", "pytest"}, path
            assert not [name for name in imports(path) if name.startswith("gancore.testing")], path


@pytest.mark.parametrize("folder", ["gancore", "plugins"])
def test_architecture_lets_only_the_command_line_print_or_exit(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                call = ast.unparse(node.func)
                # Only an exit ends a process whose main thread waits for a GPU in C code.
                if path != ROOT / "gancore/distributed/heartbeat.py" or call != "os._exit":
                    assert call not in {"print", "exit", "quit", "sys.exit", "os._exit"}, path


def test_entry_points_resolve():
    ours = [entry for entry in entry_points(group="gancore.v1") if entry.dist.name == "gancore"]
    script = [entry for entry in entry_points(group="console_scripts") if entry.name == "gancore"]
    assert len(ours) == len(script) == 1
    for entry in (*ours, *script):
        assert entry.load() is not None


def test_import_of_gancore_imports_nothing_heavy():
    code = "import sys, gancore; print(sorted({'torch', 'pydantic', 'pluggy', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_public_names_can_be_imported():
    import gancore

    for name in gancore.__all__:
        assert getattr(gancore, name).__module__.startswith("gancore") or name in {
            "Condition",
            "Player",
            "Shape",
            "Schedulable",
            "hookimpl",
        }
    assert set(gancore.__all__) <= set(dir(gancore))
    with pytest.raises(AttributeError, match="nonsense"):
        gancore.nonsense  # noqa: B018  # the access raises
