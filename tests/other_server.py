"""A second API, written from the documentation and sharing no line with the emulator: whatever one gets wrong, both would
have to get wrong alike. Integer ids, whole seconds, a base path, no `total_count`, contents on its own port, plain http.server.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "other-server-token"


@dataclass
class Stored:
    id: int
    content: bytes
    date_created: datetime
    checksum: str = ""
    state: str = "available"
    acknowledged: int = 0

    def __post_init__(self) -> None:
        self.checksum = self.checksum or hashlib.md5(self.content).hexdigest()


@dataclass
class OtherServer:
    """Results by id. `ignores_filter` and `oldest_first` are liberties that a server may take."""

    results: list[Stored] = field(default_factory=list)
    ignores_filter: bool = False
    oldest_first: bool = False
    contents_seen: list[dict[str, str]] = field(default_factory=list)
    lists: int = 0
    page_size: int = 1000

    def __enter__(self) -> OtherServer:
        self._api = _serve(_api_handler(self))
        self._contents = _serve(_contents_handler(self))
        self.url = f"http://127.0.0.1:{self._api.server_port}/v1"
        self.contents_host = f"127.0.0.1:{self._contents.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._api, self._contents):
            server.shutdown()
            server.server_close()

    def environment(self) -> dict[str, str]:
        return {"RICLOUD_URL": self.url, "RICLOUD_TOKEN": TOKEN, "RICLOUD_CONTENT_HOSTS": self.contents_host}

    def document(self, stored: Stored) -> dict[str, object]:
        return {
            "id": stored.id,
            "resource": "result",
            "organisation": 7,
            "poll": None,
            "task": None,
            "identifier": f"feed.{stored.id % 3}",
            "url": f"gs://other/{stored.id}",
            "type": None,
            "checksum": stored.checksum,
            "size": len(stored.content),
            "signed_url": {"url": f"http://{self.contents_host}/{stored.id}?sig=other-signature", "date_expires": None},
            "state": stored.state,
            "date_created": stored.date_created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "date_consumed": None,
            "date_deleted": None,
        }

    def page(self, query: dict[str, str]) -> dict[str, object]:
        self.lists += 1
        ordered = sorted(self.results, key=lambda stored: (stored.date_created, stored.id), reverse=not self.oldest_first)
        if "after_id" in query:
            ids = [str(stored.id) for stored in ordered]
            ordered = ordered[ids.index(query["after_id"]) + 1 :]
        ordered = [stored for stored in ordered if stored.state == query.get("state", "available")]
        if not self.ignores_filter:
            since, until = (_moment(query.get(f"date_created__{end}")) for end in ("gte", "lt"))
            ordered = [
                stored
                for stored in ordered
                if (since is None or stored.date_created >= since) and (until is None or stored.date_created < until)
            ]
        limit = min(int(query.get("limit", 10)), self.page_size)
        data = [self.document(stored) for stored in ordered[:limit]]
        return {"data": data, "has_more": len(ordered) > limit, "url": "/results"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of the default 5 the rest of a burst of connections is refused, and tried again a second later


def _serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _api_handler(server: OtherServer) -> type[BaseHTTPRequestHandler]:
    class Api(_Quiet):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if self.headers["Authorization"] != f"Token {TOKEN}":
                return self.say(401, {"error": "unauthorised", "message": "no"})
            if parts.path == "/v1/results":
                return self.say(200, server.page({name: values[0] for name, values in parse_qs(parts.query).items()}))
            for stored in server.results:
                if parts.path == f"/v1/results/{stored.id}":
                    return self.say(200, server.document(stored))
            return self.say(404, {"error": "not_found", "message": "no such result"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for stored in server.results:
                if stored.id in body["ids"] and stored.state == "available":  # integers, as they were listed
                    stored.state, stored.acknowledged = "consumed", stored.acknowledged + 1
            self.say(200, {})

        def say(self, status: int, document: object) -> None:
            self.answer(status, json.dumps(document).encode())

    return Api


def _contents_handler(server: OtherServer) -> type[BaseHTTPRequestHandler]:
    class Contents(_Quiet):
        def do_GET(self) -> None:
            server.contents_seen.append({name.lower(): value for name, value in self.headers.items()})
            parts = urlsplit(self.path)
            found = {f"/{stored.id}": stored.content for stored in server.results}.get(parts.path)
            if found is None or parts.query != "sig=other-signature":
                return self.answer(403, b"<Error/>")
            return self.answer(200, found)  # no ranges: whoever resumes gets everything again

    return Contents
