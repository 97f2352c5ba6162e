"""The pipeline without Dagster, from top to bottom: list, plan, fetch, commit, verify, acknowledge. Runs the edges.

A day is stored first (`store_day`) and acknowledged afterwards (`acknowledge_day`), which looks at nothing but the API
and the lake: each half can run alone, be killed at any instant, and be run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.acknowledge import Acknowledger, Confirmed, Listed, find_consumed
from ricloud_connector.client import RicloudClient
from ricloud_connector.errors import LakeError
from ricloud_connector.fetch import Elsewhere, Fetcher
from ricloud_connector.lake import Lake
from ricloud_connector.model import AVAILABLE, Content, Proven, Rejection, Result, Window
from ricloud_connector.overlap import ahead
from ricloud_connector.partition import Partition
from ricloud_connector.parts import ContentsWriter
from ricloud_connector.plan import Plan, batches, plan_batch
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import (
    ACKNOWLEDGEMENTS,
    CONTENTS,
    QUARANTINE,
    RESULTS,
    quarantine_rows,
    result_rows,
)

PAGES_AHEAD = 4
CONTENTS_AHEAD = 64
NAMED_AT_MOST = 1000  # rejections and unconfirmed ids kept by name in a report; beyond it they are counted


class Progress(Protocol):
    """Told how far a day is, now and then: results listed, results done, bytes downloaded."""

    def __call__(self, day: date, listed: int, done: int, downloaded_bytes: int, /) -> None: ...


@dataclass(slots=True)
class DayReport:
    """What became of one day. Counts are of results where nothing else is said.

    `new` were stored by this run, `already_stored` before it or by another; `quarantined` are set aside with a reason,
    `failed` could not be fetched this time; `unconfirmed` are still available after their acknowledgement.
    """

    day: date
    listed: int = 0
    new: int = 0
    already_stored: int = 0
    skipped: int = 0
    new_result_rows: int = 0
    downloaded_bytes: int = 0
    quarantined: int = 0
    failed: int = 0
    acknowledged: int = 0
    found_acknowledged: int = 0
    unconfirmed: int = 0
    seconds: float = 0.0
    rejections: list[Rejection] = field(default_factory=list)
    unconfirmed_ids: list[str] = field(default_factory=list)
    error: LakeError | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was listed is stored and, where that was asked for, acknowledged."""
        return self.error is None and not (self.quarantined or self.failed or self.unconfirmed)

    def reject(self, rejections: Iterable[Rejection]) -> None:
        for rejection in rejections:
            if rejection.transient:
                self.failed += 1
            else:
                self.quarantined += 1
            if len(self.rejections) < NAMED_AT_MOST:
                self.rejections.append(rejection)


def now_utc() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Run:
    """The edges of one run, and who it is. Open the lake before use: `with lake.opened()`."""

    client: RicloudClient
    lake: Lake
    fetcher: Fetcher
    run_id: str
    now: Callable[[], datetime] = now_utc
    progress: Progress = lambda *_: None


def ingest(run: Run, window: Window, *, acknowledge: bool = True) -> Iterator[DayReport]:
    """Ingest each UTC day of the window, oldest first; yields what became of each.

    A day whose lake is broken is reported with its error, and the others go on.
    Raises: ApiError and SettingsError, which concern every day: all that was committed stays.
    """
    for day, span in window.by_day():
        started = time.monotonic()
        report = DayReport(day)
        try:
            store_day(run, day, span, report)
            if acknowledge:
                acknowledge_day(run, day, span, report)
        except LakeError as error:
            report.error = error
        report.seconds = time.monotonic() - started
        yield report


