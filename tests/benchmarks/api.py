"""A results API that is fast and honest: what was acknowledged is not listed as available any more. A program; prints its port.

Every item is rendered before the clock runs, and an answer is a join of bytes: one process serves some thousand requests
a second and ten thousand results in one listing costs it milliseconds, so that what is measured is its client. With
`--delay-ms` each answer waits so long, as it would on its way through a network; requests wait side by side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from bisect import bisect_left
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

JSON = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Results:
    """All results, newest first, each as the bytes of its JSON; and which of them were acknowledged."""

    def __init__(self, manifest: Path) -> None:
        self.ids: list[str] = []
        self.items: list[bytes] = []
        self._created: list[str] = []
        with manifest.open("rb") as file:
            for line in file:
                result_id, created, item = line.rstrip(b"\n").split(b"\t", 2)
                self.ids.append(result_id.decode())
                self._created.append(created.decode().removesuffix("Z"))
                self.items.append(item)
        self.place = {result_id: place for place, result_id in enumerate(self.ids)}
        self._ascending = self._created[::-1]
        self.consumed = bytearray(len(self.ids))
        self.requests = self.lists = 0

    def acknowledge(self, ids: list[object]) -> None:
        for result_id in ids:
            place = self.place.get(str(result_id))
            if place is not None:
                self.consumed[place] = 1

    def one(self, result_id: str) -> bytes | None:
        place = self.place.get(result_id)
        return None if place is None else self._shown(place)

    def page(self, query: dict[str, list[str]]) -> bytes:
        """One page, by `state`, `limit`, `after_id` and the window of `date_created`."""
        self.lists += 1
        wanted = 1 if query.get("state", ["available"])[0] == "consumed" else 0
        limit = min(1000, int(query.get("limit", ["10"])[0]))
        first, end = 0, len(self.ids)
        if "date_created__lt" in query:
            first = end - bisect_left(self._ascending, query["date_created__lt"][0].removesuffix("Z"))
        if "date_created__gte" in query:
            end -= bisect_left(self._ascending, query["date_created__gte"][0].removesuffix("Z"))
        if "after_id" in query:
            first = max(first, self.place[query["after_id"][0]] + 1)
        found: list[bytes] = []
        while first < end:
            # Runs of one state are found without looking at each item.
            first = self.consumed.find(wanted, first, end)
            if first < 0 or len(found) == limit:
                break
            stop = self.consumed.find(1 - wanted, first, end)
            stop = min(end if stop < 0 else stop, first + limit - len(found))
            found += self.items[first:stop] if not wanted else map(self._shown, range(first, stop))
            first = stop
        more = 0 <= first < end and self.consumed.find(wanted, first, end) >= 0
        return b'{"data": [%s], "has_more": %s, "url": "/results"}' % (b",".join(found), b"true" if more else b"false")

    def _shown(self, place: int) -> bytes:
        item = self.items[place]
        return item.replace(b'"state":"available"', b'"state":"consumed"', 1) if self.consumed[place] else item


class Connection(asyncio.Protocol):
    """HTTP/1.1 as the clients here speak it: lengths in headers, one request after the other."""

    def __init__(self, results: Results, delay_s: float) -> None:
        self._results, self._delay_s = results, delay_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                return
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            self._answer(method, target, rest[:length])

    def _answer(self, method: str, target: str, body: bytes) -> None:
        results = self._results
        path, _, query = target.partition("?")
        status, answer = b"200 OK", b"{}"
        if path == "/_stats":
            facts = {"acknowledged": sum(results.consumed), "requests": results.requests, "lists": results.lists}
            answer = json.dumps(facts).encode()
        elif path == "/_reset":
            results.consumed = bytearray(len(results.ids))
            results.requests = results.lists = 0
        elif method == "GET" and path == "/results":
            answer = results.page(parse_qs(query))
        elif method == "POST" and path == "/results/ack":
            results.acknowledge(json.loads(body)["ids"])
        else:
            result_id = unquote(path.removeprefix("/results/").removesuffix("/ack"))
            if method == "POST":
                results.acknowledge([result_id])
            found = results.one(result_id)
            status, answer = (b"404 Not Found", b'{"error": "not_found"}') if found is None else (status, found)
        whole = JSON % (status, len(answer)) + answer
        if path.startswith("/_"):
            self._transport.write(whole)
            return
        results.requests += 1
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, whole)
        else:
            self._transport.write(whole)


async def serve(manifest: Path, delay_s: float) -> None:
    results = Results(manifest)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(results, delay_s), "127.0.0.1", 0, backlog=1024)
    print(urlsplit(f"//127.0.0.1:{server.sockets[0].getsockname()[1]}").port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--delay-ms", type=float, default=0)
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.manifest, chosen.delay_ms / 1000))
