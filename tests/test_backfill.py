"""A backfill over many days in one run: recorded day by day, so that a kill keeps what was finished, and few API calls."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ricloud_connector import build_ricloud_definitions
from ricloud_connector.client import RicloudClient
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.fetch import Fetcher
from ricloud_connector.ingest import Run, store_results
from ricloud_connector.ingest.listings import DayListings
from ricloud_connector.lake import Lake
from ricloud_connector.location import Policy
from ricloud_connector.model import Window
from ricloud_connector.options import Selection
from ricloud_connector.redact import Secret
from ricloud_connector.session import open_run
from ricloud_connector.settings import Settings
from ricloud_connector.stores.signed_url import SignedUrlStore
from ricloud_connector.wire import Request
from tests.codelocation import CodeLocation
from tests.command import clean_environment
from tests.exactness import assert_exact
from tests.test_ingest import run_ingest
from tests.test_wire import make_item

ROOT = Path(__file__).parent.parent
LAST = date(2026, 11, 20)

# A range in one run, as Dagster's UI launches a single-run backfill, in a process that can be killed.
_SCRIPT = """
import sys, dagster as dg
from definitions import defs
quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
tags = {"dagster/asset_partition_range_start": sys.argv[1], "dagster/asset_partition_range_end": sys.argv[2]}
job = defs.resolve_job_def("ricloud_ingest")
with dg.DagsterInstance.get() as instance:
    done = job.execute_in_process(instance=instance, tags=tags, run_config=quiet, raise_on_error=False)
