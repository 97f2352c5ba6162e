"""What a materialisation says about itself, under Dagster's standard keys and under `ricloud/`. Reads the lake.

Text that came from a server is shown as plain text only: never as Markdown, never as a link.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.dagster.place import Metadata
from ricloud_connector.ingest import DayReport
from ricloud_connector.lake import Lake
from ricloud_connector.model import Window
from ricloud_connector.part_reader import read_groups
from ricloud_connector.partition import Partition
from ricloud_connector.redact import clean
from ricloud_connector.schemas import CONTENTS, RESULTS, Dataset

SHOWN_REJECTIONS = 20
PREVIEW_ROWS = 5
PREVIEW_COLUMNS = ["id", "identifier", "type", "size", "date_created", "checksum"]


def column_schema(dataset: Dataset) -> dg.TableSchema:
    """The dataset's columns with types and descriptions."""
    return columns_of_schema(dataset.schema)


def columns_of_schema(schema: pa.Schema) -> dg.TableSchema:
    """Columns with types and, where there are any, descriptions; a feed's own names are the server's text."""
    return dg.TableSchema([_column(field) for field in schema])


def partition_metadata(lake: Lake, dataset: Dataset, report: DayReport, now: datetime) -> Metadata:
    """Where the partition is, how many rows it has now, and how the first of them look."""
    folder = lake.folder(dataset, report.day)
    found = lake.scan(dataset, report.day)
    # Lake folders are daily: of an hour, the rows of its day are no row count.
    whole_day = report.span in (None, Window.of_day(report.day))
    return {
        "dagster/uri": folder.as_uri(),
        "dagster/partition_row_count" if whole_day else "ricloud/rows_of_the_day": found.index.num_rows,
        "dagster/column_schema": column_schema(dataset),
        "ricloud/path": dg.MetadataValue.path(str(folder)),
        "ricloud/files": len(found.parts),
        "ricloud/file_bytes": sum(part.size for part in found.parts),
        "ricloud/seconds": round(report.seconds, 3),
        **(_stored(found, report, now) if dataset is CONTENTS else {}),
        **(_preview(found) if dataset is RESULTS else {}),
    }


def results_metadata(report: DayReport) -> Metadata:
    return {"ricloud/listed": report.listed, "ricloud/new": report.new_result_rows}


def contents_metadata(report: DayReport) -> Metadata:
    rate = report.downloaded_bytes / 1e6 / report.seconds if report.seconds else 0.0
    metadata: dict[str, Any] = {
        "ricloud/listed": report.listed,
        "ricloud/new": report.new,
        "ricloud/already_stored": report.already_stored,
        "ricloud/quarantined": report.quarantined,
        "ricloud/resting": report.resting,
        "ricloud/failed": report.failed,
        "ricloud/bytes": report.downloaded_bytes,
        "ricloud/mb_per_s": round(rate, 3),
    }
    if report.rejections:
        metadata["ricloud/rejections"] = dg.MetadataValue.table(_rejections(report), _REJECTION_SCHEMA)
    return metadata


def acknowledgements_metadata(report: DayReport) -> Metadata:
    metadata: dict[str, Any] = {
        "ricloud/acknowledged": report.acknowledged,
        "ricloud/found_acknowledged": report.found_acknowledged,
        "ricloud/unconfirmed": report.unconfirmed,
    }
    if report.unconfirmed_ids:
        shown = [clean(result_id) for result_id in report.unconfirmed_ids[:SHOWN_REJECTIONS]]
        metadata["ricloud/unconfirmed_ids"] = dg.MetadataValue.text(", ".join(shown))
    return metadata


def _stored(contents: Partition, report: DayReport, now: datetime) -> Metadata:
    """What the day holds by now; and, where something is new, how long after its creation the newest result was stored."""
    whole = contents.whole_results()
    found: dict[str, Any] = {
        "ricloud/results": whole.num_rows,
        "ricloud/stored_bytes": pc.sum(whole.column("size")).as_py() or 0,
    }
    if report.new:
        newest = pc.max(whole.column("date_created")).as_py()
        found["ricloud/lag_s"] = round(max(0.0, (now - newest).total_seconds()), 1)
    return found


def _preview(results: Partition) -> Metadata:
    """A few of the rows that were stored last, as text."""
    if not results.parts:
        return {}
    rows = (
        next(read_groups(results.storage.open(results.parts[-1]), RESULTS, PREVIEW_COLUMNS)).slice(0, PREVIEW_ROWS).to_pylist()
    )
    schema = dg.TableSchema([dg.TableColumn(name, "string") for name in PREVIEW_COLUMNS])
    records = [dg.TableRecord({name: "" if row[name] is None else clean(str(row[name])) for name in row}) for row in rows]
    return {"ricloud/preview": dg.MetadataValue.table(records, schema)}


_REJECTION_SCHEMA = dg.TableSchema(
    [dg.TableColumn(name, "string") for name in ("result_id", "reason", "detail", "expected_md5", "actual_md5")]
)


def _rejections(report: DayReport) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "result_id": clean(rejection.result_id),
                "reason": rejection.reason,
                "detail": clean(rejection.detail),
                "expected_md5": rejection.checksum or "",
                "actual_md5": rejection.actual_checksum or "",
            }
        )
        for rejection in report.rejections[:SHOWN_REJECTIONS]
    ]


def _column(field: pa.Field) -> dg.TableColumn:
    description = (field.metadata or {}).get(b"description", b"").decode()
    return dg.TableColumn(clean(field.name), clean(str(field.type), limit=1000), description or None)
