"""What pages of a list hold, column by column: a result that is not fetched never becomes an object of its own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from ricloud_connector.model import Rejection, Result, SignedUrl, Window

COLUMNS = tuple(name for name in Result._fields if name not in ("date_created", "signed_url"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SIGNED = ("signed_url", "expires_at")
_new_result: Callable[[Sequence[Any]], Result] = partial(tuple.__new__, Result)  # all fields are there, in their order


class Listed:
    """Items of a list: results as columns, and what could not be read as a result. Never changed once made.

    `columns` has a list for each of `COLUMNS`, one of the text of each signed URL and one of its `expires_at`; `created` is
    `date_created` in microseconds of UTC since 1970, int64. Iterating makes objects: the results, then the rejections.
    """

    __slots__ = ("_columns", "created", "rejections")

    def __init__(self, columns: dict[str, list[Any]], created: Any, rejections: Collection[Rejection] = ()) -> None:
        self._columns = columns
        self.created = created
        self.rejections = tuple(rejections)

    @classmethod
    def of(cls, items: Iterable[Result | Rejection]) -> Listed:
        """The same items as columns."""
        found = list(items)
        results = [item for item in found if isinstance(item, Result)]
        columns: dict[str, list[Any]] = {name: list(map(itemgetter(Result._fields.index(name)), results)) for name in COLUMNS}
        columns["signed_url"] = [None if result.signed_url is None else result.signed_url.url for result in results]
        columns["expires_at"] = [None if result.signed_url is None else result.signed_url.expires_at for result in results]
        created = np.array([micros(result.date_created) for result in results], np.int64)
        return cls(columns, created, [item for item in found if isinstance(item, Rejection)])

    @classmethod
    def concat(cls, parts: Sequence[Listed]) -> Listed:
        if len(parts) == 1:
            return parts[0]
        columns = {name: list(chain.from_iterable(part._columns[name] for part in parts)) for name in (*COLUMNS, *_SIGNED)}
        created = np.concatenate([np.zeros(0, np.int64), *(part.created for part in parts)])
        return cls(columns, created, [rejection for part in parts for rejection in part.rejections])

    def __len__(self) -> int:
        return len(self.created) + len(self.rejections)

    def __iter__(self) -> Iterator[Result | Rejection]:
        yield from self.results()
        yield from self.rejections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Listed({len(self.created)} results, {len(self.rejections)} rejections)"  # signed URLs are secrets

    def column(self, name: str) -> list[Any]:
        """The values of one of `COLUMNS`, or `signed_url`: its text."""
        return self._columns[name]

    @property
    def ids(self) -> list[str]:
        return self._columns["id"]

    def results(self) -> list[Result]:
        """An object of each result."""
        moments = [moment.replace(tzinfo=UTC) for moment in self.created.view("M8[us]").tolist()]
        signed = [
            None if url is None else SignedUrl(url, expires_at)
            for url, expires_at in zip(*(self._columns[name] for name in _SIGNED), strict=True)
        ]
        columns = self._columns | {"date_created": moments, "signed_url": signed}
        return list(map(_new_result, zip(*(columns[name] for name in Result._fields), strict=True)))

    def unsigned(self) -> Listed:
        """The same without signed URLs, for whoever fetches nothing: they are the longest of what an item holds."""
        nothing: dict[str, list[Any]] = dict.fromkeys(_SIGNED, [None] * len(self.created))
        return Listed(self._columns | nothing, self.created, self.rejections)

    def take(self, places: Sequence[int]) -> Listed:
        """The results at these places, in ascending order, each once, and no rejections."""
        if len(places) == len(self):
            return self
        columns = {name: [column[place] for place in places] for name, column in self._columns.items()}
        return Listed(columns, self.created[list(places)])

    def slice(self, start: int, stop: int | None = None) -> Listed:
        """Some of the results; those from the first on bring the rejections along."""
        columns = {name: column[start:stop] for name, column in self._columns.items()}
        return Listed(columns, self.created[start:stop], () if start else self.rejections)

    def where(self, wanted: Callable[[Any], bool], *names: str) -> Listed:
        """The results of whose value in one column, or tuple of values in several, that is true; and no rejections."""
        values = self._columns[names[0]] if len(names) == 1 else zip(*map(self._columns.__getitem__, names), strict=True)
        return self.take([place for place, value in enumerate(values) if wanted(value)])

    def each_once(self) -> Listed:
        """Of results with one id the last; of rejections likewise, where no result has that id."""
        last = dict(zip(self.ids, range(len(self.created)), strict=True))
        results = self if len(last) == len(self.created) else self.take(sorted(last.values()))
        if not self.rejections:
            return results
        rejected = {item.result_id: item for item in self.rejections if item.result_id not in last}
        return Listed(results._columns, results.created, rejected.values())

    def without(self, ids: Collection[str]) -> Listed:
        """All items but those with these ids."""
        if not ids:
            return self
        kept = self.where(lambda result_id: result_id not in ids, "id")
        return Listed(kept._columns, kept.created, [item for item in self.rejections if item.result_id not in ids])

    def within(self, window: Window, slack: timedelta = timedelta(0)) -> Listed:
        """The results of the window, widened by `slack` on both sides, and the rejections that may belong to it."""
        since, until = micros(window.since) - slack // _MICROSECOND, micros(window.until) + slack // _MICROSECOND
        inside = (self.created >= since) & (self.created < until)
        kept = self if inside.all() else self.take(np.flatnonzero(inside).tolist())
        if not self.rejections:
            return kept
        undated = [item for item in self.rejections if item.date_created is None or since <= micros(item.date_created) < until]
        return Listed(kept._columns, kept.created, undated)


def micros(moment: datetime) -> int:
    """Microseconds of UTC since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
