"""The page of a spec, served to this machine alone, which follows the file.

The address has a random token. A request with another host or origin is refused, so neither another site nor a name
that points to this machine can read the spec.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from archdsl.diagnostics import render, visible
from archdsl.watching.following import Follower, Outcome, changes

HOST: Final = "127.0.0.1"
STATIC: Final = Path(__file__).with_name("static")
BEAT: Final = 15.0
"""Seconds between signs of life to the browser."""


@dataclass(slots=True)
class Shown:
    """The state of the browser: the last good page and its number, and the errors of the newest text."""

    page: bytes = b""
    number: int = 0
    trouble: str = ""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, outcome: Outcome) -> None:
        async with self.changed:
            if outcome.result is not None:
                self.page = outcome.result
                self.number += 1
            self.trouble = outcome.trouble or (render(outcome.diagnostics) if outcome.failed else "")
            self.changed.notify_all()

    def message(self) -> str:
        return json.dumps({"number": self.number, "trouble": self.trouble})


def serve(follower: Follower, port: int, ready: Callable[[str], None], announce: Callable[[Outcome], None]) -> None:
    """Serves the page until the process is interrupted. `ready` gets the address, `announce` each outcome.

    Raises OSError if the port is taken.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(16)
        app = application(follower, port, token, announce)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="on")
        ready(f"http://{HOST}:{port}/{token}/")
        uvicorn.Server(config).run(sockets=[listener])


def application(follower: Follower, port: int, token: str, announce: Callable[[Outcome], None]) -> ASGIApp:
    """The application, which follows the files while it runs."""
    shown = Shown()

    @asynccontextmanager
    async def following(app: Starlette) -> AsyncIterator[None]:
        stop = threading.Event()
        loop = asyncio.get_running_loop()

        def follow() -> None:
            def once() -> None:
                outcome = follower.round()
                announce(outcome)
                asyncio.run_coroutine_threadsafe(shown.take(outcome), loop)

            once()
            for _ in changes(follower, stop):
                once()

        thread = threading.Thread(target=copy_context().run, args=[follow], daemon=True)
        thread.start()
        yield
        stop.set()
        await asyncio.to_thread(thread.join, 2)

    async def shell(request: Request) -> Response:
        return _shell(visible(follower.spec.name))

    async def page(request: Request) -> Response:
        return Response(
            shown.page, media_type="text/html", headers={"Content-Security-Policy": "frame-ancestors 'self'"}
        )

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(shown), media_type="text/event-stream")

    routes = [
        Route(f"/{token}/", shell),
        Route(f"/{token}/page/{{number:int}}", page),
        Route(f"/{token}/events", events),
    ]
    return _guarded(Starlette(routes=routes, lifespan=following), port)


async def _events(shown: Shown) -> AsyncIterator[str]:
    """The state at once, then each new one."""
    last = ""
    while True:
        if (message := shown.message()) != last:
            last = message
            yield f"data: {message}\n\n"
        else:
            yield ": still here\n\n"
        async with shown.changed:
            if shown.message() == last:
                with suppress(TimeoutError):
                    await asyncio.wait_for(shown.changed.wait(), BEAT)


def _shell(name: str) -> Response:
    """The page around the page: it shows trouble above, and exchanges what is below."""
    script = (STATIC / "watch.js").read_text("utf-8")
    style = (STATIC / "watch.css").read_text("utf-8")
    text = (STATIC / "watch.html").read_text("utf-8").replace("{{name}}", escape(name))
    text = text.replace("{{css}}", style).replace("{{js}}", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _guarded(app: ASGIApp, port: int) -> ASGIApp:
    """Refuses requests that another site may have caused, and keeps the answers to this browser."""
    host = f"{HOST}:{port}".encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            own = headers.get(b"host") == host and headers.get(b"origin", b"http://" + host) == b"http://" + host
            if not own or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
                await PlainTextResponse("only for this machine", 403)(scope, receive, send)
                return
        await app(scope, receive, _keeping(send))

    return guarded


def _keeping(send: Send) -> Send:
    extra = [
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]

    async def keeping(message) -> None:  # type: ignore[no-untyped-def]
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return keeping
