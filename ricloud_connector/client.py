"""RicloudClient: list, retrieve and acknowledge results at the API. I/O: HTTPS to one origin, with the token.

`wire.py` knows the protocol, `listing.py` walks over pages; here are httpx, time-outs and retries.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from types import TracebackType
from typing import Protocol, TypeVar

import httpcore
import httpx
import tenacity

from ricloud_connector import wire
from ricloud_connector.errors import (
    ApiError,
    ApiRefused,
    ApiUnavailable,
    FilterRefused,
    SettingsError,
    UntrustedAnswer,
)
from ricloud_connector.listing import Listing
from ricloud_connector.model import AVAILABLE, Rejection, Result, Window, id_of
from ricloud_connector.redact import Secret, clean
from ricloud_connector.transport import DeadlineTransport

USER_AGENT = "ricloud-connector"
MAX_BODY_BYTES = 16 * 1024 * 1024  # a thousand results with all that they may hold; decoded, it may be twentyfold in memory
LARGE_BODY_BYTES = 1024 * 1024  # more than most pages have: one such is parsed at a time, however many are listed
MAX_DEMANDED_S = 300.0  # of waits that the server asks for, together, in one call
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Exchange(Protocol):
    """Sends one request to the API; gives status, headers and body of the answer, before anything is made of them.

    It ends at `ends`, a moment of `time.monotonic()`. Raises: ApiError where there is no answer.
    """

    def __call__(self, request: wire.Request, ends: float, /) -> tuple[int, Mapping[str, str], bytes]: ...


class RicloudClient:
    """The API as three verbs. Safe to use from several threads.

    `deadline_s` bounds one call with its retries, from the connection to the last byte, without the waits that the server
    itself demands by `Retry-After`: those are kept, up to 300 s together. `exchange`, `sleep` and `clock` are all that it
    has of the world outside.
    `date_filter` names the two query parameters of the half-open `date_created` window; None walks without a filter.
    """

    def __init__(
        self,
        url: str,
        token: Secret,
        *,
        deadline_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        date_filter: tuple[str, str] | None = wire.DATE_FILTER,
        proxy: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        exchange: Exchange | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.requests = 0
        self.last_date = ""  # what the API's clock showed in its last answer
        self.quickest_page_s = float("inf")  # from a request to the last byte of its answer
        self._token = token
        self._deadline_s = deadline_s
        self._date_filter = date_filter
        self._sleep, self._clock = sleep, clock
        self._parsing = threading.Lock()
        self._http: HttpExchange | None = None
        if exchange is None:
            exchange = self._http = HttpExchange(self.url, token, deadline_s, connect_timeout_s, proxy)
        self._exchange = exchange

    def __enter__(self) -> RicloudClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RicloudClient({clean(self.url)!r})"

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def list_results(
        self,
        window: Window | None = None,
        state: str = AVAILABLE,
        *,
        filters: Mapping[str, str] | None = None,
        after_id: str | None = None,
    ) -> Listing:
        """The results in a state whose `date_created` lies in the window, lazily, page by page in the server's order.

        `after_id` goes on where an earlier walk over the same list has ended.
        """
        return Listing(self, window, state, filters or {}, after_id=after_id)

    def retrieve_result(self, result_id: str) -> Result | Rejection:
        """One result, read anew: its present state, and a fresh signed URL where the API signs on read [inferred].

        Raises: ApiRefused (404 when the id is unknown), ApiUnavailable, UntrustedAnswer also when it is another result.
        """
        answer = self._call(wire.retrieve_request(result_id), wire.parse_result)
        if id_of(answer) != result_id:
            raise UntrustedAnswer(f"asked for result {clean(result_id)!r}, the API answered with {clean(id_of(answer))!r}")
        return answer

    def send_acknowledgements(self, wire_ids: list[int | str]) -> None:
        """Send one batch. Its answer proves nothing about one id: whether it was applied must be read back.

        `acknowledge.py` is the one caller: it alone holds proof that the content is safe. Raises: ApiRefused (400 or 413
        for a batch that is too long or holds an id the server will not take), ApiUnavailable.
        """
        self._call(wire.acknowledge_request(wire_ids), wire.parse_acknowledgement)

    def fetch_page(
        self, window: Window | None, state: str, after_id: str | None, filters: Mapping[str, str]
    ) -> tuple[wire.Page, bool]:
        """One page, and whether the date filter was sent. A server that refuses the filter is asked without it from then on.

        Raises: SettingsError where there is no list at all; ApiRefused (400, 404, 410 where the cursor is not known any
        more), ApiUnavailable, UntrustedAnswer.
        """
        if window is None or self._date_filter is None:
            return self._fetch_page(wire.list_request(None, state, after_id, filters=filters), after_id), False
        request = wire.list_request(window, state, after_id, date_filter=self._date_filter, filters=filters)
        try:
            return self._fetch_page(request, after_id), True
        except ApiRefused as error:
            # A first page refused without a reason may have been refused for the filter: the second try tells.
            if not isinstance(error, FilterRefused) and (error.status != 400 or after_id is not None):
                raise
        page = self._fetch_page(wire.list_request(None, state, after_id, filters=filters), after_id)
        logger.warning("the API refuses to filter by %s: every listing is read as a whole", " and ".join(self._date_filter))
        self._date_filter = None
        return page, False

    def _fetch_page(self, request: wire.Request, after_id: str | None) -> wire.Page:
        try:
            return self._call(request, wire.parse_page)
        except ApiRefused as error:
            if error.status == 404 and after_id is None:
                raise SettingsError(f"RICLOUD_URL={clean(self.url)} is not the base of a results API: {error}") from None
            raise

    def _call(self, request: wire.Request, parse: Callable[..., T]) -> T:
        """Send with retries for connections, 429, 5xx and bodies cut short; never for another 4xx."""
        patience = _Patience(self._deadline_s, self._clock)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            wait=patience.wait,
            stop=patience.is_over,
            sleep=self._sleep,
            before_sleep=_tell,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                answer = self._ask(request, parse, patience.ends)
                if isinstance(answer, ApiError):
                    raise answer
                return answer
        raise AssertionError("tenacity either returns or raises")

    def _ask(self, request: wire.Request, parse: Callable[..., T], ends: float) -> T | ApiError:
        """Send once and read the answer; an error is returned, without its frames.

        Those hold the answer, in which signed URLs stand, and a log that shows local variables would show them.
        """
        try:
            self.requests += 1
            started = self._clock()
            status, headers, body = self._exchange(request, ends)
            if status == 200 and request.path == wire.LIST_PATH:
                self.quickest_page_s = min(self.quickest_page_s, self._clock() - started)
            self.last_date = headers.get("date", "")
            with self._parsing if len(body) > LARGE_BODY_BYTES else nullcontext():
                return parse(status, headers, body, self._token)
        except ApiError as error:
            error.__context__ = None
            return error.with_traceback(None)


class HttpExchange:
    """`Exchange` by httpx, with the token, over connections that stay open.

    Without httpx's client: cookies, redirects, authentication and the environment are not wanted here, and take time.
    """

    def __init__(self, url: str, token: Secret, deadline_s: float, connect_timeout_s: float, proxy: str | None) -> None:
        self._url, self._token = url, token
        self._transport = DeadlineTransport(proxy=proxy)
        self._headers = httpx.Headers(
            {
                "Authorization": f"Token {token.reveal()}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "Connection": "keep-alive",
                "User-Agent": USER_AGENT,
            }
        )
        self._timeout = httpx.Timeout(deadline_s, connect=min(connect_timeout_s, deadline_s)).as_dict()

    def close(self) -> None:
        self._transport.close()

    def __call__(self, request: wire.Request, ends: float, /) -> tuple[int, Mapping[str, str], bytes]:
        called = f"{request.method} {clean(request.path, limit=80)} at {clean(self._url)}"
        body = bytearray()
        try:
            with self._transport.until(ends), closing(self._transport.handle_request(self._outgoing(request))) as response:
                logger.debug("%s: %d", called, response.status_code)
                encoding = response.headers.get("content-encoding", "identity")
                if encoding.lower() not in ("identity", "gzip"):  # each that is stacked on another may be a thousandfold
                    raise UntrustedAnswer(f"{called}: the answer is encoded as {clean(encoding)!r}, which was not asked for")
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise UntrustedAnswer(f"{called}: the answer is larger than {MAX_BODY_BYTES} bytes")
                return response.status_code, response.headers, bytes(body)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError) as error:
            if isinstance(error.__context__, ssl.SSLCertVerificationError):
                raise ApiRefused(f"{called}: its TLS certificate is not valid", status=0) from None
            raise ApiUnavailable(f"{called}: {_said(error, self._token)}", connected=False) from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError) as error:
            raise ApiUnavailable(f"{called}: {_said(error, self._token)}") from None
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError) as error:
            raise ApiRefused(f"{called}: not a request that HTTP can carry ({type(error).__name__})", status=0) from None

    def _outgoing(self, request: wire.Request) -> httpx.Request:
        """Raises: InvalidURL, UnicodeError."""
        return httpx.Request(
            request.method,
            self._url + request.path,
            params=request.params or None,
            json=request.json,
            headers=self._headers,
            extensions={"timeout": self._timeout},
        )


class _Patience:
    """How long one call may go on: until its deadline, which waits that the server demands push back."""

    def __init__(self, deadline_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.ends = clock() + deadline_s
        self._least_s = deadline_s / 10  # a last try without time for an answer would only hide what was said before
        self._demanded_s = 0.0
        self._pause = tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, min=FIRST_PAUSE_S / 2, max=LONGEST_PAUSE_S)

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next try: growing with jitter, or what the server asks for if that is longer."""
        pause_s = self._pause(state)
        error = state.outcome.exception() if state.outcome else None
        asked_s = (error.retry_after_s or 0.0) if isinstance(error, ApiUnavailable) else 0.0
        if asked_s <= pause_s:
            return pause_s
        self._demanded_s += asked_s
        self.ends += asked_s
        return asked_s

    def is_over(self, state: tenacity.RetryCallState) -> bool:
        too_late = self._clock() + state.upcoming_sleep >= self.ends - self._least_s
        return too_late or self._demanded_s > MAX_DEMANDED_S


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ApiUnavailable) or (isinstance(error, UntrustedAnswer) and error.cut_short)


def _tell(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s; asked again in %.1f s", error, state.upcoming_sleep)


def _said(error: Exception, token: Secret) -> str:
    return clean(str(error), token) or type(error).__name__
