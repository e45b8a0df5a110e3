"""No source file runs the data that it reads: a check of the syntax trees, and tests of the check.

A name is followed through imports and their aliases, wherever a file uses it. Exceptions are listed with their reason,
and in SECURITY.md.
"""

import ast
import builtins
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("gancore", "plugins", "cli", "benchmarks", "examples", "docs")

MODULES = {
    **dict.fromkeys(
        ("pickle", "_pickle", "marshal", "shelve", "dbm", "dill", "joblib", "cloudpickle", "jsonpickle", "pandas"),
        "unpickles",
    ),
    **dict.fromkeys(("torch.hub", "torch.package", "torch.utils.model_zoo"), "downloads and runs code, or unpickles"),
    **dict.fromkeys(("torchvision.models", "torchvision.datasets"), "unpickles and unpacks what it downloads"),
    **dict.fromkeys(("runpy", "code", "codeop", "imp", "pty"), "runs code"),
    "datasets": "runs code of a data set",
}
NAMES = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), "runs text as code"),
    **dict.fromkeys(
        (
            "torch.load",
            "torch.save",
            "torch.serialization",
            "torch.jit.load",
            "torch.export.load",
            "torch.ops.load_library",
        ),
        "unpickles or runs",
    ),
    **dict.fromkeys(("torch.distributed.checkpoint", "safetensors.torch.load_model"), "unpickles or guesses"),
    **dict.fromkeys(("importlib.import_module", "importlib.machinery.SourceFileLoader"), "imports by name"),
    **dict.fromkeys(("lazy_loader.attach_stub", "lazy_loader.attach", "lazy_loader.load"), "imports by name"),
    **dict.fromkeys(("importlib.util.spec_from_file_location", "importlib.util.module_from_spec"), "imports a path"),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), "opens a shell"),
    **dict.fromkeys(("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"), "builds any object"),
    **dict.fromkeys(
        ("shutil.unpack_archive", "urllib.request.urlretrieve"), "writes files from archives or the network"
    ),
    **dict.fromkeys(
        ("torch_fidelity.FeatureExtractorInceptionV3", "torch_fidelity.calculate_metrics"), "unpickles weights"
    ),
    **dict.fromkeys(("numpy.lib.format.read_array", "numpy.fromregex"), "may unpickle"),
}
METHODS = {
    **dict.fromkeys(("extract", "extractall"), "unpacks to where an archive says"),
    "exec_module": "runs a module",
    **dict.fromkeys(("load_state_dict_from_url", "download_url_to_file"), "unpickles what it downloads"),
}

EXCEPTIONS = {
    ("gancore/checkpoint/log.py", "pandas"): "makes a data frame of numbers that json has parsed",
    ("gancore/__init__.py", "lazy_loader.attach_stub"): "modules of gancore's own, by the stub next to that file",
    (
        "gancore/checkpoint/weights.py",
        "torch.load",
    ): "with weights_only=True, which builds tensors and plain containers only, of a file whose sizes were checked",
    (
        "gancore/catalog/plugin_file.py",
        "importlib.util.module_from_spec",
    ): "--plugin FILE: code that the user names as such",
    ("gancore/catalog/plugin_file.py", ".exec_module"): "--plugin FILE: code that the user names as such",
    ("cli/gancore_cli/startup.py", "importlib.machinery.SourceFileLoader"): "the package torch, which Python has found",
    ("cli/gancore_cli/startup.py", ".exec_module"): "the package torch, which Python has found",
    ("cli/gancore_cli/check.py", "importlib.import_module"): "plugins check MODULE: code that the user names as such",
    (
        "plugins/gancore_plugins/extractors/inception.py",
        "torch_fidelity.FeatureExtractorInceptionV3",
    ): "the weights of FID are published as a pickle; these bytes are opened after their SHA-256 was found to be right",
    (
        "plugins/gancore_plugins/exporters/pt2.py",
        "torch.export.load",
    ): "the program that the export has just written into a folder of its own, to compare it with the generator",
    ("benchmarks/plain.py", "torchvision.datasets"): "the script as tutorials write it, which gancore is compared with",
}


