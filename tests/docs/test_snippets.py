"""The fenced blocks of the pages work. CONTRIBUTING.md describes the conventions."""

import io
import json
import math
import re
import shlex
import shutil
import sys
import tomllib
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib.metadata import EntryPoint
from inspect import cleandoc
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gancore import hookspecs
from gancore.catalog.catalog import Catalog, read_plugin
from gancore.config.layers import ConfigLayer
from gancore.config.run import read_layers, resolve
from gancore.evaluation.defaults import evaluator_for_run
from gancore.evaluation.train_extractor import EvaluationPaths
from gancore.run.directory import RunDirectory
from gancore.run.recorder import Session, record
from gancore.study.arms import Sources, problems_of_arms
from gancore.study.definition import read_study
from gancore.testing.cases import Case
from gancore.testing.exporters import exported_generator
from gancore.training.gan import GAN
from gancore.training.loop import train
from gancore_cli.main import main
from helpers.doc_blocks import AUTHOR_PAGES, PAGES, ROOT, blocks_of, output_lines, page_blocks, sessions_of

HOOKS = [name for name in vars(hookspecs) if name.startswith("gancore_")]
PARTS = {"generator": "mlp", "discriminator": "mlp", "loss": "bce", "dataset": "digits"}
LANGUAGES = {"python", "toml", "console", "text", "bash"}
PART_OPTIONS = [word for key, value in PARTS.items() for word in (f"--{key}", value)]
QUICK_START = ["pip install . && gancore train", 'pip install -e ".[dev]" && pytest']