sys.exit(0 if done.success else 1)
"""


def published(days: int, per_day: int) -> Emulator:
    """An emulator with results on each of the last `days` days."""
    emulator = Emulator(results=0, days=1)
    emulator.start()
    for back in range(days):
        noon = datetime(LAST.year, LAST.month, LAST.day, 12, tzinfo=UTC) - timedelta(days=back)
        for number in range(per_day):
            emulator.add_result(content=b"%d/%d" % (back, number), date_created=noon + timedelta(seconds=number))
    return emulator


def start(emulator: Emulator, lake: Path, home: Path, first: date) -> subprocess.Popen[bytes]:
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    given = {
        **emulator.environment(),
        "RICLOUD_LAKE": str(lake),
        "RICLOUD_START_DATE": first.isoformat(),
        "DAGSTER_HOME": str(home),
    }
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, first.isoformat(), LAST.isoformat()]
    return subprocess.Popen(command, cwd=ROOT, env=clean_environment(given), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()[-2000:]


def recorded(home: Path) -> int:
    """The partitions of `contents` that Dagster has on record."""
    os.environ["DAGSTER_HOME"] = str(home)
    with dg.DagsterInstance.get() as instance:
        return len(instance.get_materialized_partitions(dg.AssetKey(["ricloud", "contents"])))


def stored(lake: Path) -> int:
    return len(list(lake.glob("data/contents/*/part-000000.parquet")))


def check_a_killed_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    lake, home, first = tmp_path / "lake", tmp_path / "home", LAST - timedelta(days=days - 1)
    emulator = published(days, 3)
    try:
        process = start(emulator, lake, home, first)
        while stored(lake) < days * 7 // 10:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = stored(lake)
        assert days > kept >= recorded(home) >= kept - 2
        assert emulator.acknowledged == []

        before = [request.path for request in emulator.requests if request.server == "api"]
        started = time.monotonic()
        finished(start(emulator, lake, home, first))
        seconds = time.monotonic() - started
        assert_exact(lake, emulator)
        assert recorded(home) == days

        calls = [request for request in emulator.requests if request.server == "api"][len(before) :]
        lists = [request for request in calls if request.path == "/results" and request.method == "GET"]
        reads = [request for request in calls if request.path.startswith("/results/") and request.method == "GET"]
        sends = [request for request in calls if request.method == "POST"]
        counted = f"{len(lists)} lists, {len(reads)} reads, {len(sends)} acknowledgements"
        print(f"{days} partitions in one run: {seconds:.1f} s, {counted}")
        assert len(lists) <= 2 * (days + days)
        assert len(sends) == days
    finally:
        emulator.stop()


@pytest.mark.ci
def test_a_range_killed_at_70_percent_keeps_what_was_finished_and_the_next_run_goes_on(tmp_path, monkeypatch):
    check_a_killed_range(tmp_path, monkeypatch, 16)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_1000_partitions_in_one_run(tmp_path, monkeypatch):
    check_a_killed_range(tmp_path, monkeypatch, 1000)


def test_a_server_that_ignores_the_filter_is_walked_once_for_all_days(tmp_path):
    emulator = published(10, 110)
    emulator.behaviour = Behaviour(date_filter="ignore")
    try:
        reports = run_ingest(
            emulator, tmp_path, Window(Window.of_day(LAST - timedelta(days=9)).since, Window.of_day(LAST).until)
        )
        assert_exact(tmp_path, emulator)
        assert len(reports) == 10
        lists = [request for request in emulator.requests if request.path == "/results" and request.method == "GET"]
        # 1,100 results are two pages: the first day's walk, one for all the others, one to confirm, and some to spare.
        assert len(lists) <= 10
    finally:
        emulator.stop()


def test_days_are_listed_side_by_side_as_soon_as_one_page_has_shown_that_the_server_filters(tmp_path):
    emulator = published(2, 2_100)
    emulator.behaviour = Behaviour(latency_s=0.1)
    days = [LAST - timedelta(days=back) for back in (1, 0)]
    try:
        settings = Settings.from_environment({**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)})
        with open_run(settings) as run:
            reports = list(store_results(run, [(day, Window.of_day(day)) for day in days], contents=False))
    finally:
        emulator.stop()
    assert [report.new_result_rows for report in reports] == [2_100] * 2
    asked = [request.query for request in emulator.requests if request.path == "/results"]
    pages = {day: [place for place, query in enumerate(asked) if f"date_created__gte={day}" in query] for day in days}
    assert [len(places) for places in pages.values()] == [3] * 2
    assert max(places[0] for places in pages.values()) < min(places[-1] for places in pages.values())


def test_a_step_that_fails_ends_the_days_under_way_before_it_closes_the_lake(tmp_path, monkeypatch):
    going = list[list[str]]()

    def fail_at_once(_, run, reports):
        close = run.client.close

        def closed() -> None:
            names = [thread.name for thread in threading.enumerate()]
            going.append([name for name in names if name.startswith(("ricloud-day", "ricloud-ahead"))])
            close()

        monkeypatch.setattr(run.client, "close", closed)
        yield next(reports)
        raise OSError("as an example")

    emulator = published(8, 3)
    emulator.behaviour = Behaviour(latency_s=0.1)
    for name, value in {**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    first = LAST - timedelta(days=7)
    job = build_ricloud_definitions(start_date=first, execute=fail_at_once).resolve_job_def("ricloud_ingest")
    ends = {"start": first.isoformat(), "end": LAST.isoformat()}
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            done = job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey(["ricloud", "results"])],
                tags={f"dagster/asset_partition_range_{end}": day for end, day in ends.items()},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
            )
    finally:
        emulator.stop()
    assert not done.success
    assert going == [[]]


@pytest.mark.parametrize(("answer_takes_s", "windows"), [(0.001, 2), (0.02, 4), (1.0, 8)])
def test_the_longer_an_answer_takes_the_more_days_are_listed_at_a_time(tmp_path, answer_takes_s, windows):
    days = [(day, Window.of_day(day)) for day in (LAST - timedelta(days=back) for back in range(12, 0, -1))]
    clock, asked = threading.local(), set[str]()

    def exchange(request: Request, _: float) -> tuple[int, dict[str, str], bytes]:
        clock.now = getattr(clock, "now", 0.0) + answer_takes_s
        day = dict(request.params)["date_created__gte"][:10]
        asked.add(day)
        return 200, {}, json.dumps({"data": [make_item(id=day, date_created=f"{day}T12:00:00Z")], "has_more": False}).encode()

    client = RicloudClient("https://api", Secret("token"), exchange=exchange, clock=lambda: getattr(clock, "now", 0.0))
    with Lake(tmp_path, origin="https://api:443", run_id="run").opened() as lake:
        fetcher = Fetcher(client.retrieve_result, Policy(), lake.staging, http=SignedUrlStore(concurrency=1))
        with DayListings(Run(client, lake, fetcher, "run"), days, Selection()) as listings:
            next(next(iter(listings)).available())
            for _ in range(500):
                if len(asked) >= windows:
                    break
                time.sleep(0.01)
            time.sleep(0.1)  # for one that should not be asked for
            assert len(asked) == windows


def test_signed_urls_are_not_spooled(tmp_path):
    emulator = published(5, 3)
    emulator.behaviour = Behaviour(date_filter="ignore")
    spooled: list[str] = []

    def look(ids: list[str]) -> None:
        for path in tmp_path.glob("control/staging/*/spool/*"):
            spooled.append(path.read_text())

    emulator.on_acknowledge = look
    try:
        run_ingest(emulator, tmp_path, Window(Window.of_day(LAST - timedelta(days=4)).since, Window.of_day(LAST).until))
    finally:
        emulator.stop()
    assert spooled
    assert not any("Signature" in text for text in spooled)


@pytest.mark.ci
def test_runs_of_one_partition_each_work_alike(tmp_path):
    emulator = published(4, 5)
    try:
        location = CodeLocation(emulator, tmp_path, LAST - timedelta(days=3), now=datetime(2026, 11, 20, 23, tzinfo=UTC))
        for request in location.tick():
            assert location.run(request).success
        assert_exact(tmp_path, emulator)
    finally:
        emulator.stop()
