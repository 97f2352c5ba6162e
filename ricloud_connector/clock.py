"""The present moment, for whoever is given no other clock. I/O: reads the clock."""

from __future__ import annotations

from datetime import UTC, datetime


def now_utc() -> datetime:
    return datetime.now(UTC)
