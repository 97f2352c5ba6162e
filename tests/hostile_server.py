"""A server that answers what a test says, byte for byte, as late and as wrong as it says. Opens ports of loopback only.

    with HostileServer(reply(503, {"Retry-After": "1"}), page([])) as server: ...

Each request takes the next reply, the last one serves all that follow. A reply is a sequence of steps: bytes to send,
seconds to wait, `HANG`, `CLOSE`, `RESET`; or a function from the request to such a sequence.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from types import TracebackType


class Act(Enum):
    HANG = auto()
    CLOSE = auto()
    RESET = auto()


HANG, CLOSE, RESET = Act.HANG, Act.CLOSE, Act.RESET
Steps = Iterable[bytes | float | Act]


@dataclass(frozen=True)
class Request:
    """A request as it came. Names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    raw: bytes

    @property
    def offset(self) -> int:
        """Where the client wants to go on."""
        return int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


Reply = Steps | Callable[[Request], Steps]


def head(status: int = 200, headers: Mapping[str, str] = {}, length: int | None = None) -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reply(status: int = 200, headers: Mapping[str, str] = {}, body: bytes = b"") -> Steps:
    """An answer that keeps to the rules."""
    return [head(status, headers, len(body)) + body]


def answer(document: object, status: int = 200) -> Steps:
    """A JSON answer."""
    return reply(status, {"Content-Type": "application/json"}, json.dumps(document).encode())


def page(items: list[object], *, has_more: bool = False) -> Steps:
    """A page of a list."""
    return answer({"data": items, "has_more": has_more, "url": "/results"})


def dripping(data: bytes, every_s: float) -> Steps:
    """One byte at a time."""
    return [step for start, stop in pairwise(range(len(data) + 1)) for step in (data[start:stop], every_s)]


class HostileServer:
    """Up while a `with` block lasts. A thread for each connection; `connections` counts them."""

    def __init__(self, *replies: Reply, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._replies = list(replies)
        self._tls = tls
        self.requests: list[Request] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.host = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    def __enter__(self) -> HostileServer:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while (request := _read(connection)) is not None:
                with self._lock:
                    self.requests.append(request)
                    steps = self._replies[min(len(self.requests), len(self._replies)) - 1]
                if callable(steps):
                    steps = steps(request)
                if not self._send(connection, steps):
                    return
        except OSError:
            return  # the client went away, which it may
        finally:
            with self._lock:
                self._open.discard(plain)
            connection.close()

    def _send(self, connection: socket.socket, steps: Steps) -> bool:
        """Do the steps; False where the connection is to end."""
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, float):
                if self._stopping.wait(step):
                    return False
            elif step is HANG:
                self._stopping.wait()
                return False
            else:
                if step is RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        return True


def _read(connection: socket.socket) -> Request | None:
    raw = b""
    while b"\r\n\r\n" not in raw:
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        raw += chunk
    start, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = start.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    return Request(method, target, headers, body, raw)
