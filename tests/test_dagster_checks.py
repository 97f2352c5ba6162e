"""The asset checks: plain words, the first offenders as a table of text, warnings unless they are told to block."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pyarrow as pa
import pytest

from ricloud_connector import RicloudResource, build_ricloud_definitions
from ricloud_connector.dagster import CheckSettings
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.errors import SettingsError
from ricloud_connector.lake import Lake
from ricloud_connector.schemas import RESULTS, RESULTS_SCHEMA

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = NOON.date()
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OF_RECORDS = {"every_document_gave_its_records", "columns_are_unchanged"}
NAMES = {"contents_proven", "none_quarantined", "counts_agree", "none_expiring", "none_overdue"}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr("ricloud_connector.acknowledge.PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def emulator():
    with Emulator(results=0, days=1, today=DAY) as running:
        for number in range(4):
            running.add_result(content=b"%d" % number, date_created=NOON)
        yield running


def run(emulator, lake, *, day=DAY, now=NOON + timedelta(hours=1), **settings):
    """A run of one day; whether it went well, and its checks by name."""
    environment = emulator.environment()
    defs = build_ricloud_definitions(
        resource=RicloudResource(
            url=environment["RICLOUD_URL"],
            token=environment["RICLOUD_TOKEN"],
            content_hosts=[environment["RICLOUD_CONTENT_HOSTS"]],
            lake=str(lake),
        ),
        start_date=DAY - timedelta(days=400),
        checks=CheckSettings(now=lambda: now, **settings),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("ricloud_ingest").execute_in_process(
            partition_key=day.isoformat(), instance=instance, run_config=QUIET, raise_on_error=False
        )
    return done, {evaluation.check_name: evaluation for evaluation in done.get_asset_check_evaluations()}


def offenders(evaluation) -> list[dict]:
    return [dict(record.data) for record in evaluation.metadata["ricloud/first_offenders"].value.records]


def test_where_all_is_well_every_check_passes_and_says_what_it_looked_at(emulator, tmp_path):
    done, found = run(emulator, tmp_path)
    assert done.success
    assert set(found) == NAMES | OF_RECORDS
    assert all(evaluation.passed for evaluation in found.values())
    assert found["contents_proven"].metadata["ricloud/looked_at"].value == 4
    assert "ricloud/first_offenders" not in found["contents_proven"].metadata


def test_a_quarantined_result_is_named_as_plain_text_whatever_its_id(emulator, tmp_path):
    emulator.add_result(id="[x](https://evil.example)", content=b"x", checksum="0" * 32, date_created=NOON)
    done, found = run(emulator, tmp_path)
    assert done.success, "it only warns"
    verdict = found["none_quarantined"]
    assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert verdict.description == "1 results are in quarantine."
    (row,) = offenders(verdict)
    assert (row["day"], row["result_id"]) == ("2026-11-20", "[x](https://evil.example)")
    assert row["detail"].startswith("checksum_mismatch")
    assert {type(value) for value in verdict.metadata.values()} <= {dg.IntMetadataValue, dg.TableMetadataValue}
    assert found["none_expiring"].passed
    assert found["none_overdue"].passed
    # Old enough, its content may go.
    _, later = run(emulator, tmp_path, now=NOON + timedelta(days=7))
    assert offenders(later["none_expiring"])[0]["detail"] == "not stored, at least 6 days old"


def test_a_check_that_blocks_is_an_error_and_holds_back_the_acknowledgements(emulator, tmp_path):
    emulator.add_result(id="bad", content=b"x", checksum="0" * 32, date_created=NOON)
    done, found = run(emulator, tmp_path, blocking=["none_quarantined"])
    assert not done.success
    assert found["none_quarantined"].severity is dg.AssetCheckSeverity.ERROR
    assert emulator.acknowledged == []
    done, _ = run(emulator, tmp_path)
    assert done.success
    assert len(set(emulator.acknowledged)) == 4


def test_what_is_stored_and_not_acknowledged_in_time_is_overdue(emulator, tmp_path):
    emulator.behaviour = Behaviour(dropped_acknowledgements=1000)
    _, found = run(emulator, tmp_path, now=NOON + timedelta(hours=47))
    assert found["none_overdue"].passed
    _, found = run(emulator, tmp_path, now=NOON + timedelta(hours=49))
    assert found["none_overdue"].metadata["ricloud/offenders"].value == 4
    assert "not acknowledged" in offenders(found["none_overdue"])[0]["detail"]


def test_a_result_that_was_listed_and_is_nowhere_makes_the_counts_disagree(emulator, tmp_path):
    run(emulator, tmp_path)
    lake = Lake(tmp_path, origin=emulator.url, run_id="by-test")
    row = dict.fromkeys(RESULTS_SCHEMA.names) | {"id": "ghost", "date_created": NOON, "first_seen_state": "available"}
    with lake.opened():
        lake.commit_table(RESULTS, DAY, pa.Table.from_pylist([row], schema=RESULTS_SCHEMA))
    _, found = run(emulator, tmp_path)
    assert [row["result_id"] for row in offenders(found["counts_agree"])] == ["ghost"]


def test_a_day_that_cannot_be_read_is_an_offender_and_the_others_are_looked_at(emulator, tmp_path):
    run(emulator, tmp_path)
    other = DAY - timedelta(days=1)
    folder = tmp_path / "data" / "contents" / f"created_date={other}"
    folder.mkdir()
    (folder / "part-000003.parquet").write_bytes(b"")
    _, found = run(emulator, tmp_path)
    assert not found["contents_proven"].passed
    assert "part 0 is missing" in offenders(found["contents_proven"])[0]["detail"]
    assert found["contents_proven"].metadata["ricloud/looked_at"].value == 4


def test_old_days_are_looked_at_only_by_their_own_runs(emulator, tmp_path):
    old = NOON - timedelta(days=200)
    emulator.add_result(content=b"old", date_created=old)
    _, found = run(emulator, tmp_path, day=old.date())
    assert found["contents_proven"].metadata["ricloud/days"].value == 1
    _, found = run(emulator, tmp_path)
    assert found["contents_proven"].metadata["ricloud/days"].value == 1


def test_without_acknowledgements_or_checks_there_are_fewer(tmp_path):
    assert {key.name for key in build_ricloud_definitions(acknowledge=False).resolve_asset_graph().asset_check_keys} == (
        (NAMES | OF_RECORDS) - {"none_overdue"}
    )
    nothing = build_ricloud_definitions(checks=CheckSettings(enabled=False))
    assert not nothing.resolve_asset_graph().asset_check_keys


def test_a_check_that_does_not_exist_cannot_block():
    with pytest.raises(SettingsError, match="blocking takes contents_proven"):
        CheckSettings(blocking=["nonsense"])
