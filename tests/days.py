"""Exactness of some days only."""

from collections.abc import Collection
from datetime import date
from pathlib import Path

from ricloud_connector.emulator import Emulator
from tests.exactness import assert_exact, provable


def assert_exact_days(lake: Path, emulator: Emulator, days: Collection[date]) -> None:
    """The lake holds the provable results of these days, acknowledged, and nothing of the others."""
    assert_exact(lake, emulator, expected=[result for result in provable(emulator) if result.date_created.date() in days])
