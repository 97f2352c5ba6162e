"""Connections by libcurl that go where they are sent and nowhere else, for the API's client and the contents'. I/O: HTTP.

Both clients want the same: no redirect, no proxy, password or cookie from the surroundings, TLS with certifi's roots, and
time-outs that hold: libcurl's total one also covers the resolution of the name and an answer that drips in byte by byte.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import BytesIO

import certifi
import pycurl

USER_AGENT = "ricloud-connector"
LONGEST_SLEEP_S = 1.0  # in C, at whose end at the latest signals are seen

UNCONNECTED = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy's name does not resolve",
    pycurl.E_COULDNT_RESOLVE_HOST: "its name does not resolve",
    pycurl.E_COULDNT_CONNECT: "it cannot be connected to",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
}
BROKEN = UNCONNECTED | {
    pycurl.E_OPERATION_TIMEDOUT: "it did not answer in time",
    pycurl.E_PARTIAL_FILE: "the answer broke off",
    pycurl.E_RECV_ERROR: "the connection broke",
    pycurl.E_SEND_ERROR: "the connection broke",
    pycurl.E_GOT_NOTHING: "it closed the connection without an answer",
}
UNTRUSTED = {
    pycurl.E_PEER_FAILED_VERIFICATION: "its TLS certificate is not valid",
    pycurl.E_SSL_CACERT_BADFILE: "the root certificates of certifi cannot be read",
}


def make_handle(proxy: str | None) -> pycurl.Curl:
    """A handle without a URL."""
    curl = pycurl.Curl()
    curl.setopt(pycurl.NOSIGNAL, 1)
    curl.setopt(pycurl.PROXY, proxy or "")  # an empty proxy also shuts out the environment's
    curl.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.FOLLOWLOCATION, 0)
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    curl.setopt(pycurl.PATH_AS_IS, 1)
    curl.setopt(pycurl.CAINFO, certifi.where())
    curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
    curl.setopt(pycurl.USERAGENT, USER_AGENT)
    return curl


def wait(multi: pycurl.CurlMulti) -> None:
    """Sleep until a socket of the transfers is ready or one of libcurl's own timers is due, a second at most."""
    due_ms = multi.timeout()
    seconds = LONGEST_SLEEP_S if due_ms < 0 else min(LONGEST_SLEEP_S, due_ms / 1000)
    if multi.select(seconds) == 0:
        # select() does not know descriptors beyond 1,023 and returns at once: this is then a loop that looks now and then.
        time.sleep(min(seconds, 0.01))


class ExchangeFailed(Exception):
    """No answer. `connected` says whether the host was reached, `final` whether asking again at once cannot help."""

    def __init__(self, message: str, *, connected: bool, final: bool) -> None:
        super().__init__(message)
        self.connected = connected
        self.final = final


class Connection:
    """Requests of one method with the same headers, one after the other, over a connection that is kept.

    What arrives goes into containers written in C: a callback in Python could be interrupted by a signal, and pycurl
    prints what a callback raises and goes on.
    """

    def __init__(self, method: str, headers: Sequence[str], proxy: str | None) -> None:
        self._post = method == "POST"
        self._curl = make_handle(proxy)
        self._curl.setopt(pycurl.HTTPHEADER, list(headers))
        self._curl.setopt(pycurl.ACCEPT_ENCODING, "gzip")
        self._multi = pycurl.CurlMulti()

    def close(self) -> None:
        self._multi.close()
        self._curl.close()

    def exchange(
        self, url: str, content: bytes, *, timeout_s: float, connect_timeout_s: float, max_bytes: int
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and body of the answer. Raises: ExchangeFailed."""
        curl, body, lines = self._curl, BytesIO(), list[bytes]()
        try:
            curl.setopt(pycurl.URL, url)
        except pycurl.error:
            raise ExchangeFailed("its URL is too long", connected=False, final=True) from None
        if self._post:
            curl.setopt(pycurl.POSTFIELDS, content)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(timeout_s * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(connect_timeout_s * 1000)))
        curl.setopt(pycurl.WRITEFUNCTION, body.write)
        curl.setopt(pycurl.HEADERFUNCTION, lines.append)
        self._multi.add_handle(curl)
        try:
            while True:
                self._multi.perform()
                _, succeeded, failed = self._multi.info_read()
                if succeeded or failed:
                    break
                if body.tell() > max_bytes:
                    raise ExchangeFailed(f"the answer is larger than {max_bytes} bytes", connected=True, final=True)
                wait(self._multi)
        finally:
            self._multi.remove_handle(curl)
        for _, code, _ in failed:
            raise self._failure(code)
        if body.tell() > max_bytes:
            raise ExchangeFailed(f"the answer is larger than {max_bytes} bytes", connected=True, final=True)
        return curl.getinfo(pycurl.RESPONSE_CODE), _headers_of(lines), body.getvalue()

    def _failure(self, code: int) -> ExchangeFailed:
        connected = code not in UNCONNECTED and code not in UNTRUSTED
        if code == pycurl.E_OPERATION_TIMEDOUT:
            connected = self._curl.getinfo(pycurl.CONNECT_TIME) > 0
        if code in UNTRUSTED:
            return ExchangeFailed(UNTRUSTED[code], connected=connected, final=True)
        if code in (pycurl.E_URL_MALFORMAT, pycurl.E_UNSUPPORTED_PROTOCOL):
            return ExchangeFailed("its URL cannot be read", connected=False, final=True)
        # libcurl's own text may hold what a server sent; its number does not.
        return ExchangeFailed(BROKEN.get(code, f"libcurl error {code}"), connected=connected, final=False)


def _headers_of(lines: Sequence[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith(b"HTTP/"):
            found = {}  # what came before was an interim answer
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            found[name.strip().lower()] = value.strip()
    return found
