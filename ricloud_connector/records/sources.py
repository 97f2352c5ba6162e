"""The documents of a contents part: the bytes of each JSON result whose last chunk is in it. Reads the lake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.contents import read_content_chunks
from ricloud_connector.lake import Lake
from ricloud_connector.model import DataFile, Rejection
from ricloud_connector.part_reader import read_chosen, read_groups
from ricloud_connector.partition import Partition
from ricloud_connector.records.document import Fault, looks_like_document
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.schemas import CONTENTS, RESULTS

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_DOCUMENT_VALUES = 5_000_000

LARGE_BYTES = 4 * 1024 * 1024
"""A document of more is read in pieces: as Python's objects a value takes about a hundred bytes, however short its text."""


def documents_of(
    lake: Lake, day: date, contents: Partition, part: DataFile, faults: list[Rejection]
) -> Iterator[Documents | Document]:
    """What may be a document, of those results whose last chunk is in this part: a row group's together, large ones alone.

    Appends to `faults` what is too large.
    """
    whole = contents.whole_results()
    wanted = _Wanted(whole.filter(pc.equal(whole.column("part"), part.number)).column("result_id").combine_chunks())
    seen, polls = np.zeros(len(wanted.ids), np.bool_), None
    for rows in read_chosen(lake.storage.open(part), CONTENTS, wanted.choose):
        polls = _polls(lake, day, wanted.ids) if polls is None else polls
        places = wanted.places
        first = np.zeros(len(places), np.bool_)
        first[np.unique(places, return_index=True)[1]] = True
        fresh = first & ~seen[places]  # a chunk may be stored twice
        seen[places] = True
        documents = _documents(rows, polls.take(pa.array(places))).where(pa.array(fresh))
        small = pc.less_equal(documents.column("size"), LARGE_BYTES)
        yield documents.where(pc.and_(small, _plausible(documents)))
        for large in documents.where(pc.invert(small)):
            yield from _large(contents, large, faults)


class _Wanted:
    """The ids of a part's whole results, as they stand in it. `places` are those of the rows that were chosen last."""

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids
        self.places = np.zeros(0, np.int64)
        self._next = 0
        self._each_once = pc.count_distinct(ids).as_py() == len(ids)

    def choose(self, facts: pa.Table) -> pa.Array:
        """For each chunk whether it ends a content that is JSON, or of which nobody knows what it is."""
        kind = pc.fill_null(pc.utf8_lower(facts.column("type")), "json")
        last = pc.equal(pc.add(facts.column("chunk_index"), 1), facts.column("chunk_count"))
        places = self._places_of(facts.column("result_id"))
        chosen = pc.and_(pc.and_(pc.equal(kind, "json"), last), places.is_valid()).combine_chunks()
        self.places = places.filter(chosen).to_numpy()
        return chosen

    def _places_of(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Where each stands, null for others; without a search as long as nothing else stands in the part."""
        start, self._next = self._next, self._next + len(ids)
        if self._each_once and pa.chunked_array([self.ids.slice(start, len(ids))]).equals(ids):
            return pa.chunked_array([pa.array(np.arange(start, self._next))])
        return pc.index_in(ids, value_set=self.ids)


def _documents(rows: pa.Table, polls: pa.Array) -> Documents:
    """Rows of the contents dataset, each the only chunk or the last one of a result, as documents."""
    identifier = rows.column("identifier")
    empty = pc.equal(identifier, "")
    columns = {name: rows.column(name) for name in ("result_id", "date_created", "checksum", "size")}
    columns["identifier"] = pc.if_else(empty, None, identifier) if pc.any(empty).as_py() else identifier
    columns |= {"poll": polls, "declared": pc.is_valid(rows.column("type")), "raw": rows.column("content")}
    return Documents.from_columns(columns)


def _plausible(documents: Documents) -> pa.Array:
    """For each document whether it may be one, where nobody says what it is."""
    declared = documents.column("declared")
    if declared.true_count == len(declared):
        return declared
    return pa.array([document.declared or looks_like_document(document.raw) for document in documents], pa.bool_())


def _large(contents: Partition, document: Document, faults: list[Rejection]) -> Iterator[Document]:
    """The document, to be read chunk by chunk, unless it is too large or is none."""
    read = partial(read_content_chunks, contents, document.result_id)
    document = replace(document, raw=b"", chunks=read)
    if document.size > MAX_DOCUMENT_BYTES:
        if document.declared:
            detail = f"the document has more than {MAX_DOCUMENT_BYTES} bytes"
            faults.append(document.rejection(Fault("records_too_large", detail)))
    elif document.declared or looks_like_document(next(read(), b"")):
        yield document


def _polls(lake: Lake, day: date, wanted: pa.Array) -> pa.Array:
    """The polls of these results, as far as the results dataset knows them: the newest parts first, where new ones are."""
    known, polls = np.full(len(wanted), -1), list[pa.Array]()
    rows = 0
    for part in reversed(lake.scan(RESULTS, day).parts):
        for group in read_groups(lake.storage.open(part), RESULTS, ["id", "poll"]):
            places = pc.index_in(group.column("id"), value_set=wanted)
            found = group.column("poll").filter(places.is_valid())
            known[places.drop_null().to_numpy()] = np.arange(rows, rows + len(found))
            polls += found.chunks
            rows += len(found)
        if (known >= 0).all():
            break
    return pa.chunked_array(polls, pa.string()).take(pa.array(known, mask=known < 0)).combine_chunks()
