"""A simulated year: sensor ticks, late arrivals, a daily reconcile, runs that never start or die midway; exact in the end."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from ricloud_connector.dagster import SensorSettings
from ricloud_connector.emulator import Emulator
from tests.codelocation import CodeLocation
from tests.exactness import assert_exact

START = date(2024, 1, 1)  # a leap year, and past: Dagster knows no partition of the future
LATE = 0.03


class Killed(BaseException):
    """Stands for a kill: nothing catches it on its way out."""


def run_mortal(location: CodeLocation, request, chance: random.Random) -> bool:
    """Do what a request asks for; one in five dies: before it starts, or at any of its looks at the clock or its progress."""
    fate = chance.random()
    if fate < 0.05:
        return False
    left = chance.randrange(1, 40) if fate < 0.2 else None

    def look(*_: object) -> datetime:
        nonlocal left
        if left is not None:
            left -= 1
            if left <= 0:
                raise Killed
        return location.now

    try:
        location.ingest(request, progress=look, now=look)
    except Killed:
        return False
    return True


def simulate(tmp_path, *, days: int, per_day: int, ticks: int, seed: int) -> None:
    chance = random.Random(seed)
    dead = 0
    with Emulator(results=0, days=1) as emulator:
        start = datetime(START.year, START.month, START.day, tzinfo=UTC)
        location = CodeLocation(emulator, tmp_path, START, now=start, sensor=SensorSettings(pause=timedelta(minutes=5)))
        for day in range(days):
            appearing = sorted(chance.random() for _ in range(per_day))
            for tick in range(ticks):
                until = (tick + 1) / ticks
                while appearing and appearing[0] < until:
                    created = start + timedelta(days=day + appearing.pop(0))
                    if chance.random() < LATE:
                        created = max(start, created - timedelta(days=5 * chance.random()))
                    emulator.add_result(content=chance.randbytes(chance.randrange(200)), date_created=created)
                location.now = start + timedelta(days=day + until) - timedelta(seconds=1)
                dead += sum(not run_mortal(location, request, chance) for request in location.tick())
            dead += sum(not run_mortal(location, request, chance) for request in location.reconcile())
        for _ in range(10):
            if not [run_mortal(location, request, chance) for request in location.reconcile()]:
                break
        print(f"{days} days, {days * per_day} results, {dead} runs died")
        assert dead > 0
        assert_exact(tmp_path, emulator)
        assert len(set(emulator.acknowledged)) == days * per_day


@pytest.mark.timeout(300)
def test_ten_days(tmp_path):
    simulate(tmp_path, days=10, per_day=40, ticks=4, seed=7)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_year_of_73_000_results(tmp_path):
    simulate(tmp_path, days=365, per_day=200, ticks=6, seed=11)
