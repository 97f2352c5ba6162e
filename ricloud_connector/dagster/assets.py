"""The assets `results` and `contents` (one listing serves both), and `acknowledgements` with its op. Runs the edges."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date

import dagster as dg

from ricloud_connector.dagster.metadata import (
    Metadata,
    acknowledgements_metadata,
    contents_metadata,
    definition_metadata,
    partition_metadata,
    results_metadata,
)
from ricloud_connector.dagster.resource import RicloudResource
from ricloud_connector.ingest import DayReport, Run, acknowledge_day, store_day
from ricloud_connector.model import Window
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, RESULTS, Dataset

KINDS = {"ricloud", "parquet"}


def build_assets(
    *, key_prefix: Sequence[str], group_name: str, partitions_def: dg.TimeWindowPartitionsDefinition, pool: str
) -> list[dg.AssetsDefinition]:
    """The three assets under one key prefix, partitioned by UTC day of `date_created`."""
    results, contents = dg.AssetKey([*key_prefix, "results"]), dg.AssetKey([*key_prefix, "contents"])
    specs = [
        dg.AssetSpec(
            results,
            description="A row per result, as it was first listed by the API. Signed URLs are never stored.",
            kinds=KINDS,
            group_name=group_name,
            metadata=definition_metadata(RESULTS),
        ),
        dg.AssetSpec(
            contents,
            deps=[results],
            description="The bytes of every available result whose md5 is what the API lists, exactly once.",
            kinds=KINDS,
            group_name=group_name,
            metadata=definition_metadata(CONTENTS),
        ),
    ]

    @dg.multi_asset(
        name="_".join([*key_prefix, "store"]),
        specs=specs,
        can_subset=True,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=pool,
    )
    def store(context: dg.AssetExecutionContext, ricloud: RicloudResource) -> Iterator[dg.MaterializeResult[None]]:
        wanted = context.selected_asset_keys
        with ricloud.open_run(context.run_id) as run:
            for key in context.partition_keys:
                report = _store(run, key, results=results in wanted, contents=contents in wanted)
                for asset, dataset, say in (
                    (results, RESULTS, results_metadata),
                    (contents, CONTENTS, contents_metadata),
                ):
                    if asset in wanted:
                        _record(context, asset, key, _told(run, dataset, report, say))
                _log(context, report)
        # The upstream asset first: dagster wants them in the order of the graph.
        for asset in (results, contents):
            if asset in wanted:
                yield dg.MaterializeResult(asset)

    acknowledgements = _acknowledgements(
        key=dg.AssetKey([*key_prefix, "acknowledgements"]),
        contents=contents,
        group_name=group_name,
        partitions_def=partitions_def,
        pool=pool,
    )
    return [store, acknowledgements]


def _acknowledgements(
    *,
    key: dg.AssetKey,
    contents: dg.AssetKey,
    group_name: str,
    partitions_def: dg.TimeWindowPartitionsDefinition,
    pool: str,
) -> dg.AssetsDefinition:
    """The graph-backed asset whose op acknowledges: it lists, reads back and proves on its own."""

    @dg.op(
        ins={"contents": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=pool,
        description="Acknowledges what is available and proven in the lake, by reading it back; confirms each one.",
    )
    def acknowledge_results(context: dg.AssetExecutionContext, ricloud: RicloudResource) -> None:
        with ricloud.open_run(context.run_id) as run:
            for partition in context.partition_keys:
                report = _acknowledge(run, partition)
                _record(context, key, partition, _told(run, ACKNOWLEDGEMENTS, report, acknowledgements_metadata))
                _log(context, report)

    @dg.graph_asset(
        key=key,
        ins={"contents": dg.AssetIn(contents, dagster_type=dg.Nothing)},
        description="What was acknowledged at the API, each after its content was read back from the lake.",
        kinds=KINDS,
        group_name=group_name,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=definition_metadata(ACKNOWLEDGEMENTS),
    )
    def acknowledgements(contents: None) -> None:
        return acknowledge_results(contents)

    return acknowledgements


def _store(run: Run, key: str, *, results: bool, contents: bool) -> DayReport:
    started = time.monotonic()
    day = date.fromisoformat(key)
    report = DayReport(day)
    store_day(run, day, Window.of_day(day), report, results=results, contents=contents)
    report.seconds = time.monotonic() - started
    return report


def _acknowledge(run: Run, key: str) -> DayReport:
    started = time.monotonic()
    day = date.fromisoformat(key)
    report = DayReport(day)
    acknowledge_day(run, day, Window.of_day(day), report)
    report.seconds = time.monotonic() - started
    return report


def _told(run: Run, dataset: Dataset, report: DayReport, say: Callable[[DayReport], Metadata]) -> Metadata:
    return {**partition_metadata(run.lake, dataset, report), **say(report)}


def _record(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, key: str, metadata: Metadata
) -> None:
    """Record one partition as it is done: in a run over a range, the ones before a failure stay materialised."""
    if len(context.partition_keys) > 1:
        context.log_event(dg.AssetMaterialization(asset, partition=key, metadata=metadata))
    context.add_asset_metadata(metadata, asset_key=asset, partition_key=key)


def _log(context: dg.AssetExecutionContext, report: DayReport) -> None:
    """One line per partition, never one per result."""
    if report.quarantined or report.failed or report.unconfirmed:
        context.log.warning(
            f"{report.day}: {report.quarantined} quarantined, {report.failed} failed, {report.unconfirmed} unconfirmed"
        )
