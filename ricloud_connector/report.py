"""An ingest with what a person or a log wants to see of it: a progress bar or plain lines, then what went wrong. Prints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ricloud_connector.errors import ApiError, ApiUnavailable, SettingsError, TokenRefused
from ricloud_connector.ingest import DayReport, Run, days_of, ingest_results, store_results
from ricloud_connector.ingest import Progress as OnProgress
from ricloud_connector.ingest.listings import Day
from ricloud_connector.model import Window
from ricloud_connector.redact import clean
from ricloud_connector.session import open_run
from ricloud_connector.settings import Settings

logger = logging.getLogger(__name__)


_NEWS = ("new", "new_result_rows", "quarantined", "failed", "acknowledged", "unconfirmed")

Half = Callable[[Run, list[Day]], Iterator[DayReport]]


def ingest_with_progress(settings: Settings, window: Window, *, acknowledge: bool, records: bool) -> int:
    """Ingest and tell of it; returns the exit status: 0 where everything listed is stored and acknowledged, else 1."""
    idle = "nothing new: all that is listed is stored" + (" and acknowledged" if acknowledge else "")
    ingest = partial(ingest_results, acknowledge=acknowledge, records=records)
    return run_with_progress(settings, days_of(window), ingest, idle=idle)


def list_with_progress(settings: Settings, window: Window) -> int:
    """Store what is listed, without contents, and tell of it; returns the exit status, as above."""
    store = partial(store_results, contents=False)
    return run_with_progress(settings, days_of(window), store, idle="nothing new: all that is listed has its row")


def run_with_progress(settings: Settings, days: list[Day], half: Half, *, idle: str) -> int:
    """Run one half of the pipeline, or both, over these days and tell of it; returns the exit status, as above."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    console.print(f"lake {settings.lake}", markup=False, soft_wrap=True)
    total, complete, faults = DayReport(date.min), True, list[str]()
    with _shown(console) as progress, open_run(settings, progress=progress) as run:
        try:
            for report in half(run, days):
                complete = complete and report.complete
                _add(total, report)
                if report.listed or report.acknowledged or report.found_acknowledged or report.error:
                    console.print(line_of(report), markup=False, soft_wrap=True)
                faults += faults_of(report)
                if not console.is_terminal:  # there the live bar has the last line: faults follow when it is gone
                    faults = _print(errors, faults)
        except ApiUnavailable as error:
            if not error.connected and not total.seconds:
                raise SettingsError(f"the API cannot be reached; check RICLOUD_URL: {error}") from None
            faults.append(f"stopped: {error}; what was committed stays")
            complete = False
        except TokenRefused:
            raise
        except ApiError as error:
            faults.append(f"stopped: {error}; what was committed stays")
            complete = False
        if run.lake.other_origin is not None:
            faults.append(f"warning: the lake also holds results from {run.lake.other_origin}")
    _print(errors, faults)
    if complete and not any(getattr(total, name) for name in _NEWS):
        console.print(idle)
    return 0 if complete else 1


def _print(console: Console, lines: list[str]) -> list[str]:
    """Print the lines; what is left is none."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return []


def line_of(report: DayReport) -> str:
    """A day in one line of plain text."""
    megabytes = report.downloaded_bytes / 1e6
    acknowledged = f"{report.acknowledged + report.found_acknowledged} acknowledged"
    if (
        report.listed
        and report.new_result_rows
        and not report.fetched + report.already_stored + report.quarantined + report.failed
    ):
        parts = [f"{report.day}: {report.listed} listed", f"{report.new_result_rows} new rows of them"]
    elif report.listed:
        stored = (f"{report.new} stored ({megabytes:.1f} MB)", f"{report.already_stored} already stored")
        parts = [f"{report.day}: {report.listed} listed", *stored, acknowledged]
    else:
        parts = [f"{report.day}: {acknowledged}"]
    for count, what in (
        (report.record_rows, "records"),
        (report.quarantined, "quarantined"),
        (report.resting, "resting in quarantine"),
        (report.failed, "failed"),
        (report.unconfirmed, "unconfirmed"),
        (report.skipped, "of another state"),
    ):
        if count:
            parts.append(f"{count} {what}")
    return ", ".join(parts) + f" in {report.seconds:.1f} s"


def faults_of(report: DayReport) -> Iterator[str]:
    """Each result that was not stored or not acknowledged, with its reason; text from the server is cleaned."""
    for rejection in report.rejections:
        kind = "failed" if rejection.transient else "quarantined"
        said = f"{rejection.reason}: {clean(rejection.detail, limit=500)}"
        yield f"{report.day}: {kind}: result {clean(rejection.result_id)}: {said}"
    for result_id in report.unconfirmed_ids:
        yield f"{report.day}: unconfirmed: result {clean(result_id)} is still available after four acknowledgements"
    unnamed = report.quarantined + report.failed - len(report.rejections) + report.unconfirmed - len(report.unconfirmed_ids)
    if unnamed:
        yield f"{report.day}: and {unnamed} more"
    for fault in report.record_faults:
        yield f"{report.day}: no records: result {clean(fault.result_id)}: {fault.reason}: {clean(fault.detail, limit=500)}"
    if report.records_error is not None:
        yield f"{report.day}: records stopped: {clean(report.records_error, limit=500)}"
    if report.error is not None:
        yield f"{report.day}: stopped: {report.error}"


@contextmanager
def _shown(console: Console) -> Iterator[OnProgress | None]:
    """A live bar on a terminal, nothing elsewhere: there the finished days are lines enough."""
    if not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("listing", total=None, said="")
        last, fetching, listed_of = 0.0, False, dict[date, int]()

        def show(day: date, listed: int, done: int, downloaded_bytes: int) -> None:
            nonlocal last, fetching
            listed_of[day], fetching = listed, fetching or done > 0
            if time.monotonic() - last > 0.1:  # a redraw per result would cost more than the result
                last = time.monotonic()
                if fetching:
                    said = f"{done:,} of {listed:,} results, {downloaded_bytes / 1e6:,.1f} MB"
                    bar.update(task, description=day.isoformat(), completed=done, total=listed, said=said)
                else:  # where nothing but the list is wanted, several days are under way
                    bar.update(task, said=f"{sum([*listed_of.values()]):,} listed")

        yield show


def _add(total: DayReport, report: DayReport) -> None:
    for name in ("listed", "seconds", *_NEWS):
        setattr(total, name, getattr(total, name) + getattr(report, name))
