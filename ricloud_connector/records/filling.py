"""The records files of one contents part while they are filled, one per feed. Reads and writes the lake."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import date, datetime
from functools import partial

import pyarrow as pa

from ricloud_connector import overlap
from ricloud_connector.collector import collector_at_rest
from ricloud_connector.lake import Lake
from ricloud_connector.model import Rejection
from ricloud_connector.options import Contract
from ricloud_connector.records.bulk import BulkReader
from ricloud_connector.records.columns import Columns, infer_columns
from ricloud_connector.records.document import Fault, parse_document, parse_quickly
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.feed import Feed, Version
from ricloud_connector.records.fitting import EXACT, NotFinite
from ricloud_connector.records.large import Spool, look_through, rows_of
from ricloud_connector.records.part import MANY_CELLS, Group, RecordsPart
from ricloud_connector.records.portions import MAX_CELLS, TooManyCells, check_cells, few_cells, split
from ricloud_connector.records.rows import Built, Source, build_table

FLUSH_BYTES = 4 * 1024 * 1024
"""Bytes of JSON, of all feeds of a part together, that become row groups."""

BATCH_BYTES = 2 * 1024 * 1024
"""Bytes of one feed's JSON that Arrow reads at once."""

DECIDE_BYTES = 4 * 1024 * 1024
"""Bytes of one feed's JSON that are held as Python's objects at once; so many decide the types of new columns."""

CHUNK_BYTES = 1024 * 1024

FILES_OPEN = 16
_NAMED = 20

_NO_DOCUMENT = {"records_not_json", "records_other_shape", "records_not_utf8", "records_bom"}
"""What is no fault of bytes that nobody calls JSON."""

_ILL = (RecursionError, ValueError, TypeError, OverflowError, pa.ArrowException)