def run_gancore(words):
    """Return the exit code and the output of a command. It runs in this process, since torch takes seconds to load."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown), pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code, shown.getvalue()


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    with chdir(folder):
        code, shown = run_gancore(["train", *PART_OPTIONS, "--steps", "3", "--out", "runs/0001"])
    assert code == 0, shown
    return folder


@pytest.fixture
def workplace(small_run, tmp_path, monkeypatch):
    """A folder with a run in runs/0001, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(small_run, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")  # as wide as the help in the pages
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return folder


@pytest.fixture
def module(monkeypatch):
    """The namespace of a page, as an imported module like that of a plugin."""
    made = ModuleType("snippets_of_a_page")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def run_python(block, module):
    """Run a block with the line numbers of its page, so that a traceback points into the page."""
    padded = "\n" * (block.line - 1) + block.text
    exec(compile(padded, str(block.file), "exec"), vars(module))  # noqa: S102  # our own pages


def check_toml(block, folder):
    data = tomllib.loads(block.text)
    if "project" in data:
        for name, value in data["project"]["entry-points"][hookspecs.ENTRY_POINTS].items():
            assert EntryPoint(name, value, hookspecs.ENTRY_POINTS).module
        return
    named = re.match(r"# (\S+\.toml)\n", block.text)
    file = folder / (named[1] if named else "block.toml")
    file.write_text(block.text, encoding="utf-8")
    catalog = Catalog.installed()
    if "base" in data:  # a study
        assert list(problems_of_arms(read_study(file), Sources(catalog, "cpu"), is_conditional=False)) == []
        return
    resolve([ConfigLayer("parts", PARTS), *read_layers(str(file), catalog)], catalog)


def check_console(block):
    sessions = sessions_of(block)
    for position, (command, output) in enumerate(sessions):
        words = shlex.split(command)
        if words == ["echo", "$?"]:
            continue
        assert words[0] == "gancore", f"{block.place}: only gancore is run here, not {command}"
        following = sessions[position + 1] if position + 1 < len(sessions) else ("", "")
        expected_code = int(following[1]) if following[0] == "echo $?" else 0
        code, shown = run_gancore(words[1:])
        assert code == expected_code, f"{block.place}: $ {command}\n{shown}"
        if output.strip():
            assert output_lines(shown) == output_lines(output), f"{block.place}: $ {command}"


def offered(module):
    """Return the plugin that a page defines, or None."""
    if not any(hasattr(module, hook) for hook in HOOKS):
        return None
    return read_plugin(module, "snippet", "gancore-snippet", "1.0")


def train_with(plugin, folder):
    """Train, measure or observe with each component of the plugin, as its kind requires."""
    catalog = Catalog([*Catalog.installed().plugins, plugin])
    for component in plugin.components:
        if component.kind in ("metric", "extractor"):
            measure_with(component, catalog, folder)
            continue
        if component.kind == "observer":
            observe_with(component, catalog, folder)
            continue
        if component.kind == "exporter":
            export_with(component, folder)
            continue
        part = {component.kind: component.name}
        if component.kind not in PARTS:
            part = {f"{component.kind}s": {component.name: {}}}
        run = resolve([ConfigLayer("parts", PARTS | part | {"duration": "2 steps"})], catalog)
        gan = GAN.assemble(run, folder, "cpu")
        assert [step.step for step in train(gan)] == [1, 2]
        again = resolve([ConfigLayer("again", run.to_data(catalog))], catalog)
        assert again == run


def export_with(component, folder):
    out = folder / f"exported{component.suffix}"
    component().export(exported_generator(Case(condition=3)), out)
    assert out.exists()


def measure_with(component, catalog, folder):
    if component.kind == "extractor":
        tried = {"name": "kid", "extractor": component.name}
    else:
        tried = {"name": component.name} | ({"extractor": "random"} if "features" in component.needs else {})
    run = resolve([ConfigLayer("parts", PARTS | {"metrics": {"tried": tried}})], catalog)
    place = EvaluationPaths(folder, folder / "cache", torch.device("cpu"))
    evaluator = evaluator_for_run(run, place, catalog, count=50)
    for _ in evaluator.prepare():
        pass
    (result,) = evaluator.evaluate(evaluator.images[:50]).results
    assert math.isfinite(result.measured.value)
    assert resolve([ConfigLayer("again", run.to_data(catalog))], catalog) == run


def observe_with(component, catalog, folder):
    parts = {"duration": "2 steps", "log": {"every_steps": 1}, "observers": {component.name: {}}}
    run = resolve([ConfigLayer("parts", PARTS | parts)], catalog)
    gan = GAN.assemble(run, folder, "cpu")
    directory = RunDirectory(folder / f"watched-{component.name}")
    directory.create(run, catalog, gan.device)
    seen = list(record(train(gan), Session(run, catalog, directory, gan)))
    assert [written.warnings for written in seen] == [(), ()]
    usual = {"config.toml", "manifest.json", "metrics.jsonl", "samples", "checkpoints"}
    assert {path.name for path in directory.path.iterdir()} > usual, "an observer writes files of its own"
    assert resolve([ConfigLayer("again", run.to_data(catalog))], catalog) == run


@pytest.mark.parametrize("page", [page for page in PAGES if page not in AUTHOR_PAGES], ids=lambda page: page.name)
def test_page_blocks_work_from_top_to_bottom(page, workplace, module):
    for block in page_blocks(page):
        if block.language == "python":
            run_python(block, module)
        elif block.language == "toml":
            check_toml(block, workplace)
        elif block.language == "console":
            check_console(block)
    plugin = offered(module)
    if plugin:
        train_with(plugin, workplace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_blocks_name_a_known_language(page):
    for block in page_blocks(page):
        assert block.language in LANGUAGES, block.place
        assert (block.language == "bash") <= (page.name == "README.md"), f"{block.place}: use console, which is run"


def test_quick_start_is_two_commands():
    (block,) = [block for block in page_blocks(ROOT / "README.md") if block.language == "bash"]
    assert block.text.splitlines() == QUICK_START


def test_checkpoint_metadata_is_documented(small_run):
    from safetensors import safe_open

    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    (path,) = (small_run / "runs" / "0001" / "checkpoints").glob("*3.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = list(file.keys())
    assert set(metadata) == {"gancore", "sha256"}
    for key in json.loads(metadata["gancore"]):
        assert re.search(rf"^\| `{key}` \|", page, re.MULTILINE), key
    named = re.findall(r"`((?:generator|discriminator|ema|loss|optimizer|random)\.[\w.*]+)`", page)
    forms = [name.replace("*", ".+").replace("STATE", "[^.]+").replace("PARAMETER", ".+") for name in named]
    for tensor in tensors:
        assert any(re.fullmatch(form, tensor) for form in forms), tensor


def test_run_directory_files_equal_the_documented_tree(small_run):
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    texts = [block.text for block in page_blocks(ROOT / "docs" / "checkpoints.md") if block.language == "text"]
    (tree,) = [text for text in texts if text.startswith("runs/0001/")]
    drawn = {re.sub(r"^[│├└─\s]*", "", line).split()[0].rstrip("/") for line in tree.splitlines()[1:]}
    written = {path.name for path in (small_run / "runs" / "0001").rglob("*")}
    assert drawn == written
    for key in json.loads((small_run / "runs/0001/metrics.jsonl").read_text(encoding="utf-8")):
        assert f"`{key}`" in page, key


def hook_block(hook):
    file = Path(hookspecs.__file__).resolve()
    document = getattr(hookspecs, hook).__doc__
    source = file.read_text(encoding="utf-8").split("\n")
    begin = next(number for number, line in enumerate(source) if line.startswith(f"def {hook}("))
    (block,) = blocks_of(file, cleandoc(document), offset=begin + 1)
    return block


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook not in ("gancore_recipes", "gancore_commands")])
def test_hook_docstring_plugin_is_complete_and_trains(hook, module, tmp_path):
    block = hook_block(hook)
    assert block.language == "python", block.place
    run_python(block, module)
    plugin = offered(module)
    assert plugin.components, block.place
    assert hasattr(module, hook), block.place
    train_with(plugin, tmp_path)


def test_recipes_hook_docstring_plugin_finds_its_recipes(module, tmp_path, monkeypatch):
    package = tmp_path / "gancore_waves"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "calm.toml").write_text('# A short run.\nduration = "1 steps"\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    run_python(hook_block("gancore_recipes"), module)
    (recipe,) = offered(module).recipes
    assert (recipe.name, recipe.summary, recipe.data) == ("calm", "A short run.", {"duration": "1 steps"})
    del sys.modules["gancore_waves"]  # permanently: other pages may use the name


def test_commands_hook_docstring_plugin_runs(module, small_run):
    run_python(hook_block("gancore_commands"), module)
    (lowest,) = offered(module).commands
    run = small_run / "runs" / "0001"
    shown = io.StringIO()
    with redirect_stdout(shown):
        lowest.command.main([str(run)], prog_name=lowest.name, standalone_mode=False)
    losses = {
        record["step"]: record["generator_loss"]
        for record in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        if "generator_loss" in record
    }
    step = min(losses, key=losses.__getitem__)
    assert shown.getvalue() == f"{losses[step]:.6g} at step {step}\n"


def test_hook_docstring_block_points_to_its_source_line():
    for hook in HOOKS:
        block = hook_block(hook)
        line = block.file.read_text(encoding="utf-8").split("\n")[block.line - 1]
        assert line.strip() == block.text.split("\n")[0], hook
