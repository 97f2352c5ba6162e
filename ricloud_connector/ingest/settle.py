"""The second half of a day: what is available and read back from the lake is acknowledged, and written down. Runs the edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.acknowledge import Acknowledger, Confirmed, Listed, find_consumed
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.model import AVAILABLE, NAMED_AT_MOST, Rejection, Result, Window
from ricloud_connector.partition import Partition
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, RESULTS, acknowledgement_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = pa.array([], pa.string())
_LISTED_SCHEMA = pa.schema(
    [
        ("result_id", pa.string()),
        ("numeric_id", pa.bool_()),
        ("checksum", pa.string()),
        ("size", pa.int64()),
        ("date_created", pa.timestamp("us", tz="UTC")),
    ]
)


def available_of(pages: Iterable[list[Result | Rejection]]) -> pa.Table:
    """What is available of some pages, as columns: some tens of bytes a result, however many there are."""
    tables = [_LISTED_SCHEMA.empty_table()]
    for page in pages:
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


def due_of(whole: pa.Table, available: pa.Table) -> pa.Table:
    """What is available and stored whole, with the number of the part that would prove it.

    Joined by id, md5 and size: a result that changed after it was stored has no row here, and no acknowledgement.
    """
    return available.join(whole.drop(["date_created"]), ["result_id", "checksum", "size"], join_type="inner", use_threads=False)


class Settlement:
    """Acknowledges day after day; `confirm` settles the days since the last one and writes their rows."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._acknowledger = Acknowledger(run.client, sleep=run.sleep)
        self._reports: dict[date, list[tuple[Window, DayReport]]] = defaultdict(list)  # a day may come in many spans
        self._found: list[Confirmed] = []
        self._sent, self._sent_of = _NOTHING, date.min  # the ids of one day that were acknowledged already

    def send(self, day: date, span: Window, available: pa.Table, report: DayReport) -> None:
        """Read back what the lake holds of the available, and acknowledge that and nothing else.

        `available` says what the API wants to hear of, and proves nothing.
        Raises: UnreadablePart or BrokenChain for a lake that cannot be trusted: nothing that depends on it is acknowledged.
        """
        self._remember(day, span, report)
        partition = self._run.lake.scan(CONTENTS, day)
        whole = partition.whole_results()
        if whole.num_rows:
            self._found += self._find_consumed(day, span, whole, available)
            self._send(partition, whole, available)
        self._sent = _NOTHING  # an hour later in the same day is another turn

    def send_committed(self, day: date, span: Window, ids: Collection[str], available: pa.Table, report: DayReport) -> None:
        """Read back and acknowledge what this run has just committed, before its day is over. Raises: as `send`.

        For any thread, but not for two at a time. `available` is what was listed so far.
        """
        self._remember(day, span, report)
        partition = self._run.lake.scan(CONTENTS, day)
        names = pa.array(ids, pa.string())
        whole = partition.whole_results()
        whole = whole.filter(pc.is_in(whole.column("result_id"), value_set=names))
        self._send(partition, whole, available.filter(pc.is_in(available.column("result_id"), value_set=names)))

    def cancel(self) -> None:
        """Acknowledge nothing more. From any thread."""
        self._acknowledger.cancel()

    def _remember(self, day: date, span: Window, report: DayReport) -> None:
        if not any(known is report for _, known in self._reports[day]):
            self._reports[day].append((span, report))

    def _send(self, partition: Partition, whole: pa.Table, available: pa.Table) -> None:
        if partition.day != self._sent_of:  # the day before may have ended in an error, before its own `send`
            self._sent, self._sent_of = _NOTHING, partition.day
        due = due_of(whole, available)
        due = due.filter(pc.invert(pc.is_in(due.column("result_id"), value_set=self._sent)))
        if due.num_rows:  # the API lists them no more: the row of a result that another run wrote must not be lost then
            self._run.lake.settle(RESULTS, partition.day)
        for commit in read_back(partition, due.column("part").unique().to_pylist()):
            in_part = due.filter(pc.equal(due.column("part"), commit.file.number))
            self._acknowledger.send(commit, _listed_of(in_part))
        self._sent = pa.concat_arrays([self._sent, due.column("result_id").combine_chunks()])

    def confirm(self) -> None:
        """Make sure that the acknowledgements were applied, and write a row for each that was."""
        if not self._reports:
            return
        confirmation = self._acknowledger.confirm()
        by_day = defaultdict[date, list[Confirmed]](list)
        for confirmed in (*self._found, *confirmation.confirmed):
            by_day[confirmed.listed.date_created.date()].append(confirmed)
            report = self._report_of(confirmed.listed)
            if confirmed.confirmed_by == "found":
                report.found_acknowledged += 1
            else:
                report.acknowledged += 1
        for listed in confirmation.refused:
            report = self._report_of(listed)
            report.unconfirmed += 1
            report.unconfirmed_ids += [listed.id] if len(report.unconfirmed_ids) < NAMED_AT_MOST else []
        for day, confirmed_ones in by_day.items():
            with self._reports[day][-1][1].measured():
                rows = acknowledgement_rows(_facts(confirmed_ones), run_id=self._run.run_id, at=self._run.now())
                self._run.lake.commit_table(ACKNOWLEDGEMENTS, day, rows)
        self._reports.clear()
        self._found = []

    def _report_of(self, listed: Listed) -> DayReport:
        """The report of the span in which a result was created."""
        spans = self._reports[listed.date_created.date()]
        return next((report for span, report in spans if listed.date_created in span), spans[-1][1])

    def _find_consumed(self, day: date, span: Window, whole: pa.Table, available: pa.Table) -> list[Confirmed]:
        """Stored results without an acknowledgement row that are not available any more and that the API calls consumed.

        A run that died between acknowledging and writing it down leaves them.
        """
        recorded = self._run.lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
        silent = whole.filter(pc.invert(pc.is_in(whole.column("result_id"), value_set=recorded)))
        silent = silent.filter(pc.invert(pc.is_in(silent.column("result_id"), value_set=available.column("result_id"))))
        created = silent.column("date_created")
        silent = silent.filter(pc.and_(pc.greater_equal(created, span.since), pc.less(created, span.until)))
        if not silent.num_rows:
            return []
        facts = {row["result_id"]: row for row in silent.drop(["part"]).to_pylist()}
        consumed = dict.fromkeys(find_consumed(self._run.client, span, list(facts)))
        return [Confirmed(_listed(facts[result_id]), "found") for result_id in consumed]


def _facts(confirmed: Iterable[Confirmed]) -> Iterator[tuple[str, str, int, datetime, str]]:
    for listed, confirmed_by in confirmed:
        yield listed.id, listed.checksum, listed.size, listed.date_created, confirmed_by


def _listed_of(due: pa.Table) -> list[Listed]:
    """Rows of the due table as facts, each id once."""
    ids, numeric, checksums, sizes = (due.column(name).to_pylist() for name in ("result_id", "numeric_id", "checksum", "size"))
    # Arrow takes longer to make a datetime than everything else together.
    moments = [_EPOCH + timedelta(microseconds=number) for number in due.column("date_created").cast(pa.int64()).to_pylist()]
    wire_ids = [int(name) if is_number else name for name, is_number in zip(ids, numeric, strict=True)]
    return list({item.id: item for item in map(Listed, ids, wire_ids, checksums, sizes, moments)}.values())


def _listed(row: dict[str, object]) -> Listed:
    result_id, size, created = row["result_id"], row["size"], row["date_created"]
    assert isinstance(result_id, str)
    assert isinstance(size, int)
    assert isinstance(created, datetime)
    return Listed(result_id, int(result_id) if row.get("numeric_id") else result_id, str(row["checksum"]), size, created)
