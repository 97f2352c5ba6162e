"""The sensor: asks once for each partition with new results, old ones too, in bounded ticks; idle, it costs one request."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from starlette.responses import Response

from ricloud_connector.dagster import SensorSettings
from ricloud_connector.emulator import Behaviour, Emulator
from tests.codelocation import CodeLocation

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def emulator():
    with Emulator(results=0, days=1) as running:
        yield running


def at(emulator, lake, **settings) -> CodeLocation:
    return CodeLocation(emulator, lake, NOON.date() - timedelta(days=30), now=NOON, sensor=SensorSettings(**settings))


def publish(emulator, count: int, created: datetime, step: timedelta = timedelta(seconds=1)) -> None:
    for number in range(count):
        emulator.add_result(content=b"%d" % number, date_created=created + number * step)


def asked(requests) -> list[str]:
    return [request.partition_key for request in requests]


def test_sensor_and_schedule_are_stopped_until_somebody_starts_them(emulator, tmp_path):
    repository = at(emulator, tmp_path).repository
    assert repository.get_sensor_def("ricloud_new_results").default_status is dg.DefaultSensorStatus.STOPPED
    assert repository.get_schedule_def("ricloud_reconcile").default_status is dg.DefaultScheduleStatus.STOPPED


def test_each_partition_with_new_results_is_asked_for_once_old_ones_too(emulator, tmp_path):
    publish(emulator, 3, NOON - timedelta(days=20))
    publish(emulator, 3, NOON - timedelta(hours=2))
    location = at(emulator, tmp_path)
    assert asked(location.tick()) == ["2026-10-31", "2026-11-20"]
    # Nothing newer: nothing asked for, although no run has happened yet.
    location.now += timedelta(hours=1)
    assert location.tick() == []
    assert "nothing new" in location.skipped


def test_an_idle_tick_costs_one_request(emulator, tmp_path):
    publish(emulator, 30, NOON - timedelta(minutes=30))
    location = at(emulator, tmp_path)
    for request in location.tick():
        assert location.run(request).success
    before = len(emulator.requests)
    assert location.tick() == []
    assert len(emulator.requests) - before == 1


def test_a_tick_that_died_asks_for_the_same_run_again_and_dagster_makes_one_of_them(emulator, tmp_path):
    publish(emulator, 5, NOON)
    location = at(emulator, tmp_path)
    first = location.tick(keep_cursor=False)
    again = location.tick()
    assert [request.run_key for request in first] == [request.run_key for request in again]
    publish(emulator, 1, NOON + timedelta(minutes=6))
    location.now += timedelta(minutes=7)
    assert location.tick()[0].run_key != again[0].run_key


@pytest.mark.parametrize("cursor", ["garbage", '{"version": 0}', "2026-11-20T00:00:00Z", "[]"])
def test_a_bad_or_old_cursor_starts_over(emulator, tmp_path, cursor):
    publish(emulator, 2, NOON)
    location = at(emulator, tmp_path)
    location.cursor = cursor
    assert asked(location.tick()) == ["2026-11-20"]


def test_a_backlog_drains_over_many_ticks_of_a_bounded_budget(emulator, tmp_path):
    publish(emulator, 2_250, NOON - timedelta(days=4), step=timedelta(minutes=2))
    location = at(emulator, tmp_path, budget_s=0.0, pause=timedelta(0))
    found: list[str] = []
    for _ in range(4):
        before = len(emulator.requests)
        found += asked(location.tick())
        assert len(emulator.requests) - before == 1
    # 4,500 minutes from the noon of the 16th on: each of their days is asked for.
    assert sorted(set(found)) == ["2026-11-16", "2026-11-17", "2026-11-18", "2026-11-19"]


def test_equal_times_across_a_page_border_lose_nothing(emulator, tmp_path):
    publish(emulator, 1_100, NOON, step=timedelta(0))
    location = at(emulator, tmp_path)
    location.tick()
    publish(emulator, 1, NOON, step=timedelta(0))
    location.now += timedelta(minutes=6)
    assert asked(location.tick()) == ["2026-11-20"]


def test_a_quarantined_result_does_not_start_a_run_at_every_tick(emulator, tmp_path):
    emulator.add_result(content=b"x", checksum="0" * 32, date_created=NOON)
    location = at(emulator, tmp_path)
    (request,) = location.tick()
    assert location.ingest(request).quarantined == 1
    for _ in range(5):
        location.now += timedelta(hours=1)
        assert location.tick() == []


def test_a_run_that_the_sensor_asked_for_leaves_a_quarantined_result_alone_for_a_while(emulator, tmp_path):
    emulator.add_result(id="bad", content=b"x", checksum="0" * 32, date_created=NOON)
    location = at(emulator, tmp_path)
    (request,) = location.tick()
    assert location.ingest(request, patient=True).quarantined == 1
    location.now += timedelta(minutes=59)
    assert (report := location.ingest(request, patient=True)).resting == 1
    assert report.quarantined == 0
    assert location.ingest(request).quarantined == 1, "a run launched by hand tries again"
    location.now += timedelta(hours=3)
    assert location.ingest(request, patient=True).quarantined == 1


@pytest.mark.parametrize(
    "behaviour", [Behaviour(date_filter="ignore"), Behaviour(date_filter="reject"), Behaviour(order="oldest")]
)
def test_a_server_that_ignores_the_filter_or_the_order_is_watched_alike(emulator, tmp_path, behaviour):
    emulator.behaviour = behaviour
    publish(emulator, 3, NOON - timedelta(days=3))
    publish(emulator, 3, NOON)
    location = at(emulator, tmp_path)
    assert asked(location.tick()) == ["2026-11-17", "2026-11-20"]
    assert location.tick() == []


def test_results_before_the_first_partition_are_reported_and_those_of_the_future_wait(emulator, tmp_path):
    publish(emulator, 1, NOON - timedelta(days=400))
    publish(emulator, 1, NOON + timedelta(days=2))
    location = at(emulator, tmp_path)
    assert location.tick() == []
    location.now += timedelta(days=2)
    assert asked(location.tick()) == ["2026-11-22"]


def test_an_api_that_is_down_fails_the_tick_in_clear_words_and_keeps_the_cursor(emulator, tmp_path, monkeypatch):
    location = at(emulator, tmp_path)
    location.tick()
    emulator.intercept = lambda request: Response(status_code=401)
    with pytest.raises(dg.Failure) as caught:
        location.tick()
    assert "RICLOUD_TOKEN is not accepted" in caught.value.description
    assert emulator.token not in caught.value.description
