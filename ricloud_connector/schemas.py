"""The columns of every dataset of the lake, and the rows that facts become. Pure.

Each column's description is its Arrow field's metadata, so that a file, the docs and a Dagster asset say the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from ricloud_connector.listed import COLUMNS, Listed
from ricloud_connector.model import Rejection, Result
from ricloud_connector.redact import clean

FORMAT = 1
_TIMESTAMP = pa.timestamp("us", tz="UTC")


def _field(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


_DATE_CREATED = _field("date_created", _TIMESTAMP, "When the API created the result; its UTC day names the partition")
_IDENTIFIER = _field("identifier", pa.string(), "Names the contents: a data type, or a file's id or path")
_RUN_ID = _field("run_id", pa.string(), "The run that wrote this row")

RESULTS_SCHEMA = pa.schema(
    [
        _field("id", pa.string(), "The result's id, as exact text"),
        _field("resource", pa.string(), "Always `result`"),
        _field("organisation", pa.string(), "The organisation that owns the result"),
        _field("poll", pa.string(), "The poll that produced it"),
        _field("task", pa.string(), "The task that produced it"),
        _IDENTIFIER,
        _field("url", pa.string(), "Where the API published the content"),
        _field("type", pa.string(), "The file type, where the API could tell"),
        _field("checksum", pa.string(), "md5 of the content, in lower-case hex"),
        _field("size", pa.int64(), "Bytes of the content"),
        _DATE_CREATED,
        _field("first_seen_state", pa.string(), "The state when first listed"),
        _field("first_seen_date_consumed", _TIMESTAMP, "`date_consumed` when first listed"),
        _field("first_seen_date_deleted", _TIMESTAMP, "`date_deleted` when first listed"),
        _field("first_seen_at", _TIMESTAMP, "When this connector first listed it"),
        _RUN_ID,
        _field("extra", pa.string(), "JSON text of the fields that this version does not know"),
    ]
)

CONTENTS_SCHEMA = pa.schema(
    [
        _field("result_id", pa.string(), "The result's id, as exact text"),
        _field("chunk_index", pa.int32(), "Position of this chunk in the content, from 0"),
        _field("chunk_count", pa.int32(), "How many chunks the content has: 1 up to 8 MiB"),
        _field("content", pa.binary(), "The bytes, as they were published"),
        _IDENTIFIER,
        _field("type", pa.string(), "The file type, where the API could tell"),
        _field("checksum", pa.string(), "md5 of the whole content, in lower-case hex: listed and proven"),
        _field("sha256", pa.string(), "sha256 of the whole content, in lower-case hex"),
        _field("size", pa.int64(), "Bytes of the whole content"),
        _DATE_CREATED,
    ]
)

ACKNOWLEDGEMENTS_SCHEMA = pa.schema(
    [
        _field("result_id", pa.string(), "The result's id, as exact text"),
        _field("checksum", pa.string(), "md5 that was proven in the lake before the acknowledgement"),
        _field("size", pa.int64(), "Bytes that were proven in the lake before the acknowledgement"),
        _DATE_CREATED,
        _field("acknowledged_at", _TIMESTAMP, "When the API was seen to have applied it"),
        _field(
            "confirmed_by",
            pa.string(),
            "How it was seen: `listing` (no longer available), `result` (read one by one), "
            "`found` (an earlier run had acknowledged it and died before it could write this row)",
        ),
        _RUN_ID,
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        _field("result_id", pa.string(), "The result's id, as exact text"),
        _field("reason", pa.string(), "A stable code: checksum_mismatch, size_mismatch, gone, ..."),
        _field("detail", pa.string(), "The same in words"),
        _field("expected_checksum", pa.string(), "The md5 that the API lists"),
        _field("actual_checksum", pa.string(), "The md5 of what was downloaded, where something was"),
        _field("expected_size", pa.int64(), "The bytes that the API lists"),
        _field("actual_size", pa.int64(), "The bytes that were downloaded, where something was"),
        _IDENTIFIER,
        _DATE_CREATED,
        _field("first_seen_at", _TIMESTAMP, "When this was first found"),
        _RUN_ID,
    ]
)


RESULT_STATES_SCHEMA = pa.schema(
    [
        _field("result_id", pa.string(), "The result's id, as exact text"),
        _field("state", pa.string(), "consumed, expired, or deleted: one row for each that was ever seen"),
        _field("date", _TIMESTAMP, "When the API says that it happened, where it says so"),
        _DATE_CREATED,
        _field("first_seen_at", _TIMESTAMP, "When this connector first saw it"),
        _RUN_ID,
    ]
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of the lake. `key` are the columns that make a row the same row, `index` those kept in the cache."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    index: tuple[str, ...]
    index_schema: pa.Schema = field(init=False, repr=False, compare=False)
    empty_index: pa.Table = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = [pa.field("part", pa.int32()), *(self.schema.field(name).remove_metadata() for name in self.index)]
        object.__setattr__(self, "index_schema", pa.schema(fields))
        object.__setattr__(self, "empty_index", self.index_schema.empty_table())


RESULTS = Dataset("results", RESULTS_SCHEMA, ("id",), ("id",))
CONTENTS = Dataset(
    "contents",
    CONTENTS_SCHEMA,
    ("result_id", "chunk_index"),
    ("result_id", "chunk_index", "chunk_count", "checksum", "size", "date_created"),
)
ACKNOWLEDGEMENTS = Dataset("acknowledgements", ACKNOWLEDGEMENTS_SCHEMA, ("result_id",), ("result_id",))
_QUARANTINE_KEY = ("result_id", "reason", "expected_checksum", "expected_size")
QUARANTINE = Dataset("quarantine", QUARANTINE_SCHEMA, _QUARANTINE_KEY, _QUARANTINE_KEY)
RESULT_STATES = Dataset("result_states", RESULT_STATES_SCHEMA, ("result_id", "state"), ("result_id", "state"))

DATASETS = (RESULTS, CONTENTS, ACKNOWLEDGEMENTS, QUARANTINE, RESULT_STATES)


def result_rows(listed: Listed, *, run_id: str, seen_at: datetime) -> pa.Table:
    """Rows of the results dataset. The signed URL is not among them, and an https `url` loses its query."""
    columns: dict[str, Any] = {name: listed.column(name) for name in COLUMNS}
    columns["url"] = [clean(url, limit=8192) if url and url.startswith("http") else url for url in columns["url"]]
    columns["date_created"] = moments(listed)
    for name in ("state", "date_consumed", "date_deleted"):
        columns[f"first_seen_{name}"] = columns[name]
    columns |= _repeated(len(listed.created), RESULTS_SCHEMA, first_seen_at=seen_at, run_id=run_id)
    return pa.table([columns[name] for name in RESULTS_SCHEMA.names], schema=RESULTS_SCHEMA)


def moments(listed: Listed) -> pa.Array:
    """`date_created` of the results."""
    return pa.array(listed.created).cast(_TIMESTAMP)


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