class OpenRecords:
    """Takes the documents of one contents part, and writes them as row groups of their feeds' files.

    `faults` are documents that gave no rows, or not all.
    """

    def __init__(self, lake: Lake, day: date, at: datetime, contracts: Mapping[str, Contract]) -> None:
        self._lake, self._day, self._at, self._contracts = lake, day, at, contracts
        self._feeds: dict[str | None, tuple[Feed, RecordsPart, BulkReader]] = {}
        self._pending: dict[str | None, list[Documents]] = defaultdict(list)
        self._sizes: Counter[str | None] = Counter()
        self._unwritten = self._cells = 0
        self._pen = overlap.pool(1, "ricloud-records")
        self._written: Future[None] = self._pen.submit(_write, [], pause=False)
        self.documents = 0
        self.json_bytes = 0
        self.faults: list[Rejection] = []
        self.rows: Counter[str] = Counter()
        self.misfits: Counter[tuple[str, str]] = Counter()
        self.added: list[tuple[str, Version]] = []
        self.files = 0

    def add(self, documents: Documents | Document) -> None:
        """Add documents: some of a row group, or one that is large. Raises: LakeError."""
        if isinstance(documents, Document):
            self._add_large(documents)
            return
        for identifier, of_feed in documents.by_feed():
            rest = of_feed
            while len(rest):
                some, rest = rest.parted(min(BATCH_BYTES - self._sizes[identifier], FLUSH_BYTES - self._unwritten))
                self._pending[identifier].append(some)
                self._sizes[identifier] += some.size
                self._unwritten += some.size
                if self._unwritten >= FLUSH_BYTES:
                    self._flush()
                elif self._sizes[identifier] >= BATCH_BYTES:
                    self._build(identifier)

    def commit(self, number: int) -> list[str]:
        """Put everything into the lake as files of this number; returns the folders' names. Raises: LakeError."""
        self._flush()
        self._written.result()
        made = []
        for feed, part, _ in self._feeds.values():
            rows = part.rows
            if rows:
                made.append(feed.name)
            if part.commit(feed.folder(self._day), number):
                self.files += 1
                self.rows[feed.identifier or ""] += rows
        return made

    def close(self) -> None:
        """Remove what is in staging still."""
        self._pen.shutdown()
        for _, part, _ in self._feeds.values():
            part.discard()

    def _flush(self) -> None:
        """Have what is pending written, a row group per feed, while the next documents are read."""
        for identifier in list(self._pending):
            self._build(identifier)
        self._hand_over()
        self._unwritten = 0

    def _hand_over(self) -> None:
        """Have what was built written; waits for what was handed over before."""
        groups = [(part, group) for _, part, _ in self._feeds.values() if (group := part.take_group())]
        self._written.result()  # not more than one group of each waits
        self._written = self._pen.submit(_write, groups, pause=len(self._feeds) > FILES_OPEN)
        self._cells = 0

    def _build(self, identifier: str | None) -> None:
        """Make columns of what is pending of a feed: by Arrow's reader where it may, else by Python."""
        documents = Documents.together(self._pending.pop(identifier))
        del self._sizes[identifier]
        feed, part, reader, columns = self._opened(identifier)
        if not columns:
            first, _ = split(list(documents), DECIDE_BYTES)
            documents = documents[len(first) :]
            self._fit(feed, part, first)
            columns = feed.version().columns
        doubted: list[Document] = []
        for some, cells in few_cells(documents, len(columns)):
            tables, doubted_of_some = reader.read(some, columns) if cells <= MAX_CELLS else ([], list(some))
            doubted += doubted_of_some
            for table in tables:
                self._add(part, table, columns)
        self.documents += len(documents) - len(doubted)
        self.json_bytes += documents.size - sum(document.size for document in doubted)
        while doubted:
            some_of_them, doubted = split(doubted, DECIDE_BYTES)
            self._fit(feed, part, some_of_them)

    def _opened(self, identifier: str | None) -> tuple[Feed, RecordsPart, BulkReader, Columns]:
        """The feed, its file under way, what reads its documents, and its columns by now."""
        if identifier not in self._feeds:
            feed = Feed(self._lake, identifier)
            self._feeds[identifier] = feed, RecordsPart(self._lake, feed), BulkReader()
        feed, part, reader = self._feeds[identifier]
        version = feed.version()
        if version.columns and version.number < 0:  # found in files, whose chain of versions is lost: it starts anew
            version = feed.extend({}, day=self._day, at=self._at)
        return feed, part, reader, version.columns

    def _add_large(self, document: Document) -> None:
        """Add a document that is too large to be held: its rows wait on the disk until all of them are there."""
        self._flush()
        feed, part, reader, known = self._opened(document.identifier)
        with collector_at_rest():
            outline = look_through(document, known, reader)
            if isinstance(outline, Fault):
                self._blame(document, outline)
                return
            contract = self._contract(feed)
            columns = self._decide(feed, lambda _: outline.columns, contract).columns
            misfits, refused = Counter[str](), list[int]()
            with Spool(self._lake.staging / f"records-{os.urandom(8).hex()}", columns) as spool:
                try:
                    check_cells(outline.records, columns)
                    for built in rows_of(document, outline, columns, reader, lambda some: _built(some, columns, contract)):
                        spool.write(built.table)
                        misfits.update(built.misfits)
                        refused += built.refused.get(document.result_id, [])
                except _ILL as error:
                    self.faults.append(document.rejection(_fault_of(error)))
                    return
                for table in spool:  # all of them are there: from here on no fault is the document's
                    self._add(part, table, columns)
                    self._unwritten += table.nbytes
                    if self._unwritten >= FLUSH_BYTES:
                        self._flush()
        self._count([document])
        self.misfits.update({(feed.identifier or "", place): count for place, count in misfits.items()})
        self._refuse({document.result_id: refused} if refused else {}, misfits, {document.result_id: document})

    def _fit(self, feed: Feed, part: RecordsPart, documents: list[Document]) -> None:
        """Parse documents one by one, and fit their values into the columns, of which there may be more afterwards.

        Objects are made into columns while they are in the cache, unless they have fields whose types more values decide.
        """
        by_id = {document.result_id: document for document in documents}
        waiting: list[Source] = []
        known = feed.version().columns
        with collector_at_rest():
            while documents:
                some, documents = split(documents, CHUNK_BYTES)
                if known and not waiting and self._fit_quickly(feed, part, some, known):
                    continue
                sources = [source for document in some if (source := self._parsed(document)) is not None]
                waiting += sources
                if documents and infer_columns([record for source in sources for record in source.records], known):
                    continue
                self._write(feed, part, waiting, by_id)
                waiting, known = [], feed.version().columns

    def _fit_quickly(self, feed: Feed, part: RecordsPart, documents: Sequence[Document], columns: Columns) -> bool:
        """Fit what the quick decoder gives, if it is certainly what the strict one would; else do nothing."""
        found = [parse_quickly(document.raw) for document in documents]
        quick = [each for each in found if each is not None]
        contract = self._contract(feed)
        if len(quick) < len(found):
            return False
        if contract == "evolve" and infer_columns([record for each in quick for record in each.records], columns):
            return False
        sources = [
            Source(document.result_id, document.date_created, document.poll, each.records)
            for document, each in zip(documents, quick, strict=True)
        ]
        try:
            built = _built(sources, columns, contract)
        except _ILL:
            return False
        if built.names != sum(each.names for each in quick) or built.greatest >= EXACT:
            return False
        self._count(documents)
        self._accept(feed, part, built, columns, {document.result_id: document for document in documents})
        return True

    def _count(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self.documents += 1
            self.json_bytes += document.size

    def _parsed(self, document: Document) -> Source | None:
        records = parse_document(document.raw)
        if not isinstance(records, Fault):
            self._count([document])
            return Source(document.result_id, document.date_created, document.poll, records)
        self._blame(document, records)
        return None

    def _blame(self, document: Document, fault: Fault) -> None:
        if document.declared or fault.reason not in _NO_DOCUMENT:
            self.faults.append(document.rejection(fault))

    def _write(self, feed: Feed, part: RecordsPart, sources: list[Source], documents: Mapping[str, Document]) -> None:
        contract = self._contract(feed)
        try:
            records = [record for source in sources for record in source.records]
            version = self._decide(feed, partial(infer_columns, records), contract)
            built = _built(sources, version.columns, contract)
        except _ILL as error:
            # The document that is to blame is found by halves and stands alone.
            if len(sources) > 1:
                for half in (sources[: len(sources) // 2], sources[len(sources) // 2 :]):
                    self._write(feed, part, half, documents)
                return
            self.faults += [documents[source.result_id].rejection(_fault_of(error)) for source in sources]
            return
        self._accept(feed, part, built, version.columns, documents)

    def _accept(self, feed: Feed, part: RecordsPart, built: Built, columns: Columns, documents: Mapping[str, Document]) -> None:
        self.misfits.update({(feed.identifier or "", place): count for place, count in built.misfits.items()})
        self._refuse(built.refused, built.misfits, documents)
        if built.table.num_rows:
            self._add(part, built.table, columns)

    def _add(self, part: RecordsPart, table: pa.Table, columns: Columns) -> None:
        part.add(table, columns)
        self._cells += table.num_rows * len(columns)
        if self._cells > MANY_CELLS:
            self._hand_over()

    def _contract(self, feed: Feed) -> Contract:
        return self._contracts.get(feed.identifier or "", self._contracts.get("*", "evolve"))

    def _decide(self, feed: Feed, infer: Callable[[Columns], Columns], contract: Contract) -> Version:
        """The columns of rows that would have those inferred: more than before only where the contract says so, or at first."""
        before = feed.version()
        if contract != "evolve" and before.number >= 0:
            return before
        version = feed.extend(infer(before.columns), day=self._day, at=self._at)
        if version.number > before.number and version.day is not None and version.run_id == self._lake.run_id:
            self.added.append((feed.identifier or "", version))
        return version

    def _refuse(self, refused: Mapping[str, list[int]], misfits: Counter[str], documents: Mapping[str, Document]) -> None:
        for result_id, numbers in refused.items():
            places = ", ".join(sorted(misfits)[:_NAMED])
            shown = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
            detail = f"records {shown} hold what the frozen columns do not, of: {places}"
            self.faults.append(documents[result_id].rejection(Fault("records_frozen", detail)))


def _built(sources: Sequence[Source], columns: Columns, contract: Contract) -> Built:
    """Raises: TooManyCells, and others of _ILL."""
    check_cells(sum(len(source.records) for source in sources), columns)
    return build_table(sources, columns, refuse=contract == "freeze")


def _fault_of(error: Exception) -> Fault:
    if isinstance(error, TooManyCells):
        return Fault("records_too_large", str(error))
    if isinstance(error, NotFinite):
        return Fault("records_number_out_of_range", "a number is beyond a 64-bit float")
    reason = "records_too_deep" if isinstance(error, RecursionError) else "records_unreadable"
    return Fault(reason, f"{type(error).__name__}: {error}")


def _write(groups: Sequence[tuple[RecordsPart, Group]], *, pause: bool) -> None:
    for part, group in groups:
        part.write(group)
        if pause:  # a file for each of very many feeds would be too many
            part.pause()
