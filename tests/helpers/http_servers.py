"""HTTP servers on this machine that replace the network."""

import hashlib
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from gancore_plugins.datasets.published import Release


class _Folder(SimpleHTTPRequestHandler):
    def __init__(self, *args, requested, pause, **kwargs):
        self.requested, self.pause = requested, pause
        super().__init__(*args, **kwargs)

    def do_GET(self):
        self.requested.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile):
        while chunk := source.read(1024):
            outputfile.write(chunk)
            time.sleep(self.pause)

    def log_message(self, *args):
        pass


@contextmanager
def _running(handler, monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def serving(folder, monkeypatch, requested=None, pause=0.0):
    """Yield the URL of the folder, with a trailing slash.

    Requested paths are appended to `requested`; `pause` is the time per kilobyte in seconds.
    """
    with _running(
        partial(_Folder, directory=folder, requested=[] if requested is None else requested, pause=pause), monkeypatch
    ) as url:
        yield url


@contextmanager
def answering(answer, monkeypatch):
    """Yield the URL, with a trailing slash, of a server that answers each GET by `answer(handler)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *args):
            pass

    with _running(Handler, monkeypatch) as url:
        yield url


def in_ranges(content, asked, most=None):
    """Return an answer for `answering`: the range of the content that is asked for, or its first `most` bytes.

    The start of each range, 0 without one, is appended to `asked`. The connection is closed after `most` bytes.
    """

    def answer(handler):
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        asked.append(start)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:][:most])

    return answer


def release_of(folder, *mirrors):
    """Return the files of a folder as a release."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
    return Release(mirrors, files)
