"""`plan` and `acknowledge`: what a run would do, and its second half alone. Reads the environment; prints."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import datetime

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from ricloud_connector.cli.options import AS_JSON, MOMENT, window_of
from ricloud_connector.model import Window
from ricloud_connector.settings import Settings

_DRY_JSON = click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON object a line, for scripts.")


@click.command()
@click.option("--since", **MOMENT, help="First moment of date_created, in UTC.")
@click.option("--until", **MOMENT, help="First moment after the last, in UTC (half-open).")
@AS_JSON
def plan(since: datetime, until: datetime, as_json: bool) -> None:
    """Show what `ingest` would do in [--since, --until), without doing it: what is listed is compared with the lake.

    \b
    ricloud-connector plan --since 2026-11-20 --until 2026-11-21
    """
    _show_forecast(Settings.from_environment(os.environ), window_of(since, until), as_json=as_json, prove=False)


@click.command()
@click.option("--since", **MOMENT, help="First moment of date_created, in UTC.")
@click.option("--until", **MOMENT, help="First moment after the last, in UTC (half-open).")
@click.option("--dry-run", is_flag=True, help="Read back and count what would be acknowledged; tell the API nothing.")
@_DRY_JSON
def acknowledge(since: datetime, until: datetime, dry_run: bool, as_json: bool) -> None:
    """Acknowledge what is available and proven in the lake, without fetching anything new.

    Each content is read back from the lake first. An acknowledgement is irreversible: the API may delete what it is about.

    \b
    ricloud-connector acknowledge --since 2026-11-20 --until 2026-11-21 --dry-run
    """
    from ricloud_connector.ingest import acknowledge_results, days_of
    from ricloud_connector.report import run_with_progress

    settings, window = Settings.from_environment(os.environ), window_of(since, until)
    if dry_run:
        _show_forecast(settings, window, as_json=as_json, prove=True)
    elif as_json:
        raise click.UsageError("--json goes with --dry-run")
    else:
        idle = "nothing to acknowledge: nothing that is available is stored"
        sys.exit(run_with_progress(settings, days_of(window), acknowledge_results, idle=idle))


def _show_forecast(settings: Settings, window: Window, *, as_json: bool, prove: bool) -> None:
    """Print a line per day that has something available."""
    from ricloud_connector.ingest.forecast import forecast
    from ricloud_connector.session import look_at

    console = Console(highlight=False)
    with look_at(settings) as (client, lake):
        days = forecast(client, lake, window, prove=prove)
    if as_json:
        for found in days:
            console.print(json.dumps({**asdict(found), "day": found.day.isoformat()}), markup=False, soft_wrap=True)
        return
    table = Table("day", box=SIMPLE, pad_edge=False)
    for name in ("listed", "fetch", "MB", "again", "set aside", "acknowledge", *(("proven",) if prove else ())):
        table.add_column(name, justify="right")
    for found in days:
        megabytes = f"{found.fetch_bytes / 1e6:.1f}"
        numbers = (found.listed, found.fetch, megabytes, found.fetch_again, found.set_aside, found.acknowledge)
        table.add_row(found.day.isoformat(), *map(str, numbers), *([str(found.proven)] if prove else []))
    console.print(f"lake {settings.lake}", markup=False, soft_wrap=True)
    console.print(table if table.row_count else "Nothing is available in this span.")
    if any(found.fetch_again for found in days):
        console.print("again: those of the results to fetch that are in quarantine")
    console.print("Nothing was fetched, written or acknowledged.")
