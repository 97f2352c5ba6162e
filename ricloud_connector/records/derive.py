"""Contents to records: what a day's JSON results hold becomes a file per feed and contents part. Reads and writes the lake.

Nothing here asks the API, and nothing that a document holds can fail a run: a document without rows is written to the
quarantine dataset with a reason `records_...`, its content stays stored, and the others go on. A records file is named by
the contents part that it was derived from, so that deriving it again changes nothing. Memory holds a row group of contents,
a few MiB of documents as Python's objects (of a large one a piece of it: `cutting.py`), and 16 MiB as columns.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

from ricloud_connector import overlap
from ricloud_connector.lake import Lake
from ricloud_connector.model import NAMED_AT_MOST, DataFile, Rejection
from ricloud_connector.options import Contracts, check_contracts
from ricloud_connector.partition import Partition
from ricloud_connector.records.derived import Derived
from ricloud_connector.records.feed import Version
from ricloud_connector.records.filling import OpenRecords
from ricloud_connector.records.lock import records_lock
from ricloud_connector.records.sources import documents_of
from ricloud_connector.schemas import CONTENTS, QUARANTINE, quarantine_rows


@dataclass(slots=True)
class RecordsReport:
    """What deriving a day did. `rows` and `files` are new ones, by feed; `documents` those that were parsed.

    `misfits` counts by feed and place the values that their column could not hold; `added` are new versions of columns.
    """

    day: date
    documents: int = 0
    json_bytes: int = 0
    files: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    misfits: Counter[tuple[str, str]] = field(default_factory=Counter)
    added: list[tuple[str, Version]] = field(default_factory=list)
    seconds: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time it takes."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started


def derive_records(lake: Lake, day: date, *, at: datetime, contracts: Contracts | None = None, first: int = 0) -> RecordsReport:
    """Derive what is missing of a day's records, part by part, from contents part `first` on. The lake is opened; `at` is now.

    Raises: LakeError where contents cannot be read or records not be written, or where they are being rebuilt; SettingsError
    for a contract's name.
    """
    with records_lock(lake, alone=False):
        return derive_unlocked(lake, day, at=at, contracts=contracts, first=first)


def derive_unlocked(
    lake: Lake, day: date, *, at: datetime, contracts: Contracts | None = None, first: int = 0
) -> RecordsReport:
    """The same, for who holds the lock."""
    report, contracts = RecordsReport(day), check_contracts(contracts)
    with report.measured():
        contents = lake.scan(CONTENTS, day)
        derived = Derived(lake, day)
        for part in contents.parts[first:]:
            if not derived.holds(part):
                _derive_part(_Work(lake, day, at, contents, part, contracts, report), derived)
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    lake: Lake
    day: date
    at: datetime
    contents: Partition
    part: DataFile
    contracts: Contracts
    report: RecordsReport


def _derive_part(work: _Work, derived: Derived) -> None:
    faults: list[Rejection] = []
    with ExitStack() as stack:
        opened = OpenRecords(work.lake, work.day, work.at, work.contracts)
        stack.callback(opened.close)
        found = documents_of(work.lake, work.day, work.contents, work.part, faults)
        for documents in stack.enter_context(overlap.ahead(found, 1)):
            opened.add(documents)
        made = opened.commit(work.part.number)
    faults += opened.faults
    _quarantine(work, faults)
    derived.add(work.part, made, faults)
    report = work.report
    report.documents += opened.documents
    report.json_bytes += opened.json_bytes
    report.files += opened.files
    report.rows += opened.rows
    report.misfits += opened.misfits
    report.added += opened.added


def _quarantine(work: _Work, rejections: list[Rejection]) -> None:
    if not rejections:
        return
    report = work.report
    report.quarantined += len(rejections)
    report.rejections += rejections[: NAMED_AT_MOST - len(report.rejections)]
    rows = quarantine_rows(rejections, run_id=work.lake.run_id, seen_at=work.at)
    work.lake.commit_table(QUARANTINE, work.day, rows)
