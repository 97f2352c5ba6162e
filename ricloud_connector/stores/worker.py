"""A process that fetches many small contents and does nothing else; `bulk_fetch.py` starts it. I/O: HTTP GET, its two pipes.

It has an interpreter of its own, so that what the run does beside fetching does not hold it up. What it reads and writes are
pickles, of and for the one process that started it. It ends when that one does, or closes the pipe.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ricloud_connector.errors import ContentError, LakeError
from ricloud_connector.location import Policy, http_location
from ricloud_connector.model import SignedUrl
from ricloud_connector.stores import Remedy, Transfer
from ricloud_connector.stores.signed_url import SignedUrlStore
from ricloud_connector.verify import Digest

ANSWER_CONTENTS = 256
ANSWER_BYTES = 1024 * 1024
"""Where an answer is sent: many contents at once, so that the other process wakes seldom."""

LONGEST_HELD_S = 0.01


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be read, and how: the first thing that the process is told."""

    policy: Policy
    concurrency: int
    stall_s: int
    proxy: str | None = field(repr=False)


class Order(NamedTuple):
    """Contents to fetch, by their URLs and the sizes listed; not more than `concurrency` at a time from now on."""

    number: int
    first: int
    urls: Sequence[str]
    sizes: Sequence[int]
    concurrency: int


class Answer(NamedTuple):
    """Of an order, the contents at these places: md5 and sha256 of each, and their bytes one behind the other.

    `failed` are places whose content did not come as it should, or was not tried; `silent` says that a host did not answer.
    """

    number: int
    places: list[int]
    md5s: list[str]
    sha256s: list[str]
    sizes: list[int]
    body: bytes
    failed: list[int]
    silent: bool


class _Sink:
    """The bytes of one small content."""

    __slots__ = ("chunks", "digest", "fault", "listed_bytes", "number", "place")

    def __init__(self, number: int, place: int, listed_bytes: int) -> None:
        self.number, self.place, self.listed_bytes = number, place, listed_bytes
        self.chunks: list[bytes] = []
        self.digest = Digest(listed_bytes)
        self.fault: ContentError | LakeError | None = None

    @property
    def size(self) -> int:
        return self.digest.size

    def write(self, chunk: bytes) -> bool:
        try:
            self.digest.update(chunk)
        except ContentError as error:
            self.fault = error
            return False
        self.chunks.append(chunk)
        return True


class _Held:
    """What came of one order and was not sent yet."""

    def __init__(self) -> None:
        self.sinks: list[_Sink] = []
        self.failed: list[int] = []
        self.bytes = 0
        self.since = time.monotonic()


class _Worker:
    def __init__(self, terms: Terms, orders: BinaryIO, answers: BinaryIO) -> None:
        self._policy, self._concurrency = terms.policy, terms.concurrency
        self._store = SignedUrlStore(concurrency=terms.concurrency, stall_s=terms.stall_s, proxy=terms.proxy)
        self._orders, self._answers = orders, answers
        self._incoming = deque[Order]()
        self._came = threading.Event()
        self._waiting = deque[tuple[int, int, str, int]]()
        self._held: dict[int, _Held] = {}
        self._in_flight = 0

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        for transfer, fault in self._store.transfer(self._transfers()):
            self._in_flight -= 1
            sink = transfer.sink
            assert isinstance(sink, _Sink)
            if fault is None and sink.fault is None and sink.size == sink.listed_bytes:
                self._keep(sink)
            else:
                self._fail(sink.number, sink.place)
                if fault is not None and fault.remedy in (Remedy.RESUME, Remedy.LATER):
                    self._give_back()

    def _listen(self) -> None:
        """Take orders, so that whoever gives them never waits; end with him, whatever is under way."""
        try:
            while True:
                order = pickle.load(self._orders)  # noqa: S301  # the process that started this one wrote it
                self._incoming.append(order)
                self._came.set()
        finally:
            os._exit(0)

    def _transfers(self) -> Iterator[Transfer | None]:
        while True:
            self._take_orders()
            if not self._waiting:
                if self._in_flight:
                    self._send_old()
                    yield None
                else:
                    self._send_all()
                    self._came.wait()
                continue
            if self._in_flight >= self._concurrency:
                yield None
                continue
            number, place, url, size = self._waiting.popleft()
            try:
                location = http_location(SignedUrl(url, None), self._policy)
            except ContentError:
                self._fail(number, place)
                continue
            self._in_flight += 1
            yield Transfer(location, _Sink(number, place, size))

    def _take_orders(self) -> None:
        self._came.clear()
        while self._incoming:
            order = self._incoming.popleft()
            self._concurrency = order.concurrency
            facts = zip(order.urls, order.sizes, strict=True)
            self._waiting += ((order.number, place, *fact) for place, fact in enumerate(facts, order.first))

    def _keep(self, sink: _Sink) -> None:
        held = self._of(sink.number)
        held.sinks.append(sink)
        held.bytes += sink.size
        if len(held.sinks) >= ANSWER_CONTENTS or held.bytes >= ANSWER_BYTES:
            self._send(sink.number)

    def _fail(self, number: int, place: int) -> None:
        self._of(number).failed.append(place)

    def _of(self, number: int) -> _Held:
        if number not in self._held:
            self._held[number] = _Held()
        return self._held[number]

    def _give_back(self) -> None:
        """A host does not answer: let the other process try, which knows how to wait for it."""
        for other, place, _, _ in self._waiting:
            self._fail(other, place)
        self._waiting.clear()
        self._send_all(silent=True)

    def _send_old(self) -> None:
        now = time.monotonic()
        for number in [number for number, held in self._held.items() if now - held.since > LONGEST_HELD_S]:
            self._send(number)

    def _send_all(self, *, silent: bool = False) -> None:
        for number in list(self._held):
            self._send(number, silent=silent)

    def _send(self, number: int, *, silent: bool = False) -> None:
        held = self._held.pop(number)
        sinks = sorted(held.sinks, key=lambda sink: sink.place)
        answer = Answer(
            number,
            [sink.place for sink in sinks],
            [sink.digest.md5 for sink in sinks],
            [sink.digest.sha256 for sink in sinks],
            [sink.size for sink in sinks],
            b"".join(chunk for sink in sinks for chunk in sink.chunks),
            held.failed,
            silent,
        )
        pickle.dump(answer, self._answers, pickle.HIGHEST_PROTOCOL)
        self._answers.flush()


def main() -> None:
    """Fetch what standard input orders, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides when to stop
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    terms = pickle.load(sys.stdin.buffer)  # noqa: S301  # the process that started this one wrote it
    _Worker(terms, sys.stdin.buffer, answers).run()
