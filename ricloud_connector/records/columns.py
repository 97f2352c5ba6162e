"""The types of a feed's columns: how they are decided, and what goes to `_extra` for ever. Pure.

Every file of a feed has the same type for the same column, so that files of years are read together by any engine: DuckDB
(`union_by_name`), Polars, pyarrow, pandas, Spark. That decides the lattice:

                 (no value yet: null, [], {})
        bool   int64   timestamp   struct{...}   list<...>
                 |         |
              float64   string

- A column's type is decided once, from all the values of the batch in which it first has any (up to 4 MiB of JSON): of the
  kinds in it the commonest, the first of equals. Within that batch, and there alone, int and float become float64, ISO
  datetimes (`2026-11-20T10:15:30Z`, or with a numeric offset) beside other texts become string, and objects become a struct
  of all their fields. Until then it waits and is no column: a file with a column of nulls would fix a type nobody has seen.
- After that nothing widens. Widening would be cheap for int -> float in DuckDB, is an error by default in Polars and Spark,
  and loses digits above 2^53. A new field of a record becomes a new column; a new field of an object inside it does not.
- A value that its column cannot hold exactly goes to `_extra`: JSON text of an object, whose names are the values' places as
  JSON Pointers (RFC 6901). `{"/size": "12 kB", "/attachments/0/id": 7}`. In its own place is a null. Integers fit float64 up
  to 2^53, whole floats fit int64 likewise, no text is read as a number and no number written as text.
- A datetime with an offset other than `Z` is a timestamp in UTC, and its text is in `_extra` as well: the offset is a fact.
- To `_extra` go also: names that a reader could confuse (those of our own columns and partition keys, names equal to
  another but for case, empty or unprintable ones), objects of more than 256 different names (maps, not structs), what is
  nested deeper than 16, and columns beyond 1,000 of a feed.
- Rebuilding the dataset decides all types anew, from all contents: nothing in it depends on what came first.

`records.reconstruct` is the proof: from a table alone it gives the records back, but for null members, which read as absent
ones, and spellings of the same moment or number (`12` and `12.0`, `...:30Z` and `...:30.000Z`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ricloud_connector.records.document import Record

MAX_COLUMNS = 1_000
MAX_NAMES = 256
MAX_DEPTH = 16
MAX_NAME_BYTES = 200

Columns = Mapping[str, pa.DataType]

TIMESTAMP = pa.timestamp("us", tz="UTC")
RESERVED = frozenset({"result_id", "record_index", "date_created", "poll", "_extra", "ricloud_feed", "created_date"})
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def infer_columns(records: Sequence[Record], known: Columns) -> dict[str, pa.DataType]:
    """The columns that these records would add to the known ones, with the types that hold most of their values."""
    spelled = frozenset(known)
    if all(map(spelled.issuperset, records)):
        return {}
    names = dict.fromkeys(name for record in records if not spelled.issuperset(record) for name in record)
    found: dict[str, pa.DataType] = {}
    for name in names:
        kind = None if name in known or name.casefold() in RESERVED else _infer([record.get(name) for record in records], 1)
        if kind is not None:
            found[name] = kind
    return found


def add_columns(known: Columns, proposed: Columns) -> dict[str, pa.DataType]:
    """The known columns, unchanged, then those of the proposed that may stand beside them."""
    columns, spelled = dict(known), {name.casefold() for name in known}
    leaves = sum(map(_leaves, known.values()))
    for name, kind in proposed.items():
        if usable(name) and name.casefold() not in spelled | RESERVED and leaves + _leaves(kind) <= MAX_COLUMNS:
            columns[name] = kind
            spelled.add(name.casefold())
            leaves += _leaves(kind)
    return columns


def merge_columns(one: Columns, other: Columns) -> dict[str, pa.DataType]:
    """What both would be if they had been inferred from one batch; used before any file exists."""
    merged = dict(one)
    for name, kind in other.items():
        merged[name] = _merge(merged[name], kind) if name in merged else kind
    return merged


def _merge(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    for narrow, wide in ((pa.int64(), pa.float64()), (TIMESTAMP, pa.string())):
        if {one, other} == {narrow, wide}:
            return wide
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_merge(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        spelled = {name.casefold() for name in fields}
        for field in other:
            if field.name in fields:
                fields[field.name] = _merge(fields[field.name], field.type)
            elif field.name.casefold() not in spelled and len(fields) < MAX_NAMES:
                fields[field.name] = field.type
                spelled.add(field.name.casefold())
        return pa.struct(list(fields.items()))
    return one


def _infer(values: Sequence[Any], depth: int) -> pa.DataType | None:
    """The type that holds most of the values; None where none of them says anything."""
    kinds = Counter(map(type, values))
    kinds.pop(type(None), None)
    if not kinds or depth > MAX_DEPTH:
        return None
    if int in kinds and float in kinds:
        kinds[float] += kinds.pop(int)
    kind = kinds.most_common(1)[0][0]
    of_kind: list[Any] = [value for value in values if type(value) is kind]
    if kind is dict:
        return _infer_struct(of_kind, depth)
    if kind is list:
        element = _infer([value for each in of_kind for value in each], depth + 1)
        return None if element is None else pa.list_(element)
    if kind is str:
        return TIMESTAMP if all(moment_of(value) is not None for value in of_kind) else pa.string()
    if kind is int:
        return pa.int64() if any(_fits_int64(value) for value in of_kind) else None
    return pa.bool_() if kind is bool else pa.float64()


def _infer_struct(values: Sequence[Record], depth: int) -> pa.DataType | None:
    fields, spelled = dict[str, pa.DataType](), set[str]()
    names = dict.fromkeys(name for value in values for name in value)
    if len(names) > MAX_NAMES:
        return None
    for name in names:
        if usable(name) and name.casefold() not in spelled:
            kind = _infer([value.get(name) for value in values], depth + 1)
            if kind is not None:
                fields[name] = kind
                spelled.add(name.casefold())
    return pa.struct(list(fields.items())) if fields else None


def _leaves(kind: pa.DataType) -> int:
    if pa.types.is_struct(kind):
        return sum(_leaves(field.type) for field in kind)
    return _leaves(kind.value_type) if pa.types.is_list(kind) else 1


def usable(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name.encode()) <= MAX_NAME_BYTES


def _fits_int64(value: int) -> bool:
    return -(2**63) <= value < 2**63


def moment_of(text: str) -> datetime | None:
    """The moment that an ISO datetime with a zone names, in UTC."""
    if len(text) < 20 or text[10] != "T" or not _MOMENT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
