"""ASGI middleware: the token, and the counts of requests."""

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse

from .body import drain
from .metrics import Metrics

App = Callable[[Any, Any, Any], Awaitable[None]]

_GUARDED = ("/v1/", "/metrics")
_GONE = 499  # counted for requests whose client did not wait for the answer


class TokenGuard:
    """Refuses requests to the API without the bearer token."""

    def __init__(self, app: App, token: str) -> None:
        self._app, self._expected = app, b"bearer " + token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_GUARDED):
            given = dict(scope["headers"]).get(b"authorization", b"")
            scheme, _, credentials = given.partition(b" ")
            # In constant time, so that the time of the answer does not say how much of a guess is right.
            if not hmac.compare_digest(scheme.lower() + b" " + credentials, self._expected):
                message = (
                    "The token is wrong." if given else "A token is needed: Authorization: Bearer TOKEN."
                )
                response = JSONResponse(
                    {"detail": message}, 401, headers={"WWW-Authenticate": "Bearer", "Connection": "close"}
                )
                await drain(scope, receive)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Counting:
    """Counts requests and their time by path and status."""

    def __init__(self, app: App, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _GONE
        start = time.perf_counter()

        async def noting(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.latency.labels(path).observe(time.perf_counter() - start)
