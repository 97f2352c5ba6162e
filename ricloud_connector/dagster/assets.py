"""The assets `results` and `contents` (one listing serves both), and `acknowledgements` with its op. Runs the edges."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from ricloud_connector.dagster import later
from ricloud_connector.dagster.config import AcknowledgeConfig, StoreConfig, acknowledge_config, store_config
from ricloud_connector.dagster.place import Metadata, Place
from ricloud_connector.dagster.resource import RicloudResource

if TYPE_CHECKING:
    from ricloud_connector.ingest import DayReport, Run
    from ricloud_connector.ingest.listings import Day
    from ricloud_connector.schemas import Dataset

ASKED_BY = "ricloud/asked_by"
SENSOR = "sensor"
DEFAULT_NAME = "ricloud"

Context = dg.AssetExecutionContext


def build_assets(place: Place) -> list[dg.AssetsDefinition]:
    """The three assets under one key prefix, partitioned by UTC day, or hour, of `date_created`."""
    return [_store(place), _acknowledgements(place)]


def _store(place: Place) -> dg.AssetsDefinition:
    """`results` and `contents`: signed URLs stay in memory between the listing and the download."""
    results, contents = place.key("results"), place.key("contents")

    def store(context: dg.AssetExecutionContext, config: StoreConfig) -> Iterator[dg.MaterializeResult[None]]:
        wanted, schemas, metadata = context.selected_asset_keys, later.schemas, later.metadata
        told = (
            (results, schemas.RESULTS, metadata.results_metadata),
            (contents, schemas.CONTENTS, metadata.contents_metadata),
        )
        with opened_run(context, place) as run:
            stored = later.ingest.store_results(
                run,
                _days(context, place),
                selection=config.selection(),
                results=results in wanted,
                contents=contents in wanted,
            )
            with closing(stored):  # days under way end before the lake is closed, whatever happens here
                for report in _sound(context, stored if place.execute is None else place.execute(context, run, stored)):
                    for asset, dataset, say in told:
                        if asset in wanted:
                            record(context, asset, place.partition(_since(report)), _told(run, dataset, report, say))
        # The upstream asset first: dagster wants them in the order of the graph.
        yield from (dg.MaterializeResult(asset) for asset in (results, contents) if asset in wanted)

    store.__annotations__["config"] = store_config(place.selection)
    return dg.multi_asset(
        name=f"{place.name}_store",
        specs=[place.spec("results"), place.spec("contents")],
        can_subset=True,
        partitions_def=place.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={place.resource_key},
        pool=place.pool,
    )(store)


def _acknowledgements(place: Place) -> dg.AssetsDefinition:
    """The graph-backed asset whose op acknowledges: it lists, reads back and proves on its own."""
    spec, contents = place.spec("acknowledgements"), place.key("contents")

    def acknowledge(context: dg.AssetExecutionContext, config: AcknowledgeConfig) -> None:
        if not config.acknowledge:
            context.log.info("acknowledge is false in the run's config: nothing is acknowledged")
            return
        with opened_run(context, place) as run:
            for report in _sound(context, later.ingest.acknowledge_results(run, _days(context, place))):
                told = _told(run, later.schemas.ACKNOWLEDGEMENTS, report, later.metadata.acknowledgements_metadata)
                record(context, spec.key, place.partition(_since(report)), told)

    acknowledge.__annotations__["config"] = acknowledge_config(place.acknowledge)
    # Ops share one space of names in a code location: another connector's op bears its prefix.
    op = dg.op(
        name="acknowledge_results" if place.name == DEFAULT_NAME else f"{place.name}_acknowledge_results",
        ins={"contents": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys={place.resource_key},
        pool=place.pool,
        description="Acknowledges what is available and proven in the lake, by reading it back; confirms each one.",
    )(acknowledge)

    @dg.graph_asset(
        key=spec.key,
        ins={"contents": dg.AssetIn(contents, dagster_type=dg.Nothing)},
        description=spec.description,
        kinds=spec.kinds,
        group_name=spec.group_name,
        owners=list(spec.owners),
        tags={name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
        automation_condition=spec.automation_condition,
        partitions_def=place.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=spec.metadata,
    )
    def acknowledgements(contents: None) -> Any:
        return op(contents)

    (described,) = dg.map_asset_specs(
        lambda found: found.replace_attributes(freshness_policy=spec.freshness_policy), [acknowledgements]
    )
    return described


@contextmanager
def opened_run(context: Context, place: Place) -> Iterator["Run"]:
    """The edges of one run, patient where the sensor asked for it."""
    resource: RicloudResource = getattr(context.resources, place.resource_key)
    patient = context.run.tags.get(ASKED_BY) == SENSOR
    with resource.open_run(context.run.run_id, patient=patient) as run:
        yield run


def _days(context: Context, place: Place) -> list["Day"]:
    return [place.window(partition) for partition in context.partition_keys]


def _sound(context: Context, reports: Iterator["DayReport"]) -> Iterator["DayReport"]:
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


def _told(run: "Run", dataset: "Dataset", report: "DayReport", say: Callable[["DayReport"], Metadata]) -> Metadata:
    return {**later.metadata.partition_metadata(run.lake, dataset, report, run.now()), **say(report)}


def _since(report: "DayReport") -> datetime:
    assert report.span is not None
    return report.span.since


def record(context: Context, asset: dg.AssetKey, partition: str, metadata: Metadata) -> None:
    """Record one partition as it is done: in a run over a range, the ones before a failure stay materialised."""
    if len(context.partition_keys) > 1:
        context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata=metadata))
    context.add_asset_metadata(metadata, asset_key=asset, partition_key=partition)
