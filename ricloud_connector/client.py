"""RicloudClient: list, retrieve and acknowledge results at the API. I/O: HTTPS to one origin, with the token.

`wire.py` knows the protocol; here are time-outs, retries and the walk over pages. What a server claims about filters,
order and cursors is checked page by page and never assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import httpx
import stamina

from ricloud_connector import wire
from ricloud_connector.errors import ApiError, ApiRefused, ApiUnavailable, FilterRefused, UntrustedAnswer
from ricloud_connector.model import AVAILABLE, Rejection, Result, Window, id_of
from ricloud_connector.redact import Secret, clean

MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_EMPTY_PAGES = 3
USER_AGENT = "ricloud-connector"

T = TypeVar("T")


class RicloudClient:
    """The API as three verbs. Safe to use from several threads.

    `deadline_s` bounds one call with its retries, without the waits that the server itself demands by `Retry-After`.
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
    ) -> None:
        self.url = url.rstrip("/")
        self.requests = 0
        self._token = token
        self._deadline_s = deadline_s
        self._date_filter = date_filter
        self._http = httpx.Client(
            headers={
                "Authorization": f"Token {token.reveal()}",
                "Accept": "application/json",
                "User-Agent": USER_AGENT,
            },
            timeout=httpx.Timeout(deadline_s, connect=min(connect_timeout_s, deadline_s)),
            follow_redirects=False,
            trust_env=False,
            proxy=proxy,
        )

    def __enter__(self) -> RicloudClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RicloudClient({clean(self.url)!r})"

    def close(self) -> None:
        self._http.close()

    def list_results(
        self, window: Window | None = None, state: str = AVAILABLE, *, filters: Mapping[str, str] | None = None
    ) -> Listing:
        """The results in a state whose `date_created` lies in the window, lazily, in the server's order."""
        return Listing(self, window, state, filters or {})

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
        """One page, and whether the date filter was sent. A server that refuses the filter is asked without it from then on."""
        if window is not None and self._date_filter is not None:
            try:
                request = wire.list_request(window, state, after_id, date_filter=self._date_filter, filters=filters)
                return self._call(request, wire.parse_page), True
            except FilterRefused:
                self._date_filter = None
        request = wire.list_request(None, state, after_id, filters=filters)
        return self._call(request, wire.parse_page), False

    def _call(self, request: wire.Request, parse: Callable[..., T]) -> T:
        """Send with retries for connections, 429, 5xx and bodies cut short; never for another 4xx."""
        for attempt in stamina.retry_context(
            on=_retry_wait, attempts=None, timeout=self._deadline_s, wait_initial=0.1, wait_max=5.0, wait_jitter=1.0
        ):
            with attempt:
                status, headers, body = self._send(request)
                return parse(status, headers, body, self._token)
        raise AssertionError("retry_context either returns or raises")

    def _send(self, request: wire.Request) -> tuple[int, Mapping[str, str], bytes]:
        self.requests += 1
        ends = time.monotonic() + self._deadline_s
        try:
            with self._http.stream(
                request.method, self.url + request.path, params=request.params or None, json=request.json
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    # Each chunk restarts httpx's read time-out: a server that drips is stopped here.
                    if time.monotonic() > ends:
                        raise ApiUnavailable(f"{_called(request)}: the answer was not complete after {self._deadline_s:g} s")
                    if len(body) > MAX_BODY_BYTES:
                        raise UntrustedAnswer(f"{_called(request)}: the answer is larger than {MAX_BODY_BYTES} bytes")
                return response.status_code, response.headers, bytes(body)
        except httpx.HTTPError as error:
            connected = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            said = clean(str(error), self._token) or type(error).__name__
            raise ApiUnavailable(f"{_called(request)} at {clean(self.url)}: {said}", connected=connected) from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ApiRefused(
                f"{_called(request)}: not a request that HTTP can carry ({type(error).__name__})", status=0
            ) from None


class Listing:
    """One walk over a list of results; iterate it once. Yields each item that belongs to the window.

    Raises while iterating: UntrustedAnswer for a cursor that repeats or stands still, and what `parse_page` raises.
    After or during the walk, `pages`, `outside` (items that the server's filter should have held back) and
    `filter_ignored` say what was seen.
    """

    def __init__(self, client: RicloudClient, window: Window | None, state: str, filters: Mapping[str, str]) -> None:
        self._client, self._window, self._state, self._filters = client, window, state, filters
        self.pages = 0
        self.outside = 0
        self.filter_ignored = False

    def __iter__(self) -> Iterator[Result | Rejection]:
        for page in self.by_page():
            yield from page

    def by_page(self) -> Iterator[list[Result | Rejection]]:
        """Page by page; restarts once from the first page where the server has forgotten the cursor (400, 404 or 410)."""
        try:
            yield from self._walk()
        except _CursorLost:
            # What was seen already comes again: callers decide by id, so that repeats cost time and nothing else.
            try:
                yield from self._walk()
            except _CursorLost as lost:
                raise UntrustedAnswer(f"the cursor was refused twice: {lost.cause}") from None

    def _walk(self) -> Iterator[list[Result | Rejection]]:
        cursor, cursors, empty_pages = None, set[str](), 0
        recent: list[set[str]] = []
        order = _Order()
        while True:
            page = self._page(cursor)
            fresh = [item for item in page.items if not any(id_of(item) in ids for ids in recent)]
            recent = [*recent[-2:], {id_of(item) for item in page.items}]
            order.see(page)
            yield [item for item in fresh if self._belongs(item)]
            if not page.has_more or (self.filter_ignored and self._window and order.is_past(self._window)):
                return
            empty_pages = empty_pages + 1 if not fresh else 0
            if empty_pages > MAX_EMPTY_PAGES:
                raise UntrustedAnswer(f"{empty_pages} pages brought nothing new, yet the API says that there is more")
            if page.cursor is None:
                continue  # an empty page that promises more: the same question again, a bounded number of times
            if page.cursor in cursors:
                raise UntrustedAnswer(f"the list does not end: the page after {clean(page.cursor)!r} came before")
            cursors.add(page.cursor)
            cursor = page.cursor

    def _page(self, cursor: str | None) -> wire.Page:
        try:
            page, filtered = self._client.fetch_page(self._window, self._state, cursor, self._filters)
        except ApiRefused as error:
            if cursor is not None and error.status in (400, 404, 410):
                raise _CursorLost(error) from None
            raise
        self.pages += 1
        if self._window is not None and not filtered:
            self.filter_ignored = True
        return page

    def _belongs(self, item: Result | Rejection) -> bool:
        if self._window is None or item.date_created is None or item.date_created in self._window:
            return True
        self.outside += 1
        # The filter is widened to whole seconds: an item less than a second outside is the server being right.
        slack = timedelta(seconds=1)
        if not self._window.since - slack <= item.date_created < self._window.until + slack:
            self.filter_ignored = True
        return False


class _CursorLost(Exception):
    def __init__(self, cause: ApiError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Order:
    """Whether every item so far came newest first: only then may a walk without a filter stop early."""

    def __init__(self) -> None:
        self._descending = True
        self._oldest: Result | None = None

    def see(self, page: wire.Page) -> None:
        for item in page.items:
            if isinstance(item, Result):
                if self._oldest is not None and item.date_created > self._oldest.date_created:
                    self._descending = False
                self._oldest = item

    def is_past(self, window: Window) -> bool:
        return self._descending and self._oldest is not None and self._oldest.date_created < window.since


def _called(request: wire.Request) -> str:
    return f"{request.method} {clean(request.path, limit=80)}"


def _retry_wait(error: Exception) -> bool | float:
    """Whether to try again; seconds where the server asked for a wait."""
    if isinstance(error, ApiUnavailable):
        return error.retry_after_s if error.retry_after_s is not None else True
    return isinstance(error, UntrustedAnswer) and error.cut_short
