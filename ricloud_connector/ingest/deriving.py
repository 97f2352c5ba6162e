"""Records beside the fetching: made of each part once it is committed and acknowledged, in a thread. Runs the edges.

What happens here early is only time won. Whatever goes wrong, or is not done when a day is settled, is done by `finish`.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import Future
from datetime import date
from types import TracebackType

from ricloud_connector import overlap
from ricloud_connector.ingest.run import DayReport, Run
from ricloud_connector.options import Contracts
from ricloud_connector.records import RecordsReport, derive_records


class Deriving:
    """Derives the records of day after day. Use as a context manager: leaving early drops what has not begun."""

    def __init__(self, run: Run, contracts: Contracts) -> None:
        self._run, self._contracts = run, contracts
        self._thread = overlap.pool(1, "ricloud-records")
        self._begun: dict[date, list[Future[RecordsReport]]] = defaultdict(list)

    def __enter__(self) -> Deriving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def begin(self, day: date, first: int) -> None:
        """Derive what is missing of the day's contents parts from number `first` on, when those before are done."""
        self._begun[day].append(self._thread.submit(self._derive, day, first))

    def finish(self, report: DayReport) -> None:
        """Derive what is still missing of a day that is settled; whatever goes wrong is told in its report."""
        for future in self._begun.pop(report.day, []):
            if future.exception() is None:  # else it is tried once more, now: what is told is what came of that
                _add(report, future.result())
        try:
            _add(report, self._thread.submit(self._derive, report.day, 0).result())
        except Exception as error:  # noqa: BLE001  # contents are settled: no error of a parser may end the run
            report.records_error = f"{type(error).__name__}: {error}"

    def _derive(self, day: date, first: int) -> RecordsReport:
        return derive_records(self._run.lake, day, at=self._run.now(), contracts=self._contracts, first=first)


def _add(report: DayReport, found: RecordsReport) -> None:
    report.record_rows += sum(found.rows.values())
    report.record_faults += found.rejections
