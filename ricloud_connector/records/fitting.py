"""Values into Arrow arrays of given types, column by column; what does not fit is kept by its JSON Pointer. Pure.

Columns are looked at as a whole: where all values of one have its type, and nearly always they have, Arrow takes them as
they are. Only a column with another value in it is looked at value by value.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate, chain, repeat
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector.records.columns import RESERVED, TIMESTAMP, Columns, moment_of, usable
from ricloud_connector.records.document import Record

EXACT = 2**53
"""Up to here every integer is a 64-bit float."""

MISFITS_NAMED = 1_000

_NONE = type(None)
_NOTHING: Record = {}
_PLAIN_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|\+00:00)$"

_UTC = ("Z", "+00:00")

Where = Callable[[int], tuple[int, str, str]]
"""Of a value's position in its column: the row, its JSON Pointer, and the same with `*` for indexes."""


class NotFinite(ValueError):
    """A number is beyond a 64-bit float. Neither a column nor JSON text can hold it."""


class Fitting:
    """Fits records into columns. `bad` are the rows with a value that did not fit, `misfits` how many by place.

    `names` counts the members of all objects, and `greatest` is the greatest float without its sign: by these two a quick
    decoder is checked.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._extra: dict[int, dict[str, Any]] = {}
        self.bad: set[int] = set()
        self.misfits: Counter[str] = Counter()
        self.names = 0
        self.greatest = 0.0

    def columns(self, columns: Columns) -> list[pa.Array]:
        """An array per column, each as long as there are records. Raises: NotFinite."""
        return self._fit_members(self._records, columns, lambda row: (row, "", ""))

    def extra_texts(self) -> list[str | None]:
        """JSON text by row of all that was kept aside; None where nothing was. Raises: NotFinite."""
        texts: list[str | None] = [None] * len(self._records)
        for row, kept in self._extra.items():
            try:
                texts[row] = json.dumps(kept, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            except ValueError:
                raise NotFinite from None
        return texts

    def _fit_members(self, objects: Sequence[Record], fields: Columns, where: Where) -> list[pa.Array]:
        """An array for each field of some objects; their other members are kept aside."""
        self.names += sum(map(len, objects))
        self._set_aside(objects, fields.keys(), where)
        columns = zip(fields.items(), _by_name(objects, fields.keys()), strict=True)
        return [self._fit(values, kind, _member(where, name)) for (name, kind), values in columns]

    def _fit(self, values: list[Any], kind: pa.DataType, where: Where) -> pa.Array:
        if pa.types.is_struct(kind):
            return self._fit_struct(values, kind, where)
        if pa.types.is_list(kind):
            return self._fit_list(values, kind, where)
        if kind == TIMESTAMP:
            return self._fit_moments(values, where)
        if pa.types.is_string(kind):
            return pa.array(self._only(str, values, where), kind)
        if pa.types.is_boolean(kind):
            return pa.array(self._only(bool, values, where), kind)
        if pa.types.is_int64(kind):
            return self._fit_integers(values, where)
        return self._fit_floats(values, where)

    def _fit_integers(self, values: list[Any], where: Where) -> pa.Array:
        if set(map(type, values)) <= {int, _NONE}:
            try:
                return pa.array(values, pa.int64())
            except (OverflowError, pa.ArrowInvalid):
                pass
        return pa.array([self._integer(value, number, where) for number, value in enumerate(values)], pa.int64())

    def _integer(self, value: Any, number: int, where: Where) -> int | None:
        if type(value) is float and value.is_integer() and abs(value) <= EXACT:
            return int(value)
        if type(value) is int and -(2**63) <= value < 2**63:
            return value
        return None if value is None else self._aside(value, number, where)

    def _fit_floats(self, values: list[Any], where: Where) -> pa.Array:
        try:
            if not set(map(type, values)) <= {float, int, _NONE}:
                raise TypeError
            floats = pa.array(values, pa.float64())  # which refuses an integer that is no 64-bit float
        except (TypeError, OverflowError, pa.ArrowInvalid):
            floats = pa.array([self._float(value, number, where) for number, value in enumerate(values)], pa.float64())
        self.greatest = max(self.greatest, pc.max(pc.abs(floats)).as_py() or 0.0)
        if self.greatest == math.inf:
            raise NotFinite
        return floats

    def _float(self, value: Any, number: int, where: Where) -> float | None:
        if type(value) is int and abs(value) <= EXACT:
            return float(value)
        return value if value is None or type(value) is float else self._aside(value, number, where)

    def _fit_moments(self, values: list[Any], where: Where) -> pa.Array:
        values = self._only(str, values, where)
        plain = as_moments(pa.array(values, pa.string()))
        if plain is not None:
            return plain
        moments = [None if value is None else moment_of(value) for value in values]
        for number, (value, moment) in enumerate(zip(values, moments, strict=True)):
            if value is not None and moment is None:
                self._keep(value, number, where)
            elif value is not None and not value.endswith(_UTC):
                row, pointer, _ = where(number)
                self._extra.setdefault(row, {})[pointer] = value
        return pa.array(moments, TIMESTAMP)

    def _fit_struct(self, values: list[Any], kind: pa.StructType, where: Where) -> pa.Array:
        values = self._only(dict, values, where)
        absent = _absent(values)
        members = values if absent is None else [_NOTHING if value is None else value for value in values]
        children = self._fit_members(members, {field.name: field.type for field in kind}, where)
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=absent)

    def _fit_list(self, values: list[Any], kind: pa.ListType, where: Where) -> pa.Array:
        values = self._only(list, values, where)
        absent = _absent(values)
        lists = values if absent is None else [value or () for value in values]
        offsets = list(accumulate(map(len, lists), initial=0))
        elements = list(chain.from_iterable(lists))
        inside = self._fit(elements, kind.value_type, _element(where, offsets))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inside, type=kind, mask=absent)

    def _only(self, kind: type, values: list[Any], where: Where) -> list[Any]:
        """The values, with a null for each that is of another kind."""
        if set(map(type, values)) <= {kind, _NONE}:
            return values
        return [
            value if value is None or type(value) is kind else self._aside(value, number, where)
            for number, value in enumerate(values)
        ]

    def _set_aside(self, members: Sequence[Record], known: Iterable[str], where: Where) -> None:
        """Keep aside the members of objects that are no columns: as faults, but for those whose names can be no column's."""
        names = frozenset(known)
        fits = list(map(names.issuperset, members))
        if all(fits):
            return
        taken = {name.casefold() for name in names} | (RESERVED if members is self._records else set())
        for number in [number for number, fit in enumerate(fits) if not fit]:
            for name, value in members[number].items():
                if name not in names and value is not None:
                    possible = usable(name) and name.casefold() not in taken
                    self._keep(value, number, _member(where, name), fault=possible)

    def _aside(self, value: Any, number: int, where: Where) -> Any:
        """The null that takes the place of a value that is kept aside."""
        self._keep(value, number, where)

    def _keep(self, value: Any, number: int, where: Where, *, fault: bool = True) -> None:
        row, pointer, place = where(number)
        self._extra.setdefault(row, {})[pointer] = value
        self._look_into(value)
        if value in ([], {}):  # says nothing of its type yet: it waits, and fits whatever comes
            return
        self.misfits[place if place in self.misfits or len(self.misfits) < MISFITS_NAMED else "..."] += 1
        if fault:
            self.bad.add(row)

    def _look_into(self, value: Any) -> None:
        values = [value]
        for each in values:
            if isinstance(each, dict):
                self.names += len(each)
                values.extend(each.values())
            elif isinstance(each, list):
                values.extend(each)
            elif isinstance(each, float):
                self.greatest = max(self.greatest, abs(each))


