"""Handles of libcurl that go where they are sent and nowhere else, and what its errors mean. I/O: waits for sockets."""

from __future__ import annotations

import time

import certifi
import pycurl

USER_AGENT = "ricloud-connector"
LONGEST_SLEEP_S = 1.0  # in C, at whose end at the latest signals are seen

BROKEN = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "the proxy's name does not resolve",
    pycurl.E_COULDNT_RESOLVE_HOST: "its name does not resolve",
    pycurl.E_COULDNT_CONNECT: "it cannot be connected to",
    pycurl.E_SSL_CONNECT_ERROR: "the TLS handshake failed",
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


def wait(multi: pycurl.CurlMulti, longest_s: float = LONGEST_SLEEP_S) -> None:
    """Sleep until a socket of the transfers is ready or one of libcurl's own timers is due, `longest_s` at most."""
    due_ms = multi.timeout()
    seconds = longest_s if due_ms < 0 else min(longest_s, due_ms / 1000)
    started = time.monotonic()
    if multi.select(seconds) == 0 and time.monotonic() - started < seconds / 2:
        # select() does not know descriptors beyond 1,023 and returns at once: this is then a loop that looks now and then.
        time.sleep(min(seconds, 0.01))
