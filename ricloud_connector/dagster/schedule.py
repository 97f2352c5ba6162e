"""The daily schedule that finds what the sensor cannot see, and asks for runs of those days. I/O: the API, the lake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from ricloud_connector.clock import now_utc
from ricloud_connector.dagster import later
from ricloud_connector.dagster.place import Place
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.model import AVAILABLE, CONSUMED, EXPIRED

if TYPE_CHECKING:
    from ricloud_connector.reconcile import Survey

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class ReconcileSettings:
    """When and how far the schedule looks.

    `lookback` is how far back what was consumed is compared with the lake; what is available is compared whatever its age.
    `budget_s` of listing, well inside Dagster's 60 s; `most_runs` that one tick asks for, the oldest days first.
    """

    cron_schedule: str = "17 3 * * *"
    lookback: timedelta = timedelta(days=30)
    budget_s: float = 40.0
    most_runs: int = 100
    default_status: dg.DefaultScheduleStatus = dg.DefaultScheduleStatus.STOPPED
    now: Callable[[], datetime] = now_utc


def build_schedule(place: Place, job_name: str, start: date, settings: ReconcileSettings) -> dg.ScheduleDefinition:
    """The schedule `<prefix>_reconcile`."""

    @dg.schedule(
        name=f"{place.name}_reconcile",
        job_name=job_name,
        cron_schedule=settings.cron_schedule,
        execution_timezone="UTC",
        default_status=settings.default_status,
        required_resource_keys={place.resource_key},
        description="Finds what is available but not stored, stored but not acknowledged, or consumed but unknown.",
    )
    def reconcile(context: dg.ScheduleEvaluationContext) -> Sequence[dg.RunRequest] | dg.SkipReason:
        resource: RicloudResource = getattr(context.resources, place.resource_key)
        now = settings.now()
        with resource.open_run(f"reconcile-{now:%Y%m%dT%H%M%S}") as run:
            run.now = settings.now
            found = later.reconcile.survey(
                run, lookback=settings.lookback, budget_s=settings.budget_s, selection=place.selection
            )
        context.instance.report_runless_asset_event(
            dg.AssetObservation(
                place.key("results"), metadata=_metadata(found, now), description="What the API and the lake disagree on"
            )
        )
        wrong = found.days if place.acknowledge else found.days_to_store
        days = [day for day in wrong if start <= day <= now.date()]
        outside = len(wrong) - len(days)
        if outside:
            context.log.warning(f"{outside} days lie outside the partitions {start} to {now.date()}: no run can visit them")
        if not days:
            return dg.SkipReason(
                "the API and the lake agree" + (", as far as the list could be read in time" if found.cut else "")
            )
        return [_request(place, day, found, now) for day in days[: settings.most_runs]]

    return reconcile


def _request(place: Place, day: date, found: Survey, now: datetime) -> dg.RunRequest:
    """One run for a day: of its partition, or of the range of its hours that have begun."""
    key = f"reconcile:{now.date().isoformat()}:{day.isoformat()}"
    partitions = place.partitions_of(day, now)
    tags = {} if len(partitions) == 1 else {RANGE_START: partitions[0], RANGE_END: partitions[-1]}
    partition = None if tags else partitions[0]
    if day not in found.lost:
        return dg.RunRequest(run_key=key, partition_key=partition, tags=tags)
    # What was consumed without us: its metadata completes the history, its content is stored where it can still be read.
    config = {"ops": {f"{place.name}_store": {"config": {"states": [AVAILABLE, CONSUMED, EXPIRED]}}}}
    return dg.RunRequest(run_key=key, partition_key=partition, tags=tags, run_config=config)


def _metadata(found: Survey, now: datetime) -> dict[str, int | float | str | bool]:
    oldest = found.oldest_unacknowledged
    return {
        "ricloud/missing": found.missing.total(),
        "ricloud/unacknowledged": found.unacknowledged.total(),
        "ricloud/quarantined": found.quarantined.total(),
        "ricloud/lost": found.lost.total(),
        "ricloud/unrecorded": found.unrecorded.total(),
        "ricloud/undated": found.undated,
        "ricloud/expiring": found.expiring,
        "ricloud/days_to_visit": len(found.days),
        "ricloud/oldest_unacknowledged_s": 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()),
        "ricloud/complete": not found.cut,
    }
