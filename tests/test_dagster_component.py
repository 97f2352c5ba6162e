"""The component: found, scaffolded and loaded by dg, translated and overridden by users, two of them beside each other."""

import os
import subprocess
import sys
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster.components.testing.test_cases import TestTranslation as TranslationCases
from dagster.components.testing.utils import component_defs, create_defs_folder_sandbox

from ricloud_connector import RicloudComponent, RicloudResource, build_ricloud_definitions
from ricloud_connector.dagster import ReconcileSettings, RicloudAsset, SensorSettings
from ricloud_connector.emulator import Emulator
from ricloud_connector.options import Selection
from tests.codelocation import evaluated
from tests.command import clean_environment
from tests.exactness import assert_exact

TYPE = "ricloud_connector.RicloudComponent"
NAMES = ("results", "contents", "records", "acknowledgements")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@contextmanager
def loaded(attributes: dict):
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=RicloudComponent, defs_yaml_contents={"type": TYPE, "attributes": attributes}
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as found:
            yield found


def keys_of(defs: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}


def test_with_no_attribute_it_is_what_python_builds():
    with loaded({}) as (component, defs):
        assert isinstance(component, RicloudComponent)
        assert keys_of(defs) == keys_of(build_ricloud_definitions()) == {f"ricloud/{name}" for name in NAMES}
        repository = defs.get_repository_def()
        assert repository.get_sensor_def("ricloud_new_results").default_status is dg.DefaultSensorStatus.STOPPED
        assert repository.get_schedule_def("ricloud_reconcile").default_status is dg.DefaultScheduleStatus.STOPPED
        assert defs.executor is None, "a component leaves the executor of its code location alone"


def test_what_is_scaffolded_loads_as_it_is():
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=RicloudComponent)
        assert list(yaml.safe_load((path / "defs.yaml").read_text())["attributes"]) == ["start_date"]
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, _):
            assert component.start_date.endswith("-01")


