"""Contents behind signed URLs, by libcurl's multi interface. I/O: HTTP GET, without token, cookies or redirects.

One thread drives all transfers: libcurl keeps the connections, Python sees only chunks. The address is checked on the
socket that is about to connect, so that neither a name nor its resolution can lead to a private network.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pycurl

from ricloud_connector.headers import retry_after_s
from ricloud_connector.libcurl import BROKEN, LONGEST_SLEEP_S, UNTRUSTED, make_handle, wait
from ricloud_connector.location import HttpLocation, is_public, not_public
from ricloud_connector.redact import clean
from ricloud_connector.stores import Remedy, Transfer, TransferFault

CONNECT_TIMEOUT_S = 15
LEAST_BYTES_PER_S = 10 * 1024
LONGEST_TRANSFER_S = 1_000_000
LOOK_AGAIN_S, LOOK_AGAIN_IDLE_S = 0.005, 0.02  # for more to fetch, where there was none

# GCS decompresses objects that were stored as gzip unless asked for gzip; the checksum is that of the stored bytes.
GCS_HOSTS = ("storage.googleapis.com", ".storage.googleapis.com")


class SignedUrlStore:
    """Up to `concurrency` transfers at a time; fewer for a while after the host asks to slow down.

    Of these `beside` says how many others have under way. A transfer ends after `stall_s` below 10 KiB/s, and after a total
    deadline that grows with the listed size. Not for use from two threads at once.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        stall_s: int = 60,
        proxy: str | None = None,
        beside: Callable[[], int] = lambda: 0,
    ) -> None:
        self._concurrency, self._beside = concurrency, beside
        self._allowed = float(concurrency)
        self._multi = pycurl.CurlMulti()
        self._busy: dict[int, _Slot] = {}
        self._idle = [_Slot(stall_s, proxy) for _ in range(concurrency)]

    def close(self) -> None:
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()

    def transfer(self, transfers: Iterable[Transfer | None]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        waiting, busy = iter(transfers), self._busy
        exhausted = False
        try:
            while busy or not exhausted:
                starved = False
                while not (exhausted or starved) and len(busy) < self._room():
                    try:
                        following = next(waiting)
                    except StopIteration:
                        exhausted = True
                    else:
                        if following is None:
                            starved = True
                        else:
                            self._start(following, busy)
                self._multi.perform()
                ended = list(self._ended(busy))
                yield from ended
                if not ended:
                    wait(self._multi, self._patience(starved))
        finally:
            for slot in list(busy.values()):  # the caller stopped early
                self._release(slot, busy)

    @property
    def in_flight(self) -> int:
        return len(self._busy)

    def slow_down(self, answers: int) -> None:
        """Start with less at once: so many answers to others have asked for it."""
        self._allowed = max(1.0, self._allowed / 2 ** min(answers, 10))

    def _room(self) -> int:
        """How many may be under way now."""
        return min(int(self._allowed), self._concurrency - self._beside())

    def _patience(self, starved: bool) -> float:
        """How long to wait for sockets, before it is looked whether there is more to start, or room for it."""
        if not self._busy:
            return LOOK_AGAIN_IDLE_S
        return LOOK_AGAIN_S if starved or self._beside() else LONGEST_SLEEP_S

    def _start(self, transfer: Transfer, busy: dict[int, _Slot]) -> None:
        slot = self._idle[-1]
        slot.start(transfer)
        self._multi.add_handle(slot.curl)
        busy[id(slot.curl)] = self._idle.pop()

    def _ended(self, busy: dict[int, _Slot]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        while True:
            queued, succeeded, failed = self._multi.info_read()
            for curl, code in [*((curl, 0) for curl in succeeded), *((curl, code) for curl, code, _ in failed)]:
                slot = busy[id(curl)]
                transfer, fault = slot.transfer, slot.fault(code)
                self._release(slot, busy)
                self._adapt(fault)
                yield transfer, fault
            if not queued:
                return

    def _release(self, slot: _Slot, busy: dict[int, _Slot]) -> None:
        self._multi.remove_handle(slot.curl)
        slot.transfer = None
        self._idle.append(busy.pop(id(slot.curl)))

    def _adapt(self, fault: TransferFault | None) -> None:
        """Halve what is in flight for each answer that says slow down; grow by one when as many succeeded as are allowed."""
        if fault is None:
            if self._allowed < self._concurrency:
                self._allowed = min(float(self._concurrency), self._allowed + 1 / self._allowed)
        elif fault.reason == "throttled":
            self._allowed = max(1.0, self._allowed / 2)


class _Slot:
    """One reusable libcurl handle with its callbacks."""

    def __init__(self, stall_s: int, proxy: str | None) -> None:
        self.transfer: Any = None
        self._raised: BaseException | None = None
        self._forbidden: str | None = None
        self._lines: list[bytes] = []
        self._is_content = False
        self._set: tuple[object, ...] = ()
        self._proxied = proxy is not None
        self._stall_s = stall_s
        self.curl = curl = make_handle(proxy)
        curl.setopt(pycurl.BUFFERSIZE, 512 * 1024)
        curl.setopt(pycurl.CONNECTTIMEOUT, min(CONNECT_TIMEOUT_S, stall_s))
        curl.setopt(pycurl.LOW_SPEED_LIMIT, LEAST_BYTES_PER_S)
        curl.setopt(pycurl.LOW_SPEED_TIME, stall_s)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)  # read only where something is wrong: most never are
        curl.setopt(pycurl.WRITEFUNCTION, self._take_chunk)

    def start(self, transfer: Transfer) -> None:
        location, sink = transfer.location, transfer.sink
        assert isinstance(location, HttpLocation)
        self.transfer, self._raised, self._forbidden = transfer, None, None
        self._lines.clear()
        self._is_content = False
        gzip = location.host.rpartition(":")[0].endswith(GCS_HOSTS)
        total_s = 2 * self._stall_s + (sink.listed_bytes - sink.size) / LEAST_BYTES_PER_S
        curl, wanted = self.curl, (gzip, sink.size, math.ceil(min(total_s, LONGEST_TRANSFER_S)))
        curl.setopt(pycurl.URL, location.url)
        if wanted != self._set:
            curl.setopt(pycurl.HTTPHEADER, [f"Accept-Encoding: {'gzip' if gzip else 'identity'}"])
            curl.setopt(pycurl.RESUME_FROM_LARGE, sink.size)
            curl.setopt(pycurl.TIMEOUT, wanted[2])
            self._set = wanted

    # What a callback raises is kept for `fault`: pycurl would print it and go on, an interrupt too.

    def _open_socket(self, purpose: int, address: Any) -> socket.socket | int:  # noqa: ARG002  # libcurl gives both
        try:
            # With a proxy the socket is the proxy's own: it is then the proxy that decides what may be reached.
            if not self._proxied and not self.transfer.location.trusted and not is_public(str(address.addr[0])):
                self._forbidden = str(address.addr[0])
                return pycurl.SOCKET_BAD
            return socket.socket(address.family, address.socktype, address.protocol)
        except OSError:
            return pycurl.SOCKET_BAD  # no descriptor is free: libcurl reports that it cannot connect
        except BaseException as error:  # noqa: BLE001  # raised again, once libcurl has returned
            self._raised = error
            return pycurl.SOCKET_BAD

    def _take_chunk(self, chunk: bytes) -> int:
        """How many bytes were taken: less than came makes libcurl stop, as it does for the body of any other answer."""
        try:
            if not self._is_content:
                # The first line is the last answer's unless that is not a 200, or a proxy answered before.
                plain = self._lines[0][9:12] in (b"200", b"206") and not self._proxied
                self._is_content = plain or self._answer()[:1] in ([b"200"], [b"206"])
                if not self._is_content:
                    return 0
            return len(chunk) if self.transfer.sink.write(chunk) else 0
        except BaseException as error:  # noqa: BLE001  # raised again, once libcurl has returned
            self._raised = error
            return 0

    def _answer(self) -> list[bytes]:
        """Of the last answer that began: its status and the lines of its header, with the empty one if that has come."""
        for place in range(len(self._lines) - 1, -1, -1):
            if self._lines[place].startswith(b"HTTP/"):
                return [*self._lines[place].split(b" ", 2)[1:2], *self._lines[place + 1 :]]
        return []

    def _headers(self) -> dict[str, str]:
        # libcurl's own word on where a redirect leads is lost where its body is refused.
        pairs = (line.decode("latin-1").partition(":") for line in self._answer()[1:])
        return {name.lower(): value.strip() for name, _, value in pairs}

    def fault(self, code: int) -> TransferFault | None:
        """What went wrong, if anything: from the status and libcurl's code. Raises: what a callback raised."""
        if self._raised is not None:
            raise self._raised
        if code == pycurl.E_OK and self._is_content:
            return None  # also where the sink refused a chunk: it knows why
        host, sink = clean(self.transfer.location.host), self.transfer.sink
        if code == pycurl.E_COULDNT_CONNECT and self._forbidden is not None:
            return TransferFault("forbidden_url", f"{host} {not_public(host, self._forbidden)}", Remedy.NONE)
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if status >= 200 and status not in (200, 206):
            return self._status_fault(status, f"{host} answered {status}")
        if code == pycurl.E_OK and not self._is_content and not any(not line.strip() for line in self._answer()[1:]):
            code = pycurl.E_PARTIAL_FILE  # libcurl takes a connection that ends among the headers for an empty answer
        if sink.fault is not None or code == pycurl.E_OK:
            return None  # where the sink refused a chunk, it knows why
        if code in BROKEN:
            return TransferFault("unreachable", f"{host}: {BROKEN[code]}", Remedy.RESUME)
        if code in UNTRUSTED:
            return TransferFault("untrusted_host", f"{host}: {UNTRUSTED[code]}", Remedy.LATER)
        if code == pycurl.E_RANGE_ERROR:
            return TransferFault("unreadable", f"{host} does not go on where the answer broke off", Remedy.RESTART)
        # libcurl's own text may hold the URL; its number does not.
        return TransferFault("unreadable", f"{host}: libcurl error {code}", Remedy.RESTART)

    def _status_fault(self, status: int, said: str) -> TransferFault:
        if status in (400, 401, 403):
            return TransferFault("access_denied", said, Remedy.RENEW)
        if status in (404, 410):
            return TransferFault("gone", said, Remedy.RENEW)
        if status == 416:
            return TransferFault("unreadable", said, Remedy.RESTART)
        if status in (429, 503):
            return TransferFault("throttled", said, Remedy.RESUME, retry_after_s=retry_after_s(self._headers()) or 0.0)
        if status >= 500 or status == 408:
            return TransferFault("unreachable", said, Remedy.RESUME)
        if 300 <= status < 400:
            target = self._headers().get("location")
            return TransferFault("redirected", f"{said}, a redirect", Remedy.FOLLOW if target else Remedy.NONE, target=target)
        return TransferFault("unreadable", said, Remedy.NONE)
