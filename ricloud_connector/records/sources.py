"""The documents of a contents part: the bytes of each JSON result whose last chunk is in it. Reads the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.contents import read_content_chunks
from ricloud_connector.lake import Lake
from ricloud_connector.model import DataFile, Rejection
from ricloud_connector.part_reader import read_chosen, read_groups
from ricloud_connector.partition import Partition
from ricloud_connector.records.document import Fault, looks_like_document
from ricloud_connector.schemas import CONTENTS, RESULTS

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_DOCUMENT_VALUES = 5_000_000

LARGE_BYTES = 4 * 1024 * 1024
"""A document of more is read in pieces: as Python's objects a value takes about a hundred bytes, however short its text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def documents_of(
    lake: Lake, day: date, contents: Partition, part: DataFile, faults: list[Rejection]
) -> Iterator[list[Document]]:
    """What may be a document, of those results whose last chunk is in this part; a row group of them at a time.

    Appends to `faults` what is too large.
    """
    whole = contents.whole_results()
    wanted = whole.filter(pc.equal(whole.column("part"), part.number)).column("result_id").combine_chunks()
    polls: dict[str, str | None] | None = None
    seen = set[str]()
    for table in read_chosen(lake.storage.open(part), CONTENTS, lambda facts: _last_chunks(facts, wanted)):
        if polls is None:
            polls = _polls(lake, day, wanted)
        documents = []
        names = ("result_id", "identifier", "type", "checksum", "size", "content")
        columns = (table.column(name).to_pylist() for name in names)
        for created, result_id, identifier, kind, checksum, size, content in zip(
            _moments(table.column("date_created")), *columns, strict=True
        ):
            if result_id in seen:
                continue
            seen.add(result_id)
            declared, poll = kind is not None, polls.get(result_id)
            read = partial(read_content_chunks, contents, result_id) if size > LARGE_BYTES else None
            raw = b"" if read else content
            document = Document(result_id, identifier or None, created, poll, checksum, size, declared, raw, read)
            if size > MAX_DOCUMENT_BYTES:
                if declared:
                    detail = f"the document has more than {MAX_DOCUMENT_BYTES} bytes"
                    faults.append(document.rejection(Fault("records_too_large", detail)))
            elif declared or looks_like_document(next(read(), b"") if read else raw):
                documents.append(document)
        yield documents


def _moments(column: pa.ChunkedArray) -> Iterator[datetime]:
    """The values of a column in UTC: Arrow's own way takes as long as all other columns together."""
    return (_EPOCH + timedelta(microseconds=number) for number in column.cast(pa.int64()).to_pylist())


def _last_chunks(facts: pa.Table, wanted: pa.Array) -> pa.Array:
    """For each chunk whether it ends a content that is JSON, or of which nobody knows what it is."""
    kind = pc.fill_null(pc.utf8_lower(facts.column("type")), "json")
    last = pc.equal(pc.add(facts.column("chunk_index"), 1), facts.column("chunk_count"))
    chosen = pc.and_(pc.and_(pc.equal(kind, "json"), last), pc.is_in(facts.column("result_id"), value_set=wanted))
    return chosen.combine_chunks()


def _polls(lake: Lake, day: date, wanted: pa.Array) -> dict[str, str | None]:
    """The polls of these results, as far as the results dataset knows them: the newest parts first, where new ones are."""
    found: dict[str, str | None] = {}
    for part in reversed(lake.scan(RESULTS, day).parts):
        for group in read_groups(lake.storage.open(part), RESULTS, ["id", "poll"]):
            rows = group.filter(pc.is_in(group.column("id"), value_set=wanted))
            found |= zip(*(column.to_pylist() for column in rows.columns), strict=True)
        if len(found) == len(wanted):
            break
    return found
