"""The results: their order, their windows, their acknowledgement. Pure of HTTP; safe to share between threads.

The order is total (date of creation, then order of publication), and every list is kept sorted by it. So a page
is found by binary search, and a cursor is a place in the order rather than a row: it stays valid after its
result has been acknowledged and left the list.
"""

import hashlib
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

from ricloud_connector.emulator.behaviour import Order
from ricloud_connector.emulator.model import Draft, State, microseconds_of
from ricloud_connector.emulator.query import STATES, BadQueryError, Query, Span

Rank = tuple[int, int]
_RANK = attrgetter("rank")


@dataclass(slots=True, eq=False)
class Entry:
    """One published result: what never changes (`draft`, `key`, `url`, `head`) and what does."""

    draft: Draft
    key: str
    url: str
    head: bytes
    state: State
    date_consumed: datetime | None
    date_deleted: datetime | None
    number: int = 0
    rank: Rank = (0, 0)

    @property
    def id(self) -> str:
        return str(self.draft.id)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `total` counts the matches of its filters wherever the cursor stands."""

    entries: Sequence[Entry]
    has_more: bool
    total: int


class ResultStore:
    """Every result, indexed by id and sorted by state. Hold `lock` to read entries and keep them from changing."""

    def __init__(self, order: Order) -> None:
        self.lock = threading.RLock()
        self._order: Order = order
        self._by_id: dict[str, Entry] = {}
        self._by_state: dict[State, list[Entry]] = {state: [] for state in STATES}

    def load(self, entries: Iterable[Entry]) -> None:
        """Adds many, sorting once. Raises: ValueError for an id that is there."""
        with self.lock:
            for entry in entries:
                self._register(entry)
            self._sort()

    def add(self, entry: Entry) -> None:
        """Adds one at its place. Raises: ValueError for an id that is there."""
        with self.lock:
            self._register(entry)
            insort(self._by_state[entry.state], entry, key=_RANK)

    def get(self, id: str) -> Entry | None:
        return self._by_id.get(id)

    def reorder(self, order: Order) -> None:
        with self.lock:
            self._order = order
            for entry in self._by_id.values():
                entry.rank = _rank_of(entry, order)
            self._sort()

    def newest_first(self) -> list[Entry]:
        """Every result of every state, whatever the order of the listing."""
        with self.lock:
            return sorted(self._by_id.values(), key=lambda entry: _rank_of(entry, "newest"))

    def find_page(self, query: Query) -> Page:
        """Raises: BadQueryError for a cursor that no result has ever had."""
        with self.lock:
            entries = self._by_state[query.state]
            first, last = self._find_window(entries, query.spans.get("date_created"))
            start, stop = first, last
            if query.after_id is not None:
                start = max(first, bisect_right(entries, self._find_cursor("after_id", query.after_id), key=_RANK))
            if query.before_id is not None:
                stop = min(last, bisect_left(entries, self._find_cursor("before_id", query.before_id), key=_RANK))
            if not self._must_walk(query):
                found = entries[start : min(start + query.limit, stop)] if start < stop else []
                return Page(found, start + query.limit < stop, last - first)
            walked = [index for index in range(first, last) if _matches(entries[index], query)]
            found = [entries[index] for index in walked if start <= index < stop]
            return Page(found[: query.limit], len(found) > query.limit, len(walked))

    def acknowledge(self, ids: Iterable[str], at: datetime) -> list[Entry]:
        """Marks the available ones among the ids consumed, and answers those."""
        changed = []
        with self.lock:
            for id in ids:
                entry = self._by_id.get(id)
                if entry is None or entry.state != "available":
                    continue
                available = self._by_state["available"]
                del available[bisect_left(available, entry.rank, key=_RANK)]
                entry.state, entry.date_consumed = "consumed", at
                insort(self._by_state["consumed"], entry, key=_RANK)
                changed.append(entry)
        return changed

    def _register(self, entry: Entry) -> None:
        if entry.id in self._by_id:
            raise ValueError(f"a result with the id {entry.id!r} is there already")
        entry.number = len(self._by_id)
        entry.rank = _rank_of(entry, self._order)
        self._by_id[entry.id] = entry

    def _sort(self) -> None:
        for entries in self._by_state.values():
            entries.clear()
        for entry in self._by_id.values():
            self._by_state[entry.state].append(entry)
        for entries in self._by_state.values():
            entries.sort(key=_RANK)

    def _find_cursor(self, name: str, id: str) -> Rank:
        entry = self._by_id.get(id)
        if entry is None:
            raise BadQueryError({name: "No result has this id."})
        return entry.rank

    def _find_window(self, entries: Sequence[Entry], span: Span | None) -> tuple[int, int]:
        """The indices between which a span of creation lies; everything where the order says nothing of time."""
        if span is None or self._order == "shuffled":
            return 0, len(entries)
        # A span is half-open in whole microseconds, so [a, b) turned round is [1 - b, 1 - a).
        start, stop = span.start, span.stop
        if self._order == "newest":
            start, stop = (None if stop is None else 1 - stop), (None if start is None else 1 - start)
        first = 0 if start is None else _count_below(entries, start)
        last = len(entries) if stop is None else _count_below(entries, stop)
        return first, max(first, last)

    def _must_walk(self, query: Query) -> bool:
        found_by_search = {"date_created"} if self._order != "shuffled" else set()
        return bool(query.equals or query.spans.keys() - found_by_search)


def _count_below(entries: Sequence[Entry], bound: int) -> int:
    # One element sorts before any pair that starts with it, whatever the pair's second.
    return bisect_left(entries, (bound,), key=_RANK)


def _rank_of(entry: Entry, order: Order) -> Rank:
    created = microseconds_of(entry.draft.created)
    if order == "newest":
        return -created, -entry.number
    if order == "oldest":
        return created, entry.number
    digest = hashlib.blake2b(entry.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest), entry.number


def _matches(entry: Entry, query: Query) -> bool:
    for name, value in query.equals.items():
        stated = entry.draft.fields.get(name, getattr(entry.draft, name))
        if stated is None or str(stated) != value:
            return False
    for name, span in query.spans.items():
        moment = entry.draft.created if name == "date_created" else getattr(entry, name)
        if moment is None or microseconds_of(moment) not in span:
            return False
    return True
