"""The contents' host: objects by signed URL, whole or in ranges, errors in XML. Serves HTTP through starlette.

It answers as a bucket does, down to refusing a request that carries credentials beside its signature.
"""

import os
import re
from collections.abc import Callable
from email.utils import formatdate
from typing import BinaryIO
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ricloud_connector.emulator.bucket import Bucket, Signer, make_entity_tag
from ricloud_connector.emulator.gate import run_in_thread

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Contents:
    """Handles requests to the contents' host. `clock` answers seconds since 1970."""

    def __init__(self, bucket: Bucket, signer: Signer, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._prefix = f"/{bucket.name}/"
        self._signer = signer
        self._clock = clock

    async def handle(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return _refuse(400, "InvalidArgument", "Only one auth mechanism allowed")
        path = request.scope["path"]
        query = request.scope["query_string"].decode("latin-1")
        fault = self._signer.find_fault(request.method, path, query, self._clock())
        if fault is not None:
            return _refuse(403, *fault)
        return await self._serve(path.removeprefix(self._prefix), request)

    async def _serve(self, key: str, request: Request) -> Response:
        stored = self._bucket.get(key)
        if stored is None:
            return _refuse(404, "NoSuchKey", "The specified key does not exist.")
        try:
            if stored.written or stored.content.size <= CHUNK_BYTES:
                file = self._bucket.open(key)
            else:
                file = await run_in_thread(lambda: self._bucket.open(key))
        except FileNotFoundError:
            return _refuse(404, "NoSuchKey", "The specified key does not exist.")
        return _respond(file, key, request)


def parse_range(header: str | None, size: int) -> range | None:
    """The bytes of an object of that size that a Range header asks for; empty where none of them exist.

    None, the whole object, for a header that is absent, malformed, or asks for several ranges.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)


def _respond(file: BinaryIO, key: str, request: Request) -> Response:
    status = os.fstat(file.fileno())
    tag = make_entity_tag(status, key)
    headers = {
        "etag": tag,
        "last-modified": formatdate(status.st_mtime, usegmt=True),
        "accept-ranges": "bytes",
        "content-type": "binary/octet-stream",
    }
    if request.headers.get("if-match", tag) not in (tag, "*"):
        file.close()
        return _refuse(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    asked = parse_range(request.headers.get("range"), status.st_size)
    if request.headers.get("if-range", tag) not in (tag, headers["last-modified"]):
        asked = None
    if asked is None:
        return _make_response(file, range(status.st_size), 200, headers)
    if not asked:
        file.close()
        refusal = _refuse(416, "InvalidRange", "The requested range is not satisfiable")
        refusal.headers["content-range"] = f"bytes */{status.st_size}"
        return refusal
    headers["content-range"] = f"bytes {asked.start}-{asked.stop - 1}/{status.st_size}"
    return _make_response(file, asked, 206, headers)


def _make_response(file: BinaryIO, asked: range, status: int, headers: dict[str, str]) -> Response:
    file.seek(asked.start)
    if len(asked) > CHUNK_BYTES:
        return FileResponse(file, len(asked), status, headers)
    with file:
        return Response(file.read(len(asked)), status_code=status, headers=headers)


class FileResponse(Response):
    """Streams so many bytes of an open file from where it stands, and closes it."""

    def __init__(self, file: BinaryIO, length: int, status: int, headers: dict[str, str]) -> None:
        super().__init__(status_code=status, headers=headers | {"content-length": str(length)})
        self._file = file
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 ASGI's signature
        with self._file as file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            left = self._length
            while left:
                chunk = file.read(min(left, CHUNK_BYTES))
                if not chunk:
                    raise EOFError("the file became shorter while it was served")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})


def _refuse(status: int, code: str, message: str) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}', status_code=status, media_type="application/xml")
