"""Every command, option and key of the config that a message names exists."""

import ast
import re
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

import gancore_cli.main
from gancore import Catalog
from gancore.component import Component
from gancore.config.run import RunConfig

ROOT = Path(__file__).parents[1]
FILES = sorted(path for part in ("gancore", "plugins", "cli") for path in (ROOT / part).rglob("*.py"))
assert {path.relative_to(ROOT).parts[0] for path in FILES} == {"gancore", "plugins", "cli"}
FOREIGN = {"--nproc-per-node", "--node-rank", "--nnodes", "--rdzv-endpoint", "--upgrade", "--logdir", "--no-index"}
"""Options of other programs: torchrun, pip and tensorboard."""
COMMAND = re.compile(r"(?:^|[`:(] ?|see |with |or )gancore ([a-z][a-z-]*)((?: [^`;,)]*)?)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
SETTING = re.compile(r"--set ['\"]?([a-z_][\w.…]*)=")
SECTIONS = ("training", "latent", "optimizer", "ema", "checkpoint", "evaluate", "log", "sample", "dataset")
KEY = re.compile(rf"(?<![\w./`'\"])((?:{'|'.join(SECTIONS)})(?:\.[a-z_]+)+)(?![\w(./])")
PLACEHOLDER = "…"
NO_KEYS = {"dataset.json", "optimizer.add_param_group"}
"""A file and a method."""
NO_COMMANDS = {"run"}
"""Words after the name of the program in prose, as in: a folder of a gancore run."""


def texts_of(path):
    """The string constants of a file without docstrings, with … for what is formatted into them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings, parts = set(), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                docstrings.add(statement.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(value for value in ast.walk(node) if isinstance(value, ast.Constant))
            yield (
                node.lineno,
                "".join(v.value if isinstance(v, ast.Constant) else PLACEHOLDER for v in node.values),
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings | parts:
            yield node.lineno, node.value


def commands():
    """The commands of the command line by name, those of groups too."""
    found = {}
    for name, command in gancore_cli.main.gancore.commands.items():
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {below}": each for below, each in command.commands.items()}
    return found


COMMANDS = commands()
OPTIONS = {
    name: {text for each in command.params for text in (*each.opts, *each.secondary_opts)} | {"--help"}
    for name, command in {"": gancore_cli.main.gancore, **COMMANDS}.items()
}
EVERY_OPTION = set().union(*OPTIONS.values()) | FOREIGN


def fields_of_components():
    """The names of fields of all components by kind."""
    catalog = Catalog.installed()
    return {
        kind: {name for each, _ in catalog.offers(base) for name in each.model_fields} | {"name"}
        for kind, base in catalog.kinds.items()
    }


FIELDS = fields_of_components()


def key_exists(key):
    """Whether a dotted key is one of a run's config, in some component that it may hold."""
    model = RunConfig
    names = key.split(".")
    for position, name in enumerate(names):
        if PLACEHOLDER in name:
            return True
        field = model.model_fields.get(name)
        if field is None:
            return model.model_config.get("extra") == "allow"
        kinds = [kind for kind in FIELDS if name in (kind, f"{kind}s") and position == 0]
        if kinds:
            rest = names[position + 1 :][name != kinds[0] :]  # a label comes first in a table of several
            return not rest or PLACEHOLDER in rest[0] or rest[0] in FIELDS[kinds[0]]
        models = [each for each in (field.annotation, *getattr(field.annotation, "__args__", ())) if is_model(each)]
        if not models:
            return position == len(names) - 1
        model = models[0]
    return True


def is_model(kind):
    return isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Component)


def problems_of(text, *, of_dataset=False):
    """What a text names that does not exist. With `of_dataset` a field of a dataset is a key of --set too."""
    for match in COMMAND.finditer(text):
        first, rest = match.groups()
        words = rest.split()
        both = f"{first} {words[0]}" if words else first
        name = both if both in COMMANDS else first
        if name in NO_COMMANDS:
            continue
        if name not in COMMANDS:
            yield f"gancore {first}"
            continue
        yield from (f"gancore {name} {option}" for option in OPTION.findall(rest) if option not in OPTIONS[name])
    yield from (option for option in OPTION.findall(text) if option not in EVERY_OPTION)
    known = FIELDS["dataset"] if of_dataset else ()
    yield from (f"--set {key}=" for key in SETTING.findall(text) if key not in known and not key_exists(key))
    yield from (key for key in KEY.findall(text) if key not in NO_KEYS and not key_exists(key))


def wrong_names_in(path):
    of_dataset = path.relative_to(ROOT) in {Path("cli/gancore_cli/data.py"), Path("cli/gancore_cli/options.py")}
    return [(line, problem) for line, text in texts_of(path) for problem in problems_of(text, of_dataset=of_dataset)]


def test_messages_name_commands_options_and_keys_that_exist():
    assert {str(path.relative_to(ROOT)): found for path in FILES if (found := wrong_names_in(path))} == {}


@pytest.mark.parametrize(
    "text",
    [
        "gancore trian digits",
        "see: gancore show run --datset x",
        "use --otu",
        "--set training.condtional=true",
        "--set dataset.pth=FOLDER",
        "--set regularizers.r1.gama=3",
        "ema.half_lief_kimg is too short",
    ],
)
def test_problems_of_finds_wrong_names(text):
    assert list(problems_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "gancore train digits --set ema=none",
        "gancore checkpoint verify runs/0001",
        "gancore trains GANs",
        "--set optimizer.generator.lr=1e-3 --out runs/1",
        f"--set observers.{PLACEHOLDER}=none",
        "--set regularizers.r1.gamma=3",
        "training.accumulate splits a batch",
    ],
)
def test_problems_of_accepts_what_exists(text):
    assert [problem for problem in problems_of(text) if problem != "gancore trains"] == []


BEFORE_A_VALUE = re.compile(r"(gancore [a-z]|--[a-z]|cd )[^;,]*$")
UNQUOTED = {
    "text", "self.package", "kind.kind", "table", "unnamed[0]", "self.size", "torch.cuda.device_count()", "SUFFIX",
    "fits", "min(most, 64)", "shell", "options", "resume", "data",
    "component.kind", "possible[0]", "', '.join(possible)", "low", "high", "where",
    "self.run.longer()",
    "run.longer()", "what", "label", "number", "other", "document['chosen']", "key", "them", "kind",
    "default_name(shape)",
    "run", "flags['dataset']", "path", "setting", "first[0]", "self.names[first[0]]", "_valid_name(name)",
    "name.removeprefix('gancore').strip('-') or 'waves'",
    "sets", "known_ones[0]",
}  # fmt: skip
"""Expressions that are formatted into commands without `quote`: numbers, names of kinds and of keys, and texts that are
quoted or whole commands already."""


def unquoted_in(path):
    """What is formatted into a command in a file without being quoted for a shell, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ""
        for value in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.Constant):
                text += value.value
                continue
            source = ast.unparse(value.value)
            if BEFORE_A_VALUE.search(text) and "quote(" not in source and source not in UNQUOTED:
                yield node.lineno, source
            text += PLACEHOLDER


def test_values_in_commands_are_quoted_for_a_shell():
    assert {str(path.relative_to(ROOT)): found for path in FILES if (found := list(unquoted_in(path)))} == {}


def test_unquoted_in_finds_paths(tmp_path):
    (tmp_path / "a.py").write_text(
        "f'next: gancore resume {folder}'; f'gancore resume {quote(folder)}'; f'{folder} is'"
    )
    assert list(unquoted_in(tmp_path / "a.py")) == [(1, "folder")]
