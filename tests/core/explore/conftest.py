import http.client
import json
import shutil
from contextlib import contextmanager

import pytest

import gancore
from gancore.catalog.catalog import Catalog
from gancore.explore.model import Explorer
from gancore.explore.repeat import Invocation
from gancore.explore.server import Server
from helpers.blocked_worker import blocked


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """Return the folder of a short run on the digits, with classes, two averages and three checkpoints."""
    folder = tmp_path_factory.mktemp("explored") / "run"
    networks = {"name": "mlp", "widths": [32]}
    settings = {
        "training.conditional": True,
        "checkpoint.every_steps": 20,
        "checkpoint.keep": 3,
        "ema.more_kimg": [0.5],
    }
    run = gancore.Run(
        "digits", generator=networks, discriminator=networks, set=settings, steps=60, out=folder, device="cpu"
    )
    for _ in run.train():
        pass
    return folder


@pytest.fixture(scope="module")
def explored(trained_run, tmp_path_factory):
    """Return the folder of a copy of the run, and its explorer."""
    folder = tmp_path_factory.mktemp("explored") / "a run"
    shutil.copytree(trained_run, folder)
    return folder, Explorer(Invocation(folder, device="cpu"), Catalog.installed(), folder.parent)


@pytest.fixture(scope="module")
def served(explored):
    """Return the server of the run."""
    with Server(explored[1]) as server:
        yield server


@pytest.fixture
def busy():
    """Return a function of a server; in its block the server computes something else."""

    @contextmanager
    def block(server):
        free = blocked(server._worker)
        try:
            yield
        finally:
            free.set()

    return block


@pytest.fixture
def ask(served):
    """Return a function that sends a request as the page does, and returns status, headers and content."""
    token = served.address.split("/")[3]

    def send(path, body=None, method=None, prefix=f"/{token}/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        method = method or ("GET" if body is None else "POST")
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"Host": f"127.0.0.1:{served.port}", "Origin": f"http://127.0.0.1:{served.port}"} | headers
        connection.putrequest(method, prefix + path, skip_host=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(content or b"")))
        connection.endheaders(content)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), data

    return send
