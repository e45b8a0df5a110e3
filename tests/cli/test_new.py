import importlib
import json
import subprocess
import sys
import tempfile
import tomllib
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import ConfigLayer
from gancore.config.run import resolve
from gancore_cli.templates import USES, NewPackage
from helpers.plugin_venv import HAS_LAWS, Environment

FORKED = True

ROOT = Path(__file__).resolve().parents[2]
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,2}", fullmatch=True)
KINDS = st.lists(st.sampled_from(list(USES)), min_size=1, unique=True)
ALL = [word for kind in USES for word in ("--kind", kind)]


def package(name, kinds):
    return NewPackage(name, tuple(kinds), version=version("gancore"), group="gancore.v1")


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


@contextmanager
def imported(new):
    """Write the package, import its module, and forget it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), new.files())
        sys.path.insert(0, folder)
        try:
            yield importlib.import_module(new.module)
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if name.partition(".")[0] == new.module]:
                del sys.modules[name]


def run_tool(tool, *options, folder):
    done = subprocess.run([sys.executable, "-m", tool, *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_templates_cover_every_kind():
    assert set(USES) == {*Catalog.installed().kinds, "recipe"}


@given(NAMES, KINDS)
@example("tensor", ["dataset"])
@example("loss", ["loss", "dataset"])
def test_new_package_offers_each_chosen_kind_under_its_own_name(name, kinds):
    new = package(name, kinds)
    with imported(new) as module:
        plugin = read_plugin(module, name, new.package, "0.1.0")
    assert plugin.names == [*new.names.items()]
    assert set(new.names) == set(kinds)
    assert len(set(new.names.values())) == len(kinds)
    assert all(called == name or called == f"{name}-{kind}" for kind, called in new.names.items())
    assert all(offered.summary() for offered in plugin.components)
    assert all(recipe.summary for recipe in plugin.recipes)
    catalog = Catalog([*Catalog.installed().plugins, plugin])
    for recipe in plugin.recipes:
        config = resolve([ConfigLayer("recipe", recipe.data)], catalog)
        used = {type(component) for component in config.components()}
        assert {component for component in plugin.components if component.kind != "exporter"} <= used


@given(NAMES, KINDS)
def test_new_package_has_a_module_for_each_of_several_components(name, kinds):
    new = package(name, kinds)
    modules = {path for path in new.files() if path.endswith(".py") and not path.startswith("tests/")}
    components = set(kinds) - {"recipe"}
    if len(kinds) == 1 and components:
        assert modules == {f"{new.module}.py"}
    else:
        assert modules == {f"{new.module}/{part}.py" for part in ("__init__", *components)}


@settings(max_examples=15)
@given(NAMES, KINDS)
@example("one", ["loss"])
@example("calm", ["recipe"])
@example("waves", list(USES))
def test_new_package_is_formatted_and_passes_ruff(name, kinds):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), package(name, kinds).files())
        run_tool("ruff", "check", "--no-cache", ".", folder=folder)
        run_tool("ruff", "format", "--check", "--no-cache", ".", folder=folder)
        run_tool("ruff", "check", "--no-cache", "--config", ROOT / "pyproject.toml", ".", folder=folder)


@given(NAMES, KINDS)
def test_new_package_has_no_placeholders(name, kinds):
    new = package(name, kinds)
    files = new.files()
    assert not [path for path, text in files.items() if "$" in text.replace("\n$ ", "")]
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"] == {"gancore.v1": {name: new.module}}
    (dependency,) = map(Requirement, project["dependencies"])
    assert dependency.name == "gancore"
    assert version("gancore") in dependency.specifier


@pytest.mark.long
@pytest.mark.parametrize("kinds", [list(USES), ["loss"], ["recipe"]], ids=lambda kinds: "-".join(kinds[:1]))
def test_new_package_passes_mypy_with_its_own_settings(tmp_path, kinds):
    write(tmp_path, package("waves", kinds).files())
    run_tool("mypy", "--cache-dir", ROOT / ".mypy_cache" / "new", folder=tmp_path)


def test_new_prints_files_and_next_commands(gancore):
    arguments = ["plugins", "new", "waves", "--kind", "loss", "--kind", "generator"]
    done = gancore.works(*arguments, "--json")
    document = json.loads(done.stdout)
    assert (document["package"], document["module"]) == ("gancore-waves", "gancore_waves")
    folder = gancore.folder / document["folder"]
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(document["files"])
    assert document["next"] == [
        "cd gancore-waves",
        'pip install -e ".[dev]"',
        "pytest",
        "gancore list",
        "gancore train --generator waves-generator --loss waves-loss",
    ]
    assert document["names"] == {"generator": "waves-generator", "loss": "waves-loss"}
    text = gancore.works(*arguments, "--out", "other").stdout
    assert "cd other" in text
    assert all(command in text for command in document["next"][1:])


def test_new_writes_a_loss_by_default(gancore):
    document = json.loads(gancore.works("plugins", "new", "waves", "--json").stdout)
    assert document["next"][-1] == "gancore train --loss waves"


def test_new_recipe_is_what_is_trained(gancore):
    document = json.loads(gancore.works("plugins", "new", "waves", "--kind", "recipe", "--json").stdout)
    assert document["next"][-2:] == ["gancore recipes", "gancore train waves"]
    arguments = ["plugins", "new", "ripples", "--kind", "recipe", "--kind", "loss"]
    document = json.loads(gancore.works(*arguments, "--json").stdout)
    assert document["next"][-2:] == ["gancore list", "gancore train ripples"]
    assert document["names"] == {"loss": "ripples-loss", "recipe": "ripples"}


@pytest.mark.parametrize("name", ["", "Waves", "1st", "two words", "under_score", "-a", "a-", "a--b", "none", "../up"])
def test_name_must_be_valid_for_distribution_module_and_component(gancore, name):
    assert f"received {name!r}" in gancore.fails(2, "plugins", "new", "--", name)
    assert list(gancore.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("my_loss", "my-loss"), ("MyLoss", "my-loss"), ("a b", "a-b"), ("1st", "st"), ("none", "waves"), ("é", "waves")],
)
def test_invalid_name_suggests_a_valid_one(gancore, name, suggested):
    assert gancore("plugins", "new", name).stderr.splitlines()[-1] == f"next: gancore plugins new {suggested}"


def test_name_with_the_prefix_suggests_it_without(gancore):
    done = gancore("plugins", "new", "gancore-waves")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "next: gancore plugins new waves"


@pytest.mark.parametrize(
    ("arguments", "owner"),
    [
        (["hinge"], f"the loss 'hinge' of gancore {version('gancore')}"),
        (["mlp", "--kind", "generator"], f"the generator 'mlp' of gancore {version('gancore')}"),
        (["mnist", "--kind", "loss", "--kind", "recipe"], f"the recipe 'mnist' of gancore {version('gancore')}"),
        (["builtin"], f"the plugin 'builtin' of gancore {version('gancore')}"),
        (["plugins"], "the module 'gancore_plugins'"),
        (["cli"], "the module 'gancore_cli'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_name_that_is_taken_is_refused(gancore, arguments, owner):
    assert f"is taken by {owner}" in gancore.fails(2, "plugins", "new", *arguments)
    assert list(gancore.folder.iterdir()) == []


def test_name_of_a_component_of_another_kind_is_free(gancore):
    gancore.works("plugins", "new", "hinge", "--kind", "generator")
    gancore.works("plugins", "new", "mlp", "--kind", "generator", "--kind", "dataset")  # they are called mlp-KIND


def test_name_of_an_installed_package_is_refused_with_its_version(gancore):
    info = gancore.folder / "site" / "Gancore_Waves-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Gancore_Waves\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text("[gancore.v1]\nother = gancore_that_is_nowhere\n")
    error = gancore.fails(2, "plugins", "new", "waves", PYTHONPATH=str(info.parent))
    assert "'waves' is taken by the plugin 'other' of Gancore_Waves 3.1" in error


@pytest.mark.parametrize("out", [None, "mine"])
def test_new_replaces_no_files(gancore, out):
    folder = gancore.folder / (out or "gancore-waves")
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    chosen = ["--out", out] if out else []
    assert "is not empty" in gancore.fails(2, "plugins", "new", "waves", *chosen)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    gancore.works("plugins", "new", "waves", *chosen)


def test_folder_that_cannot_be_created_exits_with_7(gancore):
    (gancore.folder / "file").write_text("mine")
    assert "is a file" in gancore.fails(2, "plugins", "new", "waves", "--out", "file")
    gancore.fails(7, "plugins", "new", "waves", "--out", "file/below")


@pytest.mark.long  # the page of the first plugin installs a package too
def test_new_package_installs_passes_its_tests_and_trains(tmp_path):
    author = Environment(tmp_path)
    document = json.loads(author.works(f"gancore plugins new waves {' '.join(ALL)} --json"))
    folder = tmp_path / document["folder"]
    for command in document["next"][1:-2]:
        if command != "pytest" or HAS_LAWS:
            author.works(command, folder)
    rows = json.loads(author.works("gancore list --json"))
    own = [row for row in rows if row["package"] == "gancore-waves"]
    expected = {(kind, name, "0.1.0") for kind, name in document["names"].items() if kind != "recipe"}
    assert {(row["kind"], row["name"], row["version"]) for row in own} == expected
    author.works("gancore train waves --steps 20 --out unconditional")
    parts, export = package("waves", [kind for kind in USES if kind != "recipe"]).commands
    author.works(f"{parts} --steps 20 --out conditional --set training.conditional=true")
    for run in ("unconditional", "conditional"):
        manifest = json.loads((tmp_path / run / "manifest.json").read_text())
        assert manifest["plugins"]["gancore-waves"] == "0.1.0"
        metrics = json.loads((tmp_path / run / "evaluation.json").read_text())["metrics"]
        assert set(metrics) == {"waves-metric", "kid-waves-extractor"}
        author.works(export.replace("runs/0001", run) + f" --out {run}.csv")


@pytest.mark.long  # the page of the first plugin installs a package too
def test_example_package_installs_passes_its_test_and_trains(tmp_path):
    author, source = Environment(tmp_path), ROOT / "examples" / "gancore-shapes"
    author.works(f'pip install "{source}"')
    if HAS_LAWS:
        author.works(f'pytest "{source / "tests"}" -p no:cacheprovider')
    author.works("gancore train shapes --steps 20")
    manifest = json.loads((tmp_path / "runs" / "0001" / "manifest.json").read_text())
    assert manifest["plugins"]["gancore-shapes"] == "0.1.0"
    evaluation = json.loads(author.works("gancore evaluate runs/0001 -n 100 -q --json"))
    assert set(evaluation["metrics"]) == {"sliced-wasserstein", "kid-spectrum"}
