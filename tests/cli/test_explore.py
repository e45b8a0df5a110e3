import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from gancore_cli.main import main

FORKED = True


@contextmanager
def exploring(folder, *arguments, browser=""):
    """Start the command, and yield it and the address that it prints."""
    command = [sys.executable, "-m", "gancore_cli", "explore", *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "error", "BROWSER": browser}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_explore_serves_the_page_until_ctrl_c_and_opens_it(finished, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\nexec >{tmp_path}/part\necho $1\nstat -c %a ${{1#file://}}\ncat ${{1#file://}}\n"
                       f"mv {tmp_path}/part {tmp_path}/opened\n")  # fmt: skip
    browser.chmod(0o700)
    before = set(finished.folder.rglob("*"))
    with exploring(finished.folder, "runs/0001", browser=f"{browser} %s") as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        while not (tmp_path / "opened").exists():
            assert process.poll() is None
            time.sleep(0.01)
        argument, mode, content = (tmp_path / "opened").read_text().splitlines()
        assert argument.startswith("file:///")  # other users see it, and must not see the token
        assert mode == "600"
        assert f"url={address}" in content
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  # our own
            assert b"<title>Explore</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert errors.endswith("the explorer has ended\n")
    assert set(finished.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("run", "code", "message"),
    [
        ("nowhere", 4, "explore takes the folder of a run; nowhere does not exist"),
        (".", 4, "there is no checkpoint in ."),
        ("runs/0001/config.toml", 4, "explore takes the folder of a run; runs/0001/config.toml is a file"),
        ("runs/0001/checkpoints", 4, "runs/0001/checkpoints is no run: it has no folder checkpoints"),
    ],
)
def test_explore_of_no_run_is_an_error(finished, run, code, message):
    assert finished.fails(code, "explore", run, "--no-open") == f"error: {message}"


def test_explore_refuses_samples_that_make_no_picture(gancore):
    (gancore.folder / "table.csv").write_text("a,b,c\n" + "1,2,3\n4,5,7\n" * 20)
    gancore.works("train", "table.csv", "--steps", 2, "--batch-size", 4, "--out", "run")
    message = "error: samples of shape (3,) make no picture, so there is nothing to show"
    assert gancore.fails(2, "explore", "run", "--no-open") == message


def test_explore_refuses_a_port_in_use(finished):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"error: port {port} cannot be used: Address already in use"
        assert finished.fails(2, "explore", "runs/0001", "--no-open", "--port", port) == message


def test_explore_with_a_broken_package_says_so(finished, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(finished.folder)
    (tmp_path / "starlette.py").write_text("raise ImportError('its library is missing', name='starlette.x')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith(("starlette", "gancore.explore.server"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as end:
        main(["explore", "runs/0001", "--no-open"])
    assert end.value.code == 2
    problem, _, hint = capsys.readouterr().err.splitlines()
    assert problem.endswith("and starlette cannot be imported: ImportError: its library is missing")
    assert hint == "next: pip install 'gancore[explore]'"


def test_explore_without_its_packages_names_the_command_that_installs_them(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished.folder)
    monkeypatch.setitem(sys.modules, "starlette", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith(("starlette.", "gancore.explore.server"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as end:
        main(["explore", "runs/0001", "--no-open"])
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: explore needs starlette and uvicorn, and starlette is not installed",
        "kept: nothing was changed",
        "next: pip install 'gancore[explore]'",
    ]
