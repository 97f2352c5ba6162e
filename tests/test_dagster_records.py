"""The asset `records` in Dagster: rows, metadata, checks, and frames by annotation. Runs jobs in process."""

import os

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ricloud_connector import RicloudRecordsIOManager, build_ricloud_definitions, list_data_types, read_records
from ricloud_connector.emulator import Emulator
from tests.documents import document
from tests.exactness import assert_exact

RECORDS = dg.AssetKey(["ricloud", "records"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FEED = "ios_messages.messages"


@pytest.fixture
def emulator(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("RICLOUD_")]:
        monkeypatch.delenv(name)
    with Emulator(results=120, days=2, large_bytes=None) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RICLOUD_LAKE", str(tmp_path / "lake"))
        yield running


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def ingest(instance, **arguments):
    job = build_ricloud_definitions().resolve_job_def("ricloud_ingest")
    return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False, **arguments)


def checks(run) -> dict[str, dg.AssetCheckEvaluation]:
    """Those of `records` itself."""
    found = run.get_asset_check_evaluations()
    return {evaluation.check_name: evaluation for evaluation in found if evaluation.asset_key == RECORDS}


def materialised(run) -> dict:
    (event,) = [event for event in run.get_asset_materialization_events() if event.asset_key == RECORDS]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_the_job_makes_records_of_every_feed_and_says_so(emulator, instance, tmp_path):
    for day in emulator.days:
        run = ingest(instance, partition_key=day.isoformat())
        assert run.success
        metadata = materialised(run)
        assert metadata["dagster/partition_row_count"] == metadata["ricloud/new"] > 0
        assert "ios_messages.messages.text" in [column.name for column in metadata["dagster/column_schema"].columns]
        assert checks(run)["every_document_gave_its_records"].passed
    assert_exact(tmp_path / "lake", emulator)
    assert set(list_data_types(tmp_path / "lake")) == {
        "ios_messages.messages",
        "ios_call_history.calls",
        "ios_contacts.contacts",
        "ios_locations.locations",
    }
    again = ingest(instance, partition_key=emulator.days[0].isoformat())
    assert materialised(again)["ricloud/new"] == 0
    assert all(evaluation.passed for evaluation in checks(again).values())


def test_a_range_records_each_partition_and_each_check_once(emulator, instance):
    first, last = emulator.days[0].isoformat(), emulator.days[-1].isoformat()
    run = ingest(instance, tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last})
    assert run.success
    assert len(checks(run)) == 2
    for day in emulator.days:
        (record,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(RECORDS, asset_partitions=[day.isoformat()]), limit=1
        ).records
        assert record.asset_materialization.metadata["dagster/partition_row_count"].value > 0


def test_hostile_documents_and_changes_are_shown_and_stop_nothing(emulator, instance, tmp_path):
    day = emulator.days[0]
    assert ingest(instance, partition_key=day.isoformat()).success
    moment = emulator.results()[0].date_created.replace(year=day.year, month=day.month, day=day.day)
    bad = emulator.add_result(content=document([{}], count=2), identifier=FEED, type="json", date_created=moment)
    changed = document([{"message_id": 7, "mood": "good"}])
    emulator.add_result(content=changed, identifier=FEED, type="json", date_created=moment)
    run = ingest(instance, partition_key=day.isoformat())
    assert run.success
    found = checks(run)
    counts, columns = found["every_document_gave_its_records"], found["columns_are_unchanged"]
    assert (counts.passed, counts.severity) == (False, dg.AssetCheckSeverity.ERROR)
    (fault,) = counts.metadata["ricloud/documents"].records
    assert (fault.data["result_id"], fault.data["reason"]) == (bad.id, "records_count_mismatch")
    assert (columns.passed, columns.severity) == (False, dg.AssetCheckSeverity.WARN)
    said = {(row.data["column"], row.data["change"]) for row in columns.metadata["ricloud/changes"].records}
    assert said == {("mood", "new column"), ("/message_id", "1 values in _extra")}
    assert bad.id in emulator.acknowledged
    # The fault stays as long as the document gives no records; the change was told once.
    again = checks(ingest(instance, partition_key=day.isoformat()))
    assert not again["every_document_gave_its_records"].passed
    assert again["columns_are_unchanged"].passed


def test_json_of_another_shape_is_a_warning_since_a_user_may_have_such_files(emulator, instance):
    day = emulator.days[0]
    moment = emulator.results()[0].date_created.replace(year=day.year, month=day.month, day=day.day)
    emulator.add_result(content=b'{"theme": "dark"}', identifier="settings.json", type="json", date_created=moment)
    run = ingest(instance, partition_key=day.isoformat())
    assert run.success
    counts = checks(run)["every_document_gave_its_records"]
    assert (counts.passed, counts.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_records_failure_stops_no_acknowledgement(emulator, instance, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("ricloud_connector.records.derive_records", fail)
    run = ingest(instance, partition_key=emulator.days[0].isoformat())
    assert not run.success
    assert emulator.acknowledged


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (pd.DataFrame, len),
        pytest.param(pa.Table, len, marks=pytest.mark.ci),
        pytest.param(pl.DataFrame, len, marks=pytest.mark.ci),
    ],
)
def test_a_downstream_asset_takes_records_by_annotation(emulator, instance, tmp_path, kind, count):
    for day in emulator.days:
        assert ingest(instance, partition_key=day.isoformat()).success
    definitions = build_ricloud_definitions()
    partitions = definitions.resolve_asset_graph().get(RECORDS).partitions_def
    seen = []

    def texts(messages) -> None:
        seen.append(messages)

    texts.__annotations__["messages"] = kind
    asset = dg.asset(
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run(),
        ins={"messages": dg.AssetIn(RECORDS, metadata={"feed": FEED}, input_manager_key="ricloud_records")},
    )(texts)
    assets = [*definitions.resolve_asset_graph().assets_defs, asset]
    given = {"instance": instance, "run_config": QUIET, "resources": {"ricloud_records": RicloudRecordsIOManager()}}
    first, last = emulator.days[0].isoformat(), emulator.days[-1].isoformat()
    assert dg.materialize(assets, selection=[asset], partition_key=first, **given).success
    span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    assert dg.materialize(assets, selection=[asset], tags=span, **given).success
    assert all(isinstance(frame, kind) for frame in seen)
    one, both = map(count, seen)
    assert 0 < one < both == len(read_records(tmp_path / "lake", FEED))


def test_an_input_that_does_not_say_which_feed_is_a_clear_error(emulator, instance):
    with pytest.raises(dg.Failure, match="metadata"):
        RicloudRecordsIOManager().load_input(dg.build_input_context())
