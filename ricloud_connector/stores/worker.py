"""A process that fetches many small contents and does nothing else; `bulk_fetch.py` starts it. I/O: HTTP GET, its two pipes.

It has an interpreter of its own, so that what the run does beside fetching does not hold it up. What it reads and writes are
pickles, of and for the one process that started it. It ends when that one does, or closes the pipe.

It judges nothing: a content that does not come whole is given back at once, and so are, for a while, all those of a host that
does not answer or asks to slow down.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from ricloud_connector.errors import ContentError, LakeError
from ricloud_connector.location import HttpLocation, Policy, http_location
from ricloud_connector.model import SignedUrl
from ricloud_connector.stores import Remedy, Transfer, TransferFault
from ricloud_connector.stores.signed_url import SignedUrlStore
from ricloud_connector.verify import Digest

ANSWER_CONTENTS = 256
ANSWER_BYTES = 1024 * 1024
"""Where an answer is sent: many contents at once, so that the other process wakes seldom."""

LONGEST_HELD_S = 0.1
UNSENT_ANSWERS = 3  # beyond these no transfer is started until the other process has taken some
DOWN_AFTER = 8  # transfers in a row without an answer of the host
LEFT_ALONE_S = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be read, and how: the first thing that the process is told."""

    policy: Policy
    concurrency: int
    stall_s: int
    proxy: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Order:
    """Contents to fetch, by their URLs and the sizes listed; not more than `concurrency` at a time from now on."""

    number: int
    first: int
    urls: Sequence[str] = field(repr=False)
    sizes: Sequence[int]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an order, the contents at these places: md5 and sha256 of each, and their bytes one behind the other.

    `failed` are places whose content did not come as it should, or was not tried; `throttled` so many answers before this one
    asked to slow down.
    """

    number: int
    places: list[int]
    md5s: list[str]
    sha256s: list[str]
    sizes: list[int]
    body: bytes = field(repr=False)
    failed: list[int]
    throttled: int


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

    @property
    def is_full(self) -> bool:
        return len(self.sinks) + len(self.failed) >= ANSWER_CONTENTS or self.bytes >= ANSWER_BYTES


class _Hosts:
    """Those that are left alone for a while."""

    def __init__(self) -> None:
        self._silent = Counter[str]()
        self._until: dict[str, float] = {}

    def may_try(self, host: str) -> bool:
        return not self._until or time.monotonic() >= self._until.get(host, 0.0)

    def answered(self, host: str) -> None:
        if self._silent:
            del self._silent[host]

    def failed(self, host: str, fault: TransferFault) -> None:
        self._silent[host] += 1
        if fault.reason == "throttled" or self._silent[host] >= DOWN_AFTER:
            self._until[host] = time.monotonic() + max(LEFT_ALONE_S, fault.retry_after_s)
            del self._silent[host]


class _Worker:
    def __init__(self, terms: Terms, orders: BinaryIO, answers: BinaryIO) -> None:
        self._policy, self._concurrency = terms.policy, terms.concurrency
        self._store = SignedUrlStore(concurrency=terms.concurrency, stall_s=terms.stall_s, proxy=terms.proxy)
        self._orders, self._answers = orders, answers
        self._incoming, self._outgoing = deque[Order](), deque[Answer]()
        self._came, self._to_send = threading.Event(), threading.Event()
        self._waiting = deque[tuple[int, int, str, int]]()
        self._held: dict[int, _Held] = {}
        self._hosts = _Hosts()
        self._in_flight = self._throttled = 0
        self._look_at = 0.0

    def run(self) -> None:
        for target in (self._listen, self._tell):
            threading.Thread(target=target, daemon=True).start()
        for transfer, fault in self._store.transfer(self._transfers()):
            self._in_flight -= 1
            sink, location = transfer.sink, transfer.location
            assert isinstance(sink, _Sink)
            assert isinstance(location, HttpLocation)
            if fault is not None and fault.remedy in (Remedy.RESUME, Remedy.LATER):
                self._throttled += fault.reason == "throttled"
                self._hosts.failed(location.host, fault)
            else:
                self._hosts.answered(location.host)
            self._keep(sink, came=fault is None and sink.fault is None and sink.size == sink.listed_bytes)

    def _listen(self) -> None:
        """Take orders, so that whoever gives them never waits; end with him, whatever is under way."""
        try:
            while True:
                order = pickle.load(self._orders)  # noqa: S301  # the process that started this one wrote it
                self._incoming.append(order)
                self._came.set()
        finally:
            os._exit(0)

    def _tell(self) -> None:
        """Send answers, so that transfers go on while the other process is busy; end with it."""
        try:
            while True:
                self._to_send.wait()
                self._to_send.clear()
                while self._outgoing:
                    pickle.dump(self._outgoing[0], self._answers, pickle.HIGHEST_PROTOCOL)
                    self._answers.flush()
                    self._outgoing.popleft()
        finally:
            os._exit(0)

    def _transfers(self) -> Iterator[Transfer | None]:
        while True:
            self._take_orders()
            if time.monotonic() >= self._look_at:
                self._send_old()
            if not self._waiting and not self._in_flight:
                self._send_all()
                self._came.wait()
            elif not self._waiting or self._in_flight >= self._concurrency or len(self._outgoing) > UNSENT_ANSWERS:
                yield None
            elif (transfer := self._next()) is not None:
                self._in_flight += 1
                yield transfer

    def _take_orders(self) -> None:
        self._came.clear()
        while self._incoming:
            order = self._incoming.popleft()
            self._concurrency = order.concurrency
            facts = zip(order.urls, order.sizes, strict=True)
            self._waiting += ((order.number, place, *fact) for place, fact in enumerate(facts, order.first))

    def _next(self) -> Transfer | None:
        """The next transfer, unless its result is given back."""
        number, place, url, size = self._waiting.popleft()
        sink = _Sink(number, place, size)
        try:
            location = http_location(SignedUrl(url, None), self._policy)
        except ContentError:
            location = None
        if location is None or not self._hosts.may_try(location.host):
            self._keep(sink, came=False)
            return None
        return Transfer(location, sink)

    def _keep(self, sink: _Sink, *, came: bool) -> None:
        """Hold what came, or the place of what did not, until there is enough for an answer."""
        number = sink.number
        if (held := self._held.get(number)) is None:
            held = self._held[number] = _Held()
        if came:
            held.sinks.append(sink)
            held.bytes += sink.listed_bytes
        else:
            held.failed.append(sink.place)
        if held.is_full:
            self._send(number)

    def _send_old(self) -> None:
        now = time.monotonic()
        self._look_at = now + LONGEST_HELD_S / 2
        for number in [number for number, held in self._held.items() if now - held.since > LONGEST_HELD_S]:
            self._send(number)

    def _send_all(self) -> None:
        for number in list(self._held):
            self._send(number)

    def _send(self, number: int) -> None:
        held, throttled, self._throttled = self._held.pop(number), self._throttled, 0
        sinks = sorted(held.sinks, key=lambda sink: sink.place)
        answer = Answer(
            number,
            [sink.place for sink in sinks],
            [sink.digest.md5 for sink in sinks],
            [sink.digest.sha256 for sink in sinks],
            [sink.size for sink in sinks],
            b"".join(chunk for sink in sinks for chunk in sink.chunks),
            sorted(held.failed),
            throttled,
        )
        self._outgoing.append(answer)
        self._to_send.set()


def main() -> None:
    """Fetch what standard input orders, until it ends. The process ends with it, without waiting for its threads."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        terms = pickle.load(orders)  # noqa: S301  # the process that started this one wrote it
        _Worker(terms, orders, answers).run()
    except BaseException:  # noqa: BLE001  # told, and the other process goes on without this one
        sys.excepthook(*sys.exc_info())
        os._exit(1)
