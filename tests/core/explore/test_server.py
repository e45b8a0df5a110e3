"""The server: whom it answers, what it answers, and what it refuses."""

import http.client
import io
import json
import os
import shutil
import socket
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image
from starlette.responses import Response

from gancore.catalog.catalog import Catalog
from gancore.errors import ConfigError
from gancore.explore.guard import Guard
from gancore.explore.model import Explorer
from gancore.explore.repeat import Invocation
from gancore.explore.server import Server, hosts_of


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture)


@pytest.fixture
def point(ask):
    return json.loads(ask("run")[2])["point"]


def test_server_listens_on_this_machine_only(served):
    assert served._socket.getsockname() == ("127.0.0.1", served.port)
    assert served._socket.proto == socket.IPPROTO_TCP  # otherwise each answer waits for 40 ms


@pytest.mark.parametrize("prefix", ["/", "/wrong/", "//", "/{token}", "/{token}x/"])
@pytest.mark.parametrize("path", ["", "run", "explore.js", "favorites"])
def test_server_refuses_addresses_without_the_token(ask, served, prefix, path):
    token = served.address.split("/")[3]
    status, _, content = ask(path, prefix=prefix.format(token=token[:-1] if path else token))
    assert status == 403
    assert b"token" in content


def test_server_that_ends_late_closes_its_socket_itself(explored, monkeypatch):
    monkeypatch.setattr("gancore.explore.server._SECONDS_TO_END", 0)
    with Server(explored[1]) as server:
        pass
    server._thread.join(30)  # an exception in it fails the test
    assert not server._thread.is_alive()
    assert server._socket.fileno() == -1


def test_server_answers_nothing_twice_at_the_same_address(served, explored):
    with Server(explored[1]) as other:
        assert other.address.split("/")[3] != served.address.split("/")[3]
        assert other.port != served.port


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", None]
)
def test_server_refuses_other_hosts(ask, served, host):
    assert ask("run", Host=host and host.format(port=served.port))[0] in (400, 421)


def test_server_answers_to_localhost(ask, served):
    here = f"localhost:{served.port}"
    assert ask("run", Host=here)[0] == 200
    assert ask("repeat", {}, Host=here, Origin=f"http://{here}")[0] == 200


