"""The listings of many days, each started a few days before its turn. I/O: lists at the API, a spool in staging.

A server that ignores the date filter would be walked whole for every day. It is walked once instead, and what it lists
waits in files by day, without the signed URLs: those are renewed one by one when their turn comes.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ricloud_connector import overlap
from ricloud_connector.ingest.run import Run
from ricloud_connector.listed import Listed
from ricloud_connector.listing import Listing
from ricloud_connector.model import AVAILABLE, Rejection, Result, Window
from ricloud_connector.options import Selection

WINDOWS = 8
"""Listed at a time, at most: that whose turn it is, and those after it."""

PAGE_S = 0.008
"""What a page takes to be read and stored. Of more windows than keep the processors busy each only hinders the others."""

PAGES_AHEAD = 2  # of each state of a day
SPOOL_ITEMS = 10_000  # held in memory before they are appended to the files of their days
PAGE_ITEMS = 1000

Day = tuple[date, Window]
T = TypeVar("T")


@dataclass(slots=True)
class ListedDay:
    """One day's turn: the pages of each state, lazily, to be read before what gave it is asked for the next."""

    day: date
    span: Window
    pages: dict[str, Iterator[Listed]]

    def available(self) -> Iterator[Listed]:
        return self.pages.get(AVAILABLE, iter(()))


@dataclass(slots=True)
class _Started:
    day: date
    span: Window
    listings: dict[str, Listing]
    pages: dict[str, overlap.ahead[Listed]]

    @property
    def filter_ignored(self) -> bool:
        return any(listing.filter_ignored for listing in self.listings.values())

    def cancel(self) -> None:
        for pages in self.pages.values():
            pages.cancel()

    def stop(self) -> None:
        self.cancel()
        for pages in self.pages.values():
            pages.stop()


