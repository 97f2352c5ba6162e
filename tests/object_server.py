"""An object store in memory, on loopback, that does what a test says: S3's interface and the XML interface of GCS in one.

    with ObjectServer() as server:
        server.fault = lambda request: Fault.LOST if request.method == "PUT" else None

Written from the two services' documentation: `If-None-Match: *` and `x-goog-if-generation-match: 0`, ranges, HEAD,
`list-type=2` with prefix, delimiter and pages. It checks no signature. A fault befalls one request.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Fault(Enum):
    """What goes wrong with a request. Those of the first group happen after it was done, the others instead of it."""

    LOST = auto()  # the connection ends before the answer
    DONE_500 = auto()
    DONE_503 = auto()

    REFUSED_409 = auto()
    REFUSED_412 = auto()
    REFUSED_500 = auto()
    SLOW_DOWN = auto()
    EXPIRED = auto()
    DENIED = auto()
    NO_BUCKET = auto()
    SAYS_200 = auto()  # 200 with an error in its body
    UNCONDITIONAL = auto()  # the condition is ignored


_DONE = {Fault.LOST: 0, Fault.DONE_500: 500, Fault.DONE_503: 503}
_INSTEAD = {
    Fault.REFUSED_409: (409, "ConditionalRequestConflict"),
    Fault.REFUSED_412: (412, "PreconditionFailed"),
    Fault.REFUSED_500: (500, "InternalError"),
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.EXPIRED: (400, "ExpiredToken"),
    Fault.DENIED: (403, "AccessDenied"),
    Fault.NO_BUCKET: (404, "NoSuchBucket"),
    Fault.SAYS_200: (200, "InternalError"),
}


@dataclass(frozen=True)
class Asked:
    """A request: `key` is what is named, or the prefix that is listed."""

    method: str
    key: str
    listing: bool


@dataclass
class Kept:
    body: bytes
    at: datetime
    etag: str


@dataclass
class ObjectServer:
    """`objects` by key, of one bucket whatever its name; `asked` are all requests. `hidden` keys are left out of lists."""

    objects: dict[str, Kept] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    fault: Callable[[Asked], Fault | None] = lambda _: None
    hidden: set[str] = field(default_factory=set)
    page: int = 1000
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def environment(self, scheme: str) -> dict[str, str]:
        if scheme == "gs":
            return {"STORAGE_EMULATOR_HOST": self.url}
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
        }

    def put(self, key: str, body: bytes, *, only_if_absent: bool) -> Kept | None:
        with self.lock:
            if only_if_absent and key in self.objects:
                return None
            kept = Kept(body, datetime.now(UTC), hashlib.md5(body).hexdigest())
            self.objects[key] = kept
            return kept

    def listing(self, prefix: str, delimiter: str, after: str) -> str:
        with self.lock:
            names = sorted(name for name in self.objects if name.startswith(prefix) and name not in self.hidden)
            facts = {name: self.objects[name] for name in names}
        found: dict[str, Kept | None] = {}
        for name in names:
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                found[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                found[name] = facts[name]
        left = [name for name in found if name > after]
        shown, more = left[: self.page], len(left) > self.page
        lines = [_entry(name, found[name]) for name in shown]
        token = f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>" if more else ""
        return (
            f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>b</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyCount>{len(shown)}</KeyCount><MaxKeys>{self.page}</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(lines)}</ListBucketResult>"
        )


def _entry(name: str, kept: Kept | None) -> str:
    if kept is None:
        return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
    moment = kept.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"<Contents><Key>{escape(name)}</Key><LastModified>{moment}</LastModified><ETag>&quot;{kept.etag}&quot;</ETag>"
        f"<Size>{len(kept.body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _handler(store: ObjectServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            listing = "list-type" in query
            key = query.get("prefix", "") if listing else unquote(parts.path.removeprefix("/").partition("/")[2])
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = Asked(self.command, key, listing)
            with store.lock:
                store.asked.append(asked)
            fault = store.fault(asked)
            if fault in _INSTEAD:
                status, code = _INSTEAD[fault]
                self._answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode(), {"ETag": '"none"'})
                return
            if self.command == "PUT":
                answer = self._put(key, body, fault)
            elif listing:
                text = store.listing(key, query.get("delimiter", ""), query.get("continuation-token", ""))
                answer = (200, text.encode(), {"Content-Type": "application/xml"})
            else:
                answer = self._get(key)
            if fault is Fault.LOST:
                self.close_connection = True
                return
            self._answer(_DONE[fault] if fault in _DONE else answer[0], *answer[1:])

        def _put(self, key: str, body: bytes, fault: Fault | None) -> tuple[int, bytes, dict[str, str]]:
            conditional = self.headers.get("if-none-match") == "*" or self.headers.get("x-goog-if-generation-match") == "0"
            kept = store.put(key, body, only_if_absent=conditional and fault is not Fault.UNCONDITIONAL)
            if kept is None:
                return 412, b"<Error><Code>PreconditionFailed</Code></Error>", {}
            return 200, b"", {"ETag": f'"{kept.etag}"', "x-goog-generation": "1"}

        def _get(self, key: str) -> tuple[int, bytes, dict[str, str]]:
            with store.lock:
                kept = store.objects.get(key)
            if kept is None:
                return 404, b"<Error><Code>NoSuchKey</Code></Error>", {}
            facts = {"ETag": f'"{kept.etag}"', "Last-Modified": kept.at.strftime("%a, %d %b %Y %H:%M:%S GMT")}
            wanted = self.headers.get("range", "").removeprefix("bytes=")
            if not wanted:
                return 200, kept.body, facts
            start, _, end = wanted.partition("-")
            last = min(int(end), len(kept.body) - 1) if end else len(kept.body) - 1
            if int(start) > last:
                return 416, b"<Error><Code>InvalidRange</Code></Error>", {}
            facts["Content-Range"] = f"bytes {start}-{last}/{len(kept.body)}"
            return 206, kept.body[int(start) : last + 1], facts

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
