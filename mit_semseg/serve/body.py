"""The body of a request: read within limits of size and time, as a form or as the bytes of an image."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .upload import Refusal

FILE_FIELD = "image"
"""The field of a form that has the image."""

_FORM_BYTES = 10_000  # that a form may have besides the image
_FIELD_BYTES = 1_024
_DRAINED_BYTES, _DRAINED_S = 50_000_000, 5.0


Fields = list[tuple[str, str]]


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> tuple[bytes, Fields]:
    """The bytes of the image, and the other fields if the body is a form.

    Raises: Refusal (413, 408, 415 or 422) for a body that is too large, stops arriving or has no image;
        starlette's ClientDisconnect if the client has gone.
    """
    form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    limit = max_bytes + (_FORM_BYTES if form else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(max_bytes)
    chunks = _limited(request, limit, max_bytes)
    try:
        return await asyncio.wait_for(_read_form(request, chunks) if form else _read_bytes(chunks), timeout_s)
    except asyncio.TimeoutError:
        raise Refusal(408, f"The body did not arrive within {timeout_s:g} s. Send it again.") from None


async def _limited(request: Request, limit: int, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces."""
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        request.state.received = not more  # for `drain`, if the body is refused
        size += len(message["body"])
        if size > limit:
            raise _too_large(max_bytes)
        yield message["body"]


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"The body is too large: the limit is {max_bytes:,} bytes. Scale the image down.")


async def _read_bytes(chunks: AsyncGenerator[bytes, None]) -> tuple[bytes, Fields]:
    return b"".join([chunk async for chunk in chunks]), []


async def _read_form(request: Request, chunks: AsyncGenerator[bytes, None]) -> tuple[bytes, Fields]:
    parser = MultiPartParser(request.headers, chunks, max_files=2, max_fields=20, max_part_size=_FIELD_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, MultipartParseError, KeyError, UnicodeError, ValueError) as error:
        cause = str(error).rstrip(".") or type(error).__name__
        raise Refusal(422, f"The form is damaged: {cause}.") from None
    try:
        files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        if not files and FILE_FIELD in dict(fields):
            raise Refusal(
                422,
                f"The field {FILE_FIELD!r} of the form is a text, not a file. With curl, write an @ before "
                f"the path: -F {FILE_FIELD}=@photo.jpg",
            )
        if len(files) != 1 or files[0][0] != FILE_FIELD:
            names = ", ".join(name for name, _ in files) or "none"
            raise Refusal(
                422, f"The form has to have one file, called {FILE_FIELD!r}; its files are: {names}."
            )
        return await files[0][1].read(), fields
    finally:
        await form.close()


async def drain(scope: Any, receive: Any) -> None:
    """Read what a client still sends of a body that is refused, within limits.

    If the connection were closed while the client sends, it would be reset, and the client would not read the
    answer. A client that waits for the server's consent (``Expect: 100-continue``) has sent nothing yet.
    """
    if any(name == b"expect" for name, _ in scope["headers"]):
        return

    async def read() -> None:
        size, more = 0, True
        while more and size < _DRAINED_BYTES:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(read(), _DRAINED_S)
