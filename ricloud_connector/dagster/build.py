"""Everything a code location needs, from one call. Reads RICLOUD_START_DATE where no start date is given."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Literal

import dagster as dg

from ricloud_connector.dagster.assets import build_assets
from ricloud_connector.dagster.checks import CheckSettings, build_checks
from ricloud_connector.dagster.place import ASSETS, KINDS, Execute, Place, Translate
from ricloud_connector.dagster.records import build_records
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.dagster.schedule import ReconcileSettings, build_schedule
from ricloud_connector.dagster.sensor import SensorSettings, build_sensor
from ricloud_connector.options import Contracts, Selection, check_contracts
from ricloud_connector.settings import check_start_date

Partitions = Literal["daily", "hourly"]


def build_ricloud_definitions(
    *,
    resource: RicloudResource | None = None,
    start_date: date | None = None,
    partitions: Partitions = "daily",
    key_prefix: Sequence[str] = ("ricloud",),
    group_name: str | None = None,
    owners: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
    kinds: Collection[str] = KINDS,
    selection: Selection | None = None,
    acknowledge: bool = True,
    pool: str | None = None,
    sensor: SensorSettings | None = None,
    reconcile: ReconcileSettings | None = None,
    contracts: Contracts | None = None,
    checks: CheckSettings | None = None,
    freshness: dg.FreshnessPolicy | None = None,
    get_asset_spec: Translate | None = None,
    execute: Execute | None = None,
    executor: dg.ExecutorDefinition | None = dg.in_process_executor,
) -> dg.Definitions:
    """The assets `results`, `contents`, `records` and `acknowledgements` under `key_prefix`, and what runs and checks them.

    The job `<prefix>_ingest`, the sensor `<prefix>_new_results`, the schedule `<prefix>_reconcile`, the resource `<prefix>`
    and the pool `<prefix>` are named after the prefix, so that connectors of two organisations can live in one code
    location. Sensor and schedule are stopped until a user starts them, since acknowledgements are irreversible.

    `contracts` says by feed (`*`: all others) what becomes of fields that its columns do not have: `evolve` makes columns of
    them (the default), `freeze` quarantines the record, `discard` puts them into `_extra`.

    Partitions are UTC days, or hours, from `start_date` (unset: RICLOUD_START_DATE, else 2020-01-01), the present one
    included; the lake's folders are daily either way. `selection` and `acknowledge` are what a run does that is told
    nothing else. `get_asset_spec` is given each asset with its spec and returns the spec to use; `execute` is given the
    context, the run and the lazy reports of what is stored, and yields them on. `executor` is that of the whole code
    location, None to leave it alone: a process per step costs two seconds and buys nothing here.
    """
    name = "_".join(key_prefix)
    start = start_date or check_start_date(os.environ.get("RICLOUD_START_DATE") or None)
    place = Place(
        key_prefix,
        group_name or name,
        resource_key=name,
        pool=pool or name,
        partitions_def=_partitions(partitions, start),
        owners=owners,
        tags=tags or {},
        kinds=frozenset(kinds),
        freshness=freshness,
        selection=selection or Selection(),
        acknowledge=acknowledge,
        translate=get_asset_spec,
        execute=execute,
    )
    job = dg.define_asset_job(
        f"{name}_ingest",
        selection=dg.AssetSelection.assets(*(place.key(asset) for asset in ASSETS)),
        description="List, store, make records of and acknowledge the results of a partition.",
        executor_def=dg.in_process_executor,
    )
    checks = checks or CheckSettings()
    return dg.Definitions(
        assets=[*build_assets(place), build_records(place, check_contracts(contracts), checks=checks.enabled)],
        asset_checks=build_checks(place, checks),
        jobs=[job],
        sensors=[build_sensor(place, job.name, start, sensor or SensorSettings())],
        schedules=[build_schedule(place, job.name, start, reconcile or ReconcileSettings())],
        resources={name: resource or RicloudResource()},
        executor=executor,
    )


def _partitions(kind: Partitions, start: date) -> dg.TimeWindowPartitionsDefinition:
    if kind == "hourly":
        return dg.HourlyPartitionsDefinition(start_date=f"{start.isoformat()}-00:00", timezone="UTC", end_offset=1)
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
