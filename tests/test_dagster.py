"""The code location: loads with nothing set, materialises by job, subset and range, says what it did, fails clearly."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from ricloud_connector import build_ricloud_definitions
from ricloud_connector.dagster import RicloudResource
from ricloud_connector.emulator import Emulator
from tests.days import assert_exact_days
from tests.exactness import assert_exact

ROOT = Path(__file__).parent.parent
RESULTS, CONTENTS, ACKNOWLEDGEMENTS = (dg.AssetKey(["ricloud", name]) for name in ("results", "contents", "acknowledgements"))
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture
def emulator(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("RICLOUD_")]:
        monkeypatch.delenv(name)
    with Emulator(results=120, days=3, large_bytes=None, token="dagster-canary-token") as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("RICLOUD_LAKE", str(tmp_path / "lake"))
        yield running


@pytest.fixture
def instance():
    """In memory: one with files takes half a second, and more for each run."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def instance_with_files(tmp_path):
    with dg.instance_for_test(temp_dir=str(tmp_path)) as found:
        yield found


def definitions() -> dg.Definitions:
    return build_ricloud_definitions()


def run_job(instance, **arguments):
    job = definitions().resolve_job_def("ricloud_ingest")
    return job.execute_in_process(instance=instance, run_config=QUIET, raise_on_error=False, **arguments)


def last_metadata(instance, key: dg.AssetKey, partition: str) -> dict:
    (record,) = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[partition]), limit=1).records
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def test_the_code_location_loads_with_no_variable_set():
    code = (
        "from definitions import defs; import dagster as dg; r = defs.resolve_asset_graph(); "
        "print(sorted(k.to_user_string() for k in r.get_all_asset_keys())); print(defs.resolve_job_def('ricloud_ingest').name)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RICLOUD_")}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.stdout.splitlines() == [
        "['ricloud/acknowledgements', 'ricloud/contents', 'ricloud/records', 'ricloud/results']",
        "ricloud_ingest",
    ], process.stderr


def test_partitions_are_utc_days_from_the_start_date_to_today(monkeypatch):
    monkeypatch.setenv("RICLOUD_START_DATE", "2026-11-20")
    graph = definitions().resolve_asset_graph()
    partitions = graph.get(CONTENTS).partitions_def
    keys = partitions.get_partition_keys(current_time=datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC))
    assert keys == ["2026-11-20", "2026-11-21", "2026-11-22"]


def test_the_op_is_named_and_inside_a_graph_backed_asset():
    (asset,) = [asset for asset in definitions().resolve_asset_graph().assets_defs if ACKNOWLEDGEMENTS in asset.keys]
    assert isinstance(asset.node_def, dg.GraphDefinition)
    assert [node.name for node in asset.node_def.nodes] == ["acknowledge_results"]


def test_the_job_ingests_every_day_exactly(emulator, instance, tmp_path):
    for day in emulator.days:
        assert run_job(instance, partition_key=day.isoformat()).success
    assert_exact(tmp_path / "lake", emulator)


def test_a_materialisation_says_what_it_did_under_standard_keys(emulator, instance, tmp_path):
    day = emulator.days[0].isoformat()
    assert run_job(instance, partition_key=day).success
    contents = last_metadata(instance, CONTENTS, day)
    assert contents["ricloud/new"] == contents["dagster/partition_row_count"] > 0
    assert contents["ricloud/bytes"] > 0
    assert contents["ricloud/path"] == str(tmp_path / "lake" / "data" / "contents" / f"created_date={day}")
    assert contents["dagster/uri"].startswith("file:///")
    columns = [column.name for column in contents["dagster/column_schema"].columns]
    assert columns[:4] == ["result_id", "chunk_index", "chunk_count", "content"]
    assert {"ricloud/seconds", "ricloud/mb_per_s", "ricloud/quarantined", "ricloud/already_stored"} <= set(contents)
    assert contents["ricloud/results"] == contents["ricloud/new"]
    assert contents["ricloud/stored_bytes"] == contents["ricloud/bytes"]
    assert contents["ricloud/lag_s"] >= 0
    preview = last_metadata(instance, RESULTS, day)["ricloud/preview"].records
    assert len(preview) == 5
    assert all(type(value) is str for record in preview for value in record.data.values())
    acknowledged = last_metadata(instance, ACKNOWLEDGEMENTS, day)["ricloud/acknowledged"]
    assert acknowledged == contents["ricloud/new"]
    assert last_metadata(instance, RESULTS, day)["ricloud/listed"] == contents["ricloud/listed"]
    # Materialised again there is nothing to do, and it says so.
    assert run_job(instance, partition_key=day).success
    assert last_metadata(instance, CONTENTS, day)["ricloud/new"] == 0
    assert last_metadata(instance, ACKNOWLEDGEMENTS, day)["ricloud/acknowledged"] == 0


