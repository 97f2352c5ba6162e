"""JSON results on their way to become records: as columns, of which objects are made only where one is looked at. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.model import Rejection
from ricloud_connector.records.columns import TIMESTAMP
from ricloud_connector.records.document import Fault

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SCHEMA = pa.schema(
    [
        ("result_id", pa.string()),
        ("identifier", pa.string()),
        ("date_created", TIMESTAMP),
        ("poll", pa.string()),
        ("checksum", pa.string()),
        ("size", pa.int64()),
        ("declared", pa.bool_()),
        ("raw", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class Document:
    """The bytes of one result that is JSON, or may be: `declared` says that the API calls it so.

    Of a large document `raw` is empty, and `chunks` reads the bytes, each time it is called.
    """

    result_id: str
    identifier: str | None
    date_created: datetime
    poll: str | None
    checksum: str
    size: int
    declared: bool
    raw: bytes = field(repr=False)
    chunks: Callable[[], Iterator[bytes]] | None = field(default=None, repr=False)

    def rejection(self, fault: Fault) -> Rejection:
        """A fault of a stored result as a future row of the quarantine dataset."""
        return Rejection(
            result_id=self.result_id,
            reason=fault.reason,
            detail=fault.detail,
            date_created=self.date_created,
            identifier=self.identifier,
            checksum=self.checksum,
            size=self.size,
            actual_checksum=self.checksum,
            actual_size=self.size,
        )


class Documents:
    """Documents with all of their bytes, a row each: `table` has the fields of `Document` but for `chunks`."""

    __slots__ = ("table",)

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Documents:
        """From a column, or a list, for each of the fields."""
        return cls(pa.table([columns[name] for name in _SCHEMA.names], _SCHEMA))

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Documents:
        rows = list(documents)
        return cls.from_columns({name: [getattr(row, name) for row in rows] for name in _SCHEMA.names})

    @classmethod
    def together(cls, some: Iterable[Documents]) -> Documents:
        return cls(pa.concat_tables([each.table for each in some]).combine_chunks())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, rows: slice) -> Documents:
        start, stop, _ = rows.indices(len(self))
        return Documents(self.table.slice(start, max(0, stop - start)))

    def __iter__(self) -> Iterator[Document]:
        names = [name for name in _SCHEMA.names if name != "date_created"]
        # Arrow's own way to make moments of a column takes as long as all other columns together.
        numbers = self.table.column("date_created").cast(pa.int64()).to_pylist()
        columns = {name: self.table.column(name).to_pylist() for name in names}
        columns["date_created"] = [_EPOCH + timedelta(microseconds=number) for number in numbers]
        return map(Document, *(columns[name] for name in _SCHEMA.names))

    @property
    def size(self) -> int:
        """Bytes, of all of them."""
        return int(pc.sum(self.table.column("size"), min_count=0).as_py())

    def where(self, mask: pa.Array) -> Documents:
        """Those for which it is true."""
        return self if mask.true_count == len(self) else Documents(self.table.filter(mask))

    def column(self, name: str) -> pa.Array:
        column = self.table.column(name)
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def count(self, byte: int) -> int:
        """How often a byte stands in them."""
        raw = self.column("raw")
        _, offsets, data = raw.buffers()
        if data is None or not len(raw):
            return 0
        ends = np.frombuffer(offsets, np.int32)
        mine = np.frombuffer(data, np.uint8)[ends[raw.offset] : ends[raw.offset + len(raw)]]
        return int(np.count_nonzero(mine == byte))

    def by_feed(self) -> Iterator[tuple[str | None, Documents]]:
        """The documents of each feed, in the order in which the feeds come first."""
        codes = self.column("identifier").dictionary_encode(null_encoding="encode")
        if len(codes.dictionary) == 1:
            yield codes.dictionary[0].as_py(), self
            return
        numbers = codes.indices.to_numpy()
        table, ends = self.table.take(pa.array(np.argsort(numbers, kind="stable"))), np.cumsum(np.bincount(numbers))
        start = 0
        for identifier, end in zip(codes.dictionary.to_pylist(), ends.tolist(), strict=True):
            yield identifier, Documents(table.slice(start, end - start))
            start = end

    def parted(self, size: int) -> tuple[Documents, Documents]:
        """The first documents, as many as have `size` bytes together or more, and the others."""
        ends = np.cumsum(self.column("size").to_numpy())
        first = int(np.searchsorted(ends, size)) + 1
        return self[:first], self[first:]
