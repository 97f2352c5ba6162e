"""The datasets of the lake with their Arrow schemas, and the rows that facts become. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.datasets import (
    ACKNOWLEDGEMENTS_COLUMNS,
    CONTENTS_COLUMNS,
    QUARANTINE_COLUMNS,
    RESULT_STATES_COLUMNS,
    RESULTS_COLUMNS,
    Column,
)
from ricloud_connector.listed import SCHEMA as LISTED
from ricloud_connector.listed import Listed
from ricloud_connector.model import Rejection, Result
from ricloud_connector.redact import clean

FORMAT = 1
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_TYPES = {str(kind): kind for kind in (pa.string(), pa.binary(), pa.int32(), pa.int64(), _TIMESTAMP)}


def arrow_field(column: Column) -> pa.Field:
    """The column in Arrow, its description with it."""
    return pa.field(column.name, _TYPES[column.type], metadata={"description": column.description})


RESULTS_SCHEMA = pa.schema(map(arrow_field, RESULTS_COLUMNS))
CONTENTS_SCHEMA = pa.schema(map(arrow_field, CONTENTS_COLUMNS))
ACKNOWLEDGEMENTS_SCHEMA = pa.schema(map(arrow_field, ACKNOWLEDGEMENTS_COLUMNS))
QUARANTINE_SCHEMA = pa.schema(map(arrow_field, QUARANTINE_COLUMNS))
RESULT_STATES_SCHEMA = pa.schema(map(arrow_field, RESULT_STATES_COLUMNS))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of the lake. `key` are the columns that make a row the same row, `index` those kept in the cache.

    `repeating` are the columns that have dictionaries in Parquet: of large datasets those whose values stand in many rows. To
    begin a dictionary costs more than it saves where a row group has few rows.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    index: tuple[str, ...]
    repeating: tuple[str, ...] = ()
    index_schema: pa.Schema = field(init=False, repr=False, compare=False)
    empty_index: pa.Table = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [pa.field("part", pa.int32()), *(self.schema.field(name).remove_metadata() for name in self.index)]
        object.__setattr__(self, "index_schema", pa.schema(fields))
        object.__setattr__(self, "empty_index", pa.Table.from_batches([], self.index_schema))


def _repeating(schema: pa.Schema) -> tuple[str, ...]:
    """All columns but those of which nearly every row has a value of its own."""
    own = {"id", "result_id", "task", "url", "checksum", "size", "date_created"}
    return tuple(name for name in schema.names if name not in own)


RESULTS = Dataset("results", RESULTS_SCHEMA, ("id",), ("id",), _repeating(RESULTS_SCHEMA))
CONTENTS = Dataset(
    "contents",
    CONTENTS_SCHEMA,
    ("result_id", "chunk_index"),
    ("result_id", "chunk_index", "chunk_count", "checksum", "size", "date_created"),
)
_ACKNOWLEDGED = _repeating(ACKNOWLEDGEMENTS_SCHEMA)
ACKNOWLEDGEMENTS = Dataset("acknowledgements", ACKNOWLEDGEMENTS_SCHEMA, ("result_id",), ("result_id",), _ACKNOWLEDGED)
_QUARANTINE_KEY = ("result_id", "reason", "expected_checksum", "expected_size")
QUARANTINE = Dataset("quarantine", QUARANTINE_SCHEMA, _QUARANTINE_KEY, _QUARANTINE_KEY)
RESULT_STATES = Dataset("result_states", RESULT_STATES_SCHEMA, ("result_id", "state"), ("result_id", "state"))

DATASETS = (RESULTS, CONTENTS, ACKNOWLEDGEMENTS, QUARANTINE, RESULT_STATES)


def result_rows(listed: Listed, *, run_id: str, seen_at: datetime) -> pa.Table:
    """Rows of the results dataset. The signed URL is not among them, and an https `url` loses its query."""
    columns: dict[str, Any] = {name: listed.column(name) for name in RESULTS_SCHEMA.names if name in LISTED.names}
    if pc.any(pc.starts_with(columns["url"], "http", ignore_case=True)).as_py():
        urls = columns["url"].to_pylist()
        columns["url"] = [clean(url, limit=8192) if url and url[:4].lower() == "http" else url for url in urls]
    for name in ("state", "date_consumed", "date_deleted"):
        columns[f"first_seen_{name}"] = listed.column(name)
    columns |= _repeated(listed.facts.num_rows, RESULTS_SCHEMA, first_seen_at=seen_at, run_id=run_id)
    return pa.table([columns[name] for name in RESULTS_SCHEMA.names], schema=RESULTS_SCHEMA)


def acknowledgement_rows(confirmed: pa.Table, confirmed_by: str, *, run_id: str, at: datetime) -> pa.Table:
    """Rows of the acknowledgements dataset, from a table with `result_id`, `checksum`, `size`, `date_created` of each."""
    facts: dict[str, Any] = {name: confirmed.column(name) for name in ("result_id", "checksum", "size", "date_created")}
    facts |= _repeated(
        confirmed.num_rows, ACKNOWLEDGEMENTS_SCHEMA, acknowledged_at=at, confirmed_by=confirmed_by, run_id=run_id
    )
    return pa.table([facts[name] for name in ACKNOWLEDGEMENTS_SCHEMA.names], schema=ACKNOWLEDGEMENTS_SCHEMA)


def _repeated(rows: int, schema: pa.Schema, **values: object) -> dict[str, pa.Array]:
    """Columns of one value each."""
    return {name: pa.repeat(pa.scalar(value, schema.field(name).type), rows) for name, value in values.items()}


def state_rows(results: Iterable[Result], *, run_id: str, seen_at: datetime) -> pa.Table:
    """Rows of the result_states dataset: one for the state, and one more where the content is said to be deleted."""
    rows = []
    for result in results:
        states = [(result.state, result.date_consumed)]
        if result.date_deleted is not None:
            states.append(("deleted", result.date_deleted))
        rows += [
            {
                "result_id": result.id,
                "state": state,
                "date": moment,
                "date_created": result.date_created,
                "first_seen_at": seen_at,
                "run_id": run_id,
            }
            for state, moment in states
        ]
    return pa.Table.from_pylist(rows, schema=RESULT_STATES_SCHEMA)


def quarantine_rows(rejections: Iterable[Rejection], *, run_id: str, seen_at: datetime) -> pa.Table:
    """Rows of the quarantine dataset."""
    rows = [
        {
            "result_id": rejection.result_id,
            "reason": rejection.reason,
            "detail": clean(rejection.detail, limit=1000),
            "expected_checksum": rejection.checksum,
            "actual_checksum": rejection.actual_checksum,
            "expected_size": rejection.size,
            "actual_size": rejection.actual_size,
            "identifier": rejection.identifier,
            "date_created": rejection.date_created,
            "first_seen_at": seen_at,
            "run_id": run_id,
        }
        for rejection in rejections
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)
