"""The sensor that asks for a run of each partition with new results, old partitions too. I/O: lists at the API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from ricloud_connector.clock import now_utc
from ricloud_connector.dagster import later
from ricloud_connector.dagster.assets import ASKED_BY, SENSOR
from ricloud_connector.dagster.place import Place
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.errors import RicloudError
from ricloud_connector.model import Window
from ricloud_connector.options import Selection
from ricloud_connector.watch import Watch

END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class SensorSettings:
    """How the sensor watches.

    `interval_s` between ticks; `overlap` of two walks, within which late results are found; `pause` between two runs of one
    partition, so that a busy day does not become thousands of files; `budget_s` of listing in one tick, well inside
    Dagster's 60 s; `most_runs` that one tick asks for. Stopped until a user starts it: acknowledgements are irreversible.
    """

    interval_s: int = 60
    overlap: timedelta = timedelta(hours=1)
    pause: timedelta = timedelta(minutes=5)
    budget_s: float = 30.0
    most_runs: int = 50
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED
    now: Callable[[], datetime] = now_utc


def build_sensor(place: Place, job_name: str, start: date, settings: SensorSettings) -> dg.SensorDefinition:
    """The sensor `<prefix>_new_results`."""

    @dg.sensor(
        name=f"{place.name}_new_results",
        job_name=job_name,
        minimum_interval_seconds=settings.interval_s,
        default_status=settings.default_status,
        description="Asks for a run of each partition that has new results, however old it is.",
        required_resource_keys={place.resource_key},
    )
    def new_results(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        resource: RicloudResource = getattr(context.resources, place.resource_key)
        watch = Watch.load(context.cursor, place.grain)
        if watch is None:
            if context.cursor:
                context.log.warning("the sensor's cursor is not of this version: starting over; nothing is stored twice")
            watch = Watch(grain=place.grain)
        try:
            _walk(watch, resource, place.selection, start, settings)
        except RicloudError as error:
            raise dg.Failure(str(error)) from None
        now = settings.now()
        early = watch.drop_before(start)
        if early:
            context.log.warning(
                f"results of {len(early)} days before RICLOUD_START_DATE={start} are left alone, from {early[0]}"
            )
        if watch.undated:
            context.log.warning(f"{watch.undated} results have no usable date_created; a run of any day quarantines them")
        requests = [
            dg.RunRequest(run_key=ask.key, partition_key=place.partition(ask.start), tags={ASKED_BY: SENSOR})
            for ask in watch.asks(now, pause=settings.pause, most=settings.most_runs)
        ]
        return dg.SensorResult(
            run_requests=requests, skip_reason=None if requests else _why_nothing(watch), cursor=watch.dump()
        )

    return new_results


def _walk(watch: Watch, resource: RicloudResource, selection: Selection, start: date, settings: SensorSettings) -> None:
    """List from where the last walk ended, or anew, until the end or until the tick's time is up."""
    ends = time.monotonic() + settings.budget_s
    since = watch.start(Window.of_day(start).since, settings.overlap)
    with later.session.open_client(resource.settings()) as client:
        listing = client.list_results(Window(since, END_OF_TIME), filters=selection.filters, after_id=watch.walk)
        for page in listing.by_page():
            watch.notice(filter(selection.wants, page), settings.now(), settings.overlap)
            watch.walk = listing.cursor
            if time.monotonic() > ends and listing.cursor is not None:
                return
    watch.finish()


def _why_nothing(watch: Watch) -> str:
    if watch.walk is not None:
        return "a long list is being read: the next tick goes on where this one ended"
    if watch.pending:
        waiting = ", ".join(watch.name_of(start) for start in sorted(watch.pending)[:10])
        return f"new results wait until their partition has come and its last run is long enough ago: {waiting}"
    return "nothing new" if watch.newest is None else f"nothing new after {watch.newest.isoformat()}"