class DayListings:
    """Inside `with`, iterate it once, or its `side_by_side`. `spooled` says that the server ignores the date filter.

    Without `contents`, results have no signed URLs.
    """

    def __init__(self, run: Run, days: Iterable[Day], selection: Selection, *, contents: bool = True) -> None:
        self._run, self._selection, self._contents = run, selection, contents
        self._waiting = deque(days)
        self._started = deque[_Started]()
        self._stack = ExitStack()
        self._shown = self._ignored = False  # what a page has shown: how long it takes; that the filter is not heeded
        self._news = threading.Event()  # a page has come, or a day is done
        self.spooled = False

    def __enter__(self) -> DayListings:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for turn in self._started:
            turn.cancel()  # all of them, before one is waited for
        self._stack.close()

    def __iter__(self) -> Iterator[ListedDay]:
        """Each day with its pages, once the one before is done with."""
        while self._waiting or self._started:
            turn = self._started.popleft() if self._started else self._start(*self._waiting.popleft())
            yield self._listed(turn, partial(self._look_ahead, turn))
            turn.stop()
            if turn.filter_ignored and (self._waiting or self._started):
                self._waiting.extendleft((later.day, later.span) for later in reversed(self._started))
                self._started.clear()
                self._stack.close()
                yield from self._spool()
                return
            self._start_ahead()

    def side_by_side(self, work: Callable[[ListedDay], T]) -> Iterator[T]:
        """What `work` makes of each day, in their order: it is at work on all days that are listed at a time, each in a thread.

        Raises: what `work` raises, or the listing in it, at its place in the order; no day is begun after it. When this is left
        early, the days under way end at their next page, with a `CancelledError`.
        """
        workers, under_way = overlap.pool(WINDOWS, "ricloud-day"), deque[tuple[_Started, Future[T]]]()
        self._stack.callback(workers.shutdown)
        try:
            while self._waiting or under_way:
                self._news.clear()
                if self._ignored:
                    self._give_back(under_way)
                busy = sum(not doing.done() for _, doing in under_way)
                for _ in range(busy, min(self._room(under_way), busy + len(self._waiting))):
                    turn = self._start(*self._waiting.popleft())
                    doing = workers.submit(work, self._listed(turn, partial(self._look_about, turn)))
                    doing.add_done_callback(lambda _: self._news.set())
                    under_way.append((turn, doing))
                if not under_way:
                    break
                if under_way[0][1].done():
                    turn, doing = under_way.popleft()
                    turn.stop()
                    yield doing.result()
                else:
                    self._news.wait()
        finally:
            for turn, _ in under_way:
                turn.cancel()
        yield from map(work, self._spool() if self._waiting else ())

    def _room(self, under_way: Iterable[tuple[_Started, Future[T]]]) -> int:
        """How many days may be at work now."""
        if self._ignored or any(doing.done() and doing.exception() for _, doing in under_way):
            return 0
        return self._windows() if self._shown else 1

    def _give_back(self, under_way: deque[tuple[_Started, Future[T]]]) -> None:
        """Leave to one walk over everything what has begun a walk of its own, from the last day on."""
        while len(under_way) > 1:
            turn, doing = under_way[-1]
            turn.stop()
            if doing.exception() is None:  # it was done before
                return
            under_way.pop()
            self._waiting.appendleft((turn.day, turn.span))

    def _listed(self, turn: _Started, look: Callable[[], None]) -> ListedDay:
        """A day whose pages can be read; `look` is called whenever one has come."""

        def pages(state: str) -> Iterator[Listed]:
            for page in turn.pages[state]:
                look()
                yield self._selection.chosen(page)

        return ListedDay(turn.day, turn.span, {state: pages(state) for state in turn.pages})

    def _look_about(self, turn: _Started) -> None:
        self._shown, self._ignored = True, self._ignored or turn.filter_ignored
        self._news.set()

    def _look_ahead(self, turn: _Started) -> None:
        """A page shows whether the server filters, as a rule: eight walks over everything at once would be too many."""
        if not turn.filter_ignored:
            self._start_ahead()

    def _start_ahead(self) -> None:
        while self._waiting and len(self._started) < self._windows() - 1:
            self._started.append(self._start(*self._waiting.popleft()))

    def _windows(self) -> int:
        """As many as give two processors pages to work on while others are on their way."""
        return int(min(WINDOWS, 2 + self._run.client.quickest_page_s / PAGE_S))

    def _start(self, day: date, span: Window) -> _Started:
        listings = {
            state: self._run.client.list_results(span, state, filters=self._selection.filters)
            for state in self._selection.states
        }
        pages = {state: overlap.ahead(self._read(listing), PAGES_AHEAD) for state, listing in listings.items()}
        turn = _Started(day, span, listings, pages)
        self._stack.callback(turn.stop)
        return turn

    def _read(self, listing: Listing) -> Iterator[Listed]:
        return (page if self._contents else page.unsigned() for page in listing.by_page())

    def _spool(self) -> Iterator[ListedDay]:
        """Walk once over all days that are left, and give them out from files."""
        self.spooled = True
        days = list(self._waiting)
        self._waiting.clear()
        whole = Window(min(span.since for _, span in days), max(span.until for _, span in days))
        spool = _Spool(self._run.lake.staging / "spool")
        for state in self._selection.states:
            listing = self._run.client.list_results(whole, state, filters=self._selection.filters)
            for page in listing.by_page():
                spool.add(state, self._selection.chosen(page))
        spool.flush()
        for day, span in days:
            yield ListedDay(day, span, {state: spool.read(state, day, span) for state in self._selection.states})


class _Spool:
    """Listed items in a file per state and day: JSON lines without signed URLs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Path, list[str]] = defaultdict(list)
        self._count = 0

    def add(self, state: str, page: Listed) -> None:
        for item in page:
            self._held[self._path(state, item.day)].append(_line(item))
        self._count += len(page)
        if self._count >= SPOOL_ITEMS:
            self.flush()

    def flush(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for path, lines in self._held.items():
            with path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        self._held.clear()
        self._count = 0

    def read(self, state: str, day: date, span: Window) -> Iterator[Listed]:
        path = self._path(state, day)
        if not path.exists():
            return
        page: list[Result | Rejection] = []
        with path.open(encoding="utf-8") as file:
            for line in file:
                item = _item(line)
                if item.date_created is None or item.date_created in span:
                    page.append(item)
                if len(page) >= PAGE_ITEMS:
                    yield Listed.of(page)
                    page = []
        yield Listed.of(page)

    def _path(self, state: str, day: date) -> Path:
        return self._folder / f"{state}-{day.isoformat()}"


def _line(item: Result | Rejection) -> str:
    facts = item._asdict() if isinstance(item, Result) else asdict(item)
    facts.pop("signed_url", None)
    facts["rejected"] = isinstance(item, Rejection)
    return json.dumps(facts, default=datetime.isoformat) + "\n"


def _item(line: str) -> Result | Rejection:
    facts: dict[str, Any] = json.loads(line)
    for name in ("date_created", "date_consumed", "date_deleted"):
        if facts.get(name) is not None:
            facts[name] = datetime.fromisoformat(facts[name])
    return Rejection(**facts) if facts.pop("rejected") else Result(**facts)
