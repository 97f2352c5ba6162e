"""The records dataset made anew from contents, without the API. Removes and writes in the lake.

It removes the dataset and writes it again in place, so that a plain glob never sees rows of two parsers or two sets of types
side by side, and no reader has to be told of a new root. The price: readers and runs are to be stopped meanwhile. Killed in
between, it is run again; contents are never touched.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from ricloud_connector import disk
from ricloud_connector.audit import days_of
from ricloud_connector.errors import LakeError, SettingsError
from ricloud_connector.lake import Lake
from ricloud_connector.model import Place
from ricloud_connector.options import Contracts, check_contracts
from ricloud_connector.records.bulk import BulkReader
from ricloud_connector.records.columns import Columns, infer_columns, merge_columns
from ricloud_connector.records.derive import RecordsReport, derive_unlocked
from ricloud_connector.records.document import Fault, Record, parse_document
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.feed import RECORDS, Feed
from ricloud_connector.records.filling import BATCH_BYTES, DECIDE_BYTES
from ricloud_connector.records.large import look_through
from ricloud_connector.records.lock import records_lock
from ricloud_connector.records.portions import split
from ricloud_connector.records.sources import documents_of
from ricloud_connector.schemas import CONTENTS, QUARANTINE


def rebuild_records(lake: Lake, *, at: datetime, contracts: Contracts | None = None) -> Iterator[RecordsReport]:
    """Remove all records and derive them again, day by day; yields what became of each day. The lake is opened.

    All contents are read twice: first to decide each column's type, by the first 4 MiB in which it has values and by whatever
    later ones can be held together with those (int and float, datetime and text, more fields of an object), then to write.
    A day that cannot be derived is told at the end, and the others go on. Raises: LakeError; SettingsError.
    """
    check_contracts(contracts)
    with records_lock(lake, alone=True):
        yield from _rebuild(lake, at, contracts)


def _rebuild(lake: Lake, at: datetime, contracts: Contracts | None) -> Iterator[RecordsReport]:
    days = days_of(lake, CONTENTS)
    proposal = _Proposal()
    for day in days:
        lake.scan(QUARANTINE, day)  # while nothing has been removed yet
        contents = lake.scan(CONTENTS, day)
        for part in contents.parts:
            for documents in documents_of(lake, day, contents, part, []):
                proposal.add(documents)
            proposal.learn_all()
    # What says that records are there goes first: killed after it, a run derives what is missing.
    for folder in (lake.control / RECORDS, lake.control / "schemas", lake.data / RECORDS):
        _remove(lake, folder)
    for identifier, columns in proposal.columns.items():
        Feed(lake, identifier).extend(columns, day=proposal.first_day[identifier], at=at)
    broken: list[str] = []
    for day in days:
        try:
            report = derive_unlocked(lake, day, at=at, contracts=contracts)
        except LakeError as error:
            broken.append(f"{day}: {error}")
            continue
        yield report
    if broken:
        raise LakeError("; ".join(broken[:10]))


def _remove(lake: Lake, folder: Place) -> None:
    """Remove a folder. Nothing is ever deleted from a bucket by this connector. Raises: LakeError, SettingsError."""
    if not isinstance(folder, Path):
        if lake.storage.folders(folder) or lake.storage.names(folder):
            raise SettingsError(
                f"this connector deletes nothing from buckets: remove everything below {folder} with a tool of the store "
                f"(and below {lake.control / RECORDS}, {lake.control / 'schemas'}, {lake.data / RECORDS}), then run it again"
            )
        return
    try:
        if folder.exists():
            shutil.rmtree(folder)
            disk.sync(folder.parent)
    except OSError as error:
        raise LakeError(f"cannot remove {folder}: {error.strerror}") from error


class _Proposal:
    """By feed, the columns that hold the values of all documents added, and the day of the first of them."""

    def __init__(self) -> None:
        self.columns: dict[str | None, Columns] = {}
        self.first_day: dict[str | None, date] = {}
        self._readers: dict[str | None, BulkReader] = defaultdict(BulkReader)
        self._pending: dict[str | None, list[Documents]] = defaultdict(list)
        self._sizes: Counter[str | None] = Counter()

    def add(self, documents: Documents | Document) -> None:
        if isinstance(documents, Document):
            self._learn_large(documents)
            return
        for name, some in documents.by_feed():
            self._pending[name].append(some)
            self._sizes[name] += some.size
            if self._sizes[name] >= BATCH_BYTES:
                self._learn(name)
        if self._sizes.total() >= 4 * BATCH_BYTES:
            self.learn_all()

    def learn_all(self) -> None:
        for name in list(self._pending):
            self._learn(name)

    def _learn_large(self, document: Document) -> None:
        name = document.identifier
        outline = look_through(document, {}, self._readers[name])
        if not isinstance(outline, Fault):
            self.first_day.setdefault(name, document.date_created.date())
            self.columns[name] = merge_columns(self.columns.get(name, {}), outline.columns)

    def _learn(self, name: str | None) -> None:
        documents = Documents.together(self._pending.pop(name))
        del self._sizes[name]
        while len(documents):
            # What fits the columns found so far has nothing to teach, and most documents do.
            _, doubted = self._readers[name].read(documents, self.columns.get(name, {}))
            some, rest = split(doubted, DECIDE_BYTES)
            documents = Documents.of(rest)
            records: list[Record] = []
            for document in some:
                found = parse_document(document.raw)
                if not isinstance(found, Fault):
                    self.first_day.setdefault(name, document.date_created.date())
                    records += found
            self.columns[name] = merge_columns(self.columns.get(name, {}), infer_columns(records, {}))
