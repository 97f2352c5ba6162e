"""The commands about a lake: `status`, `verify`, `doctor` look at it, `rebuild` derives. Prints; returns exit statuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ricloud_connector.audit import DaySummary, audit, days_of, summarise
from ricloud_connector.clock import now_utc
from ricloud_connector.cloud import BucketUrl
from ricloud_connector.doctor import examine
from ricloud_connector.errors import LakeError, SettingsError
from ricloud_connector.lake import Lake
from ricloud_connector.records import rebuild_records
from ricloud_connector.redact import clean
from ricloud_connector.session import new_run_id

_COLUMNS = ("day", "listed", "stored", "MB", "acked", "waiting", "for", "aside")
BAR_WIDTH = 14


def show_status(root: Path | BucketUrl, *, as_json: bool) -> int:
    """Print a line per day; 1 where a day cannot be read."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    lake = existing_lake(root)
    days, broken = list[DaySummary](), False
    for day in days_of(lake):
        try:
            days.append(summarise(lake, day))
        except LakeError as error:
            errors.print(f"{day}: {error}", markup=False, soft_wrap=True)
            broken = True
    if as_json:
        for found in days:
            console.print(json.dumps(asdict(found), default=lambda moment: moment.isoformat()), markup=False, soft_wrap=True)
    else:
        console.print(f"lake {root}", markup=False, soft_wrap=True)
        console.print(_chart(days, datetime.now(UTC)) if days else "The lake is empty.")
    return 1 if broken else 0


def _chart(days: list[DaySummary], now: datetime) -> Table:
    """The numbers of each day, and a bar of its results: acknowledged, stored only, in quarantine."""
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column(_COLUMNS[0], no_wrap=True)
    for name in _COLUMNS[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    marks = (("█", "green"), " acknowledged  ", ("▒", "yellow"), " waiting for it  ", ("░", "red"), " set aside in quarantine")
    table.caption = Text.assemble(*marks)
    table.caption_justify = "left"
    most = max(found.stored + found.quarantined for found in days) or 1
    for found in days:
        waiting = found.stored - found.acknowledged
        numbers = (found.results, found.stored, f"{found.bytes / 1e6:.1f}", found.acknowledged, waiting)
        since = "" if found.oldest_unacknowledged is None else _span(now - found.oldest_unacknowledged)
        bar = Text()
        for count, mark, style in (
            (found.acknowledged, "█", "green"),
            (waiting, "▒", "yellow"),
            (found.quarantined, "░", "red"),
        ):
            bar.append(mark * (max(1, round(BAR_WIDTH * count / most)) if count else 0), style)
        table.add_row(found.day.isoformat(), *map(str, numbers), since, str(found.quarantined), bar)
    return table


def _span(span: timedelta) -> str:
    """About how long, in one unit."""
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if span >= unit:
            return f"{span // unit} {name}"
    return "now"


def verify_lake(root: Path | BucketUrl, *, since: datetime | None, until: datetime | None) -> int:
    """Read every content back; 1 where something is wrong, each named on standard error."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    lake = existing_lake(root)
    midnight = time(tzinfo=UTC)
    days = [
        day
        for day in days_of(lake)
        if (since is None or datetime.combine(day, midnight) + timedelta(days=1) > since)
        and (until is None or datetime.combine(day, midnight) < until)
    ]
    wrong = total = 0
    for day, proven, findings in audit(lake, days):
        total += proven
        wrong += len(findings)
        console.print(f"{day}: {proven} contents are what they say", markup=False)
        for finding in findings:
            errors.print(f"{finding.day}: {clean(finding.detail, limit=1000)}", markup=False, soft_wrap=True)
    console.print(f"{total} contents of {len(days)} days read back; {wrong or 'nothing'} wrong", markup=False)
    return 1 if wrong else 0


def rebuild_all_records(root: Path | BucketUrl) -> int:
    """Derive all records anew; 1 where a document gave no rows, each named on standard error."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    rows = faults = 0
    with existing_lake(root).opened() as lake:
        for report in rebuild_records(lake, at=now_utc()):
            found = sum(report.rows.values())
            rows, faults = rows + found, faults + report.quarantined
            if report.documents or report.quarantined:
                console.print(f"{report.day}: {found} records of {report.documents} documents", markup=False)
            for fault in report.rejections:
                said = f"{fault.reason}: {clean(fault.detail, limit=500)}"
                errors.print(f"{report.day}: no records: result {clean(fault.result_id)}: {said}", markup=False, soft_wrap=True)
    console.print(f"{rows} records rebuilt; {faults or 'no'} documents without, or not with all", markup=False)
    return 1 if faults else 0


def run_doctor(environment: Mapping[str, str]) -> int:
    """Print each check; 2 where one is not well, since then a run would do nothing."""
    console = Console(highlight=False)
    well = True
    for check in examine(environment):
        well = well and check.well
        console.print(f"{'ok  ' if check.well else 'FAIL'} {check.name}: {check.detail}", markup=False, soft_wrap=True)
    return 0 if well else 2


def existing_lake(root: Path | BucketUrl) -> Lake:
    """The lake, to be looked at. Raises: SettingsError where there is none."""
    lake = Lake(root, origin="", run_id=new_run_id())
    if not lake.storage.holds(lake.data):
        raise SettingsError(f"RICLOUD_LAKE={root} holds no lake: there is no folder data in it")
    return lake
