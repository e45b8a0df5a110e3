"""The web server of the explorer: for one user, on this machine.

It listens on 127.0.0.1 only. Every address begins with a random token, the Host header must name this machine (a page
elsewhere could otherwise reach the server by a name that it lets point here), and what changes something must come from
the page itself.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gancore.errors import ConfigError, DataError, GancoreError, exhausted
from gancore.explore.guard import Guard
from gancore.explore.model import Explorer, Search
from gancore.explore.point import Base, Point, read_point
from gancore.explore.worker import GRID, PICTURE, SEARCH, BusyError, Worker, at_once

T = TypeVar("T")

HOST = "127.0.0.1"
_DEFAULT_PORT = 80
_MOST_JSON, _MOST_PICTURE = 64 << 10, 16 << 20
"""Bytes of the largest requests."""
_MOST_DIGITS = 18
_MOST_TILES = 32
"""Pictures in one request of the grid."""
_SECONDS_TO_END = 1
_TYPES = {"explore.css": "text/css", "explore.js": "text/javascript", "page.html": "text/html"}
Endpoint = Callable[[Request], Awaitable[Response]]


class Server:
    """The explorer of a run on a port of this machine, 0 for a free one. Serves in the block, in threads of its own.

    `address` is that of the page. Raises ConfigError when the port cannot be used.
    """

    def __init__(self, explorer: Explorer, port: int = 0) -> None:
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        token = secrets.token_urlsafe(24)
        self.address = f"http://{HOST}:{self.port}/{token}/"
        self._worker = Worker()
        app = Guard(application(explorer, self._worker), token, hosts_of(self.port))
        config = uvicorn.Config(
            app,
            log_config=None,  # its log of accesses would hold the token
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            ws="none",
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> Server:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End at once: requests in progress are dropped."""
        self._worker.end(_SECONDS_TO_END)
        self._server.should_exit = True
        self._thread.join(2 * _SECONDS_TO_END)
        if not self._thread.is_alive():  # else the server, which closes it, would fail on a busy machine
            self._socket.close()

    def wait(self) -> None:
        """Wait until the server ends, or a signal raises its exception."""
        while self._thread.is_alive():
            self._thread.join(0.2)


def hosts_of(port: int) -> set[str]:
    """Return the hosts under which browsers ask for a port of this machine. They leave out 80, the default of HTTP."""
    names = {HOST, "localhost"}
    return {f"{name}:{port}" for name in names} | (names if port == _DEFAULT_PORT else set())


