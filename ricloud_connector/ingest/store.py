"""The first half of a day: what is listed, and lacking in the lake, is fetched, proven and committed. Runs the edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from ricloud_connector.errors import LakeError
from ricloud_connector.fetch import Outcome
from ricloud_connector.ingest.deriving import Deriving
from ricloud_connector.ingest.fetching import Fetching, drop
from ricloud_connector.ingest.listings import ListedDay
from ricloud_connector.ingest.open_parts import OpenParts, whole_of
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.ingest.settle import Settlement, available_of
from ricloud_connector.ingest.tries import Tries
from ricloud_connector.listed import Listed
from ricloud_connector.model import AVAILABLE, Content, Elsewhere, Proven, Rejection, Result, id_of
from ricloud_connector.parts import ContentPart, Contents
from ricloud_connector.plan import Plan, batches, plan_batch
from ricloud_connector.schemas import CONTENTS, QUARANTINE, RESULT_STATES, quarantine_rows, state_rows

FETCHED_AHEAD = 2_000  # results under way or waiting for it: beyond these no more pages are read
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
    storing = _Storing(run, listed, report, settlement, deriving)
    with (
        OpenParts(run.lake, listed.day, run_id=run.run_id, committed=storing.tell) as parts,
        _cancelling(settlement),
    ):
        for state, pages in listed.pages.items():
            with Fetching(run) as fetching:
                for batch in batches(pages):
                    report.listed += len(batch)
                    if settlement is not None:
                        storing.available.append(available_of([batch]))
                    plan = _plan(run, state, batch, parts if contents else None)
                    report.skipped += plan.skipped
                    if results:
                        parts.add_results(plan.seen, run.now())
                        _store_states(run, listed, state, plan)
                    if contents:
                        report.already_stored += len(plan.stored)
                        storing.keep(state, [*plan.rejected], parts, fetching)
                        if run.patient:
                            fetching.put_each(storing.due(plan))
                        else:
                            fetching.put(plan.fetch)
                    storing.show()
                    while fetching.pending > FETCHED_AHEAD:
                        storing.keep(state, fetching.take(), parts, fetching)
                fetching.end()
                parts.nearly_done()
                while outcomes := fetching.take():
                    storing.keep(state, outcomes, parts, fetching)
        parts.commit()
    report.new_result_rows, report.new = parts.new_results, parts.new_contents
    report.already_stored += parts.stored_by_others
    storing.quarantine()
    return _drained(storing.available)


class _Storing:
    """What is done about a day's contents once they came, and once they are in the lake."""

    def __init__(
        self, run: Run, listed: ListedDay, report: DayReport, settlement: Settlement | None, deriving: Deriving | None
    ) -> None:
        self._run, self._listed, self._report = run, listed, report
        self._settlement, self._deriving = settlement, deriving
        self._stored_before = 0 if deriving is None else len(run.lake.scan(CONTENTS, listed.day).parts)
        self._tries = Tries(run.lake, listed.day)
        self._rejected: list[Rejection] = []
        self.available = deque[pa.Table]()

    def keep(self, state: str, outcomes: Iterable[Outcome | Contents], parts: OpenParts, fetching: Fetching) -> None:
        """Add what is proven to the parts, and set aside the others. Raises: LakeError."""
        report = self._report
        with _dropping(outcomes) as each:
            for outcome in each:
                if isinstance(outcome, Contents):
                    if again := parts.add_contents(outcome):
                        fetching.put_each(again)
                    else:
                        report.count_fetched(len(outcome.body), outcome.size)
                elif isinstance(outcome, Content | ContentPart):
                    if (changed := parts.add_content(outcome)) is not None and state == AVAILABLE:
                        self._rejected.append(changed)
                    report.count_fetched(1, outcome.result.size or 0)
                elif isinstance(outcome, Elsewhere):
                    report.already_stored += 1
                elif state == AVAILABLE:  # what is not available any more may be gone for good, which is nobody's fault
                    self._rejected.append(outcome)
        self.show()
        if len(self._rejected) >= REJECTIONS_HELD:
            parts.commit()
            self.quarantine()

    def show(self) -> None:
        """Tell whoever watches how far the day is."""
        report = self._report
        self._run.progress(report.day, report.listed, report.fetched + report.already_stored, report.downloaded_bytes)

    def tell(self, ids: Collection[str]) -> None:
        """Have acknowledged, and made records of, what is in the lake now."""
        day = self._listed.day
        if self._settlement is not None:
            available = _drained(self.available)
            self.available.append(self._settlement.send_committed(day, self._listed.span, ids, available, self._report))
        if self._deriving is not None:
            self._deriving.begin(day, self._stored_before)

    def due(self, plan: Plan) -> list[Result]:
        """What a patient run fetches now: everything but what failed not long ago."""
        results = plan.fetch.results()
        due = [result for result in results if not self._tries.resting(result, self._run.now())]
        self._report.resting += len(results) - len(due)
        return due

    def quarantine(self) -> None:
        """Write down what is set aside, unless another run has stored it meanwhile."""
        rejected, self._rejected = self._rejected, []
        if not rejected:
            return
        run, report = self._run, self._report
        whole = run.lake.scan(CONTENTS, self._listed.day).whole_results()
        stored = whole_of(whole, pa.array([id_of(rejection) for rejection in rejected], pa.string()))
        open_ = [item for item in rejected if stored.get(item.result_id) != Proven(item.checksum or "", item.size or 0)]
        report.already_stored += len(rejected) - len(open_)
        report.reject(open_)
        lasting = [rejection for rejection in open_ if not rejection.transient]
        self._tries.failed(lasting, run.now())
        for day in sorted({rejection.day for rejection in lasting}):
            of_day = [rejection for rejection in lasting if rejection.day == day]
            run.lake.commit_table(QUARANTINE, day, quarantine_rows(of_day, run_id=run.run_id, seen_at=run.now()))


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


@contextmanager
def _dropping(outcomes: Iterable[Outcome | Contents]) -> Iterator[Iterator[Outcome | Contents]]:
    """The outcomes, one by one; where one cannot be kept, it is dropped with all that come after it."""
    waiting = deque(outcomes)

    def each() -> Iterator[Outcome | Contents]:
        while waiting:
            yield waiting[0]
            waiting.popleft()

    try:
        yield each()
    except BaseException:
        for outcome in waiting:
            drop(outcome)
        raise


def _plan(run: Run, state: str, batch: Listed, parts: OpenParts | None) -> Plan:
    for organisation in batch.column("organisation").unique().to_pylist():
        run.lake.claim(organisation)
    return plan_batch(batch, {} if parts is None else parts.stored(batch), state=state)


def _store_states(run: Run, listed: ListedDay, state: str, plan: Plan) -> None:
    """Write down what is not available: the results dataset tells only what was seen first."""
    if state != AVAILABLE:
        rows = state_rows(plan.seen.results(), run_id=run.run_id, seen_at=run.now())
        run.lake.commit_table(RESULT_STATES, listed.day, rows)
