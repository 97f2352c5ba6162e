"""A page of a list column by column, where each of its items is plain: what nearly every page is. Pure.

`item.py` looks at one field after the other, with every departure in mind, and takes nearly twice as long. What is read here is
what it would make of the same bytes; on any doubt there is no answer, and the page goes that way.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from ricloud_connector.collector import collector_at_rest
from ricloud_connector.item import (
    ID_REFUSED,
    KNOWN_FIELDS,
    MAX_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    TEXT_FIELDS,
    expiry_of,
    extra_of,
    parse_datetime,
)
from ricloud_connector.listed import Listed, micros

_HEX_DIGITS = "0123456789abcdefABCDEF"
_PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_FIRST_MOMENT = micros(datetime.min.replace(tzinfo=UTC))  # numpy knows a year 0
_MOMENT = "0000-00-00T00:00:00"  # 0 stands for any digit


class QuickPage(NamedTuple):
    """What a page says that is plain all through. It has items, and all of them are results."""

    items: Listed
    has_more: bool


class _Doubt(Exception):
    """Raised inside; the page may read otherwise the careful way."""


def read_quickly(body: bytes) -> QuickPage | None:
    """The page; None where it is not certain that this is what `item.py` would make of it."""
    with collector_at_rest():
        return _read(body)


def _read(body: bytes) -> QuickPage | None:
    try:
        # It refuses bytes that are no UTF-8, half characters, NaN and infinity; of an integer beyond 64 bits it makes a float,
        # which is no plain value here, and of a name that stands twice it keeps the last, which the count of names tells.
        document = orjson.loads(body)
        items, has_more = document["data"], document["has_more"]
        if type(has_more) is not bool or not items or set(map(type, items)) != {dict}:
            return None
        fields = _fields(items)
        _check_names(body, document, items, fields)
        return QuickPage(_listed(items, fields), has_more)
    except (_Doubt, ValueError, KeyError, TypeError):  # a ValueError of orjson, or of a 30th of February
        return None


def _fields(items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of each name that any of the items has; None where one has it not."""
    shapes = set(map(tuple, items))
    if len(shapes) == 1:
        return dict(zip(shapes.pop(), map(list, zip(*map(dict.values, items), strict=True)), strict=True))
    return {name: [item.get(name) for item in items] for name in set(chain.from_iterable(shapes))}


def _check_names(body: bytes, document: dict[str, Any], items: list[dict[str, Any]], fields: dict[str, list[Any]]) -> None:
    """Nothing, where no name stands twice in an object, and what is not known is plain. Raises: _Doubt."""
    signed = fields.get("signed_url", [])
    if not set(map(type, signed)) <= {dict, str, type(None)}:
        raise _Doubt
    nested = [each for each in signed if type(each) is dict]
    names = len(document) + sum(map(len, items)) + sum(map(len, nested))
    # A name is a text right before a colon: `":` inside a text makes them look more, white space between would make them less.
    found = np.frombuffer(body, np.uint8)
    before_colons = found[np.flatnonzero(found == ord(":")) - 1]
    if np.count_nonzero(before_colons == ord('"')) != names or (before_colons <= ord(" ")).any():
        raise _Doubt
    others = [value for name, value in document.items() if name != "data"]
    unknown = [fields[name] for name in fields.keys() - KNOWN_FIELDS]
    inner = chain.from_iterable(map(dict.values, nested))
    if not set(map(type, chain(others, *unknown, inner))) <= _PLAIN_TYPES:
        raise _Doubt