def store_day(run: Run, day: date, span: Window, report: DayReport, *, results: bool = True, contents: bool = True) -> None:
    """List what is available and store what the lake lacks: result rows first, then proven contents, batch by batch."""
    listing = run.client.list_results(span)
    with ahead(listing.by_page(), PAGES_AHEAD) as pages:
        for batch in batches(pages):
            report.listed += len(batch)
            for item in batch:
                if isinstance(item, Result):
                    run.lake.claim(item.organisation)
            plan = plan_batch(batch, _stored(run.lake.scan(CONTENTS, day), batch))
            report.skipped += plan.skipped
            if results:
                rows = result_rows(plan.seen, run_id=run.run_id, seen_at=run.now())
                report.new_result_rows += run.lake.commit_table(RESULTS, day, rows)
            if contents:
                report.already_stored += len(plan.stored)
                _store_contents(run, day, plan, report)


def _store_contents(run: Run, day: date, plan: Plan, report: DayReport) -> None:
    """Fetch, prove, commit one batch; write down what is set aside."""
    rejected = list(plan.rejected)
    fetched = 0
    if plan.fetch:
        with run.lake.writer(CONTENTS) as part, ahead(run.fetcher.fetch(plan.fetch), CONTENTS_AHEAD) as outcomes:
            writer = ContentsWriter(part)
            for outcome in outcomes:
                if isinstance(outcome, Content):
                    writer.add(outcome)
                    fetched += 1
                    report.downloaded_bytes += outcome.result.size or 0
                elif isinstance(outcome, Rejection):
                    rejected.append(outcome)
                else:
                    assert isinstance(outcome, Elsewhere)
                    report.already_stored += 1
                run.progress(day, report.listed, report.new + report.already_stored + fetched, report.downloaded_bytes)
            writer.flush()
            if fetched:
                added = run.lake.commit(day, part.finish())
                report.new += min(added, fetched)
                report.already_stored += fetched - min(added, fetched)
    _quarantine(run, day, rejected, report)


def _quarantine(run: Run, day: date, rejected: list[Rejection], report: DayReport) -> None:
    """Write down what is set aside, unless another run has stored it meanwhile."""
    if not rejected:
        return
    stored = _stored_ids(run.lake.scan(CONTENTS, day), [rejection.result_id for rejection in rejected])
    open_ = [item for item in rejected if stored.get(item.result_id) != Proven(item.checksum or "", item.size or 0)]
    report.already_stored += len(rejected) - len(open_)
    report.reject(open_)
    lasting = [rejection for rejection in open_ if not rejection.transient]
    for partition_day in sorted({rejection.day for rejection in lasting}):
        of_day = [rejection for rejection in lasting if rejection.day == partition_day]
        rows = quarantine_rows(of_day, run_id=run.run_id, seen_at=run.now())
        run.lake.commit_table(QUARANTINE, partition_day, rows)


def acknowledge_day(run: Run, day: date, span: Window, report: DayReport) -> None:
    """List what is available, read back what the lake holds of it, acknowledge that and nothing else, and write it down.

    Raises: UnreadablePart or BrokenChain for a lake that cannot be trusted: nothing that depends on it is acknowledged.
    """
    partition = run.lake.scan(CONTENTS, day)
    whole = partition.whole_results()
    if not whole.num_rows:
        return
    listed = _list_available(run.client, span)
    found = _found_consumed(run, day, span, whole, listed)
    acknowledger = Acknowledger(run.client)
    # Joined by id, md5 and size: a result that changed after it was stored has no row here, and no acknowledgement.
    due = listed.join(whole.drop(["date_created"]), ["result_id", "checksum", "size"], join_type="inner")
    broken: LakeError | None = None
    try:
        for commit in read_back(partition, due.column("part").unique().to_pylist()):
            acknowledger.send(commit, _listed_of(due.filter(pc.equal(due.column("part"), commit.file.number))))
    except LakeError as error:
        broken = error  # what was sent before was proven, and is written down all the same
    outcome = acknowledger.confirm()
    rows = acknowledgement_rows([*found, *outcome.confirmed], run_id=run.run_id, at=run.now())
    run.lake.commit_table(ACKNOWLEDGEMENTS, day, rows)
    report.acknowledged += len(outcome.confirmed)
    report.found_acknowledged += len(found)
    report.unconfirmed += len(outcome.refused)
    report.unconfirmed_ids += [item.id for item in outcome.refused[:NAMED_AT_MOST]]
    if broken is not None:
        raise broken


