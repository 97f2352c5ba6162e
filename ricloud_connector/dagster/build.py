"""Everything a code location needs, from one call. Reads RICLOUD_START_DATE where no start date is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date

import dagster as dg

from ricloud_connector.dagster.assets import build_assets
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.settings import check_start_date


def build_ricloud_definitions(
    *,
    resource: RicloudResource | None = None,
    start_date: date | None = None,
    key_prefix: Sequence[str] = ("ricloud",),
    group_name: str = "ricloud",
) -> dg.Definitions:
    """The assets `results`, `contents` and `acknowledgements` under `key_prefix`, the job `<prefix>_ingest`, the resource.

    Partitions are UTC days from `start_date` (unset: RICLOUD_START_DATE, else 2020-01-01), today's included. Runs are in
    process: a process per step costs two seconds and buys nothing here.
    """
    name = "_".join(key_prefix)
    start = start_date or check_start_date(os.environ.get("RICLOUD_START_DATE") or None)
    partitions = dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)
    assets = build_assets(key_prefix=key_prefix, group_name=group_name, partitions_def=partitions, pool=name)
    keys = [key for asset in assets for key in asset.keys]
    job = dg.define_asset_job(
        f"{name}_ingest",
        selection=dg.AssetSelection.assets(*keys),
        partitions_def=partitions,
        description="List, store and acknowledge the results of a UTC day.",
    )
    return dg.Definitions(
        assets=assets,
        jobs=[job],
        resources={"ricloud": resource or RicloudResource()},
        executor=dg.in_process_executor,
    )
