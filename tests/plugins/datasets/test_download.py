import hashlib
import signal
import subprocess
import sys
import time
from urllib.request import Request

import pytest

from gancore.errors import StorageError
from gancore_plugins.datasets import download
from gancore_plugins.datasets.download import DOWNLOAD_ERRORS, fetch, size_of_part
from gancore_plugins.datasets.published import RELEASES, Release
from helpers.http_servers import answering, in_ranges, serving

CONTENT = bytes(range(256)) * 64


def release(*mirrors, content=CONTENT):
    return Release(mirrors, {"data.gz": (hashlib.sha256(content).hexdigest(), len(content))})


def sends(body, status=200, length=None, then=None):
    """Answer with this body, and this length in the header."""

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
        (sends(b"<html>403 Forbidden</html>"), "expected 16,384 bytes, received 26"),
        (sends(b"<html>" + CONTENT), "expected 16,384 bytes, received more"),
        (sends(CONTENT[:-1] + b"x"), "expected SHA-256"),
        (sends(CONTENT[:100]), "expected 16,384 bytes, received 100"),
        (sends(b""), "expected 16,384 bytes, received 0"),
        (lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n"), "data.gz: "),
        (lambda handler: None, "data.gz: "),
    ],
)
def test_download_with_other_bytes_leaves_no_file(tmp_path, monkeypatch, answer, words):
    (tmp_path / "good.gz").write_bytes(b"was here before")
    with answering(answer, monkeypatch) as address, pytest.raises(DOWNLOAD_ERRORS, match=words) as caught:
        list(fetch(release(address), "data.gz", tmp_path))
    assert f"{address}data.gz" in str(caught.value)
    assert names(tmp_path) == ["good.gz"]


def test_download_continues_after_what_a_lost_connection_has_left(tmp_path, monkeypatch):
    asked = []
    with answering(in_ranges(CONTENT, asked, most=5000), monkeypatch) as address:
        for left in (5000, 10_000, 15_000):
            with pytest.raises(OSError, match=f"expected 16,384 bytes, received {left:,}"):
                list(fetch(release(address), "data.gz", tmp_path))
            assert names(tmp_path) == [".data.gz.part"]
            assert size_of_part(tmp_path / "data.gz") == left
        shares = list(fetch(release(address), "data.gz", tmp_path))
    assert asked == [0, 5000, 10_000, 15_000]
    assert min(shares) > 0.9
    assert (tmp_path / "data.gz").read_bytes() == CONTENT
    assert names(tmp_path) == ["data.gz"]


@pytest.mark.parametrize("left", [b"<html>of another file", CONTENT, CONTENT + b"x", b""])
def test_download_begins_again_when_what_is_left_does_not_fit(tmp_path, monkeypatch, left):
    (tmp_path / ".data.gz.part").write_bytes(left)
    asked = []
    with answering(in_ranges(CONTENT, asked), monkeypatch) as address:
        list(fetch(release(address), "data.gz", tmp_path))
    assert asked[-1] == 0
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 416, 500])
def test_download_begins_again_when_the_server_cannot_send_the_rest(tmp_path, monkeypatch, status):
    (tmp_path / ".data.gz.part").write_bytes(CONTENT[:100])
    whole = in_ranges(CONTENT, [])

    def answer(handler):
        if "Range" in handler.headers:
            handler.send_error(status)
        else:
            whole(handler)

    with answering(answer, monkeypatch) as address:
        list(fetch(release(address), "data.gz", tmp_path))
    assert (tmp_path / "data.gz").read_bytes() == CONTENT


def test_download_to_a_full_disk_says_so_and_leaves_no_part(tmp_path, monkeypatch):
    (tmp_path / ".data.gz.part").symlink_to("/dev/full")
    with (
        answering(in_ranges(CONTENT, []), monkeypatch) as address,
        pytest.raises(StorageError, match="No space left on device"),
    ):
        list(fetch(release(address), "data.gz", tmp_path))
    assert names(tmp_path) == []


