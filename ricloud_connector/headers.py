"""What headers of an HTTP answer say of time. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 300.0


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait that a `Retry-After` header asks for, from 0 to 300; None without one that makes sense.

    A date in it is taken against the `Date` of the same reply: the server's own clock, whatever ours shows.
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        moment, now = http_date(value), http_date(headers.get("date", ""))
        if moment is None or now is None:
            return None
        seconds = (moment - now).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def http_date(text: str) -> datetime | None:
    """The moment in a `Date` header, or one like it; None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):  # all of which its parser raises
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