def _listen(port: int) -> socket.socket:
    # Only where the protocol is named, asyncio sends small answers at once; otherwise each waits for 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last server linger
        listening.bind((HOST, port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        reason = error.strerror or str(error)
        raise ConfigError(f"port {port} cannot be used: {reason}", "choose another --port, or leave it out") from error
    return listening


def application(explorer: Explorer, worker: Worker) -> Starlette:
    """Return the application without its guard."""
    pages = _Pages(explorer, worker)
    return Starlette(
        routes=[
            Route("/", _file("page.html")),
            Route("/explore.css", _file("explore.css")),
            Route("/explore.js", _file("explore.js")),
            Route("/run", _errors_as_json(pages.run)),
            Route("/checkpoints", _errors_as_json(pages.checkpoints)),
            Route("/picture", _errors_as_json(pages.picture), methods=["POST"]),
            Route("/grid", _errors_as_json(pages.grid), methods=["POST"]),
            Route("/directions", _errors_as_json(pages.directions), methods=["POST"]),
            Route("/keep", _errors_as_json(pages.keep), methods=["POST"]),
            Route("/repeat", _errors_as_json(pages.repeat), methods=["POST"]),
            Route("/files", _errors_as_json(pages.files), methods=["POST"]),
            Route("/find", _errors_as_json(pages.find), methods=["POST"]),
            Route("/find/{number}", _errors_as_json(pages.found)),
            Route("/find/{number}", _errors_as_json(pages.end_search), methods=["DELETE"]),
            Route("/conditions/{number}", _errors_as_json(pages.condition)),
            Route("/favorites", _errors_as_json(pages.favorites)),
            Route("/favorites", _errors_as_json(pages.save), methods=["POST"]),
            Route("/favorites/{name}", _errors_as_json(pages.favorite_picture)),
            Route("/favorites/{name}", _errors_as_json(pages.delete), methods=["DELETE"]),
        ]
    )


def _file(name: str) -> Endpoint:
    content = files("gancore.explore").joinpath("page", name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=_TYPES[name])

    return endpoint


class _JSONAnswer(JSONResponse):
    """JSON in ASCII. A path that is not UTF-8 has halves of surrogate pairs, which UTF-8 cannot hold."""

    def render(self, content: object) -> bytes:
        """Return the bytes to send."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def _errors_as_json(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint that answers an error of gancore as data, which the page shows as text."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (CancelledError, asyncio.CancelledError):
            return Response(status_code=204)  # a newer request has replaced this one
        except ClientDisconnect:
            return Response(status_code=400)  # which is not sent
        except _TooLargeError as error:
            return PlainTextResponse(str(error), 413)
        except BusyError as error:
            return PlainTextResponse(str(error), 503)
        except Exception as error:
            problem = error if isinstance(error, GancoreError) else exhausted(error)  # such as memory of the device
            if problem is None:
                raise
            return _JSONAnswer({"problem": problem.message, "hint": problem.hint})

    return answer


class _TooLargeError(Exception):
    """A request has a larger body than any that the page sends."""


async def _body(request: Request, most: int) -> bytes:
    """Return the body of a request. Raise _TooLargeError when it has more than `most` bytes."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise _TooLargeError(f"the request has more than {most:,} bytes")
    return bytes(content)


async def _json(request: Request) -> Mapping[str, object]:
    """Return the object in the body of a request. Raise DataError for anything else."""
    try:
        document = json.loads(await _body(request, _MOST_JSON))
        json.dumps(document, ensure_ascii=False).encode()  # raises ValueError for half of a surrogate pair
    except (ValueError, RecursionError) as error:
        raise DataError("the request is no JSON", "reload the page") from error
    if not isinstance(document, dict):
        raise DataError("the request is no object", "reload the page")
    return document


def _number_in(request: Request) -> int:
    """Return the number in the address of a request. Raise DataError for other text, and when it is too large."""
    text = str(request.path_params["number"])
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise DataError("the address has no number", "reload the page")
    return int(text)


def _point_in(document: Mapping[str, object]) -> Point:
    point = document.get("point")
    return read_point(point if isinstance(point, dict) else {})


def _end_in(document: Mapping[str, object]) -> str:
    """Return which end of the slider between two pictures a request is for, a or b; empty for neither."""
    end = document.get("end")
    return str(end) if end in ("a", "b") else ""


@dataclass(frozen=True)
class _Search:
    number: int
    point: Point
    search: Search
    future: Future[Point]


class _Pages:
    """The answers. Whatever loads, draws or reads the run is a job of the worker."""

    def __init__(self, explorer: Explorer, worker: Worker) -> None:
        self._explorer, self._worker = explorer, worker
        self._search: _Search | None = None
        """The newest one. There is one at a time for all pages of the server."""

    async def _done(self, request: Request, what: str, steps: Generator[None, None, T], priority: int = PICTURE) -> T:
        """Return the result of a job; a newer one for the same page and purpose replaces it."""
        page = request.query_params.get("page", "")[:32]
        return await asyncio.wrap_future(self._worker.submit(f"{what} {page}", priority, steps))

    async def run(self, request: Request) -> Response:
        return _JSONAnswer(await self._done(request, "run", at_once(self._explorer.describe)))

    async def checkpoints(self, request: Request) -> Response:
        return _JSONAnswer(await self._done(request, "checkpoints", at_once(self._explorer.checkpoints)))

    async def picture(self, request: Request) -> Response:
        point = _point_in(await _json(request))
        png = await self._done(request, "picture", at_once(lambda: self._explorer.picture(point)))
        return Response(png, media_type="image/png")

    async def grid(self, request: Request) -> Response:
        document = await _json(request)
        point, bases, end = _point_in(document), _bases_in(document), _end_in(document)
        name = f"picked {end}" if end else "grid"
        return _JSONAnswer(await self._done(request, name, self._explorer.pictures(point, bases), GRID))

    async def directions(self, request: Request) -> Response:
        point = _point_in(await _json(request))
        return _JSONAnswer(await self._done(request, "directions", at_once(lambda: self._explorer.directions(point))))

    async def keep(self, request: Request) -> Response:
        document = await _json(request)
        point, end = _point_in(document), _end_in(document)
        job = at_once(lambda: self._explorer.keep(point))
        return _JSONAnswer({"latent": await self._done(request, f"keep {end}", job)})

    async def repeat(self, request: Request) -> Response:
        point = _point_in(await _json(request))
        return _JSONAnswer(await self._done(request, "repeat", at_once(lambda: self._explorer.repeat(point))))

    async def files(self, request: Request) -> Response:
        """Write the files that repeat a point, and answer as `repeat` does, for the same point."""
        point = _point_in(await _json(request))

        def write() -> dict[str, object]:
            self._explorer.write_files(point)
            return self._explorer.repeat(point)

        return _JSONAnswer(await self._done(request, "files", at_once(write)))

    async def find(self, request: Request) -> Response:
        point = read_point(request.query_params.get("point", ""))
        content = await _body(request, _MOST_PICTURE)
        read = at_once(lambda: self._explorer.read_picture(content))
        search = Search(await self._done(request, "read", read, GRID))
        target = await self._done(request, "target", at_once(lambda: self._explorer.shown_target(search)))
        future = self._worker.submit("search", SEARCH, self._explorer.search(point, search))
        number = self._search.number + 1 if self._search else 1
        self._search = _Search(number, point, search, future)
        return _JSONAnswer({"search": number, "target": target})

    async def found(self, request: Request) -> Response:
        begun, number = self._search, _number_in(request)
        if begun is None or begun.number != number or begun.future.cancelled():
            raise DataError("another search has replaced this one", "begin it again")
        ended = begun.future.done()  # read before the state, which may change
        state = await self._done(
            request, "found", at_once(lambda: self._explorer.shown_search(begun.point, begun.search))
        )
        failure = begun.future.exception() if ended else None
        point = begun.future.result().model_dump(mode="json") if ended and failure is None else None
        return _JSONAnswer({**state, "ended": ended, "failed": str(failure or ""), "point": point})

    async def end_search(self, request: Request) -> Response:
        number = _number_in(request)
        if self._search is not None and self._search.number == number:
            self._worker.cancel("search")
        return _JSONAnswer({})

    async def condition(self, request: Request) -> Response:
        number = _number_in(request)
        job = at_once(lambda: self._explorer.conditions.picture(number))
        return Response(await self._done(request, f"condition {number}", job, GRID), media_type="image/png")

    async def favorites(self, request: Request) -> Response:
        favorites = await self._done(request, "favorites", at_once(self._explorer.favorites.read))
        return _JSONAnswer([favorite.model_dump(mode="json") for favorite in reversed(favorites)])

    async def save(self, request: Request) -> Response:
        document = await _json(request)
        point, title = _point_in(document), document.get("title", "")
        if not isinstance(title, str):
            raise DataError("the title is no text", "reload the page")
        job = at_once(lambda: self._explorer.save(point, title))
        saved = await self._done(request, f"save {secrets.token_hex(4)}", job)
        return _JSONAnswer(saved.model_dump(mode="json"))

    async def favorite_picture(self, request: Request) -> Response:
        try:
            png = self._explorer.favorites.picture(request.path_params["name"])
        except DataError as error:
            return PlainTextResponse(str(error).encode(errors="backslashreplace"), 404)
        return Response(png, media_type="image/png")

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._done(request, f"delete {name}", at_once(lambda: self._explorer.favorites.remove(name)))
        return _JSONAnswer({})


def _bases_in(document: Mapping[str, object]) -> list[Base]:
    bases = document.get("bases")
    if not isinstance(bases, list) or len(bases) > _MOST_TILES:
        raise DataError(f"the grid has at most {_MOST_TILES} latents", "reload the page")
    point = _point_in(document)
    return [read_point({**point.model_dump(), "base": base}).base for base in bases]