def test_every_attribute_reaches_what_it_is_about(monkeypatch):
    monkeypatch.setenv("ACME_TOKEN", "canary-token")
    attributes = {
        "url": "https://api.example",
        "token": "{{ env.ACME_TOKEN }}",
        "lake": "/srv/lake",
        "start_date": "2026-11-01",
        "partitions": "hourly",
        "states": ["available", "consumed"],
        "identifiers": ["ios_messages.messages"],
        "poll": "p1",
        "task": "t1",
        "acknowledge": False,
        "concurrency": 7,
        "content_hosts": ["10.0.0.1:80"],
        "key_prefix": "acme/ricloud",
        "group_name": "apple",
        "owners": ["team:data"],
        "tags": {"tier": "raw"},
        "kinds": ["ricloud", "duckdb"],
        "pool": "narrow",
        "sensor": {"started": True, "interval_s": 30, "pause_minutes": 1},
        "reconcile": {"started": True, "cron_schedule": "5 4 * * *", "lookback_days": 3},
        "checks": {"blocking": ["contents_proven"], "lookback_days": 2},
        "freshness": {"fail_after_hours": 30, "warn_after_hours": 26},
    }
    with loaded(attributes) as (component, defs):
        assert "canary-token" not in repr(component)
        settings = component._resource().process_config_and_initialize().settings()
        assert (settings.url, settings.token.reveal(), settings.concurrency) == ("https://api.example", "canary-token", 7)
        graph = defs.resolve_asset_graph()
        assert keys_of(defs) == {f"acme/ricloud/{name}" for name in NAMES}
        for name in NAMES:
            node = graph.get(dg.AssetKey(["acme", "ricloud", name]))
            assert (node.group_name, list(node.owners), node.tags["tier"], node.kinds, set(node.pools)) == (
                "apple",
                ["team:data"],
                "raw",
                {"ricloud", "duckdb"},
                {"narrow"},
            )
            assert node.freshness_policy.fail_window.to_timedelta() == timedelta(hours=30)
            assert isinstance(node.partitions_def, dg.HourlyPartitionsDefinition)
        repository = defs.get_repository_def()
        sensor = repository.get_sensor_def("acme_ricloud_new_results")
        assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.RUNNING, 30)
        schedule = repository.get_schedule_def("acme_ricloud_reconcile")
        assert (schedule.default_status, schedule.cron_schedule) == (dg.DefaultScheduleStatus.RUNNING, "5 4 * * *")
        config = repository.get_job("acme_ricloud_ingest").run_config_schema.config_type.fields["ops"].config_type.fields
        store = config["acme_ricloud_store"].config_type.fields["config"].config_type.fields
        said = {name: field.default_value for name, field in store.items()}
        assert said == {
            "states": ["available", "consumed"],
            "identifiers": ["ios_messages.messages"],
            "poll": "p1",
            "task": "t1",
        }
        blocking = {key.name: graph.get(key).blocking for key in graph.asset_check_keys}
        assert blocking["contents_proven"] is True
        assert not any(blocks for name, blocks in blocking.items() if name != "contents_proven")
        assert "none_overdue" not in blocking, "who does not acknowledge is not late"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"partitions": "weekly"}, "partitions"),
        ({"start_date": "yesterday"}, "start_date must be YYYY-MM-DD"),
        ({"checks": {"blocking": ["no_such_check"]}}, "no check is called no_such_check"),
        ({"states": ["nonsense"]}, "states are of available, consumed, expired"),
        ({"tokn": "x"}, "tokn"),
        ({"token": "canary-token"}, "a secret is named, not written"),
        ({"proxy": "http://user:password@proxy.example"}, "a secret is named, not written"),
    ],
)
def test_a_wrong_attribute_is_named(attributes, said):
    with pytest.raises(Exception) as raised, loaded(attributes):  # noqa: PT011  # Dagster wraps it; what is shown is the whole
        pass
    assert said in "".join(traceback.format_exception(raised.value))


def test_secrets_are_secrets_in_a_form():
    schema = RicloudComponent.get_model_cls().model_json_schema()["properties"]
    assert {name for name, found in schema.items() if found.get("ui:widget") == "secret"} == {"token", "proxy"}
    assert all(found.get("description") for name, found in schema.items() if name != "translation")
    assert RicloudComponent.get_spec().description


class TestTranslation(TranslationCases):
    """Dagster's own cases for the translation of an asset's attributes."""

    def test_translation(self, attributes, assertion, key_modifier):
        if "partitions_def" in attributes:
            pytest.skip("partitions are the connector's: the lake's folders follow from them")
        with loaded({"translation": attributes}) as (_, defs):
            key = dg.AssetKey(["ricloud", "contents"])
            assert assertion(defs.resolve_asset_graph().get(key_modifier(key) if key_modifier else key).to_asset_spec())


def test_a_translation_may_tell_assets_apart_and_dependencies_follow_its_keys():
    with loaded({"translation": {"key": "lake/{{ asset.name }}", "description": "holds {{ asset.name }}"}}) as (_, defs):
        graph = defs.resolve_asset_graph()
        contents, acknowledgements = (graph.get(dg.AssetKey(["lake", name])) for name in ("contents", "acknowledgements"))
        assert contents.parent_keys == {dg.AssetKey(["lake", "results"])}
        assert acknowledgements.parent_keys == {contents.key}
        assert acknowledgements.description == "holds acknowledgements"


class Mine(RicloudComponent):
    """What a user might write."""

    def get_asset_spec(self, asset: RicloudAsset) -> dg.AssetSpec:
        return super().get_asset_spec(asset).merge_attributes(tags={"dataset": asset.name})

    def execute(self, context, run, reports):
        for report in super().execute(context, run, reports):
            context.log.info(f"{report.day} has {report.new} new results of {run.run_id}")
            SEEN.append(report)
            yield report


