"""Memory stays flat: peak RSS of the whole command, as the kernel counts it."""

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from ricloud_connector.emulator import Emulator
from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from tests.command import COMMAND, clean_environment

LIMIT_MB = 350

# A small process in between, since a child's peak also counts what its parent held when it was started.
_WATCH = "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
_WATCH += "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"


def peak_mb(api, lake) -> float:
    day = api.days[-1]
    command = [sys.executable, "-c", _WATCH, *COMMAND, "ingest", "--since", str(day), "--until", str(day + timedelta(days=1))]
    environment = clean_environment({**api.environment(), "RICLOUD_LAKE": str(lake)})
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return int(process.stdout.rpartition("peak ")[2]) / 1024


@pytest.mark.ci
@pytest.mark.timeout(400)
def test_20_000_small_results_and_one_of_2_gib_stay_below_350_mb(tmp_path):
    created = datetime.now(UTC).replace(hour=0, minute=0, second=0)
    with Emulator(results=0, days=1) as api:
        random.seed(1)
        for number in range(20_000):
            api.add_result(content=random.randbytes(4096), date_created=created + timedelta(milliseconds=number))
        small = peak_mb(api, tmp_path / "small")
        assert len(api.acknowledged) == 20_000
    with Emulator(results=0, days=1) as api:
        large = tmp_path / "large.bin"
        with large.open("wb") as file:
            file.truncate(2 * 1024**3)
        api.add_result(content=large, date_created=created)
        big = peak_mb(api, tmp_path / "big")
        assert len(api.acknowledged) == 1
    print(f"peak RSS: 20,000 of 4 KiB {small:.0f} MB, one of 2 GiB {big:.0f} MB")
    assert small < LIMIT_MB
    assert big < LIMIT_MB


@pytest.mark.ci
@pytest.mark.timeout(400)
def test_records_of_20_000_json_results_stay_below_400_mb(tmp_path):
    created = datetime.now(UTC).replace(hour=0, minute=0, second=0)
    with Emulator(results=0, days=1) as api:
        for number in range(20_000):
            feed = list(FEEDS)[number % len(FEEDS)]
            raw = make_feed(feed, number % VARIANTS, str(number), str(created.date()))
            moment = created + timedelta(milliseconds=number)
            api.add_result(content=raw, identifier=feed, type="json", date_created=moment)
        peak = peak_mb(api, tmp_path / "lake")
        assert len(api.acknowledged) == 20_000
    print(f"peak RSS: 20,000 JSON results of 5 KB and their records {peak:.0f} MB")
    assert peak < LIMIT_MB + 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_more_results_of_one_day_cost(tmp_path):
    """By hand: what a run keeps of each result until its acknowledgement is confirmed."""
    peaks = {}
    created = datetime.now(UTC).replace(hour=0, minute=0, second=0)
    for count in (20_000, 150_000):
        with Emulator(results=0, days=1) as api:
            for number in range(count):
                api.add_result(content=number.to_bytes(64, "big"), date_created=created + timedelta(milliseconds=number))
            peaks[count] = peak_mb(api, tmp_path / str(count))
            assert len(api.acknowledged) == count
    grown = (peaks[150_000] - peaks[20_000]) / 130_000 * 1024
    print(f"peak RSS: {peaks[20_000]:.0f} MB at 20,000, {peaks[150_000]:.0f} MB at 150,000: {grown:.2f} KB a result")
    assert grown < 2


@pytest.mark.ci
def test_a_content_of_many_chunks_costs_no_more_than_a_few(tmp_path):
    peaks = []
    for mebibytes in (16, 128):
        with Emulator(results=0, days=1) as api:
            large = tmp_path / "large.bin"
            with large.open("wb") as file:
                file.truncate(mebibytes * 1024**2)
            api.add_result(content=large)
            peaks.append(peak_mb(api, tmp_path / str(mebibytes)))
    assert peaks[1] < peaks[0] + 60