def test_a_range_in_one_run_records_each_partition_with_its_own_metadata(emulator, instance, tmp_path):
    first, last = emulator.days[0].isoformat(), emulator.days[-1].isoformat()
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    assert run_job(instance, tags=tags).success
    assert_exact(tmp_path / "lake", emulator)
    for day in emulator.days:
        for key in (RESULTS, CONTENTS, ACKNOWLEDGEMENTS):
            metadata = last_metadata(instance, key, day.isoformat())
            assert metadata["ricloud/path"].endswith(f"created_date={day}")


@pytest.mark.parametrize(("alone", "made"), [(RESULTS, {"results"}), (CONTENTS, {"contents"})])
def test_results_and_contents_can_be_selected_alone(emulator, instance, tmp_path, alone, made):
    day = emulator.days[0].isoformat()
    assets = list(definitions().resolve_asset_graph().assets_defs)
    done = dg.materialize(
        assets,
        selection=[alone],
        partition_key=day,
        instance=instance,
        run_config=QUIET,
    )
    assert done.success
    assert {path.name for path in (tmp_path / "lake" / "data").iterdir() if any(path.rglob("*.parquet"))} - {
        "quarantine"
    } == made
    assert emulator.acknowledged == []


def test_acknowledgements_alone_take_what_an_earlier_run_stored(emulator, instance, tmp_path):
    day = emulator.days[0].isoformat()
    assets = list(definitions().resolve_asset_graph().assets_defs)
    options = {"partition_key": day, "instance": instance, "run_config": QUIET}
    assert dg.materialize(assets, selection=[RESULTS, CONTENTS], **options).success
    assert emulator.acknowledged == []
    assert dg.materialize(assets, selection=[ACKNOWLEDGEMENTS], **options).success
    assert_exact_days(tmp_path / "lake", emulator, [emulator.days[0]])


@pytest.mark.parametrize("name", ["RICLOUD_URL", "RICLOUD_TOKEN", "RICLOUD_LAKE"])
def test_a_missing_setting_fails_the_run_in_one_clear_sentence(emulator, instance, monkeypatch, name):
    monkeypatch.delenv(name)
    done = run_job(instance, partition_key=emulator.days[0].isoformat())
    assert not done.success
    (failure,) = [event for event in done.all_events if event.is_step_failure]
    assert f"{name} is not set; run: export {name}=" in failure.step_failure_data.user_failure_data.description
    assert emulator.requests == []


def test_explicit_settings_win_over_the_environment_and_the_token_is_a_secret(emulator, monkeypatch, tmp_path):
    monkeypatch.setenv("RICLOUD_TOKEN", "wrong")
    resource = RicloudResource(token=emulator.token, lake=str(tmp_path / "other"))
    settings = resource.settings()
    assert settings.token.reveal() == emulator.token
    assert settings.lake == tmp_path / "other"
    schema = RicloudResource.model_json_schema()["properties"]["token"]
    assert schema["dagster__is_secret"] is True


def test_no_secret_reaches_dagsters_storage(emulator, instance_with_files, tmp_path):
    assert run_job(instance_with_files, partition_key=emulator.days[0].isoformat()).success
    signatures = [request.query for request in emulator.requests if request.server == "contents"]
    assert signatures
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"ricloud_ingest" in stored, "the event storage is in here"
    assert emulator.token.encode() not in stored
    for query in signatures:
        signature = query.rpartition("Signature=")[2]
        assert signature
        assert signature.encode() not in stored


@pytest.mark.ci  # by default the same definitions are loaded in a process, and their job is run in this one
def test_dagsters_own_command_materialises_a_partition(emulator, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    day = emulator.days[-1]
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "definitions"]
    command += ["--select", "*", "--partition", day.isoformat()]
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert_exact_days(tmp_path / "lake", emulator, [day])


def test_a_second_code_location_with_another_prefix_does_not_collide():
    other = build_ricloud_definitions(key_prefix=("acme", "ricloud"), group_name="acme", start_date=date(2026, 1, 1))
    merged = dg.Definitions.merge(definitions(), other)
    keys = {key.to_user_string() for key in merged.resolve_asset_graph().get_all_asset_keys()}
    assert {"ricloud/contents", "acme/ricloud/contents"} <= keys


@pytest.mark.parametrize(
    "key", ["../../etc", "2026-11-20' OR '1'='1", "2026-11-20/../2026-11-19", "\u202e2026-11-20", "9999-99-99"]
)
def test_fault_174_a_partition_key_that_is_no_day_starts_nothing(emulator, instance, tmp_path, key):
    with pytest.raises(dg.DagsterUnknownPartitionError):
        run_job(instance, partition_key=key)
    assert emulator.requests == []
    assert not (tmp_path / "lake").exists()
