"""Options that several commands share."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import click

from ricloud_connector.errors import SettingsError
from ricloud_connector.item import parse_datetime
from ricloud_connector.model import Window

AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")


def _moment(_context: click.Context, option: click.Parameter, value: str | None) -> datetime | None:
    """A UTC day, or a datetime in UTC."""
    if value is None:
        return None
    try:
        day = date.fromisoformat(value)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        moment = parse_datetime(value)
    if moment is None:
        raise click.BadParameter(f"{value!r} is neither YYYY-MM-DD nor YYYY-MM-DDTHH:MM:SSZ", param=option)
    return moment


MOMENT: dict[str, Any] = {"required": True, "callback": _moment, "metavar": "DATE|DATETIME"}
OPTIONAL_MOMENT: dict[str, Any] = {**MOMENT, "required": False}


def window_of(since: datetime, until: datetime) -> Window:
    """The span of both options. Raises: SettingsError."""
    if since >= until:
        raise SettingsError(f"--since {since.isoformat()} is not before --until {until.isoformat()}; the span is half-open")
    if until - since > timedelta(days=366 * 200):
        raise SettingsError("--since and --until are more than 200 years apart; give the span that holds results")
    return Window(since, until)


def chosen(days: list[date], since: datetime | None, until: datetime | None) -> list[date]:
    """Those of the days that a span touches whose ends may be open."""
    return [
        day
        for day in days
        if (since is None or Window.of_day(day).until > since) and (until is None or Window.of_day(day).since < until)
    ]
