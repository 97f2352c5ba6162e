"""One walk over a list of results, page by page, believing nothing that the pages do not show. I/O: through the client.

What a server claims of filters, order and cursors is checked against what it sends: an item outside the window is dropped,
a cursor that leads in a circle ends the walk with an error, and only a list that was seen to come newest first is not
read to its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.errors import ApiRefused, UntrustedAnswer
from ricloud_connector.listed import Listed, micros
from ricloud_connector.model import Rejection, Result, Window
from ricloud_connector.redact import clean
from ricloud_connector.wire import Page

MAX_EMPTY_PAGES = 3
MAX_RESTARTS = 3
PAGES_REMEMBERED = 3  # items that move to a neighbouring page while the list is read are not given out twice

# Newest first is taken for the list's order after so many steps back in time, and the window for passed after so many
# items before it: fewer may be chance. Results made within the hour may stand in any order among themselves.
ENOUGH_ITEMS = 20
SLACK = timedelta(hours=1)
_SLACK = SLACK // timedelta(microseconds=1)
_NO_IDS = pa.nulls(0, pa.string())
_LATEST = micros(datetime.max.replace(tzinfo=UTC))


class PageSource(Protocol):
    """Fetches one page; says too whether the server was asked to filter by date. Raises: ApiError."""

    def fetch_page(
        self, window: Window | None, state: str, after_id: str | None, filters: Mapping[str, str], /
    ) -> tuple[Page, bool]: ...


class Listing:
    """Iterate it once: each item that belongs to the window, most of them once, page by page in the server's order.

    Within a page the results come in their order, then what could not be read as one.

    Raises while iterating: UntrustedAnswer for a cursor that repeats or stands still, and what `fetch_page` raises; what
    was given out before stays good. `cursor` is where the next page starts, None where there is none; `pages` counts the
    pages read, `outside` the items that did not belong, and `filter_ignored` says that the server did not hold those
    back: it refused the filter or does not heed it.
    """

    def __init__(
        self,
        source: PageSource,
        window: Window | None,
        state: str,
        filters: Mapping[str, str],
        *,
        after_id: str | None = None,
    ) -> None:
        self._source, self._window, self._state, self._filters = source, window, state, filters
        self.cursor = after_id
        self.pages = 0
        self.outside = 0
        self.filter_ignored = False

    def __iter__(self) -> Iterator[Result | Rejection]:
        for page in self.by_page():
            yield from page

    def by_page(self) -> Iterator[Listed]:
        """Page by page; starts again from the first where the server has forgotten the cursor (400, 404 or 410)."""
        for _ in range(1 + MAX_RESTARTS):
            try:
                yield from self._walk()
                return
            except _CursorLost as error:
                # What was seen already comes again: callers decide by id, so that repeats cost time and nothing else.
                lost, self.cursor = error, None
        raise UntrustedAnswer(f"the cursor was refused {1 + MAX_RESTARTS} times, the last time with: {lost}")

    def _walk(self) -> Iterator[Listed]:
        cursor, cursors, empty_pages = self.cursor, set[str](), 0
        recent: list[pa.Array] = []
        order = _Order()
        while True:
            page = self._page(cursor)
            ids = page.items.all_ids
            known = pc.is_in(ids, value_set=pa.concat_arrays([_NO_IDS, *recent]))
            fresh = page.items.each_once().without(set(ids.filter(known).to_pylist()))
            recent = [*recent[1 - PAGES_REMEMBERED :], ids]
            self.cursor = page.cursor if page.has_more else None
            yield self._belonging(fresh)
            order.see(page.items, self._window)
            if not page.has_more or (self.filter_ignored and order.is_past):
                return
            empty_pages = 0 if fresh else empty_pages + 1
            if empty_pages > MAX_EMPTY_PAGES:
                raise UntrustedAnswer(f"{empty_pages} pages brought nothing new, yet the API says that there is more")
            if page.cursor is None:
                continue  # an empty page that promises more: the same question again, a bounded number of times
            if page.cursor in cursors:
                raise UntrustedAnswer(f"the list does not end: the page after {clean(page.cursor)!r} came before")
            cursors.add(page.cursor)
            cursor = page.cursor

    def _page(self, cursor: str | None) -> Page:
        try:
            page, filtered = self._source.fetch_page(self._window, self._state, cursor, self._filters)
        except ApiRefused as error:
            if cursor is not None and error.status in (400, 404, 410):
                raise _CursorLost(str(error)) from None
            raise
        self.pages += 1
        if self._window is not None and not filtered:
            self.filter_ignored = True
        return page

    def _belonging(self, items: Listed) -> Listed:
        """The items of the window. What lies outside shows whether the server filters."""
        if self._window is None:
            return items
        inside = items.within(self._window)
        self.outside += len(items) - len(inside)
        # The filter is widened to whole seconds: an item less than a second outside is the server being right.
        if len(items.within(self._window, timedelta(seconds=1))) < len(items):
            self.filter_ignored = True
        return inside


class _CursorLost(Exception):
    """The server does not know the cursor any more. Never leaves this module."""


class _Order:
    """Whether every item so far came newest first, and the last ones lie before the window."""

    def __init__(self) -> None:
        self._descending = True
        self._oldest = np.int64(_LATEST)
        self._steps = self._before = 0

    def see(self, items: Listed, window: Window | None) -> None:
        created = items.created
        if window is None or not len(created):
            return
        before = np.minimum.accumulate(np.concatenate([[self._oldest], created]))  # the oldest up to each, itself not included
        self._steps += int(np.count_nonzero(created < before[:-1]))
        self._descending = self._descending and bool((created - before[:-1] <= _SLACK).all())
        self._oldest = before[-1]
        late = np.flatnonzero(micros(window.since) - created <= _SLACK)
        self._before = len(created) - 1 - int(late[-1]) if len(late) else self._before + len(created)

    @property
    def is_past(self) -> bool:
        return self._descending and min(self._steps, self._before) >= ENOUGH_ITEMS
