"""The pipeline without Dagster, from top to bottom: list, plan, fetch, commit, verify, acknowledge. Runs the edges.

A day is stored (`store.py`), and acknowledged (`settle.py`) part by part while the next part is being filled. The second half
believes nothing but the API and the lake: each half can run alone, be killed at any instant, and be run again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack

from ricloud_connector.ingest.deriving import Deriving
from ricloud_connector.ingest.listings import Day, DayListings, ListedDay
from ricloud_connector.ingest.run import DayReport, Progress, Run
from ricloud_connector.ingest.settle import Settlement, available_of
from ricloud_connector.ingest.store import store_day
from ricloud_connector.model import Window
from ricloud_connector.options import Contracts, Selection, check_contracts

__all__ = [
    "DayReport",
    "Progress",
    "Run",
    "acknowledge_results",
    "days_of",
    "ingest_results",
    "store_results",
]


def days_of(window: Window) -> list[Day]:
    """Each UTC day of a window, with the part of the window that falls into it."""
    return list(window.by_day())


def ingest_results(
    run: Run,
    days: Iterable[Day],
    *,
    selection: Selection | None = None,
    acknowledge: bool = True,
    records: bool = True,
    contracts: Contracts | None = None,
) -> Iterator[DayReport]:
    """Ingest day by day; yields what became of each, once it is settled.

    Without `records` no rows are made of JSON results: a later run over the day makes them.
    `contracts` says by feed what becomes of fields that its columns do not have (`evolve`, `freeze`, `discard`).
    A day whose lake is broken is reported with its error, and the others go on. Records are derived from what is acknowledged
    already: nothing that a document holds can keep its result from that.
    Raises: ApiError and SettingsError, which concern every day: all that was committed stays.
    """
    contracts = check_contracts(contracts)
    settlement, settling = Settlement(run), list[DayReport]()
    with ExitStack() as stack:
        deriving = stack.enter_context(Deriving(run, contracts)) if records else None
        listings = stack.enter_context(DayListings(run, days, selection or Selection()))
        for listed in listings:
            report = DayReport(listed.day, span=listed.span)
            with report.measured():
                left = store_day(run, listed, report, settlement=settlement if acknowledge else None, deriving=deriving)
                if acknowledge:
                    settlement.send(listed.day, listed.span, left, report)
            settling.append(report)
            # A server that ignores the filter would be walked whole to confirm one day: it is, once, for all days.
            if not listings.spooled:
                yield from _settled(settlement, deriving, settling)
                settling = []
        yield from _settled(settlement, deriving, settling)


def store_results(
    run: Run,
    days: Iterable[Day],
    *,
    selection: Selection | None = None,
    results: bool = True,
    contents: bool = True,
) -> Generator[DayReport, None, None]:
    """The first half: list and store, day by day; either dataset can be left out. Raises: as `ingest_results`.

    Without contents several days are stored at a time: there is nothing then that would keep the processors busy but the list.
    """

    def store(listed: ListedDay) -> DayReport:
        report = DayReport(listed.day, span=listed.span)
        with report.measured():
            store_day(run, listed, report, results=results, contents=contents)
        return report

    with DayListings(run, days, selection or Selection(), contents=contents) as listings:
        yield from map(store, listings) if contents else listings.side_by_side(store)


def acknowledge_results(run: Run, days: Iterable[Day]) -> Iterator[DayReport]:
    """The second half: list what is available, read back what the lake holds of it, acknowledge that. Raises: likewise."""
    settlement, settling = Settlement(run), list[DayReport]()
    with DayListings(run, days, Selection()) as listings:
        for listed in listings:
            report = DayReport(listed.day, span=listed.span)
            with report.measured():
                settlement.send(listed.day, listed.span, available_of(listed.available()), report)
            settling.append(report)
            if not listings.spooled:
                settlement.confirm()
                yield from settling
                settling = []
    settlement.confirm()
    yield from settling


def _settled(settlement: Settlement, deriving: Deriving | None, reports: Iterable[DayReport]) -> Iterator[DayReport]:
    """Make sure of the acknowledgements of some days, then of their records."""
    settlement.confirm()
    for report in reports:
        if report.error is None and deriving is not None:
            deriving.finish(report)
        yield report