def _found_consumed(run: Run, day: date, span: Window, whole: pa.Table, listed: pa.Table) -> list[Confirmed]:
    """Stored results without an acknowledgement row that are not available any more and that the API calls consumed.

    A run that died between acknowledging and writing it down leaves them.
    """
    recorded = run.lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
    silent = whole.filter(pc.invert(pc.is_in(whole.column("result_id"), value_set=recorded)))
    silent = silent.filter(pc.invert(pc.is_in(silent.column("result_id"), value_set=listed.column("result_id"))))
    created = silent.column("date_created")
    silent = silent.filter(pc.and_(pc.greater_equal(created, span.since), pc.less(created, span.until)))
    if not silent.num_rows:
        return []
    facts = {row["result_id"]: row for row in silent.drop(["part"]).to_pylist()}
    consumed = dict.fromkeys(find_consumed(run.client, span, list(facts)))
    return [Confirmed(_listed(facts[result_id]), "found") for result_id in consumed]


def acknowledgement_rows(confirmed: Iterable[Confirmed], *, run_id: str, at: datetime) -> pa.Table:
    """Rows of the acknowledgements dataset."""
    rows = [
        {
            "result_id": item.listed.id,
            "checksum": item.listed.checksum,
            "size": item.listed.size,
            "date_created": item.listed.date_created,
            "acknowledged_at": at,
            "confirmed_by": item.confirmed_by,
            "run_id": run_id,
        }
        for item in confirmed
    ]
    return pa.Table.from_pylist(rows, schema=ACKNOWLEDGEMENTS.schema)


_LISTED_SCHEMA = pa.schema(
    [
        ("result_id", pa.string()),
        ("numeric_id", pa.bool_()),
        ("checksum", pa.string()),
        ("size", pa.int64()),
        ("date_created", pa.timestamp("us", tz="UTC")),
    ]
)


def _list_available(client: RicloudClient, span: Window) -> pa.Table:
    """What is available, as columns: some tens of bytes a result, however many there are."""
    tables = [_LISTED_SCHEMA.empty_table()]
    for page in client.list_results(span).by_page():
        items = [item for item in page if isinstance(item, Result) and item.state == AVAILABLE]
        columns = [
            [item.id for item in items],
            [isinstance(item.wire_id, int) for item in items],
            [item.checksum for item in items],
            [item.size for item in items],
            [item.date_created for item in items],
        ]
        tables.append(pa.table(columns, schema=_LISTED_SCHEMA))
    return pa.concat_tables(tables)


def _listed_of(due: pa.Table) -> list[Listed]:
    """Rows of the due table as facts, each id once."""
    return list({row["result_id"]: _listed(row) for row in due.to_pylist()}.values())


def _listed(row: dict[str, object]) -> Listed:
    result_id, size, created = row["result_id"], row["size"], row["date_created"]
    assert isinstance(result_id, str)
    assert isinstance(size, int)
    assert isinstance(created, datetime)
    return Listed(result_id, int(result_id) if row.get("numeric_id") else result_id, str(row["checksum"]), size, created)


def _stored(partition: Partition, batch: Iterable[Result | Rejection]) -> dict[str, Proven]:
    return _stored_ids(partition, [item.id for item in batch if isinstance(item, Result)])


def _stored_ids(partition: Partition, ids: list[str]) -> dict[str, Proven]:
    """What the lake holds whole of these ids."""
    whole = partition.whole_results()
    whole = whole.filter(pc.is_in(whole.column("result_id"), value_set=pa.array(ids, pa.string())))
    columns = [whole.column(name).to_pylist() for name in ("result_id", "checksum", "size")]
    return {result_id: Proven(checksum, size) for result_id, checksum, size in zip(*columns, strict=True)}