def _listed(items: list[dict[str, Any]], fields: dict[str, list[Any]]) -> Listed:
    """The items as columns. Raises: _Doubt."""
    nothing = [None] * len(items)
    found: dict[str, list[Any]] = {name: _texts(fields.get(name, nothing)) for name in TEXT_FIELDS}
    found |= {
        "id": _ids(fields["id"]),
        "wire_id": fields["id"],
        "state": [state or "" for state in found["state"]],
        "checksum": _checksums(fields["checksum"]),
        "size": _sizes(fields["size"]),
        "date_consumed": _optional_moments(fields.get("date_consumed", nothing)),
        "date_deleted": _optional_moments(fields.get("date_deleted", nothing)),
        "extra": [extra_of(item, {}) for item in items] if fields.keys() - KNOWN_FIELDS else nothing,
    }
    found["signed_url"], found["expires_at"] = _signed_urls(fields.get("signed_url", nothing))
    return Listed(found, _moments(fields["date_created"]))


def _texts(values: list[Any]) -> list[str | None]:
    """The same values; where there are few different ones, each only once in memory."""
    different = set(values)
    if not set(map(type, different)) <= {str, type(None)}:
        raise _Doubt
    if max(map(len, filter(None, different)), default=0) > MAX_TEXT_CHARACTERS:
        raise _Doubt
    if len(different) > len(values) // 2:
        return values
    once = {value: value for value in different}
    return list(map(once.__getitem__, values))


def _ids(values: list[Any]) -> list[str]:
    kinds = set(map(type, values))
    if not kinds <= {str, int}:
        raise _Doubt
    ids = values if kinds == {str} else list(map(str, values))
    if not all(ids) or max(map(len, ids)) > MAX_ID_CHARACTERS or ID_REFUSED.search(" ".join(ids)):
        raise _Doubt
    return ids


def _checksums(values: list[Any]) -> list[str]:
    if set(map(type, values)) != {str} or set(map(len, values)) != {32} or "".join(values).strip(_HEX_DIGITS):
        raise _Doubt
    return [value.lower() for value in values]


def _sizes(values: list[Any]) -> list[int]:
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) >= 2**63:
        raise _Doubt
    return values


def _moments(values: list[Any]) -> Any:
    """In microseconds of UTC, int64."""
    if set(map(type, values)) != {str}:
        raise _Doubt
    if _are_plain(values):
        moments = np.array([value[:-1] for value in values], "M8[us]").view(np.int64)
        if moments.min() < _FIRST_MOMENT:
            raise _Doubt
        return moments
    parsed = list(map(parse_datetime, values))
    if None in parsed:
        raise _Doubt
    return np.array([micros(moment) for moment in parsed if moment is not None], np.int64)


def _are_plain(values: list[str]) -> bool:
    """Whether all are written as `2026-11-20T10:15:30.123456Z`, all as long: then numpy's reader is right."""
    length = len(values[0])
    fraction = length - len(_MOMENT) - 1
    text = "".join(values)
    if fraction not in (0, 4, 7) or set(map(len, values)) != {length} or not text.isascii():
        return False
    found = np.frombuffer(text.encode(), np.uint8).reshape(len(values), length)
    pattern = np.frombuffer((_MOMENT + "." * (fraction > 0) + "0" * (fraction - 1) + "Z").encode(), np.uint8)
    digits = pattern == ord("0")
    return bool(
        (found[:, ~digits] == pattern[~digits]).all()
        and ((found[:, digits] >= ord("0")) & (found[:, digits] <= ord("9"))).all()
    )


def _optional_moments(values: list[Any]) -> list[datetime | None]:
    if set(map(type, values)) == {type(None)}:
        return values
    moments = [None if value is None else parse_datetime(value) for value in values]
    if any(moment is None and value is not None for moment, value in zip(moments, values, strict=True)):
        raise _Doubt
    return moments


def _signed_urls(values: list[Any]) -> tuple[list[str | None], list[datetime | None]]:
    """The text of each, and when it expires."""
    objects = [value if type(value) is dict else {"url": value or None} for value in values]
    urls = [each["url"] for each in objects]
    if any(type(value) is dict and (type(url) is not str or not url) for value, url in zip(values, urls, strict=True)):
        raise _Doubt
    expires = [each.get("date_expires") for each in objects]
    return urls, [expiry_of(text) if type(text) is str else None for text in expires]
