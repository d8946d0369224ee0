"""The HTTP interface: a FastAPI application around an `Engine`."""

import asyncio
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from .. import __version__
from .body import drain, read_body
from .documentation import (
    DESCRIPTION,
    METRICS_RESPONSES,
    MODEL_RESPONSES,
    READY_RESPONSES,
    SEGMENT_BODY,
    SEGMENT_RESPONSES,
)
from .engine import Engine
from .guard import App, Counting, TokenGuard
from .messages import Answer, Model
from .metrics import MEDIA_TYPE
from .options import Options, describe, parse_options
from .upload import Header, Refusal, read_header

PAGE = Path(str(resources.files(__package__).joinpath("page")))
_POLICY = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'none'"


def build_app(engine: Engine, token: str = "") -> App:
    """The application. The engine is started and closed by the caller.

    Args:
        token: required of requests to the API; "" for none.
    """
    app = FastAPI(
        title="mit-semseg",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # its page loads scripts from another host
        redoc_url=None,
    )

    # For the OpenAPI document only: `TokenGuard` compares the token.
    guarded = [Security(HTTPBearer(auto_error=False))] if token else []

    @app.exception_handler(Refusal)
    async def refuse(request: Request, refusal: Refusal) -> Response:
        return await _refused(request, refusal, engine)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, error: RequestValidationError) -> Response:
        return await _refused(request, Refusal(422, describe(error.errors())), engine)

    @app.post(
        "/v1/segment",
        summary="Segment an image",
        response_class=Response,
        openapi_extra={"requestBody": SEGMENT_BODY},
        responses=SEGMENT_RESPONSES,
        dependencies=guarded,
    )
    async def segment(request: Request, options: Annotated[Options, Query()]) -> Response:
        engine.require_room()
        limits = engine.limits
        try:
            with engine.arriving():
                data, fields = await read_body(request, limits.max_bytes, limits.body_s)
                options = parse_options([*request.query_params.multi_items(), *fields])
                number = _model_number(engine.models, options.model)
                header = await asyncio.to_thread(read_header, data, limits.max_pixels)
                if options.output == "scores":
                    _check_scores(engine.models[number], header, limits.max_scores)
                work = asyncio.ensure_future(engine.segment(number, data, header, options.wanted()))
                await asyncio.sleep(0)  # it is in the queue before it counts as arrived
        except ClientDisconnect:
            return Response(status_code=499)
        answer = await _unless_gone(request, work)
        if answer is None:
            return Response(status_code=499)
        if answer.status != 200:
            raise Refusal(answer.status, answer.body.decode())
        return Response(answer.body, media_type=answer.media_type, headers={"Cache-Control": "no-store"})

    @app.get(
        "/v1/model", summary="The models and their classes", responses=MODEL_RESPONSES, dependencies=guarded
    )
    async def model() -> Any:
        limits = engine.limits
        return {
            "models": [_described(model) for model in engine.models],
            "limits": {"bytes": limits.max_bytes, "pixels": limits.max_pixels},
            "version": __version__,
        }

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", summary="Whether the server runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get(
        "/readyz",
        summary="Whether an image would be segmented now (200) or not (503)",
        responses=READY_RESPONSES,
    )
    async def readyz() -> Response:
        if engine.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "draining" if engine.draining else "starting"}, 503)

    @app.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=PlainTextResponse,
        responses=METRICS_RESPONSES,
        dependencies=guarded,
    )
    async def metrics() -> Response:
        return Response(engine.metrics.text(), headers={"Content-Type": MEDIA_TYPE})

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers={"Content-Security-Policy": _POLICY})

    app.mount("/page", StaticFiles(directory=PAGE))
    engine.metrics.follow(lambda: engine.queue_length, engine.images_per_second, lambda: engine.workers_ready)
    paths = frozenset({"/", "/v1/segment", "/v1/model", "/healthz", "/readyz", "/metrics", "/openapi.json"})
    inner: App = TokenGuard(app, token) if token else app
    return Counting(inner, engine.metrics, paths)


async def _refused(request: Request, refusal: Refusal, engine: Engine) -> Response:
    """The response to a refused request, after the rest of its body."""
    if not getattr(request.state, "received", False) and refusal.status != 408:
        await drain(request.scope, request.receive)
    headers = {"Connection": "close"}  # what is left of the body does not count as the next request
    if refusal.status in (429, 503):
        headers["Retry-After"] = str(engine.retry_after_s())
    return JSONResponse({"detail": str(refusal)}, refusal.status, headers=headers)


async def _unless_gone(request: Request, work: "asyncio.Task[Answer]") -> Answer | None:
    """The result of ``work``, which is cancelled if the client closes the connection: then None."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        leaving.cancel()
        work.cancel()


def _model_number(models: tuple[Model, ...], name: str) -> int:
    names = [model.name for model in models]
    if name and name not in names:
        raise Refusal(422, f"model is {name!r}, which is not served. The models are {', '.join(names)}.")
    return names.index(name) if name else 0


def _check_scores(model: Model, header: Header, most: int) -> None:
    count = len(model.names)
    if count * header.width * header.height > most:
        raise Refusal(
            413,
            f"{count} classes at {header.width} x {header.height} pixels have more scores than the limit of "
            f"{most:,}. Scale the image down.",
        )


def _described(model: Model) -> dict[str, Any]:
    classes = [
        {"index": k, "name": name, "color": color}
        for k, (name, color) in enumerate(zip(model.names, model.colors, strict=True))
    ]
    return {"name": model.name, "title": model.title, "device": model.device, "classes": classes}
