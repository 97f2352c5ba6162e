"""A page of a list column by column, where each of its items is plain: what nearly every page is. Pure.

`item.py` looks at one field after the other, with every departure in mind, and takes nearly twice as long. What is read here is
what it would make of the same bytes; on any doubt there is no answer, and the page goes that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import orjson

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
from ricloud_connector.model import Result, SignedUrl

_HEX_DIGITS = "0123456789abcdefABCDEF"
_PLAIN_TYPES = frozenset({str, int, bool, type(None)})
_MOMENT = "0000-00-00T00:00:00"  # 0 stands for any digit


class QuickPage(NamedTuple):
    """What a page says that is plain all through. Its items are not empty."""

    items: list[Result]
    has_more: bool


class _Doubt(Exception):
    """Raised inside; the page may read otherwise the careful way."""


def read_quickly(body: bytes) -> QuickPage | None:
    """The page; None where it is not certain that this is what `item.py` would make of it."""
    try:
        # It refuses bytes that are no UTF-8, half characters, NaN and infinity; of an integer beyond 64 bits it makes a float,
        # which is no plain value here, and of a name that stands twice it keeps the last, which the count of names tells.
        document = orjson.loads(body)
        items, has_more = document["data"], document["has_more"]
        if type(has_more) is not bool or not items or set(map(type, items)) != {dict}:
            return None
        _check_names(body, document, items)
        return QuickPage(list(map(Result, *_columns(items))), has_more)
    except (_Doubt, ValueError, KeyError, TypeError):  # a ValueError of orjson, or of a 30th of February
        return None


def _check_names(body: bytes, document: dict[str, Any], items: list[dict[str, Any]]) -> None:
    """Nothing, where no name stands twice in an object. Raises: _Doubt."""
    signed = [item.get("signed_url") for item in items]
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
    unknown = [item[name] for name in _unknown(items) for item in items if name in item]
    inner = [value for each in nested for value in each.values()]
    if not set(map(type, [*others, *unknown, *inner])) <= _PLAIN_TYPES:
        raise _Doubt


def _unknown(items: list[dict[str, Any]]) -> set[str]:
    """The names of fields that are not documented."""
    return {name for shape in set(map(tuple, items)) for name in shape} - KNOWN_FIELDS


def _columns(items: list[dict[str, Any]]) -> list[Sequence[Any]]:
    """The fields of `Result`, each for all items. Raises: _Doubt."""
    found: dict[str, Sequence[Any]] = {name: _texts([item.get(name) for item in items]) for name in TEXT_FIELDS}
    wire_ids = [item["id"] for item in items]
    found |= {
        "id": _ids(wire_ids),
        "wire_id": wire_ids,
        "state": [state or "" for state in found["state"]],
        "date_created": _moments([item["date_created"] for item in items]),
        "checksum": _checksums([item["checksum"] for item in items]),
        "size": _sizes([item["size"] for item in items]),
        "signed_url": [_signed_url(item.get("signed_url")) for item in items],
        "date_consumed": _optional_moments([item.get("date_consumed") for item in items]),
        "date_deleted": _optional_moments([item.get("date_deleted") for item in items]),
        "extra": [extra_of(item, {}) for item in items] if _unknown(items) else [None] * len(items),
    }
    return [found[name] for name in Result._fields]


def _texts(values: list[Any]) -> list[str | None]:
    kinds = set(map(type, values))
    if not kinds <= {str, type(None)}:
        raise _Doubt
    if kinds != {type(None)} and max(map(len, filter(None, values)), default=0) > MAX_TEXT_CHARACTERS:
        raise _Doubt
    return values


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


def _moments(values: list[Any]) -> list[datetime]:
    if set(map(type, values)) != {str}:
        raise _Doubt
    moments = list(map(datetime.fromisoformat if _are_plain(values) else parse_datetime, values))
    if None in moments:
        raise _Doubt
    return moments  # type: ignore[return-value]


def _are_plain(values: list[str]) -> bool:
    """Whether all are written as `2026-11-20T10:15:30.123456Z`, all as long: then Python's own reader is right."""
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


def _signed_url(value: Any) -> SignedUrl | None:
    if type(value) is dict:
        url, expires = value["url"], value.get("date_expires")
        if type(url) is not str or not url:
            raise _Doubt
        return SignedUrl(url, expiry_of(expires) if type(expires) is str else None)
    return SignedUrl(value, None) if value else None