@pytest.mark.parametrize(
    ("port", "host", "status"),
    [
        (80, "127.0.0.1", 200),
        (80, "localhost", 200),
        (80, "127.0.0.1:80", 200),
        (80, "evil.example", 421),
        (8000, "127.0.0.1", 421),
        (8000, "127.0.0.1:8000", 200),
    ],
)
def test_server_answers_to_a_host_without_its_port_only_on_port_80(port, host, status):
    """Only root may listen there, so the server is asked without a socket."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/token/", "headers": headers}
    # Nothing waits, so no loop is needed; a browser of other tests may have one in this thread.
    with pytest.raises(StopIteration):
        Guard(Response(), "token", hosts_of(port))(scope, None, send).send(None)
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1"]
)
def test_server_refuses_changes_that_another_page_asks_for(ask, served, origin, point):
    origin = origin and origin.format(port=served.port)
    assert ask("favorites", {"point": point}, Origin=origin)[0] == 403
    assert ask("favorites/x", method="DELETE", Origin=origin)[0] == 403
    assert json.loads(ask("favorites")[2]) == []


def test_server_sends_headers_that_keep_the_page_to_itself(ask):
    for path in ("", "explore.js", "run", "missing"):
        headers = {name.lower(): value for name, value in ask(path)[1].items()}
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["../config.toml", "favorites/..%2f..%2fconfig.toml", "conditions/..%2f1", "%2e%2e/"])
def test_server_reads_no_other_files(ask, path):
    status, _, content = ask(path)
    assert status in (403, 404) or "problem" in json.loads(content)
    assert b"batch_size" not in content


def test_server_answers_a_request_without_a_path(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(f"GET ? HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        assert connection.recv(99).split()[1] in (b"403", b"400")


def test_client_that_leaves_within_its_request_causes_no_error(ask, served, point, caplog):
    from urllib.parse import quote

    token = served.address.split("/")[3]
    lines = [f"POST /{token}/find?point={quote(json.dumps(point))} HTTP/1.1", f"Host: 127.0.0.1:{served.port}"]
    lines += [f"Origin: http://127.0.0.1:{served.port}", "Content-Length: 1000", "", "the beginning"]
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall("\r\n".join(lines).encode())
    for _ in range(3):
        assert ask("run")[0] == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["find", "conditions"])
@pytest.mark.parametrize("number", ["9" * 5000, "x", "\u00b2"])
def test_number_of_no_search_or_condition_is_an_error(ask, path, number):
    from urllib.parse import quote

    for method in ("GET", "DELETE") if path == "find" else ("GET",):
        status, _, content = ask(f"{path}/{quote(number)}", method=method)
        assert status == 200
        assert json.loads(content)["problem"] == "the address has no number"


@pytest.mark.parametrize("title", [b"null", b"1", b"[]", b'"\\ud800"'])
def test_title_of_a_favorite_must_be_text(ask, point, title):
    status, _, content = ask("favorites", b'{"point": %b, "title": %b}' % (json.dumps(point).encode(), title))
    assert status == 200
    assert json.loads(content)["problem"]
    assert json.loads(ask("favorites")[2]) == []


def test_checkpoints_of_a_run_that_was_moved_are_an_error(ask, explored):
    folder, _ = explored
    moved = folder.rename(folder.parent / "moved")
    try:
        assert json.loads(ask("checkpoints")[2])["problem"] == f"{folder} was moved or removed"
    finally:
        moved.rename(folder)


def test_server_explores_a_run_whose_path_is_not_utf8(trained_run, tmp_path):
    folder = tmp_path / os.fsdecode(b"run \xff")
    shutil.copytree(trained_run, folder)
    damaged = folder / "explore" / "favorite-20260101-000000-abcdef.png"
    damaged.parent.mkdir()
    damaged.write_text("no picture")
    point = {"point": {"checkpoint": "step-00000060.safetensors", "base": 1, "other": 2, "amount": 0.5}}
    with Server(Explorer(Invocation(folder, "cpu"), Catalog.installed(), tmp_path)) as server:

        def ask(method, path, body=None):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            origin = {"Origin": f"http://127.0.0.1:{server.port}"}
            connection.request(method, f"/{server.address.split('/')[3]}/{path}", body and json.dumps(body), origin)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, content

        status, content = ask("GET", "run")
        assert (status, json.loads(content)["run"]) == (200, str(folder))
        status, content = ask("POST", "repeat", point)
        assert status == 200
        (file,) = json.loads(content)["files"]
        assert file.startswith(f"{folder}/explore/latent-")
        assert ask("GET", f"favorites/{damaged.stem.removeprefix('favorite-')}")[0] == 404
        folder.rename(tmp_path / "moved")
        status, content = ask("GET", "checkpoints")
        assert (status, json.loads(content)["problem"]) == (200, f"{folder} was moved or removed")


def test_server_refuses_large_bodies(ask):
    assert ask("picture", b" " * 70_000)[0] == 413


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[" * 60_000,
        b"[]",
        b"{}",
        b'{"point": {"checkpoint": "step-00000040.safetensors", "\\ud800": 1}}',
        {"point": {"checkpoint": "../../step-00000000.safetensors"}},
        {"point": {"checkpoint": "step-00000040.safetensors", "base": -1}},
        {"point": {"checkpoint": "step-00000040.safetensors", "base": "../x"}},
        {"point": {"checkpoint": "step-00000040.safetensors", "truncation": 2}},
        {"point": {"checkpoint": "step-00000040.safetensors", "condition": 10}},
        {"point": {"checkpoint": "step-00000040.safetensors", "moves": {"77": 1}}},
        {"point": {"checkpoint": "step-00000041.safetensors"}},
        {"point": {"checkpoint": "step-00000040.safetensors", "ema": 7}},
        {"point": {"checkpoint": "step-00000040.safetensors", "base": "0123456789abcdef"}},
    ],
)
def test_server_says_what_is_wrong_with_a_point(ask, document):
    for path in ("picture", "repeat", "files", "keep", "favorites", "grid"):
        if path == "keep" and {"moves", "condition"} & set(document["point"] if isinstance(document, dict) else ()):
            continue  # it leaves them out
        status, _, content = ask(path, document)
        assert status == 200
        assert json.loads(content)["problem"], path


def test_picture_changes_with_each_part_of_the_point(ask, point):
    changes = [{}, {"base": 1}, {"truncation": 0.3}, {"condition": 3}, {"raw": True}, {"ema": 0.5}, {"moves": {"1": 2}}]
    changes += [{"other": 4, "amount": 0.5}, {"checkpoint": "step-00000020.safetensors"}]
    pictures = [ask("picture", {"point": point | change})[2] for change in changes]
    assert len(set(pictures)) == len(changes)
    assert pixels(pictures[0]).shape == (64, 64)
    assert ask("picture", {"point": point})[2] == pictures[0]


def test_grid_has_the_pictures_of_its_latents(ask, point):
    import base64

    status, _, content = ask("grid", {"point": point, "bases": [0, 5]})
    assert status == 200
    assert [base64.b64decode(tile) for tile in json.loads(content)] == [
        ask("picture", {"point": point | {"base": seed}})[2] for seed in (0, 5)
    ]
    assert "problem" in json.loads(ask("grid", {"point": point, "bases": list(range(100))})[2])


def test_latent_stays_in_memory_while_another_point_is_adjusted(ask, point, monkeypatch):
    monkeypatch.setattr("gancore.explore.point._MOST_KEPT", 2)
    used, other = (
        json.loads(ask("keep", {"point": point | {"other": seed, "amount": 0.5}})[2])["latent"] for seed in (4, 5)
    )
    for truncation in (0.9, 0.8, 0.7):
        assert json.loads(ask("repeat", {"point": point | {"base": used, "truncation": truncation}})[2])["files"]
    for latent in (used, other):
        assert ask("picture", {"point": point | {"base": latent}})[2].startswith(b"\x89PNG")


def test_checkpoint_that_disappears_stays_loaded(ask, point, explored):
    folder, shown = explored[0] / "checkpoints", point | {"checkpoint": "step-00000020.safetensors"}
    before = ask("picture", {"point": shown})[2]
    content = (folder / shown["checkpoint"]).read_bytes()
    (folder / shown["checkpoint"]).unlink()
    try:
        assert ask("picture", {"point": shown})[2] == before
        assert [entry["label"] for entry in json.loads(ask("checkpoints")[2])] == ["step 60", "step 40"]
        text = json.loads(ask("repeat", {"point": shown})[2])
        assert "was removed" in text["gone"]
        assert (text["command"], text["python"]) == ("", "")
        assert "cannot read checkpoint" in json.loads(ask("picture", {"point": shown | {"raw": True}})[2])["problem"]
        for other in ({}, {"raw": True}, {"checkpoint": "step-00000040.safetensors"}):
            assert ask("picture", {"point": point | other})[2].startswith(b"\x89PNG")
        assert ask("picture", {"point": shown})[2] == before
    finally:
        (folder / shown["checkpoint"]).write_bytes(content)


def test_best_checkpoint_that_is_replaced_is_read_again(ask, point, explored):
    folder = explored[0] / "checkpoints"
    best, pictures = point | {"checkpoint": "best.safetensors"}, []
    for name in ("step-00000020.safetensors", "step-00000040.safetensors"):
        shutil.copy(folder / name, folder / "new")
        (folder / "new").replace(folder / "best.safetensors")
        pictures.append(ask("picture", {"point": best})[2])
        assert ask("picture", {"point": point | {"checkpoint": name}})[2] == pictures[-1]
    assert pictures[0] != pictures[1]
    (folder / "best.safetensors").unlink()


def test_newest_request_for_a_picture_replaces_the_ones_before(ask, served, point, busy):
    with ThreadPoolExecutor() as pool, busy(served):
        answers = [pool.submit(ask, "picture?page=a", {"point": point | {"base": seed}}) for seed in (0, 1)]
        waiting = wait(answers, return_when=FIRST_COMPLETED).not_done
        answers.append(pool.submit(ask, "picture?page=a", {"point": point | {"base": 2}}))
        wait(waiting)
        other = pool.submit(ask, "picture?page=b", {"point": point})
    assert sorted(answer.result()[0] for answer in answers[:2]) == [204, 204]
    assert answers[2].result()[0] == 200
    assert other.result()[0] == 200


def test_ends_of_the_slider_are_picked_at_the_same_time(ask, served, point, busy):
    body = {"point": point | {"other": 1, "amount": 0.5}, "bases": [3]}
    with ThreadPoolExecutor() as pool, busy(served):
        answers = [
            pool.submit(ask, f"{path}?page=a", body | {"end": end}) for path in ("keep", "grid") for end in ("a", "b")
        ]
        wait(answers, timeout=0.2)  # until the server has received them; none can be answered
    assert [answer.result()[0] for answer in answers] == [200] * 4


def test_server_answers_while_the_generator_is_busy(ask, served, point, busy):
    with busy(served):
        assert ask("explore.css")[0] == 200
    assert ask("picture", {"point": point})[0] == 200


def test_port_in_use_is_an_error(served, explored):
    with pytest.raises(ConfigError, match=f"port {served.port} cannot be used: Address already in use"):
        Server(explored[1], served.port)


def test_server_says_that_memory_ran_out(trained_run):
    class Large(Explorer):
        def picture(self, point):
            raise MemoryError

    with Server(Large(Invocation(trained_run, "cpu"), Catalog.installed(), trained_run)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        point = {"point": {"checkpoint": "step-00000060.safetensors"}}
        origin = {"Origin": f"http://127.0.0.1:{server.port}"}
        connection.request("POST", f"/{server.address.split('/')[3]}/picture", json.dumps(point), origin)
        assert "memory" in json.loads(connection.getresponse().read())["problem"]
        connection.close()


def test_server_ends_at_once_while_a_request_waits(explored):
    free = threading.Event()

    def slow():
        free.wait(60)
        yield

    with Server(explored[1]) as server:
        server._worker.submit("slow", 0, slow())
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", f"/{server.address.split('/')[3]}/run")
    answer = connection.getresponse()
    free.set()
    assert answer.status in (204, 503)  # the request comes before or after the end
    connection.close()
    assert not server._thread.is_alive()


def search(ask, point, png):
    from urllib.parse import quote

    return json.loads(ask(f"find?point={quote(json.dumps(point))}", png)[2])


def test_search_can_be_canceled_and_replaced(ask, point):
    png = ask("picture", {"point": point})[2]
    first = search(ask, point, png)["search"]
    assert ask(f"find/{first}", method="DELETE")[0] == 200
    assert "replaced" in json.loads(ask(f"find/{first}")[2])["problem"]
    second, third = (search(ask, point, png)["search"] for _ in range(2))
    assert "replaced" in json.loads(ask(f"find/{second}")[2])["problem"]
    state = json.loads(ask(f"find/{third}")[2])
    assert state["failed"] == ""
    assert ask("picture", {"point": point})[2] == png  # the page does not wait for the search
    assert ask(f"find/{third}", method="DELETE")[0] == 200


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + b"0" * 99, b"<svg/>", b"PK\x03\x04"])
def test_search_for_no_picture_is_an_error(ask, point, content):
    answer = search(ask, point, content)
    assert answer["problem"].startswith("this is no picture that can be read")
    assert "gancore-" not in answer["problem"]  # the temporary folder


@pytest.mark.parametrize("kind", ["archive", "pixels"])
def test_search_refuses_files_that_decode_to_far_more_than_their_size(ask, point, kind):
    content = io.BytesIO()
    if kind == "archive":
        with ZipFile(content, "w", ZIP_DEFLATED) as archive:
            archive.writestr("a.png", ask("picture", {"point": point})[2])
    else:
        Image.new("1", (6000, 6000)).save(content, "PNG", compress_level=1)
    reason = "it is an archive" if kind == "archive" else "36.0 MP; the most is 33,554,432 pixels"
    assert reason in search(ask, point, content.getvalue())["problem"]


def test_search_refuses_files_that_are_too_large(ask, point):
    from urllib.parse import quote

    assert ask(f"find?point={quote(json.dumps(point))}", b"\0" * ((16 << 20) + 1))[0] == 413
