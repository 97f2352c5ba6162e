"""The types of a feed's columns: how they are decided, and what goes to `_extra` for ever. Pure.

Every file of a feed has the same type for the same column, so that files of years are read together by any engine: DuckDB
(`union_by_name`), Polars, pyarrow, pandas, Spark. That decides the lattice:

                 (no value yet: null, [], {})
        bool   int64   timestamp   struct{...}   list<...>
                 |         |
              float64   string

- A column's type is decided once, from all the values of the batch in which it first has any (up to 4 MiB of JSON, or one
  larger document): of the kinds in it the commonest, the first of equals. Within that batch, and there alone, int and float
  become float64, ISO datetimes (`2026-11-20T10:15:30Z`, or with a numeric offset) beside other texts become string, and
  objects become a struct of all their fields. Until then it waits and is no column: a file with a column of nulls would fix
  a type nobody has seen.
- After that nothing widens. Widening would be cheap for int -> float in DuckDB, is an error by default in Polars and Spark,
  and loses digits above 2^53. A new field of a record becomes a new column; a new field of an object inside it does not.
- A value that its column cannot hold exactly goes to `_extra`: JSON text of an object, whose names are the values' places as
  JSON Pointers (RFC 6901). `{"/size": "12 kB", "/attachments/0/id": 7}`. In its own place is a null. Integers fit float64 up
  to 2^53, whole floats fit int64 likewise, no text is read as a number and no number written as text.
- A datetime with an offset other than `Z` or `+00:00` is a timestamp in UTC, and its text is in `_extra` as well: the offset
  is a fact.
- To `_extra` go also: names that a reader could confuse (those of our own columns and partition keys, names equal to
  another but for case, empty or unprintable ones), objects of more than 256 different names (maps, not structs), what is
  nested deeper than 16, and columns beyond 1,000 of a feed.
- Rebuilding the dataset decides all types anew: by the first 4 MiB in which a column has values, and then by every later one
  that can be held together with those (int and float, datetime and text, more fields of an object).

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
MAX_NEW_NAMES = 4_000  # that are looked at together: a record may be a map whose names are no fields
MAX_NAMES = 256
MAX_DEPTH = 16
MAX_NAME_BYTES = 200

Columns = Mapping[str, pa.DataType]

TIMESTAMP = pa.timestamp("us", tz="UTC")
_OURS = ("result_id", "record_index", "date_created", "poll", "_extra", "ricloud_feed", "created_date")
_ARROWS = ("__filename", "__fragment_index", "__batch_index", "__last_in_fragment")  # pyarrow's datasets add columns so named
RESERVED = frozenset({*_OURS, *_ARROWS})
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)


def infer_columns(records: Sequence[Record], known: Columns) -> dict[str, pa.DataType]:
    """The columns that these records would add to the known ones, with the types that hold most of their values."""
    inference = Inference(known)
    inference.add(records)
    return inference.columns()


class Inference:
    """The same of records that come some at a time: what it remembers are kinds of values, not values."""

    def __init__(self, known: Columns) -> None:
        self._known = frozenset(known)
        self._members: dict[str, _Kinds] = {}

    @property
    def places(self) -> int:
        """How many places in records are remembered."""
        return sum(kinds.places for kinds in self._members.values())

    def add(self, records: Sequence[Record]) -> None:
        known, members = self._known, self._members
        if all(map(known.issuperset, records)):
            return
        values: dict[str, list[Any]] = {}
        for record in records:
            if not known.issuperset(record):
                for name, value in record.items():
                    if name in values:
                        values[name].append(value)
                    elif name not in known and (name in members or self._may_be_new(name)):
                        members.setdefault(name, _Kinds(1))
                        values[name] = [value]
        for name, of_name in values.items():
            members[name].add(of_name)

    def columns(self) -> dict[str, pa.DataType]:
        kinds = ((name, seen.type()) for name, seen in self._members.items())
        return {name: kind for name, kind in kinds if kind is not None}

    def _may_be_new(self, name: str) -> bool:
        return name.casefold() not in RESERVED and len(self._members) < MAX_NEW_NAMES


def add_columns(known: Columns, proposed: Columns) -> dict[str, pa.DataType]:
    """The known columns, unchanged, then those of the proposed that may stand beside them."""
    columns, spelled = dict(known), {name.casefold() for name in known} | RESERVED
    leaves = sum(map(_leaves, known.values()))
    for name, kind in proposed.items():
        if usable(name) and name.casefold() not in spelled and leaves + _leaves(kind) <= MAX_COLUMNS:
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


class _Kinds:
    """The kinds of values that stand in one place."""

    __slots__ = ("_counts", "_depth", "_elements", "_fits", "_members", "_moments")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._counts: Counter[type] = Counter()
        self._moments, self._fits = True, False  # all texts are moments; an integer fits 64 bits
        self._elements: _Kinds | None = None
        self._members: dict[str, _Kinds] | None = {}  # None: too many names

    @property
    def places(self) -> int:
        inside = [*(self._members or {}).values(), *filter(None, [self._elements])]
        return 1 + sum(kinds.places for kinds in inside)

    def add(self, values: Sequence[Any]) -> None:
        if self._depth > MAX_DEPTH:
            return
        kinds = Counter(map(type, values))
        self._counts.update(kinds)
        if dict in kinds:
            self._add_objects([value for value in values if type(value) is dict])
        if list in kinds:
            self._elements = self._elements or _Kinds(self._depth + 1)
            self._elements.add([element for value in values if type(value) is list for element in value])
        if str in kinds and self._moments:
            self._moments = all(moment_of(value) is not None for value in values if type(value) is str)
        if int in kinds and not self._fits:
            self._fits = any(_fits_int64(value) for value in values if type(value) is int)

    def _add_objects(self, objects: Sequence[Record]) -> None:
        if self._members is None:
            return
        names = dict.fromkeys(name for each in objects for name in each)
        if len(self._members.keys() | names.keys()) > MAX_NAMES:
            self._members = None
            return
        for name in names:
            self._members.setdefault(name, _Kinds(self._depth + 1)).add([each.get(name) for each in objects])

    def type(self) -> pa.DataType | None:
        """The type that holds most of the values; None where none of them says anything."""
        kinds = self._counts.copy()
        kinds.pop(type(None), None)
        if not kinds or self._depth > MAX_DEPTH:
            return None
        if int in kinds and float in kinds:
            kinds[float] += kinds.pop(int)
        kind = kinds.most_common(1)[0][0]
        if kind is dict:
            return self._struct()
        if kind is list:
            element = None if self._elements is None else self._elements.type()
            return None if element is None else pa.list_(element)
        if kind is str:
            return TIMESTAMP if self._moments else pa.string()
        if kind is int:
            return pa.int64() if self._fits else None
        return pa.bool_() if kind is bool else pa.float64()

    def _struct(self) -> pa.DataType | None:
        fields, spelled = dict[str, pa.DataType](), set[str]()
        for name, kinds in (self._members or {}).items():
            if usable(name) and name.casefold() not in spelled:
                kind = kinds.type()
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