def _absent(values: list[Any]) -> pa.Array | None:
    """Where there is no value; None where there is one everywhere."""
    return pa.array([value is None for value in values], pa.bool_()) if None in values else None


def _by_name(objects: Sequence[Record], names: Collection[str]) -> list[list[Any]]:
    """By name, the value of each object; None where it has none."""
    if len(names) > 1 and objects:
        try:  # every object has every name, nearly always
            return list(map(list, zip(*map(itemgetter(*names), objects), strict=True)))
        except KeyError:
            pass
    return [list(map(dict.get, objects, repeat(name))) for name in names]


def as_moments(texts: pa.Array) -> pa.Array | None:
    """The texts as timestamps, where each is a moment in UTC that is written plainly; else None."""
    if pc.all(pc.match_substring_regex(texts, _PLAIN_MOMENT)).as_py() is False:
        return None
    try:
        return texts.cast(TIMESTAMP)
    except pa.ArrowInvalid:
        return None  # a 30th of February, or the year 0


def _member(where: Where, name: str) -> Where:
    escaped = "/" + name.replace("~", "~0").replace("/", "~1")

    def of(number: int) -> tuple[int, str, str]:
        row, pointer, place = where(number)
        return row, pointer + escaped, place + escaped

    return of


def _element(where: Where, offsets: list[int]) -> Where:
    def of(number: int) -> tuple[int, str, str]:
        owner = bisect_right(offsets, number) - 1
        row, pointer, place = where(owner)
        return row, f"{pointer}/{number - offsets[owner]}", place + "/*"

    return of
