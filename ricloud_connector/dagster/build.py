"""Everything a code location needs, from one call. Reads RICLOUD_START_DATE where no start date is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date

import dagster as dg

from ricloud_connector.dagster.assets import Place, build_assets
from ricloud_connector.dagster.records import build_records
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.dagster.schedule import ReconcileSettings, build_schedule
from ricloud_connector.dagster.sensor import SensorSettings, build_sensor
from ricloud_connector.records import Contracts, check_contracts
from ricloud_connector.settings import check_start_date

ASSETS = ("results", "contents", "records", "acknowledgements")


def build_ricloud_definitions(
    *,
    resource: RicloudResource | None = None,
    start_date: date | None = None,
    key_prefix: Sequence[str] = ("ricloud",),
    group_name: str | None = None,
    sensor: SensorSettings | None = None,
    reconcile: ReconcileSettings | None = None,
    contracts: Contracts | None = None,
) -> dg.Definitions:
    """The assets `results`, `contents`, `records` and `acknowledgements` under `key_prefix`, and what runs them.

    The job `<prefix>_ingest`, the sensor `<prefix>_new_results`, the schedule `<prefix>_reconcile` and the resource
    `<prefix>` are named after the prefix, so that connectors of two organisations can live in one code location. Sensor
    and schedule are stopped until a user starts them, since acknowledgements are irreversible.

    `contracts` says by feed (`*`: all others) what becomes of fields that its columns do not have: `evolve` makes columns of
    them (the default), `freeze` quarantines the record, `discard` puts them into `_extra`.

    Partitions are UTC days from `start_date` (unset: RICLOUD_START_DATE, else 2020-01-01), today's included. Runs are in
    process: a process per step costs two seconds and buys nothing here.
    """
    name = "_".join(key_prefix)
    start = start_date or check_start_date(os.environ.get("RICLOUD_START_DATE") or None)
    partitions = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    place = Place(key_prefix, group_name or name, resource_key=name, pool=name, partitions_def=partitions)
    assets = [*build_assets(place), build_records(place, check_contracts(contracts))]
    job = dg.define_asset_job(
        f"{name}_ingest",
        selection=dg.AssetSelection.assets(*(place.key(asset) for asset in ASSETS)),
        description="List, store, make records of and acknowledge the results of a UTC day.",
    )
    watching = build_sensor(
        name=f"{name}_new_results",
        job_name=job.name,
        start=start,
        resource_key=name,
        settings=sensor or SensorSettings(),
    )
    reconciling = build_schedule(
        name=f"{name}_reconcile",
        job_name=job.name,
        store_name=f"{name}_store",
        start=start,
        resource_key=name,
        observed=place.key("results"),
        settings=reconcile or ReconcileSettings(),
    )
    return dg.Definitions(
        assets=assets,
        jobs=[job],
        sensors=[watching],
        schedules=[reconciling],
        resources={name: resource or RicloudResource()},
        executor=dg.in_process_executor,
    )
