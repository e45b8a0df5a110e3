"""Who may ask the server of the explorer: only its page, at the address that the user was given."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Refuses requests without the token, from other hosts or pages, and adds headers to all answers."""

    def __init__(self, app: ASGIApp, token: str, hosts: set[str]) -> None:
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}  # type: ignore[misc]
            await send(message)

        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)  # type: ignore[arg-type]
            return
        inner = {**scope, "path": scope["path"][1 + len(self._token) :], "root_path": ""}
        await self._app(inner, receive, send_with_headers)  # type: ignore[arg-type]

    def _refusal(self, request: Request) -> Response | None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return PlainTextResponse("This server answers only to its own address.", 421)
        _, slash, rest = request.scope["path"].partition("/")
        token, separator, _ = rest.partition("/")
        if not slash or not separator or not secrets.compare_digest(token.encode(), self._token.encode()):
            return PlainTextResponse("The address lacks the token. Copy all of it from the terminal.", 403)
        allowed = {f"http://{host}" for host in self._hosts}
        if request.method not in ("GET", "HEAD") and request.headers.get("origin") not in allowed:
            return PlainTextResponse("Only the page itself may ask for this.", 403)
        return None
