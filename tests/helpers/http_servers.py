"""Servers on this machine, in place of the network."""

import hashlib
import time
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from gancore_plugins.datasets.published import Release


class _Folder(SimpleHTTPRequestHandler):
    def __init__(self, *args, asked, pause, **kwargs):
        self.asked, self.pause = asked, pause
        super().__init__(*args, **kwargs)

    def do_GET(self):
        self.asked.append(self.path)
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
def serving(folder, monkeypatch, asked=None, pause=0.0):
    """The address of the folder, with a slash at its end, while the block runs.

    Paths that are asked for are added to `asked`; `pause` is the time that a kilobyte takes, in seconds.
    """
    with _running(
        partial(_Folder, directory=folder, asked=[] if asked is None else asked, pause=pause), monkeypatch
    ) as at:
        yield at


@contextmanager
def answering(answer, monkeypatch):
    """The address of a server that answers a GET by `answer(handler)`, with a slash at its end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *args):
            pass

    with _running(Handler, monkeypatch) as at:
        yield at


def release_of(folder, *mirrors):
    """The files of a folder as a release."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    files = {name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in contents.items()}
    return Release(mirrors, files)
