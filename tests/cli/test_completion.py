import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli_runner import Gancore
from helpers.fake_distributions import LOSS, unpack
from helpers.shells import completed

FORKED = True
SHELLS = ["bash", "zsh", "fish"]


class Tab:
    """Completes a command line: the answers as a shell receives them."""

    def __init__(self, gancore, cache):
        self.gancore, self.environment = gancore, {"GANCORE_CACHE": str(cache)}

    def lines(self, *words, asks="zsh"):
        done = self.gancore(*words, **self.environment, _GANCORE_COMPLETE=asks)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.split("\t") for line in done.stdout.splitlines() if line]

    def __call__(self, *words):
        """Return what the last word can be; a space follows unless it ends with a sign such as `/` or `=`."""
        lines = self.lines(*words)
        assert all((kind == "part") == text.endswith(("/", ".", "=")) for kind, text, _ in lines if kind != "files")
        return [text for _, text, _ in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with runs and data."""
    folder = tmp_path_factory.mktemp("completion")
    for run in ("0001", "0002"):
        (folder / "runs" / run / "checkpoints").mkdir(parents=True)
        (folder / "runs" / run / "config.toml").write_text('loss = "hinge"\n[generator]\nname = "dcgan"\n')
        (folder / "runs" / run / "checkpoints" / "step-00000001.safetensors").touch()
    (folder / "my pictures" / "cats").mkdir(parents=True)
    (folder / "it's.npy").touch()
    (folder / ".hidden").mkdir()
    return folder


@pytest.fixture(scope="module")
def tab(folder, zygote, tmp_path_factory):
    """Return completion after a command that has imported the plugins."""
    cache, gancore = tmp_path_factory.mktemp("cache"), Gancore(folder, zygote)
    gancore.works("list", GANCORE_CACHE=str(cache))
    return Tab(gancore, cache)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tra"], ["train"]),
        (["comp"], ["compare", "completion"]),
        (["train", "--gen"], ["--generator"]),
        (["train", "mn"], ["mnist"]),
        (["train", "--loss", "relativistic"], ["relativistic", "relativistic-average"]),
        (["train", "--loss=hi"], ["--loss=hinge"]),
        (["train", "--dataset", "m"], ["mnist", "my pictures/"]),
        (["train", "--precision", "b"], ["bf16"]),
        (["train", "--threads", ""], ["auto"]),
        (["train", "it"], ["it's.npy"]),
        (["train", "./"], ["./it's.npy", "./my pictures/", "./runs/"]),
        (["show", "loss", "mini"], ["minimax"]),
        (["show", "ru"], ["run"]),
        (["show", "run", "ru"], ["runs/0001", "runs/0002"]),
        (["compare", "runs/0001", ""], ["runs/0001", "runs/0002"]),
        (["list", "extr"], ["extractor"]),
        (["plugins", "check", "b"], ["builtin"]),
        (["export", "runs/0001", "--format", "o"], ["onnx"]),
        (["export", "runs/0001", "--format", "onnx", "--set", "op"], ["opset="]),
        (["export", "runs/0001", "--format", "pt2", "--set", "op"], []),
        (["evaluate", "runs/0001", "--metric", "kid-c"], ["kid-classifier"]),
        (["evaluate", "x", "--reference", "cif"], ["cifar10"]),
        (["resume", ""], ["runs/0001", "runs/0002"]),
        (["resume", "my"], ["my pictures/"]),
        (["checkpoint", "verify", "ru"], ["runs/0001", "runs/0002"]),
        (["sample", "runs/0002/"], ["runs/0002/checkpoints/"]),
        (["sample", "runs/0002/checkpoints/"], ["runs/0002/checkpoints/step-00000001.safetensors"]),
        (["train", "--init-from", "runs/"], ["runs/0001", "runs/0002"]),
        (["train", "--set", "training.prec"], ["training.precision="]),
        (["train", "--set", "la"], ["latent."]),
        (["train", "--set", "training.fakes="], ["training.fakes=shared", "training.fakes=fresh"]),
        (["train", "--set", "training.conditional=t"], ["training.conditional=true"]),
        (["train", "--set", "loss=ls"], ["loss=lsgan"]),
        (["train", "--set", "ema=n"], ["ema=none"]),
        (["train", "--set", "seed="], []),
        (["train", "--set", "generator.sl"], ["generator.slope="]),
        (["train", "--generator", "dcgan", "--set", "generator.sl"], []),
        (["train", "dcgan", "--set", "generator.w"], ["generator.width="]),
        (["train", "--set", "regularizers.r1.g"], ["regularizers.r1.gamma="]),
        (["train", "pictures", "--set", "dataset.path=my"], ["dataset.path=my pictures/"]),
        (["resume", "runs/0001", "--set", "generator.wid"], ["generator.width="]),
        (["data", "cifar10", "--set", "sp"], ["split="]),
        (["data", "my pictures", "--set", "dataset.siz"], ["dataset.size="]),
        (["data", "it's.npy", "--set", "on_error="], ["on_error=stop", "on_error=skip"]),
        (["no-such-command", "tra"], [""]),
        (["train", "no/such/folder/"], []),
    ],
    ids=" ".join,
)  # fmt: skip
def test_tab_completes(tab, words, expected):
    assert tab(*words) == expected


def test_tab_reaches_every_key_of_the_config(tab):
    keys = [row["key"] for row in json.loads(tab.gancore.works("show", "run", "--json").stdout)["fields"]]
    found = set()
    for place in {key[: key.rfind(".") + 1] for key in keys}:
        found |= {*tab("train", "--set", place)}
    assert [key for key in keys if not {f"{key}=", f"{key}."} & found] == []


@pytest.mark.parametrize(
    ("line", "replaced", "text"),
    [
        ("gancore train --set training.precision=b", "b", "bf16"),
        ("gancore train --set training.precision=", "", "auto"),
        ("gancore train --set=training.prec", "training.prec", "training.precision="),
        ("gancore train my\\ pic", "my\\ pic", "my\\ pictures/"),
        ("gancore train 'my", "my", "my pictures/"),
        ("gancore train i", "i", "it\\'s.npy"),
        ("gancore train", "train", "train"),
    ],
)
def test_bash_receives_what_replaces_the_end_of_the_line(tab, line, replaced, text):
    assert tab.lines(line, replaced, asks="bash")[0][1] == text


def test_names_of_plugins_complete_and_shadowed_ones_name_their_package(gancore, tmp_path):
    site = unpack(tmp_path / "site", "foo", LOSS.format(name="hinge"))
    environment = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    gancore.works("list", **environment, GANCORE_CACHE=str(tmp_path))
    tab = Tab(gancore, tmp_path)
    tab.environment |= environment
    assert tab("train", "--loss", "foo") == ["foo-gan:hinge"]
    del tab.environment["PYTHONPATH"]  # another set of packages: the names may be wrong
    assert tab("train", "--loss", "") == []


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[" * 100_000, b'{"format":1,"of":"x","keys":0}', None])
def test_damaged_cache_is_ignored_and_written_again(tab, tmp_path, damage):
    cache = tmp_path / "cache"
    shutil.copytree(tab.environment["GANCORE_CACHE"], cache)
    (file,) = cache.glob("completion/*.json")
    document = file.read_bytes()
    if damage is None:
        damage = json.dumps({**json.loads(document), "recipes": {"digits": 3}}).encode()
    file.write_bytes(damage)
    damaged = Tab(tab.gancore, cache)
    assert damaged("train", "--loss", "hi") == []
    assert damaged("train", "./it") == ["./it's.npy"]
    tab.gancore.works("recipes", GANCORE_CACHE=str(cache))
    assert file.read_bytes() == document
    assert list(file.parent.iterdir()) == [file]


def test_cache_that_cannot_be_written_fails_no_command(gancore, tmp_path):
    (tmp_path / "file").touch()
    done = gancore.works("recipes", GANCORE_CACHE="file")
    assert done.stderr == ""
    done = gancore.works("recipes", "-v", GANCORE_CACHE="file")
    assert "completion in a shell does not know the newest names" in done.stderr


def test_plugin_whose_summary_is_no_text_ends_no_command(gancore, tmp_path):
    method = "    @classmethod\n    def summary(cls):\n        return '\\ud800'\n\n    name = "
    source = LOSS.format(name="mine").replace("    name = ", method, 1)
    site = unpack(tmp_path / "site", "foo", source)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = gancore.works("recipes", "-v", GANCORE_CACHE="cache", PYTHONPATH=path)
    assert "completion in a shell does not know the newest names" in done.stderr
    assert "vanilla" in done.stdout


@pytest.mark.parametrize("rank", [0, 1])
def test_names_are_remembered_by_the_first_process_of_a_run(gancore, tmp_path, rank):
    of_launch = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    gancore.works("recipes", GANCORE_CACHE="cache", **of_launch)
    assert (tmp_path / "cache").exists() == (rank == 0)


def test_plugins_of_one_command_are_not_remembered(gancore, tmp_path):
    gancore.works("--no-plugins", "recipes", GANCORE_CACHE="cache")
    assert not (tmp_path / "cache").exists()


def test_tab_imports_neither_torch_nor_plugins(tab, folder):
    code = """
import sys
from gancore_cli.main import main
try:
    main(["train", "--set", "training.precision=b"])
finally:
    assert not {"torch", "numpy", "pydantic", "gancore_plugins"} & sys.modules.keys(), sys.modules.keys()
"""
    environment = {**os.environ, **tab.environment, "_GANCORE_COMPLETE": "zsh"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "word\ttraining.precision=bf16\t\n", "")


@pytest.mark.parametrize("request_", ["bash", "zsh", "nonsense", "bash_complete", "x_source"])
def test_malformed_request_is_answered_with_nothing(tab, request_):
    assert tab.lines(asks=request_) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_install_writes_once_and_uninstall_removes(gancore, tmp_path, shell):
    script = gancore.works("completion", "show", shell).stdout
    assert gancore(_GANCORE_COMPLETE=f"{shell}_source").stdout == script
    before = b"alias x=y\r\nlast \xff"
    startup = {"bash": tmp_path / ".bashrc", "zsh": tmp_path / ".zshrc"}.get(shell)
    if startup:
        (tmp_path / "dotfiles").write_bytes(before)
        startup.symlink_to("dotfiles")
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    home |= {"GANCORE_CACHE": str(tmp_path / "cache"), "ZDOTDIR": "", "BASH_COMPLETION_USER_DIR": ""}
    done = json.loads(gancore.works("completion", "install", shell, "--json", **home).stdout)
    path, *others = [Path(change["path"]) for change in done["changed"]]
    assert path.read_text() == script
    assert path.stat().st_mode & 0o777 == 0o644
    assert others == ([startup] if startup else [])
    assert Tab(gancore, tmp_path / "cache")("train", "--loss", "hi") == ["hinge"]
    assert path.is_relative_to(tmp_path / ("config/fish" if shell == "fish" else ".local/share"))
    if startup:
        assert startup.read_bytes() == before + f"\n{done['changed'][1]['line']}\n".encode()
    again = gancore.works("completion", "install", shell, **home)
    assert again.stdout.startswith(f"completion for {shell} is installed already: {path}\nnext:")
    path.write_text("\n".join(script.splitlines()[:3]))  # of an older version
    assert gancore.works("completion", "install", shell, **home).stdout.startswith(f"wrote: {path}\nnext:")
    gancore.works("completion", "uninstall", shell, **home)
    assert not path.exists()
    if startup:
        assert (tmp_path / "dotfiles").read_bytes() == before + b"\n"
        assert startup.is_symlink()
    assert (
        gancore.works("completion", "uninstall", shell, **home).stdout == f"completion for {shell} is not installed\n"
    )


def test_install_replaces_no_file_of_the_user(gancore, tmp_path):
    path = tmp_path / "fish" / "completions" / "gancore.fish"
    path.parent.mkdir(parents=True)
    path.write_text("complete -c gancore\n")
    error = gancore.fails(2, "completion", "install", "fish", XDG_CONFIG_HOME=str(tmp_path))
    assert f"{path} exists and was not written by gancore" in error
    gancore.works("completion", "uninstall", "fish", XDG_CONFIG_HOME=str(tmp_path))
    assert path.read_text() == "complete -c gancore\n"


def test_install_finds_the_shell_or_asks_for_it(gancore, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "BASH_COMPLETION_USER_DIR": ""}
    assert ".config/fish" in gancore.works("completion", "install", SHELL="/usr/bin/fish", **home).stdout
    assert "name one of bash, zsh, fish" in gancore.fails(2, "completion", "install", SHELL="/bin/csh", **home)


CASES = {
    "gancore tr": "train",
    "gancore train --set training.prec": "training.precision=",
    "gancore train --set training.precision=b": "training.precision=bf16",
    "gancore train --set=training.precision=b": "--set=training.precision=bf16",
    "gancore resume runs/0002": "runs/0002",
    "gancore train my": "my pictures/",
    "gancore train i": "it's.npy",
    "gancore sample x --out my": "my pictures/",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes_once_it_is_installed(tab, folder, tmp_path, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    program = tmp_path / "bin" / "gancore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gancore_cli "$@"\n')
    program.chmod(0o755)
    home_only = {"HOME": str(home), "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": "", "ZDOTDIR": ""}
    tab.gancore.works("completion", "install", shell, **home_only, GANCORE_CACHE=tab.environment["GANCORE_CACHE"])
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    words, output = completed(shell, home, CASES, **tab.environment, PATH=path)
    if shell == "zsh":  # removes a slash that it has inserted itself once a space follows
        words[-1] += "/"
    assert words == [*CASES.values()], output
    assert "Traceback" not in output
    assert "rror" not in output
