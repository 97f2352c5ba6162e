"""A transport for httpx whose calls end when they should. I/O: sockets.

httpx bounds each read, not the call: a server that drips a header byte by byte keeps every single read in time. Here each
read and write on the socket gets what is left until the calling thread's deadline.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import certifi
import httpcore
import httpx


class DeadlineTransport(httpx.BaseTransport):
    """HTTP/1.1 by httpcore, with `with transport.until(moment):` around calls. No environment, no redirects, no cookies.

    Raises httpcore's exceptions where httpx's own transport would raise httpx's.
    """

    def __init__(self, *, proxy: str | None = None, connections: int = 32) -> None:
        # At DEBUG httpcore writes every header of an answer, be it one in which a server echoes the token.
        logging.getLogger("httpcore").setLevel(logging.INFO)
        self._deadline = _Deadline()
        options: dict[str, Any] = {
            "ssl_context": ssl.create_default_context(cafile=certifi.where()),
            "max_connections": connections,
            "keepalive_expiry": 30.0,
            "network_backend": _Backend(self._deadline),
        }
        self._pool = _proxy_pool(httpx.Proxy(proxy), options) if proxy else httpcore.ConnectionPool(**options)

    @contextmanager
    def until(self, moment: float) -> Iterator[None]:
        """Bound this thread's calls by a moment of `time.monotonic()`."""
        self._deadline.moment = moment
        try:
            yield
        finally:
            self._deadline.moment = float("inf")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    def close(self) -> None:
        self._pool.close()


def _proxy_pool(proxy: httpx.Proxy, options: dict[str, Any]) -> httpcore.HTTPProxy:
    url = httpcore.URL(scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=b"/")
    return httpcore.HTTPProxy(url, proxy_auth=proxy.raw_auth, **options)


class _Deadline(threading.local):
    moment = float("inf")

    def left(self, timeout: float | None, late: type[httpcore.TimeoutException] = httpcore.ReadTimeout) -> float:
        """Seconds for one operation. Raises: `late` where none are left."""
        left = self.moment - time.monotonic()
        if left <= 0:
            raise late("the answer was not complete in time")
        return left if timeout is None else min(left, timeout)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        yield from self._stream

    def close(self) -> None:
        close = getattr(self._stream, "close", None)
        if close is not None:
            close()


class _Backend(httpcore.NetworkBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline, self._sockets = deadline, httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._sockets.connect_tcp(host, port, left, local_address, socket_options), self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()