def offences(source):
    """The forbidden uses in a file: names in NAMES, MODULES or METHODS, or a call with its argument."""
    tree = ast.parse(source)
    known = {}  # full names by local names
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                known[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
                found |= forbidden_parts(name.name)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                known[name.asname or name.name] = f"{node.module}.{name.name}"
                found |= forbidden_parts(f"{node.module}.{name.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            found |= forbidden_parts(full(node, known))
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            found.add(f".{node.attr}")
        if isinstance(node, ast.Call):
            found |= called(node, full(node.func, known))
    return found


def full(node, known):
    """The dotted name of a name or attribute, or '' if the file does not define it."""
    if isinstance(node, ast.Attribute):
        within = full(node.value, known)
        return f"{within}.{node.attr}" if within else ""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id if node.id in vars(builtins) else "")
    return ""


def forbidden_parts(name):
    parts = name.split(".")
    begins = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return begins & {*MODULES, *NAMES} | {begin for begin in begins if begin.startswith("sklearn.datasets.fetch")}


def called(node, name):
    """The forbidden calls that depend on their arguments."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    careless = name == "numpy.load" and given.get("allow_pickle") != "False"
    found = {"numpy.load without allow_pickle=False"} if careless else set()
    return found | {
        f"{key}={given[key]}"
        for key in ("shell", "allow_pickle", "trust_repo", "trust_remote_code")
        if given.get(key, "False") != "False"
    }


FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_source_files_do_not_run_data():
    """Each file uses what is allowed there, all of it and no more."""
    found = {(path, what) for path in FILES for what in offences(path.read_text(encoding="utf-8"))}
    assert {(path.relative_to(ROOT).as_posix(), what) for path, what in found} == EXCEPTIONS.keys()


def test_exceptions_are_listed_in_the_security_policy():
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for file, _ in EXCEPTIONS:
        assert f"`{file}`" in policy, file


DOTTED = {name: name.split(".") for name in (*MODULES, *NAMES) if "." in name}


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        *((f"import {name}", name) for name in MODULES),
        *((f"import {name} as other\nother.anything(1)", name) for name in MODULES),
        *((f"from {'.'.join(parts[:-1])} import {parts[-1]} as x", name) for name, parts in DOTTED.items()),
        *((f"import {parts[0]} as z\nz.{'.'.join(parts[1:])}(path)", name) for name, parts in DOTTED.items()),
        *((f"{name}(text)", name) for name in NAMES if "." not in name),
        *((f"run = {name}", name) for name in NAMES if "." not in name),
        *((f"archive.{name}(folder)", f".{name}") for name in METHODS),
        ("def f():\n    from pickle import loads as read\n    return read(b'')", "pickle"),
        ("import numpy as np\nnp.load(path)", "numpy.load without allow_pickle=False"),
        ("from numpy import load\nload(path, allow_pickle=True)", "allow_pickle=True"),
        ("import numpy as np\nnp.load(path, allow_pickle=flag)", "numpy.load without allow_pickle=False"),
        ("import subprocess\nsubprocess.run(command, shell=True)", "shell=True"),
        ("Popen(command, shell=not False)", "shell=not False"),
        ("load_dataset(name, trust_remote_code=True)", "trust_remote_code=True"),
        ("from torchvision.datasets import CIFAR10", "torchvision.datasets"),
        ("from torchvision import datasets\ndatasets.MNIST(root)", "torchvision.datasets"),
        ("from sklearn.datasets import fetch_openml", "sklearn.datasets.fetch_openml"),
        ("import sklearn.datasets\nsklearn.datasets.fetch_olivetti_faces()", "sklearn.datasets.fetch_olivetti_faces"),
    ],
)  # fmt: skip
def test_rules_are_broken_by_samples(sample, what):
    found = offences(sample)
    assert any(what in each for each in found) or found & {what}, found


@pytest.mark.parametrize(
    "sample",
    [
        "import numpy as np\nnp.load(path, mmap_mode='r', allow_pickle=False)",
        "import re, torch\nre.compile('x'); torch.compile(module)",
        "import subprocess\nsubprocess.run(['git'], shell=False)",
        "from sklearn.datasets import load_digits",
        "import safetensors.torch\nsafetensors.torch.load(content)",
        "tar.extractfile(member)",
    ],
)
def test_harmless_code_is_allowed(sample):
    assert offences(sample) == set()
