"""Contents behind signed URLs, by libcurl's multi interface. I/O: HTTP GET, without token, cookies or redirects.

One thread drives all transfers: libcurl keeps the connections, Python sees only finished chunks. The address is checked
on the socket that is about to connect, so that neither a name nor its resolution can lead to a private network.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import certifi
import pycurl

from ricloud_connector.location import HttpLocation, is_public
from ricloud_connector.redact import clean
from ricloud_connector.stores import Remedy, Transfer, TransferFault

USER_AGENT = "ricloud-connector"
CONNECT_TIMEOUT_S = 15
LEAST_BYTES_PER_S = 10 * 1024

# GCS decompresses objects that were stored as gzip unless asked for gzip; the checksum is that of the stored bytes.
_GCS_HOSTS = ("storage.googleapis.com", ".storage.googleapis.com")

_BROKEN = {
    pycurl.E_COULDNT_RESOLVE_HOST: "its name does not resolve",
    pycurl.E_COULDNT_CONNECT: "it cannot be connected to",
    pycurl.E_OPERATION_TIMEDOUT: "it did not answer in time",
    pycurl.E_PARTIAL_FILE: "the answer broke off",
    pycurl.E_RECV_ERROR: "the connection broke",
    pycurl.E_SEND_ERROR: "the connection broke",
    pycurl.E_GOT_NOTHING: "it closed the connection without an answer",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
}


class SignedUrlStore:
    """Up to `concurrency` transfers at a time; fewer for a while after the host asks to slow down.

    A transfer ends after `stall_s` below 10 KiB/s, and after a total deadline that grows with the listed size.
    Not for use from two threads at once.
    """

    def __init__(self, *, concurrency: int = 64, stall_s: int = 60, proxy: str | None = None) -> None:
        self._concurrency = concurrency
        self._allowed = float(concurrency)
        self._multi = pycurl.CurlMulti()
        self._idle = [_Slot(stall_s, proxy) for _ in range(concurrency)]

    def close(self) -> None:
        for slot in self._idle:
            slot.curl.close()
        self._multi.close()

    def transfer(self, transfers: Iterable[Transfer]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        waiting, busy = iter(transfers), dict[int, _Slot]()
        exhausted = False
        try:
            while busy or not exhausted:
                while not exhausted and len(busy) < max(1, int(self._allowed)):
                    following = next(waiting, None)
                    if following is None:
                        exhausted = True
                    else:
                        slot = self._idle.pop()
                        slot.start(following)
                        busy[id(slot.curl)] = slot
                        self._multi.add_handle(slot.curl)
                self._multi.perform()
                ended = list(self._ended(busy))
                yield from ended
                if busy and not ended:
                    self._multi.select(1.0)
        finally:
            for slot in list(busy.values()):  # the caller stopped early
                self._release(slot, busy)

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
        del busy[id(slot.curl)]
        self._idle.append(slot)

    def _adapt(self, fault: TransferFault | None) -> None:
        """Halve what is in flight for each answer that says slow down, and grow by one for every success."""
        if fault is None:
            self._allowed = min(float(self._concurrency), self._allowed + 1)
        elif fault.reason == "throttled":
            self._allowed = max(1.0, self._allowed / 2)


class _Slot:
    """One reusable libcurl handle with its callbacks."""

    def __init__(self, stall_s: int, proxy: str | None) -> None:
        self.transfer: Any = None
        self._forbidden: str | None = None
        self._proxied = proxy is not None
        self._stall_s = stall_s
        self.curl = curl = pycurl.Curl()
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.PROXY, proxy or "")  # an empty proxy also shuts out the environment's
        curl.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.FAILONERROR, 1)  # the body of an error never reaches a sink
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.CAINFO, certifi.where())
        curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        curl.setopt(pycurl.USERAGENT, USER_AGENT)
        curl.setopt(pycurl.BUFFERSIZE, 512 * 1024)
        curl.setopt(pycurl.CONNECTTIMEOUT, min(CONNECT_TIMEOUT_S, stall_s))
        curl.setopt(pycurl.LOW_SPEED_LIMIT, LEAST_BYTES_PER_S)
        curl.setopt(pycurl.LOW_SPEED_TIME, stall_s)
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)

    def start(self, transfer: Transfer) -> None:
        location, sink = transfer.location, transfer.sink
        assert isinstance(location, HttpLocation)
        self.transfer, self._forbidden = transfer, None
        gzip = location.host.rpartition(":")[0].endswith(_GCS_HOSTS)
        curl = self.curl
        curl.setopt(pycurl.URL, location.url)
        curl.setopt(pycurl.HTTPHEADER, [f"Accept-Encoding: {'gzip' if gzip else 'identity'}"])
        curl.setopt(pycurl.RESUME_FROM_LARGE, sink.size)
        curl.setopt(pycurl.TIMEOUT, math.ceil(2 * self._stall_s + (sink.result.size or 0) / LEAST_BYTES_PER_S))
        curl.setopt(pycurl.WRITEFUNCTION, sink.write)

    def _open_socket(self, purpose: int, address: Any) -> socket.socket | int:
        # With a proxy the socket is the proxy's own: it is then the proxy that decides what may be reached.
        if not self._proxied and not self.transfer.location.trusted and not is_public(str(address.addr[0])):
            self._forbidden = str(address.addr[0])
            return pycurl.SOCKET_BAD
        return socket.socket(address.family, address.socktype, address.protocol)

    def fault(self, code: int) -> TransferFault | None:
        """What went wrong, if anything: from libcurl's code and the status."""
        host, sink = self.transfer.location.host, self.transfer.sink
        if self._forbidden is not None:
            return TransferFault(
                "forbidden_url",
                f"{clean(host)} resolves to {clean(self._forbidden)}, which is not a public address; "
                f"if it is yours, set RICLOUD_CONTENT_HOSTS={clean(host)}",
                Remedy.NONE,
            )
        if sink.fault is not None:
            return None  # the sink refused a chunk and knows why
        status = self.curl.getinfo(pycurl.RESPONSE_CODE)
        if code == pycurl.E_HTTP_RETURNED_ERROR or (code == 0 and status not in (200, 206)):
            return self._status_fault(status, host)
        if code == 0:
            return None
        if code in _BROKEN:
            return TransferFault("unreachable", f"{clean(host)}: {_BROKEN[code]}", Remedy.RESUME)
        if code == pycurl.E_RANGE_ERROR:
            return TransferFault("unreachable", f"{clean(host)} does not resume", Remedy.RESTART)
        if code == pycurl.E_PEER_FAILED_VERIFICATION:
            return TransferFault("untrusted_host", f"{clean(host)}: its TLS certificate is not valid", Remedy.NONE)
        # libcurl's own text may hold the URL; its number does not.
        return TransferFault("unreadable", f"{clean(host)}: libcurl error {code}", Remedy.RESTART)

    def _status_fault(self, status: int, host: str) -> TransferFault:
        said = f"{clean(host)} answered {status}"
        if status in (400, 401, 403):
            return TransferFault("access_denied", said, Remedy.RENEW)
        if status in (404, 410):
            return TransferFault("gone", said, Remedy.RENEW)
        if status == 416:
            return TransferFault("unreadable", said, Remedy.RESTART)
        if status in (429, 503):
            wait = float(self.curl.getinfo(pycurl.RETRY_AFTER) or 0)
            return TransferFault("throttled", said, Remedy.RESUME, retry_after_s=min(wait, 300.0))
        if status >= 500 or status == 408:
            return TransferFault("unreachable", said, Remedy.RESUME)
        if 300 <= status < 400:
            target = self.curl.getinfo(pycurl.REDIRECT_URL)
            remedy = Remedy.FOLLOW if target else Remedy.NONE
            return TransferFault("redirected", f"{said}, a redirect", remedy, target=target)
        return TransferFault("unreadable", said, Remedy.NONE)
