"""The asset `records` and its checks: typed rows out of JSON results, derived from contents. Runs the edges."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from ricloud_connector.dagster import later
from ricloud_connector.dagster.assets import opened_run, record
from ricloud_connector.dagster.place import Metadata, Place
from ricloud_connector.errors import LakeError
from ricloud_connector.options import Contracts
from ricloud_connector.redact import clean

if TYPE_CHECKING:
    from ricloud_connector.ingest import Run
    from ricloud_connector.records import RecordsReport

RECORDS = "records"
COUNTS = "every_document_gave_its_records"
COLUMNS = "columns_are_unchanged"
CHECKS = {
    COUNTS: "Every JSON result gave as many records as its metadata.count says.",
    COLUMNS: "No feed got new columns, and every value fits its column.",
}
OTHER_SHAPE = "records_other_shape"
SHOWN = 50

_FAULTS = dg.TableSchema([dg.TableColumn(name, "string") for name in ("partition", "result_id", "reason", "detail")])
_CHANGES = dg.TableSchema([dg.TableColumn(name, "string") for name in ("feed", "column", "type", "change", "since")])
_ROWS = dg.TableSchema([dg.TableColumn("feed", "string"), dg.TableColumn("rows", "int")])


def build_records(place: Place, contracts: Contracts, *, checks: bool = True) -> dg.AssetsDefinition:
    """The asset `records`, after `contents`, in the same partitions; a range of them is one run."""
    spec = place.spec(RECORDS)
    key = spec.key

    @dg.multi_asset(
        name=f"{place.name}_{RECORDS}",
        specs=[spec],
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=said) for name, said in CHECKS.items()] if checks else [],
        partitions_def=place.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys={place.resource_key},
        pool=place.pool,
    )
    def records(context: dg.AssetExecutionContext) -> Iterator[Any]:
        reports: list[RecordsReport] = []
        broken, faults = list[str](), list[dg.TableRecord]()
        with opened_run(context, place) as run:
            for partition in context.partition_keys:
                day, _ = place.window(partition)  # an hour's records are its day's: lake folders are daily
                try:
                    report = later.records.derive_records(run.lake, day, at=run.now(), contracts=contracts)
                    metadata = _metadata(run, report)
                    faults += _faults(run, report)
                except LakeError as error:
                    broken.append(f"{day}: {error}")
                    continue
                reports.append(report)
                if report.quarantined:
                    context.log.warning(f"{day}: {report.quarantined} JSON results gave no records, or not all")
                record(context, key, partition, metadata)
        if broken:
            raise dg.Failure("; ".join(broken[:10]))
        yield dg.MaterializeResult(key)
        if checks:
            yield _counts(key, faults)
            yield _columns(key, reports)

    return records


def _metadata(run: "Run", report: "RecordsReport") -> Metadata:
    rows = later.feed.day_rows(run.lake, report.day)
    shown = [dg.TableRecord({"feed": clean(feed), "rows": count}) for feed, count in sorted(rows.items())[:SHOWN]]
    rate = report.json_bytes / 1e6 / report.seconds if report.seconds else 0.0
    return {
        "dagster/partition_row_count": sum(rows.values()),
        "dagster/column_schema": later.metadata.columns_of_schema(later.feed.day_schema(run.lake, report.day)),
        "dagster/uri": (run.lake.data / RECORDS).as_uri(),
        "ricloud/path": dg.MetadataValue.path(str(run.lake.data / RECORDS)),
        "ricloud/new": sum(report.rows.values()),
        "ricloud/documents": report.documents,
        "ricloud/quarantined": report.quarantined,
        "ricloud/feeds": len(rows),
        "ricloud/rows_by_feed": dg.MetadataValue.table(shown, _ROWS),
        "ricloud/json_mb_per_s": round(rate, 3),
        "ricloud/seconds": round(report.seconds, 3),
    }


def _faults(run: "Run", report: "RecordsReport") -> list[dg.TableRecord]:
    """What is in quarantine of the day, and what this run found: the note that tells the two runs may have been lost."""
    known = {(row["result_id"], row["reason"]): row["detail"] for row in later.derived.faults_of_day(run.lake, report.day)}
    known |= {(fault.result_id, fault.reason): fault.detail for fault in report.rejections}
    return [
        dg.TableRecord(
            {
                "partition": report.day.isoformat(),
                "result_id": clean(result_id),
                "reason": reason,
                "detail": clean(detail),
            }
        )
        for (result_id, reason), detail in known.items()
    ]


def _counts(key: dg.AssetKey, faults: list[dg.TableRecord]) -> dg.AssetCheckResult:
    reasons = Counter(str(fault.data["reason"]) for fault in faults)
    return dg.AssetCheckResult(
        check_name=COUNTS,
        asset_key=key,
        passed=not faults,
        # JSON of another shape may be a file of a user, which is no fault of anybody's.
        severity=dg.AssetCheckSeverity.WARN if set(reasons) <= {OTHER_SHAPE} else dg.AssetCheckSeverity.ERROR,
        description=", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or None,
        metadata={"ricloud/documents": dg.MetadataValue.table(faults[:SHOWN], _FAULTS), "ricloud/faults": len(faults)},
    )


def _columns(key: dg.AssetKey, reports: list["RecordsReport"]) -> dg.AssetCheckResult:
    """A warning with a table: what was added by this run, and what its values did not fit. A new feed is no change."""
    changes = [
        _change(feed, name, str(version.columns[name]), "new column", version.day)
        for report in reports
        for feed, version in report.added
        if version.number > 0
        for name in version.added
    ]
    for report in reports:
        for (feed, pointer), count in sorted(report.misfits.items()):
            changes.append(_change(feed, pointer, "", f"{count} values in _extra", report.day))
    return dg.AssetCheckResult(
        check_name=COLUMNS,
        asset_key=key,
        passed=not changes,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"ricloud/changes": dg.MetadataValue.table(changes[:SHOWN], _CHANGES), "ricloud/changed": len(changes)},
    )


def _change(feed: str, column: str, kind: str, change: str, since: date | None) -> dg.TableRecord:
    said = {"feed": clean(feed), "column": clean(column), "type": clean(kind, limit=1000), "change": change}
    return dg.TableRecord({**said, "since": since.isoformat() if since else ""})
