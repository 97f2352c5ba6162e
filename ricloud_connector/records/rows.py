"""Records to typed tables and back: rows with the columns of their feed, `_extra` for what does not fit. Pure.

`columns.py` says how types are decided and why nothing widens; `fitting.py` puts the values where they belong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from ricloud_connector.datasets import RECORDS_COLUMNS
from ricloud_connector.records.columns import RESERVED, TIMESTAMP, Columns
from ricloud_connector.records.document import Record
from ricloud_connector.records.fitting import Fitting
from ricloud_connector.schemas import arrow_field

PARSER = 1
"""Changes whenever the same contents would give other rows; rows of two parsers never lie in one lake."""

*META, EXTRA_FIELD = map(arrow_field, RECORDS_COLUMNS)
EXTRA = EXTRA_FIELD.name


def schema_of(columns: Columns) -> pa.Schema:
    """The columns of a records file: ours, the record's own, `_extra`."""
    return pa.schema([*META, *(pa.field(name, kind) for name, kind in columns.items()), EXTRA_FIELD])


def columns_of(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The record's own columns of a records file."""
    return {field.name: field.type for field in schema if field.name not in RESERVED}


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with a column of nulls for each that it lacks. Raises: LookupError for a column that the schema lacks."""
    if lost := set(table.column_names) - set(schema.names):
        raise LookupError(f"columns {sorted(lost)} would be lost")
    columns = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


@dataclass(frozen=True, slots=True)
class Source:
    """The records of one result."""

    result_id: str
    date_created: datetime
    poll: str | None
    records: list[Record]


@dataclass(frozen=True, slots=True)
class Built:
    """A table, how many values of each place did not fit (indexes as `*`), and by result the records that were refused.

    `names` and `greatest` are those of `Fitting`.
    """

    table: pa.Table
    misfits: Counter[str]
    refused: dict[str, list[int]]
    names: int
    greatest: float


def meta_arrays(ids: pa.Array, created: pa.Array, polls: pa.Array, counts: Sequence[int]) -> list[pa.Array]:
    """The columns of ours, for so many records of each result, by its id, `date_created` and poll."""
    lengths = np.asarray(counts, np.int64)
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(len(numbers)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    owners = pa.array(numbers)
    return [ids.take(owners), pa.array(index, pa.int64()), created.take(owners), polls.take(owners)]


def build_table(sources: Iterable[Source], columns: Columns, *, refuse: bool = False) -> Built:
    """The rows of some results. `refuse` leaves out the records that hold anything that the columns cannot."""
    sources = list(sources)
    records = [record for source in sources for record in source.records]
    fitting = Fitting(records)
    arrays = fitting.columns(columns)
    meta = meta_arrays(
        pa.array([source.result_id for source in sources], pa.string()),
        pa.array([source.date_created for source in sources], TIMESTAMP),
        pa.array([source.poll for source in sources], pa.string()),
        [len(source.records) for source in sources],
    )
    table = pa.table([*meta, *arrays, pa.array(fitting.extra_texts(), pa.string())], schema=schema_of(columns))
    refused: dict[str, list[int]] = {}
    if refuse and fitting.bad:
        ids, index = (table.column(name).to_pylist() for name in ("result_id", "record_index"))
        for row in sorted(fitting.bad):
            refused.setdefault(ids[row], []).append(index[row])
        table = table.filter(pa.array([row not in fitting.bad for row in range(len(records))], pa.bool_()))
    return Built(table, fitting.misfits, refused, fitting.names, fitting.greatest)


def reconstruct(table: pa.Table) -> dict[str, list[Record]]:
    """The records of each result, in order, from the table alone; null members are left out, moments are in UTC with `Z`."""
    found: dict[str, dict[int, Record]] = {}
    for row in table.to_pylist():
        record = {name: _plain(value) for name, value in row.items() if name not in RESERVED and value is not None}
        for pointer, value in json.loads(row[EXTRA] or "{}").items():
            _place(record, pointer, value)
        found.setdefault(row["result_id"], {})[row["record_index"]] = record
    return {name: [records[number] for number in sorted(records)] for name, records in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, datetime):
        text = value.astimezone(UTC).strftime("%H:%M:%S.%f").rstrip("0").rstrip(".")
        return f"{value.date().isoformat()}T{text}Z"
    return value


def _place(record: Record, pointer: str, value: Any) -> None:
    """Put a value where a JSON Pointer says."""
    *above, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    target: Any = record
    for part in above:
        target = target[int(part)] if isinstance(target, list) else target[part]
    if isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value
