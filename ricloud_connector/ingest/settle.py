"""The second half of a day: what is available and read back from the lake is acknowledged, and written down. Runs the edges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import date
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.acknowledge import LISTED, Acknowledger, find_consumed
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, NAMED_AT_MOST, Window
from ricloud_connector.partition import Partition, first_occurrences
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, RESULTS, acknowledgement_rows

_NOTHING = pa.nulls(0, pa.string())
_SAME = ["result_id", "checksum", "size"]
_FACTS = ["result_id", "checksum", "size", "date_created"]


def available_of(pages: Iterable[Listed]) -> pa.Table:
    """What is available of some pages, as columns: some tens of bytes a result, however many there are."""
    tables = [LISTED.empty_table()]
    for page in pages:
        facts = page.in_state(AVAILABLE).facts
        facts = facts.rename_columns(["result_id" if name == "id" else name for name in facts.schema.names])
        tables.append(pa.Table.from_batches([facts]).select(LISTED.names))
    return pa.concat_tables(tables)


def due_of(whole: pa.Table, available: pa.Table) -> pa.Table:
    """What is available and stored whole, with the number of the part that would prove it.

    Joined by id, md5 and size: a result that changed after it was stored has no row here, and no acknowledgement.
    """
    whole = whole.filter(pc.is_in(whole.column("result_id"), value_set=available.column("result_id")))
    place = pc.index_in(_joined(available), value_set=_joined(whole), skip_nulls=True)
    stored = place.is_valid()
    return available.filter(stored).append_column("part", whole.column("part").take(place.filter(stored)))


def _joined(facts: pa.Table) -> pa.ChunkedArray:
    """Id, md5 and size as one text, null where one of them is."""
    return pc.binary_join_element_wise(*(facts.column(name).cast(pa.string()) for name in _SAME), "\x1f")


class Settlement:
    """Acknowledges day after day; `confirm` settles the days since the last one and writes their rows."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._acknowledger = Acknowledger(run.client, sleep=run.sleep)
        self._reports: dict[date, list[tuple[Window, DayReport]]] = defaultdict(list)  # a day may come in many spans
        self._found: list[pa.Table] = []
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
            self._found.append(self._find_consumed(day, span, whole, available))
            self._send(partition, whole, available)
        self._sent = _NOTHING  # an hour later in the same day is another turn

    def send_committed(self, day: date, span: Window, ids: Collection[str], available: pa.Table, report: DayReport) -> pa.Table:
        """Read back and acknowledge what this run has just committed, before its day is over. Raises: as `send`.

        For any thread, but not for two at a time. `available` is what was listed so far; returns what is left of it.
        """
        self._remember(day, span, report)
        partition = self._run.lake.scan(CONTENTS, day)
        names = pa.array(ids, pa.string())
        whole = partition.whole_results()
        whole = whole.filter(pc.is_in(whole.column("result_id"), value_set=names))
        sent = self._send(partition, whole, available.filter(pc.is_in(available.column("result_id"), value_set=names)))
        return _without(available, sent)

    def cancel(self) -> None:
        """Acknowledge nothing more. From any thread."""
        self._acknowledger.cancel()

    def _remember(self, day: date, span: Window, report: DayReport) -> None:
        if day != self._sent_of:  # the day before may have ended in an error, before its own `send`
            self._sent, self._sent_of = _NOTHING, day
        if not any(known is report for _, known in self._reports[day]):
            self._reports[day].append((span, report))

    def _send(self, partition: Partition, whole: pa.Table, available: pa.Table) -> pa.Array:
        """Returns the ids of what was acknowledged now."""
        available = _without(available, self._sent)
        if not available.num_rows:
            return _NOTHING
        due = due_of(whole, available)
        if due.num_rows:  # the API lists them no more: the row of a result that another run wrote must not be lost then
            self._run.lake.settle(RESULTS, partition.day)
        for commit in read_back(partition, due.column("part").unique().to_pylist(), proofs=self._run.lake.proofs):
            self._acknowledger.send(commit, _once(due.filter(pc.equal(due.column("part"), commit.file.number))))
        sent = due.column("result_id").combine_chunks()
        self._sent = pa.concat_arrays([self._sent, sent])
        return sent

    def confirm(self) -> None:
        """Make sure that the acknowledgements were applied, and write a row for each that was."""
        if not self._reports:
            return
        confirmation = self._acknowledger.confirm()
        rows: dict[date, list[pa.Table]] = defaultdict(list)
        for found in self._found:
            for day, report, confirmed in self._by_report(found):
                report.found_acknowledged += confirmed.num_rows
                rows[day].append(self._rows(confirmed, "found"))
        for sent, confirmed_by in confirmation.confirmed:
            for day, report, confirmed in self._by_report(sent):
                report.acknowledged += confirmed.num_rows
                rows[day].append(self._rows(confirmed, confirmed_by))
        for _, report, refused in self._by_report(confirmation.refused):
            report.unconfirmed += refused.num_rows
            report.unconfirmed_ids += refused.column("result_id").slice(0, NAMED_AT_MOST).to_pylist()
        for day, tables in rows.items():
            with self._reports[day][-1][1].measured():
                self._run.lake.commit_table(ACKNOWLEDGEMENTS, day, pa.concat_tables(tables))
        self._reports.clear()
        self._found = []

    def _by_report(self, facts: pa.Table) -> Iterator[tuple[date, DayReport, pa.Table]]:
        """The results of each day and span, and the report that tells of them: the day's last where none has the moment."""
        if not facts.num_rows:
            return
        for day, spans in self._reports.items():
            rest = _within(facts, Window.of_day(day))
            for span, report in spans[:-1]:
                yield day, report, _within(rest, span)
                rest = rest.filter(pc.invert(_is_within(rest, span)))
            yield day, spans[-1][1], rest

    def _rows(self, confirmed: pa.Table, confirmed_by: str) -> pa.Table:
        return acknowledgement_rows(confirmed, confirmed_by, run_id=self._run.run_id, at=self._run.now())

    def _find_consumed(self, day: date, span: Window, whole: pa.Table, available: pa.Table) -> pa.Table:
        """Stored results without an acknowledgement row that are not available any more and that the API calls consumed.

        A run that died between acknowledging and writing it down leaves them.
        """
        recorded = self._run.lake.scan(ACKNOWLEDGEMENTS, day).index.column("result_id")
        silent = _within(_without(whole, recorded, self._sent, available.column("result_id")), span)
        if not silent.num_rows:
            return silent.select(_FACTS)
        ids = silent.column("result_id").to_pylist()
        consumed = list(find_consumed(self._run.client, span, ids))
        return silent.select(_FACTS).filter(pc.is_in(silent.column("result_id"), value_set=pa.array(consumed, pa.string())))


def _without(facts: pa.Table, *ids: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The results that are not among these ids."""
    names = facts.column("result_id")
    return facts.filter(pc.invert(reduce(pc.or_, (pc.is_in(names, value_set=some) for some in ids))))


def _is_within(facts: pa.Table, span: Window) -> pa.ChunkedArray:
    created = facts.column("date_created")
    return pc.and_(pc.greater_equal(created, span.since), pc.less(created, span.until))


def _within(facts: pa.Table, span: Window) -> pa.Table:
    return facts.filter(_is_within(facts, span))


def _once(due: pa.Table) -> pa.Table:
    """Each id once: a listing may have told of a result twice."""
    return due.filter(first_occurrences(due.column("result_id").combine_chunks()))
