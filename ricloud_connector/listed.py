"""What pages of a list hold, as Arrow columns: a result that is not fetched never becomes an object of its own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.model import Rejection, Result, SignedUrl, Window

_TEXT, _MOMENT = pa.string(), pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        *((name, _TEXT) for name in ("id", "state", "checksum", "identifier", "type", "url")),
        *((name, _TEXT) for name in ("resource", "organisation", "poll", "task", "extra", "signed_url")),
        *((name, _MOMENT) for name in ("date_created", "date_consumed", "date_deleted", "expires_at")),
        ("size", pa.int64()),
        ("numeric_id", pa.bool_()),
    ]
)
"""A column for each field of a `Result`. `numeric_id` says that the API writes the id as a number; `signed_url` is its text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_new_result: Callable[[Sequence[Any]], Result] = partial(tuple.__new__, Result)  # all fields are there, in their order


class Listed:
    """Items of a list: results as columns, and what could not be read as a result. Never changed once made.

    `created` is `date_created` in microseconds of UTC since 1970, int64. Iterating makes objects: the results, then the
    rejections.
    """

    __slots__ = ("_ids", "created", "facts", "rejections")

    def __init__(self, facts: pa.RecordBatch, rejections: Collection[Rejection] = ()) -> None:
        self.facts = facts
        self.created = facts.column("date_created").cast(pa.int64()).to_numpy()
        self.rejections = tuple(rejections)
        self._ids: list[str] | None = None

    @classmethod
    def of(cls, items: Iterable[Result | Rejection]) -> Listed:
        """The same items as columns."""
        found = list(items)
        results = [item for item in found if isinstance(item, Result)]
        signed = [result.signed_url for result in results]
        columns: dict[str, list[Any]] = {
            "numeric_id": [isinstance(result.wire_id, int) for result in results],
            "signed_url": [None if each is None else each.url for each in signed],
            "expires_at": [None if each is None else each.expires_at for each in signed],
        }
        for name in set(SCHEMA.names) - columns.keys():
            columns[name] = [getattr(result, name) for result in results]
        arrays = [
            moments_array(columns[field.name]) if field.type == _MOMENT else pa.array(columns[field.name], field.type)
            for field in SCHEMA
        ]
        facts = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        return cls(facts, [item for item in found if isinstance(item, Rejection)])

    @classmethod
    def concat(cls, parts: Sequence[Listed]) -> Listed:
        if len(parts) == 1:
            return parts[0]
        whole = pa.Table.from_batches([part.facts for part in parts], SCHEMA).combine_chunks()
        facts = whole.to_batches() or [pa.RecordBatch.from_pylist([], SCHEMA)]  # a table without rows has none
        return cls(facts[0], [rejection for part in parts for rejection in part.rejections])

    def __len__(self) -> int:
        return len(self.created) + len(self.rejections)

    def __iter__(self) -> Iterator[Result | Rejection]:
        yield from self.results()
        yield from self.rejections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Listed) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Listed({self.facts.num_rows} results, {len(self.rejections)} rejections)"  # signed URLs are secrets

    def column(self, name: str) -> pa.Array:
        """The values of one column of `SCHEMA`."""
        return self.facts.column(name)

    @property
    def ids(self) -> list[str]:
        if self._ids is None:
            self._ids = self.facts.column("id").to_pylist()
        return self._ids

    @property
    def all_ids(self) -> pa.Array:
        """Those of the results, then those of the rejections."""
        rejected = [item.result_id for item in self.rejections]
        ids = self.column("id")
        return pa.concat_arrays([ids, pa.array(rejected, _TEXT)]) if rejected else ids

    @property
    def byte_size(self) -> int:
        """Of all results together, as listed."""
        return sum(size or 0 for size in self.column("size").to_pylist())  # Arrow's sum would begin anew at 2 ** 63

    def results(self) -> list[Result]:
        """An object of each result."""
        columns = {field.name: self.column(field.name) for field in SCHEMA}
        found = {name: _moments(each) if each.type == _MOMENT else each.to_pylist() for name, each in columns.items()}
        found["wire_id"] = found["id"]
        if columns["numeric_id"].true_count:
            pairs = zip(found["id"], found["numeric_id"], strict=True)
            found["wire_id"] = [int(result_id) if is_number else result_id for result_id, is_number in pairs]
        if columns["signed_url"].null_count < self.facts.num_rows:
            signed = zip(found["signed_url"], found["expires_at"], strict=True)
            found["signed_url"] = [None if url is None else SignedUrl(url, expires_at) for url, expires_at in signed]
        return list(map(_new_result, zip(*(found[name] for name in Result._fields), strict=True)))

    def unsigned(self) -> Listed:
        """The same without signed URLs, for whoever fetches nothing: they are the longest of what an item holds."""
        arrays = {field.name: self.column(field.name) for field in SCHEMA}
        arrays |= {name: pa.nulls(self.facts.num_rows, SCHEMA.field(name).type) for name in ("signed_url", "expires_at")}
        return Listed(pa.RecordBatch.from_arrays([*arrays.values()], schema=SCHEMA), self.rejections)

    def take(self, places: Sequence[int]) -> Listed:
        """The results at these places, in ascending order, each once, and no rejections."""
        if len(places) == len(self):
            return self
        return Listed(self.facts.take(pa.array(places, pa.int64())))

    def slice(self, start: int, stop: int | None = None) -> Listed:
        """Some of the results; those from the first on bring the rejections along."""
        length = None if stop is None else max(0, stop - start)
        return Listed(self.facts.slice(start, length), () if start else self.rejections)

    def filter(self, wanted: pa.BooleanArray) -> Listed:
        """The results for which that is true, and no rejections."""
        if wanted.true_count == len(self):
            return self
        return Listed(self.facts.filter(wanted))

    def where(self, wanted: Callable[[Any], bool], *names: str) -> Listed:
        """The results of whose value in one column, or tuple of values in several, that is true; and no rejections."""
        columns = [self.ids if name == "id" else self.column(name).to_pylist() for name in names]
        values = columns[0] if len(names) == 1 else zip(*columns, strict=True)
        return self.take([place for place, value in enumerate(values) if wanted(value)])

    def in_state(self, state: str) -> Listed:
        """The results in this state, and no rejections."""
        return self.filter(pc.equal(self.column("state"), state))

    def each_once(self) -> Listed:
        """Of results with one id the last; of rejections likewise, where no result has that id."""
        ids, results = self.column("id"), self
        if pc.count_distinct(ids).as_py() < len(ids):
            last = dict(zip(self.ids, range(len(self.created)), strict=True))
            results = self.take(sorted(last.values()))
        if not self.rejections:
            return results
        found = set(self.ids)
        rejected = {item.result_id: item for item in self.rejections if item.result_id not in found}
        return Listed(results.facts, rejected.values())

    def without(self, ids: Collection[str]) -> Listed:
        """All items but those with these ids."""
        if not ids:
            return self
        kept = self.where(lambda result_id: result_id not in ids, "id")
        return Listed(kept.facts, [item for item in self.rejections if item.result_id not in ids])

    def within(self, window: Window, slack: timedelta = timedelta(0)) -> Listed:
        """The results of the window, widened by `slack` on both sides, and the rejections that may belong to it."""
        since, until = micros(window.since) - slack // _MICROSECOND, micros(window.until) + slack // _MICROSECOND
        inside = (self.created >= since) & (self.created < until)
        kept = self if inside.all() else self.take(np.flatnonzero(inside).tolist())
        if not self.rejections:
            return kept
        undated = [item for item in self.rejections if item.date_created is None or since <= micros(item.date_created) < until]
        return Listed(kept.facts, undated)


def micros(moment: datetime) -> int:
    """Microseconds of UTC since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def moments_array(moments: Iterable[datetime | None]) -> pa.Array:
    """A column of these moments, by their numbers: Arrow would import pandas to look at their zones."""
    return pa.array([None if moment is None else micros(moment) for moment in moments], pa.int64()).cast(_MOMENT)


def _moments(column: pa.Array) -> list[datetime | None]:
    """The moments of a column, by numpy: Arrow's own way to them takes ten times as long."""
    if column.null_count == len(column):
        return [None] * len(column)
    different = column.dictionary_encode()
    found = different.dictionary.cast(pa.int64()).to_numpy().view("M8[us]").tolist()
    moments = [moment.replace(tzinfo=UTC) for moment in found]
    if len(moments) == len(column):
        return moments
    return [None if place is None else moments[place] for place in different.indices.to_pylist()]
