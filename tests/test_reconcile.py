"""The reconcile: finds whatever the sensor cannot see, asks for runs of those days, says how far apart the sides are."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow.dataset as ds
import pytest

from ricloud_connector.emulator import Behaviour, Emulator
from tests.codelocation import CodeLocation
from tests.exactness import assert_exact

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("ricloud_connector.acknowledge.PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def emulator():
    with Emulator(results=0, days=1) as running:
        yield running


def at(emulator, lake) -> CodeLocation:
    return CodeLocation(emulator, lake, NOON.date() - timedelta(days=400), now=NOON)


def test_two_sides_that_agree_ask_for_nothing(emulator, tmp_path):
    location = at(emulator, tmp_path)
    assert location.reconcile() == []
    assert location.observation()["ricloud/days_to_visit"] == 0


def test_fault_048_what_arrives_late_beyond_the_sensors_overlap_is_found_whatever_its_age(emulator, tmp_path):
    location = at(emulator, tmp_path)
    emulator.add_result(content=b"now", date_created=NOON)
    for request in location.tick():
        location.run(request)
    emulator.add_result(content=b"late", date_created=NOON - timedelta(days=300))
    location.now += timedelta(hours=1)
    assert location.tick() == []
    (request,) = location.reconcile()
    assert request.partition_key == "2026-01-24"
    said = location.observation()
    assert (said["ricloud/missing"], said["ricloud/unacknowledged"], said["ricloud/quarantined"]) == (1, 0, 0)
    assert said["ricloud/oldest_unacknowledged_s"] == timedelta(days=300, hours=1).total_seconds()
    assert location.run(request).success
    assert_exact(tmp_path, emulator)
    assert location.reconcile() == []


def test_what_is_stored_but_not_acknowledged_and_what_is_quarantined_are_told_apart(emulator, tmp_path):
    location = at(emulator, tmp_path)
    emulator.behaviour = Behaviour(dropped_acknowledgements=10**6)
    emulator.add_result(content=b"kept", date_created=NOON)
    emulator.add_result(id="bad", content=b"x", checksum="0" * 32, date_created=NOON - timedelta(days=1))
    for request in location.tick():
        location.run(request)
    assert [request.partition_key for request in location.reconcile()] == ["2026-11-19", "2026-11-20"]
    said = location.observation()
    assert (said["ricloud/missing"], said["ricloud/unacknowledged"], said["ricloud/quarantined"]) == (0, 1, 1)
    emulator.behaviour = Behaviour()
    for request in location.reconcile():
        location.run(request)
    assert emulator.acknowledged.count("bad") == 0
    assert [request.partition_key for request in location.reconcile()] == ["2026-11-19"]


def test_an_acknowledgement_that_a_dead_run_did_not_write_down_is_found_however_old(emulator, tmp_path):
    location = at(emulator, tmp_path)
    emulator.add_result(id="old", content=b"x", date_created=NOON - timedelta(days=200))
    (request,) = location.reconcile()
    looks = 0

    def dies() -> datetime:
        nonlocal looks
        looks += 1
        if emulator.acknowledged:
            raise KeyboardInterrupt
        return NOON

    with pytest.raises(KeyboardInterrupt):
        location.ingest(request, now=dies)
    assert emulator.acknowledged == ["old"]
    assert looks > 1
    location.now += timedelta(days=1)
    (request,) = location.reconcile()
    assert location.observation()["ricloud/unrecorded"] == 1
    assert location.run(request).success
    assert_exact(tmp_path, emulator)
    location.now += timedelta(days=1)
    assert location.reconcile() == []


def test_what_was_consumed_without_us_is_written_down_once(emulator, tmp_path):
    location = at(emulator, tmp_path)
    emulator.add_result(id="theirs", content=b"x", state="consumed", date_created=NOON - timedelta(days=2))
    (request,) = location.reconcile()
    assert location.observation()["ricloud/lost"] == 1
    assert location.run(request).success
    states = ds.dataset(tmp_path / "data" / "result_states", partitioning="hive").to_table().to_pylist()
    assert [(row["result_id"], row["state"]) for row in states] == [("theirs", "consumed")]
    assert emulator.acknowledged == []
    assert location.reconcile() == []


def test_a_run_over_all_states_completes_the_history_and_acknowledges_only_what_is_available(emulator, tmp_path):
    location = at(emulator, tmp_path)
    for state in ("available", "consumed", "expired"):
        emulator.add_result(id=state, content=state.encode(), state=state, date_created=NOON)
    config = {"ricloud_store": {"config": {"states": ["available", "consumed", "expired"]}}}
    job = location.definitions.resolve_job_def("ricloud_ingest")
    done = job.execute_in_process(partition_key="2026-11-20", instance=location.instance, run_config={"ops": config})
    assert done.success
    assert emulator.acknowledged == ["available"]
    results = ds.dataset(tmp_path / "data" / "results").to_table().to_pylist()
    assert {row["id"]: row["first_seen_state"] for row in results} == {
        name: name for name in ("available", "consumed", "expired")
    }
    states = ds.dataset(tmp_path / "data" / "result_states").to_table().to_pylist()
    assert {(row["result_id"], row["state"]) for row in states} == {
        ("consumed", "consumed"),
        ("expired", "expired"),
        ("expired", "deleted"),
    }


def test_runs_can_be_told_to_filter_and_not_to_acknowledge(emulator, tmp_path):
    location = at(emulator, tmp_path)
    for identifier in ("messages", "calls", "photos"):
        emulator.add_result(id=identifier, identifier=identifier, content=b"x", date_created=NOON, poll=f"poll-{identifier}")
    job = location.definitions.resolve_job_def("ricloud_ingest")

    def run(store: dict, acknowledge: bool) -> None:
        ops = {
            "ricloud_store": {"config": store},
            "ricloud__acknowledgements": {"ops": {"acknowledge_results": {"config": {"acknowledge": acknowledge}}}},
        }
        assert job.execute_in_process(partition_key="2026-11-20", instance=location.instance, run_config={"ops": ops}).success

    run({"identifiers": ["messages", "calls"]}, acknowledge=False)
    stored = ds.dataset(tmp_path / "data" / "contents").to_table(["result_id"]).column("result_id").to_pylist()
    assert sorted(stored) == ["calls", "messages"]
    assert emulator.acknowledged == []
    run({"poll": "poll-photos"}, acknowledge=True)
    assert sorted(emulator.acknowledged) == ["calls", "messages", "photos"]


def test_a_wrong_state_in_the_config_fails_in_clear_words(emulator, tmp_path):
    location = at(emulator, tmp_path)
    job = location.definitions.resolve_job_def("ricloud_ingest")
    config = {"ops": {"ricloud_store": {"config": {"states": ["finished"]}}}}
    with pytest.raises(dg.Failure, match="finished"):
        job.execute_in_process(partition_key="2026-11-20", instance=location.instance, run_config=config)


def test_what_is_not_stored_and_may_soon_have_no_signed_url_is_counted(emulator, tmp_path):
    location = at(emulator, tmp_path)
    location.now = datetime.now(UTC)
    emulator.add_result(content=b"x", date_created=location.now)
    for lifetime, expiring in ((timedelta(days=9), 0), (timedelta(hours=23), 1)):
        emulator.behaviour = Behaviour(signature_lifetime_s=lifetime.total_seconds())
        (request,) = location.reconcile()
        assert location.observation()["ricloud/expiring"] == expiring
    location.run(request)
    location.reconcile()
    assert location.observation()["ricloud/expiring"] == 0