SEEN: list = []


def test_a_subclass_may_change_specs_and_surround_what_is_stored(tmp_path, monkeypatch):
    SEEN.clear()
    with Emulator(results=20, days=2, large_bytes=None) as emulator:
        settings = emulator.environment()
        monkeypatch.setenv("ACME_TOKEN", settings["RICLOUD_TOKEN"])
        component = Mine(
            url=settings["RICLOUD_URL"],
            token=dg.EnvVar("ACME_TOKEN"),
            content_hosts=[settings["RICLOUD_CONTENT_HOSTS"]],
            lake=str(tmp_path),
        )
        defs = component_defs(component=component)
        graph = defs.resolve_asset_graph()
        assert graph.get(dg.AssetKey(["ricloud", "contents"])).tags["dataset"] == "contents"
        for day in emulator.days:
            with dg.DagsterInstance.ephemeral() as instance:
                job = defs.resolve_job_def("ricloud_ingest")
                assert job.execute_in_process(partition_key=day.isoformat(), instance=instance).success
        assert [report.day for report in SEEN] == list(emulator.days)
        assert_exact(tmp_path, emulator)


def test_a_token_is_in_no_definition_and_in_no_storage(tmp_path, monkeypatch):
    with Emulator(results=20, days=1, large_bytes=None, token="canary-token") as emulator:
        settings = emulator.environment()
        monkeypatch.setenv("ACME_TOKEN", emulator.token)
        attributes = {
            "url": settings["RICLOUD_URL"],
            "token": "{{ env.ACME_TOKEN }}",
            "content_hosts": [settings["RICLOUD_CONTENT_HOSTS"]],
            "lake": str(tmp_path / "lake"),
        }
        with loaded(attributes) as (_, defs), dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
            job = defs.resolve_job_def("ricloud_ingest")
            defaults = job.run_config_schema.config_type.fields["resources"].default_value_as_json_str
            assert '"ACME_TOKEN"' in defaults
            assert "canary-token" not in defaults, "Dagster stores these with each run's job"
            assert job.execute_in_process(partition_key=emulator.days[0].isoformat(), instance=instance).success
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"ricloud_ingest" in stored
    assert b"canary-token" not in stored


def test_a_token_that_is_written_out_in_python_is_refused_and_not_repeated():
    with pytest.raises(ValueError, match="token") as raised:
        RicloudComponent(token="canary-token")
    assert "canary-token" not in str(raised.value)


def test_two_connectors_in_one_code_location_share_no_name():
    with (
        loaded({"key_prefix": "acme/ricloud"}) as (_, acme),
        loaded({"key_prefix": "zeta/ricloud", "partitions": "hourly"}) as (_, zeta),
    ):
        both = dg.Definitions.merge(acme, zeta, build_ricloud_definitions())
        dg.Definitions.validate_loadable(both)
        repository = both.get_repository_def()
        repository.load_all_definitions()
        assert {job.name for job in repository.get_all_jobs()} > {"acme_ricloud_ingest", "zeta_ricloud_ingest"}
        assert len(keys_of(both)) == 12
        pools = {pool for node in both.resolve_asset_graph().asset_nodes for pool in node.pools}
        assert pools == {"acme_ricloud", "zeta_ricloud", "ricloud"}


def hourly(emulator, lake: Path, **more) -> dg.Definitions:
    settings = emulator.environment()
    return build_ricloud_definitions(
        resource=resource_of(settings, lake), start_date=NOON.date() - timedelta(days=1), partitions="hourly", **more
    )


def resource_of(settings: dict, lake: Path):
    return RicloudResource(
        url=settings["RICLOUD_URL"],
        token=settings["RICLOUD_TOKEN"],
        content_hosts=[settings["RICLOUD_CONTENT_HOSTS"]],
        lake=str(lake),
    )


