"""A page of a list by Arrow's JSON reader, where all of it is plain, as pages are documented. Pure.

`item.py` looks at one field after the other, with every departure in mind. What is read here is what it would make of the same
bytes, several times as fast and without Python's lock; on any doubt there is no answer, and the page goes that way.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ricloud_connector.item import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, TEXT_FIELDS, parse_datetime
from ricloud_connector.listed import SCHEMA, Listed, moments_array

_TEXT, _NUMBER, _MOMENT = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
_SIGNED = pa.struct([("url", _TEXT), ("date_expires", _TEXT)])
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", re.DOTALL)
_NUMBER_NEXT = re.compile(rb'"id"\s*:\s*[-0-9]')
_TEXT_NEXT = re.compile(rb'"signed_url"\s*:\s*"')
_HEX_DIGITS = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdefABCDEF", np.uint8))
_CONTROL = np.isin(np.arange(256), [*range(32), 127])
_PATTERN = "0000-00-00T00:00:00"  # 0 stands for any digit
_FIRST_MOMENT = -62_135_596_800_000_000  # of year 1, in microseconds: Arrow knows a year 0


class QuickPage(NamedTuple):
    """What a page says that is plain all through. It has items, and all of them are results."""

    items: Listed
    has_more: bool


class _Doubt(Exception):
    """Raised inside; the page may read otherwise the careful way."""


def read_quickly(body: bytes) -> QuickPage | None:
    """The page; None where it is not certain that this is what `item.py` would make of it."""
    try:
        items, has_more = _parse(body)
        return QuickPage(_listed(items), has_more)
    except (_Doubt, pa.ArrowException):
        return None


def _parse(body: bytes) -> tuple[dict[str, pa.Array], bool]:
    """The fields of the items, as they are written. Raises: _Doubt, ArrowException.

    With the types said, Arrow refuses whatever is of another one, names that are not known, and names that stand twice. What it
    does not see: bytes that are no UTF-8, half characters, and where a document ends (a NUL ends it, `null` ends the process).
    """
    if not body.startswith(b"{") or b"\0" in body:
        raise _Doubt
    halves = len(_SURROGATE.findall(body)) if b"\\" in body else 0
    if halves and halves != 2 * len(_PAIR.findall(body)):
        raise _Doubt
    if not body.isascii():
        _check_utf8(body)
    kinds: dict[str, pa.DataType] = dict.fromkeys(("id", "checksum", *TEXT_FIELDS), _TEXT) | {"size": _NUMBER}
    kinds |= dict.fromkeys(("date_created", "date_consumed", "date_deleted"), _TEXT)
    # As the first item has it; where another has it otherwise, Arrow refuses the page.
    kinds["signed_url"] = _TEXT if _TEXT_NEXT.match(body, body.find(b'"signed_url"')) else _SIGNED
    if _NUMBER_NEXT.match(body, body.find(b'"id"')):
        kinds["id"] = _NUMBER
    item = pa.struct(list(kinds.items()))
    schema = pa.schema([("data", pa.list_(item)), ("has_more", pa.bool_()), ("total_count", _NUMBER), ("url", _TEXT)])
    page = pj.read_json(
        pa.BufferReader(body),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(body) + 1),
        parse_options=pj.ParseOptions(schema, newlines_in_values=b"\n" in body, unexpected_field_behavior="error"),
    )
    data, has_more = page.column("data"), page.column("has_more")
    if page.num_rows != 1 or data.null_count or has_more.null_count:
        raise _Doubt
    items = data.combine_chunks().values
    if not len(items) or items.null_count:
        raise _Doubt
    if halves:
        items.validate(full=True)  # what looked like a pair may be half of one, after a backslash that was written twice
    return dict(zip(kinds, items.flatten(), strict=True)), has_more[0].as_py()


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        raise _Doubt from None


def _listed(items: dict[str, pa.Array]) -> Listed:
    """The items as columns. Raises: _Doubt, ArrowException."""
    found = {name: _texts(items[name]) for name in TEXT_FIELDS}
    found["state"] = pc.fill_null(found["state"], "")
    found["id"] = _ids(items["id"])
    found["numeric_id"] = pa.repeat(pa.scalar(items["id"].type == _NUMBER), len(items["id"]))
    found["checksum"] = _checksums(items["checksum"])
    found["size"] = _sizes(items["size"])
    found |= {name: _moments(items[name]) for name in ("date_created", "date_consumed", "date_deleted")}
    if found["date_created"].null_count:
        raise _Doubt
    found["extra"] = pa.nulls(len(items["id"]), _TEXT)
    found["signed_url"], found["expires_at"] = _signed_urls(items["signed_url"])
    return Listed(pa.RecordBatch.from_arrays([found[name] for name in SCHEMA.names], schema=SCHEMA))


def _texts(column: pa.Array) -> pa.Array:
    if (pc.max(pc.binary_length(column)).as_py() or 0) > MAX_TEXT_CHARACTERS:  # or fewer characters, of more bytes each
        raise _Doubt
    return column


def _ids(column: pa.Array) -> pa.Array:
    if column.null_count:
        raise _Doubt
    if column.type == _NUMBER:
        return column.cast(_TEXT)
    lengths, data = _bytes_of(column)
    if not lengths.min() or lengths.max() > MAX_ID_CHARACTERS or _CONTROL[data].any():
        raise _Doubt
    return column


def _checksums(column: pa.Array) -> pa.Array:
    lengths, data = _bytes_of(column)
    if column.null_count or (lengths != 32).any() or not _HEX_DIGITS[data].all():
        raise _Doubt
    return pc.ascii_lower(column)


def _sizes(column: pa.Array) -> pa.Array:
    if column.null_count or pc.min(column).as_py() < 0:
        raise _Doubt
    return column


def _moments(column: pa.Array) -> pa.Array:
    if column.null_count == len(column):
        return pa.nulls(len(column), _MOMENT)
    if not column.null_count and _are_plain(column):
        moments = column.cast(_MOMENT)
        if pc.min(moments.cast(_NUMBER)).as_py() < _FIRST_MOMENT:
            raise _Doubt
        return moments
    parsed = [None if value is None else parse_datetime(value) for value in column.to_pylist()]
    if parsed.count(None) > column.null_count:
        raise _Doubt
    return moments_array(parsed)


def _are_plain(column: pa.Array) -> bool:
    """Whether all are written as `2026-11-20T10:15:30.123456Z`, all as long: then Arrow's reader is right."""
    lengths, data = _bytes_of(column)
    fraction = int(lengths[0]) - len(_PATTERN) - 1
    if fraction not in (0, 4, 7) or (lengths != lengths[0]).any():
        return False
    found = data.reshape(len(column), -1)
    pattern = np.frombuffer((_PATTERN + "." * (fraction > 0) + "0" * (fraction - 1) + "Z").encode(), np.uint8)
    digits = pattern == ord("0")
    return bool(
        (found[:, ~digits] == pattern[~digits]).all()
        and ((found[:, digits] >= ord("0")) & (found[:, digits] <= ord("9"))).all()
    )


def _signed_urls(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The text of each, and when it expires."""
    if column.type == _TEXT:
        return pc.if_else(pc.equal(column, ""), None, column), pa.nulls(len(column), _MOMENT)
    urls, expires = column.flatten()
    if urls.null_count > column.null_count or pc.any(pc.equal(urls, "")).as_py():
        raise _Doubt
    different = expires.dictionary_encode()
    moments = [parse_datetime(text) for text in different.dictionary.to_pylist()]
    return urls, moments_array(moments).take(different.indices)


def _bytes_of(column: pa.Array) -> tuple[Any, Any]:
    """The lengths of a column's texts, and the bytes of all of them together."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return ends[1:] - ends[:-1], np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data else np.zeros(0, np.uint8)
