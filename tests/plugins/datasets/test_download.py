import hashlib
import signal
import subprocess
import sys
import time
from urllib.request import Request

import pytest

from gancore_plugins.datasets import download
from gancore_plugins.datasets.download import FAILURES, fetch
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import answering, serving

CONTENT = bytes(range(256)) * 64


def release(*mirrors, content=CONTENT):
    return Release(mirrors, {"data.gz": (hashlib.sha256(content).hexdigest(), len(content))})


def sends(body, status=200, length=None, then=None):
    """An answer with this body, which says that it has this length."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        if then:
            then()

    return answer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(b"<html>403 Forbidden</html>", 403), "403"),
        (sends(b"<html>403 Forbidden</html>"), "ended after 26"),
        (sends(b"<html>" + CONTENT), "goes on after them"),
        (sends(CONTENT[:-1] + b"x"), "its SHA-256 must be"),
        (sends(CONTENT[:100], length=len(CONTENT)), "ended after 100"),
        (sends(CONTENT[:100]), "ended after 100"),
        (sends(b""), "ended after 0"),
        (lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n"), "data.gz: "),
        (lambda handler: None, "data.gz: "),
    ],
)
def test_what_is_not_what_was_published_gets_no_name(tmp_path, monkeypatch, answer, words):
    (tmp_path / "good.gz").write_bytes(b"was here before")
    with answering(answer, monkeypatch) as here, pytest.raises(FAILURES, match=words) as caught:
        list(fetch(release(here), "data.gz", tmp_path))
    assert f"{here}data.gz" in str(caught.value)
    assert names(tmp_path) == ["good.gz"]


def test_no_more_is_read_than_there_should_be(tmp_path, monkeypatch):
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(2000):
                handler.wfile.write(CONTENT)
                sent.append(len(CONTENT))
        except OSError:
            pass

    with answering(endless, monkeypatch) as here, pytest.raises(OSError, match="goes on after them"):
        list(fetch(release(here), "data.gz", tmp_path))
    assert sum(sent) < 2000 * len(CONTENT)


def test_the_next_mirror_is_asked_and_the_share_rises_to_one(tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    (there / "data.gz").write_bytes(CONTENT)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".data.gz.part").write_bytes(b"what a killed process left")
    with serving(there, monkeypatch) as here:
        shares = list(fetch(release(f"{here}dead/", here), "data.gz", tmp_path / "here"))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert names(tmp_path / "here") == ["data.gz"]
    assert (tmp_path / "here" / "data.gz").read_bytes() == CONTENT


def test_a_server_that_drips_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", 0.3)

    def dripping(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with answering(dripping, monkeypatch) as here, pytest.raises(OSError, match=r"only .* bytes came|timed out"):
        list(fetch(release(here), "data.gz", tmp_path))
    assert names(tmp_path) == []


def test_no_redirect_leads_away_from_tls():
    handler = download._NoDowngrade()
    with pytest.raises(OSError, match="away from TLS"):
        handler.redirect_request(Request("https://here/x"), None, 302, "", {}, "http://there/x")
    for before, after in [("https", "https"), ("http", "http"), ("http", "https")]:
        request = Request(f"{before}://here/x")  # noqa: S310  # nothing is opened
        assert handler.redirect_request(request, None, 302, "", {}, f"{after}://there/x")


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(CONTENT)

    def redirects(handler):
        handler.send_response(302)
        handler.send_header("Location", (tmp_path / "secret").as_uri())
        handler.end_headers()

    with answering(redirects, monkeypatch) as here, pytest.raises(OSError, match="not allowed"):
        list(fetch(release(here), "data.gz", tmp_path))


PROGRAM = """
import importlib.util, sys, types
from pathlib import Path
package = types.ModuleType("gancore_plugins")  # without its first file, which imports torch
package.__path__ = importlib.util.find_spec("gancore_plugins").submodule_search_locations
sys.modules["gancore_plugins"] = package
from gancore.utils.files import alone
from gancore_plugins.datasets.download import fetch
from gancore_plugins.datasets.published import Release
mirror, folder, sha256, size = sys.argv[1:]
with alone(Path(folder, "data")):
    for share in fetch(Release((mirror,), {"data.gz": (sha256, int(size))}), "data.gz", Path(folder)):
        print(share, flush=True)
"""


def test_a_download_that_is_killed_leaves_nothing_under_the_name_and_the_next_one_completes(tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    (there / "data.gz").write_bytes(CONTENT)
    ((sha256, size),) = release().files.values()
    with serving(there, monkeypatch, pause=0.05) as at:
        command = [sys.executable, "-c", PROGRAM, at, here, sha256, str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
            while float(first.stdout.readline()) < 0.5:
                pass
            first.send_signal(signal.SIGKILL)
        assert not (here / "data.gz").exists()
        assert names(here) == [".data.gz.part", ".data.lock"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert names(here) == ["data.gz"]
    assert (here / "data.gz").read_bytes() == CONTENT


def test_every_published_file_has_a_sha256_and_a_size_and_an_address():
    for published in RELEASES.values():
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in published.mirrors)
        for sha256, size in published.files.values():
            assert len(bytes.fromhex(sha256)) == 32
            assert 4000 < size < 2 * 10**8