@pytest.fixture
def hours():
    """Results of three hours of one day."""
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        for hour in (0, 11, 12):
            for minute in range(3):
                emulator.add_result(content=b"%d" % hour, date_created=NOON.replace(hour=hour, minute=minute))
        yield emulator


def test_an_hourly_partition_takes_its_hour_into_the_folder_of_its_day(hours, tmp_path):
    job = hourly(hours, tmp_path).resolve_job_def("ricloud_ingest")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(partition_key="2026-11-20-11:00", instance=instance).success
        assert len(set(hours.acknowledged)) == 3
        tags = {
            "dagster/asset_partition_range_start": "2026-11-20-00:00",
            "dagster/asset_partition_range_end": "2026-11-20-12:00",
        }
        assert job.execute_in_process(tags=tags, instance=instance).success
        assert_exact(tmp_path, hours)
        assert [path.name for path in (tmp_path / "data" / "contents").iterdir()] == ["created_date=2026-11-20"]
        key = dg.AssetKey(["ricloud", "acknowledgements"])
        (record,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, asset_partitions=["2026-11-20-12:00"]), limit=1
        ).records
        assert record.asset_materialization.metadata["ricloud/acknowledged"].value == 3
        assert "dagster/partition_row_count" not in record.asset_materialization.metadata


@pytest.mark.ci
def test_hours_are_watched_and_reconciled_as_such(hours, tmp_path):
    defs = hourly(
        hours,
        tmp_path,
        sensor=SensorSettings(now=lambda: NOON + timedelta(minutes=30)),
        reconcile=ReconcileSettings(now=lambda: NOON + timedelta(minutes=30)),
    )
    repository = defs.get_repository_def()
    resources = {"ricloud": resource_of(hours.environment(), tmp_path)}
    with dg.instance_for_test() as instance:
        context = dg.build_sensor_context(instance=instance, resources=resources, repository_def=repository)
        asked = evaluated(repository.get_sensor_def("ricloud_new_results"), context).run_requests
        assert [request.partition_key for request in asked] == ["2026-11-20-00:00", "2026-11-20-11:00", "2026-11-20-12:00"]
        schedule = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=NOON, resources=resources, repository_def=repository
        )
        (request,) = evaluated(repository.get_schedule_def("ricloud_reconcile"), schedule).run_requests
        assert (request.partition_key, request.tags["dagster/asset_partition_range_end"]) == (None, "2026-11-20-12:00")
        job = defs.resolve_job_def("ricloud_ingest")
        assert job.execute_in_process(tags=dict(request.tags), instance=instance).success
        assert_exact(tmp_path, hours)


def test_what_a_filter_leaves_out_starts_no_run(tmp_path):
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        emulator.add_result(content=b"a", date_created=NOON, identifier="wanted")
        emulator.add_result(content=b"b", date_created=NOON - timedelta(days=1), identifier="other")
        resource = resource_of(emulator.environment(), tmp_path)
        defs = build_ricloud_definitions(
            resource=resource,
            start_date=NOON.date() - timedelta(days=5),
            selection=Selection(identifiers=("wanted",)),
            sensor=SensorSettings(now=lambda: NOON),
            reconcile=ReconcileSettings(now=lambda: NOON),
        )
        repository = defs.get_repository_def()
        with dg.instance_for_test() as instance:
            given = {"instance": instance, "resources": {"ricloud": resource}, "repository_def": repository}
            tick = evaluated(repository.get_sensor_def("ricloud_new_results"), dg.build_sensor_context(**given))
            assert [request.partition_key for request in tick.run_requests] == ["2026-11-20"]
            schedule = repository.get_schedule_def("ricloud_reconcile")
            asked = evaluated(schedule, dg.build_schedule_context(scheduled_execution_time=NOON, **given))
            assert [request.partition_key for request in asked.run_requests] == ["2026-11-20"]


def dg_command(*arguments: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dg")), *arguments],
        cwd=cwd,
        env={**clean_environment(environment), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
