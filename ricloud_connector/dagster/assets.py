"""The assets `results` and `contents` (one listing serves both), and `acknowledgements` with its op. Runs the edges."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from ricloud_connector.dagster.config import AcknowledgeConfig, StoreConfig
from ricloud_connector.dagster.metadata import (
    Metadata,
    acknowledgements_metadata,
    contents_metadata,
    definition_metadata,
    partition_metadata,
    results_metadata,
)
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.ingest import DayReport, Run, acknowledge_results, store_results
from ricloud_connector.model import Window
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, RESULTS, Dataset

KINDS = {"ricloud", "parquet"}
ASKED_BY = "ricloud/asked_by"
SENSOR = "sensor"

Context = dg.AssetExecutionContext


@dataclass(frozen=True)
class Place:
    """Where a connector's assets stand in a code location, so that two connectors do not collide."""

    key_prefix: Sequence[str]
    group_name: str
    resource_key: str
    pool: str
    partitions_def: dg.TimeWindowPartitionsDefinition

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([*self.key_prefix, name])


def build_assets(place: Place) -> list[dg.AssetsDefinition]:
    """The three assets under one key prefix, partitioned by UTC day of `date_created`."""
    return [_store(place), _acknowledgements(place)]


def _store(place: Place) -> dg.AssetsDefinition:
    """`results` and `contents`: signed URLs stay in memory between the listing and the download."""
    results, contents = place.key("results"), place.key("contents")
    told = ((results, RESULTS, results_metadata), (contents, CONTENTS, contents_metadata))

    @dg.multi_asset(
        name="_".join([*place.key_prefix, "store"]),
        specs=[
            dg.AssetSpec(
                results,
                description="A row per result, as it was first listed by the API. Signed URLs are never stored.",
                kinds=KINDS,
                group_name=place.group_name,
                metadata=definition_metadata(RESULTS),
            ),
            dg.AssetSpec(
                contents,
                deps=[results],
                description="The bytes of every available result whose md5 is what the API lists, exactly once.",
                kinds=KINDS,
                group_name=place.group_name,
                metadata=definition_metadata(CONTENTS),
            ),
        ],
        can_subset=True,
        partitions_def=place.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={place.resource_key},
        pool=place.pool,
    )
    def store(context: dg.AssetExecutionContext, config: StoreConfig) -> Iterator[dg.MaterializeResult[None]]:
        wanted = context.selected_asset_keys
        with opened_run(context, place) as run:
            reports = store_results(
                run,
                _days(context),
                selection=config.selection(),
                results=results in wanted,
                contents=contents in wanted,
            )
            for report in _sound(context, reports):
                for asset, dataset, say in told:
                    if asset in wanted:
                        record(context, asset, report.day, _told(run, dataset, report, say))
        # The upstream asset first: dagster wants them in the order of the graph.
        yield from (dg.MaterializeResult(asset) for asset in (results, contents) if asset in wanted)

    return store


def _acknowledgements(place: Place) -> dg.AssetsDefinition:
    """The graph-backed asset whose op acknowledges: it lists, reads back and proves on its own."""
    key, contents = place.key("acknowledgements"), place.key("contents")

    @dg.op(
        name="acknowledge_results",
        ins={"contents": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys={place.resource_key},
        pool=place.pool,
        description="Acknowledges what is available and proven in the lake, by reading it back; confirms each one.",
    )
    def acknowledge(context: dg.AssetExecutionContext, config: AcknowledgeConfig) -> None:
        if not config.acknowledge:
            context.log.info("acknowledge is false in the run's config: nothing is acknowledged")
            return
        with opened_run(context, place) as run:
            for report in _sound(context, acknowledge_results(run, _days(context))):
                record(context, key, report.day, _told(run, ACKNOWLEDGEMENTS, report, acknowledgements_metadata))

    @dg.graph_asset(
        key=key,
        ins={"contents": dg.AssetIn(contents, dagster_type=dg.Nothing)},
        description="What was acknowledged at the API, each after its content was read back from the lake.",
        kinds=KINDS,
        group_name=place.group_name,
        partitions_def=place.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=definition_metadata(ACKNOWLEDGEMENTS),
    )
    def acknowledgements(contents: None) -> Any:
        return acknowledge(contents)

    return acknowledgements


@contextmanager
def opened_run(context: Context, place: Place) -> Iterator[Run]:
    """The edges of one run, patient where the sensor asked for it."""
    resource: RicloudResource = getattr(context.resources, place.resource_key)
    patient = context.run.tags.get(ASKED_BY) == SENSOR
    with resource.open_run(context.run.run_id, patient=patient) as run:
        yield run


def _days(context: Context) -> list[tuple[date, Window]]:
    days = [date.fromisoformat(key) for key in context.partition_keys]
    return [(day, Window.of_day(day)) for day in days]


def _sound(context: Context, reports: Iterator[DayReport]) -> Iterator[DayReport]:
    """The days that went well; one line in the log for each that set something aside, never one per result.

    Raises: dagster.Failure at the end, naming the days whose lake is broken: the others are recorded by then.
    """
    broken: list[DayReport] = []
    for report in reports:
        if report.error is not None:
            broken.append(report)
            continue
        if report.quarantined or report.failed or report.unconfirmed:
            context.log.warning(
                f"{report.day}: {report.quarantined} quarantined, {report.failed} failed, {report.unconfirmed} unconfirmed"
            )
        yield report
    if broken:
        raise dg.Failure("; ".join(f"{report.day}: {report.error}" for report in broken[:10]))


def _told(run: Run, dataset: Dataset, report: DayReport, say: Callable[[DayReport], Metadata]) -> Metadata:
    return {**partition_metadata(run.lake, dataset, report), **say(report)}


def record(context: Context, asset: dg.AssetKey, day: date, metadata: Metadata) -> None:
    """Record one partition as it is done: in a run over a range, the ones before a failure stay materialised."""
    partition = day.isoformat()
    if len(context.partition_keys) > 1:
        context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata=metadata))
    context.add_asset_metadata(metadata, asset_key=asset, partition_key=partition)
