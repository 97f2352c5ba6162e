"""The second half of a day: what is available and read back from the lake is acknowledged, and written down. Runs the edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.acknowledge import Acknowledger, Confirmed, Listed, find_consumed
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.model import AVAILABLE, NAMED_AT_MOST, Rejection, Result, Window
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, acknowledgement_rows

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


class Settlement:
    """Acknowledges day after day; `confirm` settles the days since the last one and writes their rows."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._acknowledger = Acknowledger(run.client)
        self._reports: dict[date, DayReport] = {}
        self._found: list[Confirmed] = []

    def send(self, day: date, span: Window, available: pa.Table, report: DayReport) -> None:
        """Read back what the lake holds of the available, and acknowledge that and nothing else.

        `available` says what the API wants to hear of, and proves nothing.
        Raises: UnreadablePart or BrokenChain for a lake that cannot be trusted: nothing that depends on it is acknowledged.
        """
        self._reports[day] = report
        partition = self._run.lake.scan(CONTENTS, day)
        whole = partition.whole_results()
        if not whole.num_rows:
            return
        self._found += self._find_consumed(day, span, whole, available)
        # Joined by id, md5 and size: a result that changed after it was stored has no row here, and no acknowledgement.
        due = available.join(
            whole.drop(["date_created"]), ["result_id", "checksum", "size"], join_type="inner", use_threads=False
        )
        for commit in read_back(partition, due.column("part").unique().to_pylist()):
            in_part = due.filter(pc.equal(due.column("part"), commit.file.number))
            self._acknowledger.send(commit, _listed_of(in_part))

    def confirm(self) -> None:
        """Make sure that the acknowledgements were applied, and write a row for each that was."""
        if not self._reports:
            return
        confirmation = self._acknowledger.confirm()
        by_day = defaultdict[date, list[Confirmed]](list)
        for confirmed in (*self._found, *confirmation.confirmed):
            by_day[confirmed.listed.date_created.date()].append(confirmed)
        for listed in confirmation.refused:
            report = self._reports[listed.date_created.date()]
            report.unconfirmed += 1
            report.unconfirmed_ids += [listed.id] if len(report.unconfirmed_ids) < NAMED_AT_MOST else []
        for day, confirmed_ones in by_day.items():
            report = self._reports[day]
            found = sum(confirmed.confirmed_by == "found" for confirmed in confirmed_ones)
            report.acknowledged += len(confirmed_ones) - found
            report.found_acknowledged += found
            with report.measured():
                rows = acknowledgement_rows(_facts(confirmed_ones), run_id=self._run.run_id, at=self._run.now())
                self._run.lake.commit_table(ACKNOWLEDGEMENTS, day, rows)
        self._reports, self._found = {}, []

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


def _facts(confirmed: Iterable[Confirmed]) -> Iterable[dict[str, object]]:
    for item in confirmed:
        listed = item.listed
        yield {
            "result_id": listed.id,
            "checksum": listed.checksum,
            "size": listed.size,
            "date_created": listed.date_created,
            "confirmed_by": item.confirmed_by,
        }


def _listed_of(due: pa.Table) -> list[Listed]:
    """Rows of the due table as facts, each id once."""
    return list({row["result_id"]: _listed(row) for row in due.to_pylist()}.values())


def _listed(row: dict[str, object]) -> Listed:
    result_id, size, created = row["result_id"], row["size"], row["date_created"]
    assert isinstance(result_id, str)
    assert isinstance(size, int)
    assert isinstance(created, datetime)
    return Listed(result_id, int(result_id) if row.get("numeric_id") else result_id, str(row["checksum"]), size, created)
