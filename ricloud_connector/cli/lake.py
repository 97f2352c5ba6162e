"""`quarantine`, `results`, `content`: what was set aside and why, and all that the lake holds of one result. Prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ricloud_connector.cli.options import AS_JSON, OPTIONAL_MOMENT, chosen
from ricloud_connector.errors import SettingsError
from ricloud_connector.model import UNDATED, Window
from ricloud_connector.redact import clean
from ricloud_connector.settings import Settings, lake_of


@click.group()
def quarantine() -> None:
    """What could not be proven, why, and another try at it."""


@quarantine.command("list")
@click.option("--since", **OPTIONAL_MOMENT, help="First day to show.")
@click.option("--until", **OPTIONAL_MOMENT, help="First day after the last.")
@AS_JSON
def list_(since: datetime | None, until: datetime | None, as_json: bool) -> None:
    """Show every result that is in quarantine, with its reason; exits 1 where there is one. Needs RICLOUD_LAKE alone."""
    console = Console(highlight=False)
    rows = list(_open(since, until))
    if as_json:
        for row in rows:
            console.print(json.dumps(_plain(row)), markup=False, soft_wrap=True)
    elif rows:
        for row in rows:
            name = f"{clean(row['result_id'])} ({clean(row['identifier'] or 'no identifier')})"
            said = f"{row['day']}: {name}: {row['reason']}: {clean(row['detail'], limit=500)}"
            console.print(said, markup=False, soft_wrap=True)
        console.print(f"{len(rows)} in quarantine; try them again: ricloud-connector quarantine retry", markup=False)
    else:
        console.print("Nothing is in quarantine.")
    sys.exit(1 if rows else 0)


@quarantine.command()
@click.argument("result_ids", nargs=-1, metavar="[ID]...")
@click.option("--since", **OPTIONAL_MOMENT, help="First day to try.")
@click.option("--until", **OPTIONAL_MOMENT, help="First day after the last.")
@click.option("--acknowledge/--no-acknowledge", default=True, help="Stop before the acknowledgement.  [default: acknowledge]")
def retry(result_ids: tuple[str, ...], since: datetime | None, until: datetime | None, acknowledge: bool) -> None:
    """Ingest the days again that hold something in quarantine: those of the IDs given, or all.

    A day is ingested whole, so that what else has become available there is stored too.
    """
    from functools import partial

    from ricloud_connector.ingest import ingest_results
    from ricloud_connector.report import run_with_progress

    settings = Settings.from_environment(os.environ)
    found = {row["result_id"]: row["day"] for row in _open(since, until)}
    unknown = sorted(set(result_ids) - found.keys())
    if unknown:
        raise SettingsError(f"not in quarantine: {', '.join(map(clean, unknown))}; see: ricloud-connector quarantine list")
    wanted = {found[result_id] for result_id in result_ids or found}
    # What has no usable date lies under a day of its own, and is listed with any: today's is as good as another.
    days = sorted({datetime.now(UTC).date() if day == UNDATED else day for day in wanted})
    if not days:
        click.echo("Nothing is in quarantine.")
        return
    idle = "nothing new: what is in quarantine is not available any more"
    half = partial(ingest_results, acknowledge=acknowledge)
    sys.exit(run_with_progress(settings, [(day, Window.of_day(day)) for day in days], half, idle=idle))


@click.group()
def results() -> None:
    """What the lake knows of single results."""


@results.command()
@click.argument("result_id", metavar="ID")
@AS_JSON
def show(result_id: str, as_json: bool) -> None:
    """Show every row about a result, in every dataset; exits 1 where there is none. Needs RICLOUD_LAKE alone."""
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    found = list(_rows_of(result_id))
    for dataset, day, row in found:
        if as_json:
            shown = {"dataset": dataset, "day": day.isoformat(), **_plain(row)}
            console.print(json.dumps(shown), markup=False, soft_wrap=True)
            continue
        table = Table("", "", title=f"{dataset}, {day}", title_justify="left", show_header=False, box=SIMPLE)
        table.columns[1].overflow = "fold"
        for name, value in row.items():
            if value is not None:
                table.add_row(name, escape(clean(_text(value), limit=1000)))
        console.print(table)
    if not found:
        errors.print(
            f"the lake holds nothing about result {clean(result_id)}; what a run would do: ricloud-connector plan",
            markup=False,
            soft_wrap=True,
        )
    sys.exit(0 if found else 1)


@click.command()
@click.argument("result_id", metavar="ID")
def content(result_id: str) -> None:
    """Write the stored bytes of a result to standard output, proven against their md5. Needs RICLOUD_LAKE alone.

    \b
    ricloud-connector content 5f0c... > photo.jpg
    """
    from ricloud_connector.read import read_content

    if sys.stdout.isatty():
        raise SettingsError("a content is bytes: send them into a file, as in ricloud-connector content ID > file")
    try:
        for chunk in read_content(lake_of(os.environ), result_id):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    except KeyError:
        click.echo(f"the lake holds no content of result {clean(result_id)}; see: ricloud-connector results show ID", err=True)
        sys.exit(1)


def _rows_of(result_id: str) -> Iterator[tuple[str, date, dict[str, Any]]]:
    """The rows about a result: dataset, day, columns."""
    from ricloud_connector.audit import days_of
    from ricloud_connector.lake_commands import existing_lake
    from ricloud_connector.ledger import find_rows
    from ricloud_connector.schemas import DATASETS

    lake = existing_lake(lake_of(os.environ))
    for dataset in DATASETS:
        for day in days_of(lake, dataset):
            for row in find_rows(lake, dataset, day, result_id):
                yield dataset.name, day, row


def _open(since: datetime | None, until: datetime | None) -> Iterator[dict[str, Any]]:
    """What is in quarantine, each row with its day. Raises: LakeError."""
    from ricloud_connector.audit import days_of
    from ricloud_connector.lake_commands import existing_lake
    from ricloud_connector.ledger import open_quarantine
    from ricloud_connector.schemas import QUARANTINE

    lake = existing_lake(lake_of(os.environ))
    for day in chosen(days_of(lake, QUARANTINE), since, until):
        for row in open_quarantine(lake, day):
            yield {"day": day, **row}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