def test_download_stops_reading_after_the_expected_size(tmp_path, monkeypatch):
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

    with (
        answering(endless, monkeypatch) as address,
        pytest.raises(OSError, match="received more"),
    ):
        list(fetch(release(address), "data.gz", tmp_path))
    assert sum(sent) < 2000 * len(CONTENT)


def test_download_tries_the_next_mirror_and_reports_progress(tmp_path, monkeypatch):
    remote, local = tmp_path / "remote", tmp_path / "local"
    remote.mkdir()
    (remote / "data.gz").write_bytes(CONTENT)
    local.mkdir()
    (local / ".data.gz.part").write_bytes(b"left by a killed process")
    with serving(remote, monkeypatch) as address:
        shares = list(fetch(release(f"{address}missing/", address), "data.gz", local))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert names(local) == ["data.gz"]
    assert (local / "data.gz").read_bytes() == CONTENT


def test_download_from_a_slow_server_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.3)

    def slow(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with answering(slow, monkeypatch) as address, pytest.raises(OSError, match=r"only .* bytes arrived|timed out"):
        list(fetch(release(address), "data.gz", tmp_path))
    assert names(tmp_path) == [".data.gz.part"]


def test_download_refuses_redirects_from_https_to_http():
    handler = download._NoDowngrade()
    with pytest.raises(OSError, match="redirects from https to http:"):
        handler.redirect_request(Request("https://here/x"), None, 302, "", {}, "http://there/x")
    for before, after in [("https", "https"), ("http", "http"), ("http", "https")]:
        request = Request(f"{before}://here/x")  # noqa: S310  # nothing is opened
        assert handler.redirect_request(request, None, 302, "", {}, f"{after}://there/x")


def test_download_does_not_follow_a_redirect_to_a_local_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(CONTENT)

    def redirects(handler):
        handler.send_response(302)
        handler.send_header("Location", (tmp_path / "secret").as_uri())
        handler.end_headers()

    with answering(redirects, monkeypatch) as address, pytest.raises(OSError, match="not allowed"):
        list(fetch(release(address), "data.gz", tmp_path))


PROGRAM = """
import importlib.util, sys, types
from pathlib import Path
package = types.ModuleType("gancore_plugins")  # without its __init__.py, which imports torch
package.__path__ = importlib.util.find_spec("gancore_plugins").submodule_search_locations
sys.modules["gancore_plugins"] = package
from gancore.utils.lock import exclusive
from gancore_plugins.datasets.download import fetch
from gancore_plugins.datasets.published import Release
mirror, folder, sha256, size = sys.argv[1:]
with exclusive(Path(folder, "data")):
    for share in fetch(Release((mirror,), {"data.gz": (sha256, int(size))}), "data.gz", Path(folder)):
        print(share, flush=True)
"""


def test_download_that_is_killed_leaves_no_file_and_the_next_one_completes(tmp_path, monkeypatch):
    remote, local = tmp_path / "remote", tmp_path / "local"
    remote.mkdir()
    (remote / "data.gz").write_bytes(CONTENT)
    ((sha256, size),) = release().files.values()
    with serving(remote, monkeypatch, pause=0.05) as address:
        command = [sys.executable, "-c", PROGRAM, address, local, sha256, str(size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
            while float(first.stdout.readline()) < 0.5:
                pass
            first.send_signal(signal.SIGKILL)
        assert not (local / "data.gz").exists()
        assert names(local) == [".data.gz.part", ".data.lock"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert names(local) == ["data.gz"]
    assert (local / "data.gz").read_bytes() == CONTENT


def test_published_files_have_sha256_size_and_address():
    for published in RELEASES.values():
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in published.mirrors)
        for sha256, size in published.files.values():
            assert len(bytes.fromhex(sha256)) == 32
            assert 4000 < size < 2 * 10**8
