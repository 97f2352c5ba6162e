"""The first half of a day: what is listed, and lacking in the lake, is fetched, proven and committed. Runs the edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from ricloud_connector import overlap
from ricloud_connector.disk import discard
from ricloud_connector.errors import LakeError
from ricloud_connector.fetch import Outcome
from ricloud_connector.ingest.deriving import Deriving
from ricloud_connector.ingest.listings import ListedDay
from ricloud_connector.ingest.open_parts import OpenParts, whole_of
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.ingest.settle import Settlement, available_of
from ricloud_connector.ingest.tries import Tries
from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, Content, Elsewhere, Proven, Rejection, Result, id_of
from ricloud_connector.parts import ContentPart
from ricloud_connector.plan import Plan, batches, plan_batch
from ricloud_connector.schemas import CONTENTS, QUARANTINE, RESULT_STATES, quarantine_rows, state_rows

FETCHED_AHEAD = 2_000  # results under way or waiting for it: beyond these no more pages are read
READY_BYTES = 8 * 1024 * 1024  # of contents that wait to be written
REJECTIONS_HELD = 10_000


def store_day(
    run: Run,
    listed: ListedDay,
    report: DayReport,
    *,
    results: bool = True,
    contents: bool = True,
    settlement: Settlement | None = None,
    deriving: Deriving | None = None,
) -> pa.Table:
    """Store what the lake lacks of a listed day: result rows first, then proven contents, part by part.

    With a `settlement`, what is in the lake is acknowledged while the next part is being filled, and with `deriving` its
    records are made after that.
    Returns, where there is a settlement, what was listed as available and is not acknowledged yet, in the few columns that are
    compared with what is read back later.
    """
    available = deque[pa.Table]()
    rejected: list[Rejection] = []
    tries = Tries(run.lake, listed.day)
    stored_before = len(run.lake.scan(CONTENTS, listed.day).parts)

    def keep(outcomes: Iterable[Outcome]) -> None:
        with _dropping(outcomes) as each:
            for outcome in each:
                if isinstance(outcome, Content | ContentPart):
                    if (changed := parts.add_content(outcome)) is not None and state == AVAILABLE:
                        rejected.append(changed)
                    report.fetched += 1
                    report.downloaded_bytes += outcome.result.size or 0
                elif isinstance(outcome, Elsewhere):
                    report.already_stored += 1
                elif state == AVAILABLE:  # what is not available any more may be gone for good, which is nobody's fault
                    rejected.append(outcome)
        run.progress(report.day, report.listed, report.fetched + report.already_stored, report.downloaded_bytes)
        if len(rejected) >= REJECTIONS_HELD:
            parts.commit()
            _quarantine(run, listed, rejected, tries, report)
            rejected.clear()

    def tell(ids: Collection[str]) -> None:
        if settlement is not None:
            available.append(settlement.send_committed(listed.day, listed.span, ids, _drained(available), report))
        if deriving is not None:
            deriving.begin(listed.day, stored_before)

    with OpenParts(run.lake, listed.day, run_id=run.run_id, committed=tell) as parts, _cancelling(settlement):
        for state, pages in listed.pages.items():
            with overlap.beside(run.fetcher.fetch, _weight, READY_BYTES, _drop) as fetching:
                for batch in batches(pages):
                    report.listed += len(batch)
                    if settlement is not None:
                        available.append(available_of([batch]))
                    plan = _plan(run, state, batch, parts)
                    report.skipped += plan.skipped
                    if results:
                        parts.add_results(plan.seen, run.now())
                        _store_states(run, listed, state, plan)
                    if contents:
                        report.already_stored += len(plan.stored)
                        keep([*plan.rejected])
                        fetching.put(_due(run, plan, tries, report))
                    while fetching.pending > FETCHED_AHEAD:
                        keep(fetching.take())
                fetching.end()
                parts.nearly_done()
                while outcomes := fetching.take():
                    keep(outcomes)
        parts.commit()
    report.new_result_rows, report.new = parts.new_results, parts.new_contents
    report.already_stored += parts.stored_by_others
    _quarantine(run, listed, rejected, tries, report)
    return _drained(available)


def _drained(available: deque[pa.Table]) -> pa.Table:
    """All of it, which is taken away; another thread may add to it meanwhile."""
    return pa.concat_tables([available_of([]), *(available.popleft() for _ in range(len(available)))])


@contextmanager
def _cancelling(settlement: Settlement | None) -> Iterator[None]:
    """After an interrupt, or an error that ends the run, nothing is sent but what is on its way already."""
    try:
        yield
    except LakeError:
        raise  # it is this day's own: what is in the lake and proven may be acknowledged
    except BaseException:
        if settlement is not None:
            settlement.cancel()
        raise


def _weight(outcome: Outcome) -> int:
    """Bytes in memory; of a content on the disk, as many as make 64 of them enough."""
    if isinstance(outcome, Content) and isinstance(outcome.body, bytes):
        return len(outcome.body) + 1024
    return READY_BYTES // 64 if isinstance(outcome, Content | ContentPart) else 1024


@contextmanager
def _dropping(outcomes: Iterable[Outcome]) -> Iterator[Iterator[Outcome]]:
    """The outcomes, one by one; where one cannot be kept, it is dropped with all that come after it."""
    waiting = deque(outcomes)

    def each() -> Iterator[Outcome]:
        while waiting:
            yield waiting[0]
            waiting.popleft()

    try:
        yield each()
    except BaseException:
        for outcome in waiting:
            _drop(outcome)
        raise


def _drop(outcome: Outcome) -> None:
    """Remove the file of a content that is not stored this time: a day that fails leaves the disk to the others."""
    if isinstance(outcome, ContentPart):
        discard(outcome.part.path)
    elif isinstance(outcome, Content) and isinstance(outcome.body, Path):
        discard(outcome.body)


def _plan(run: Run, state: str, batch: Listed, parts: OpenParts) -> Plan:
    for organisation in batch.column("organisation").unique().to_pylist():
        run.lake.claim(organisation)
    return plan_batch(batch, parts.stored(batch.ids), state=state)


def _due(run: Run, plan: Plan, tries: Tries, report: DayReport) -> list[Result]:
    """What to fetch now: everything, but for a patient run what failed not long ago."""
    results = plan.fetch.results()
    if not run.patient:
        return results
    due = [result for result in results if not tries.resting(result, run.now())]
    report.resting += len(results) - len(due)
    return due


def _store_states(run: Run, listed: ListedDay, state: str, plan: Plan) -> None:
    """Write down what is not available: the results dataset tells only what was seen first."""
    if state != AVAILABLE:
        rows = state_rows(plan.seen.results(), run_id=run.run_id, seen_at=run.now())
        run.lake.commit_table(RESULT_STATES, listed.day, rows)


def _quarantine(run: Run, listed: ListedDay, rejected: list[Rejection], tries: Tries, report: DayReport) -> None:
    """Write down what is set aside, unless another run has stored it meanwhile."""
    if not rejected:
        return
    whole = run.lake.scan(CONTENTS, listed.day).whole_results()
    stored = whole_of(whole, [id_of(rejection) for rejection in rejected])
    open_ = [item for item in rejected if stored.get(item.result_id) != Proven(item.checksum or "", item.size or 0)]
    report.already_stored += len(rejected) - len(open_)
    report.reject(open_)
    lasting = [rejection for rejection in open_ if not rejection.transient]
    tries.failed(lasting, run.now())
    for day in sorted({rejection.day for rejection in lasting}):
        of_day = [rejection for rejection in lasting if rejection.day == day]
        run.lake.commit_table(QUARANTINE, day, quarantine_rows(of_day, run_id=run.run_id, seen_at=run.now()))
