"""Who is answered: requests that were made to this very server, and only to read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")
#: Nothing is kept in the browser's files, told to other sites, or taken for what it is not.
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Gate:
    """Refuses what another site could make a browser ask for.

    A site can have its own name resolve to 127.0.0.1 and then read, as from itself, what listens
    there (DNS rebinding); but the browser still sends that name as the host.

    Parameters
    ----------
    app : ASGIApp
        What answers the others.
    port : int
        Where this server listens.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in LOOPBACK}
        if port == 80:
            self._hosts.update(LOOPBACK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        app: ASGIApp = self._app
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            app = PlainTextResponse("This server answers to 127.0.0.1 only.\n", 403)
        elif scope["method"] not in ("GET", "HEAD"):
            app = PlainTextResponse("Only for reading.\n", 405, {"Allow": "GET, HEAD"})
        await app(scope, receive, send_with_headers)
