"""One item of a list as facts: JSON in, a `Result` or the reason why it is none out. Pure.

JSON is read with more care than its parsers take: they keep the last of two equal keys, accept NaN and infinity, half
characters and numbers without end. What a document holds of these is noted while it is read, so that the items of
nearly every page need no second look.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from ricloud_connector.errors import UntrustedAnswer
from ricloud_connector.model import Rejection, Result, SignedUrl
from ricloud_connector.redact import Secret, clean

MAX_ID_CHARACTERS = 512
MAX_TEXT_CHARACTERS = 16_384
MAX_EXTRA_CHARACTERS = 65_536
MAX_VALUES = 2_000_000  # of one document: `[],` is three bytes on the wire and more than sixty in memory
FEW_BYTES = 4 * 1024 * 1024  # too few to hold more than can be borne

ID_REFUSED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WRITTEN_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?", re.IGNORECASE | re.ASCII)

TEXT_FIELDS = ("identifier", "type", "url", "resource", "organisation", "poll", "task", "state")
KNOWN_FIELDS = frozenset(
    {"id", "checksum", "size", "signed_url", "date_created", "date_consumed", "date_deleted", *TEXT_FIELDS}
)


class _DuplicateKeys(dict[str, Any]):
    """An object in which a key stood twice: parsers differ on which one counts, so it is nobody's fact."""


class _Unfit(Exception):
    """What makes an item unfit for a row. Never leaves this module."""


class JsonReader:
    """Reads one document. `doubtful` says afterwards whether something in it may be unfit for a row."""

    def __init__(self) -> None:
        self.doubtful = False

    def read(self, body: bytes) -> Any:
        """The document. Raises: ValueError, RecursionError; UntrustedAnswer for one of too many values."""
        if len(body) > FEW_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise UntrustedAnswer(f"the answer ({len(body)} bytes) holds more than {MAX_VALUES} values")
        try:
            text = body.decode()
            self.doubtful = "\\u" in text and _WRITTEN_SURROGATE.search(text) is not None
        except UnicodeDecodeError:
            # Bytes that are no UTF-8 become lone surrogates, which are then the fault of the one item that holds them.
            text, self.doubtful = body.decode("utf-8", "surrogateescape"), True
        return json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._number,
            parse_constant=self._number,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.doubtful = True
        return _DuplicateKeys(found)

    def _integer(self, text: str) -> int | float:
        return int(text) if len(text) <= MAX_ID_CHARACTERS else self._number("nan")  # more is no number anybody means

    def _number(self, text: str) -> float:
        value = float(text)
        self.doubtful = self.doubtful or not math.isfinite(value)
        return value


def parse_item(item: object, *secrets: Secret, doubtful: bool = True) -> Result | Rejection:
    """The result, or a `Rejection` that says what is wrong with it.

    Raises: UntrustedAnswer for an item without a usable id, which can be neither followed nor set aside by name.
    """
    result_id, wire_id = _id_of(item, secrets)
    assert isinstance(item, dict)
    created = parse_datetime(item.get("date_created"))
    try:
        if doubtful:
            _look_closely(item)
        if created is None:
            raise _Unfit(f"date_created is no ISO 8601 datetime: {_shown(item.get('date_created'), secrets)}")
        return _result(result_id, wire_id, created, item)
    except _Unfit as unfit:
        identifier = item.get("identifier")
        shown = clean(identifier, *secrets) if isinstance(identifier, str) else None
        return Rejection(result_id, "malformed", str(unfit), date_created=created, identifier=shown)


def parse_datetime(value: object) -> datetime | None:
    """An ISO 8601 datetime as aware UTC, to the microsecond (further digits are cut); None for anything else.

    The vendor documents UTC with and without a fraction; a time without a zone is taken as UTC, one with an offset is
    converted. Numbers are refused: nobody can tell seconds from milliseconds.
    """
    if not isinstance(value, str) or not _DATETIME.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _id_of(item: object, secrets: Sequence[Secret]) -> tuple[str, int | str]:
    """The id as exact text and as the API wrote it. Raises: UntrustedAnswer."""
    if not isinstance(item, dict):
        raise UntrustedAnswer(f"an item of the list is {shape_of(item)}, not an object")
    value = item.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value)
    elif isinstance(value, str) and value and not ID_REFUSED.search(value):
        text = value
    else:
        raise UntrustedAnswer(f"an item of the list has no usable id: {_shown(value, secrets)}")
    if len(text) > MAX_ID_CHARACTERS:
        raise UntrustedAnswer(f"an item of the list has an id of {len(text)} characters: {_shown(text, secrets)}")
    return text, value


def _look_closely(item: dict[str, Any]) -> None:
    """Nothing, where every corner of the item is fit for a row. Raises: _Unfit."""
    try:
        if _has_duplicate_keys(item):
            raise _Unfit("a key stands twice in one object")
        json.dumps(item, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise _Unfit("text that is not valid Unicode") from None
    except (ValueError, RecursionError):
        raise _Unfit("a number is not finite or without end, or the item is nested too deeply") from None


def _has_duplicate_keys(value: object) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _DuplicateKeys) or any(map(_has_duplicate_keys, value.values()))
    return isinstance(value, list) and any(map(_has_duplicate_keys, value))


def _result(result_id: str, wire_id: int | str, created: datetime, item: dict[str, Any]) -> Result:
    # A known field of an unexpected type is not lost: it stays empty in its column and goes to `extra` as it came.
    misfits: dict[str, Any] = {}
    texts = []
    for name in TEXT_FIELDS:
        value = item.get(name)
        short = value is None or (type(value) is str and len(value) <= MAX_TEXT_CHARACTERS)
        texts.append(value if short else _text(item, name, misfits))
    identifier, type_, url, resource, organisation, poll, task, state = texts
    return Result(
        result_id,
        wire_id,
        state or "",
        created,
        _checksum(item, misfits),
        _size(item, misfits),
        identifier,
        type_,
        url,
        _signed_url(item.get("signed_url")),
        resource,
        organisation,
        poll,
        task,
        _date(item, "date_consumed", misfits),
        _date(item, "date_deleted", misfits),
        extra_of(item, misfits),  # the last, since the others find the misfits
    )


def _text(item: dict[str, Any], name: str, misfits: dict[str, Any]) -> str | None:
    value = item.get(name)
    if isinstance(value, str):
        if len(value) > MAX_TEXT_CHARACTERS:
            raise _Unfit(f"{name} has {len(value)} characters")
        return value
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    misfits[name] = value
    return None


def _date(item: dict[str, Any], name: str, misfits: dict[str, Any]) -> datetime | None:
    value = item.get(name)
    if value is None:
        return None
    moment = parse_datetime(value)
    if moment is None:
        misfits[name] = value
    return moment


def _checksum(item: dict[str, Any], misfits: dict[str, Any]) -> str | None:
    value = item.get("checksum")
    if isinstance(value, str) and _MD5.fullmatch(value):
        return value.lower()
    if value is not None:
        misfits["checksum"] = value
    return None


def _size(item: dict[str, Any], misfits: dict[str, Any]) -> int | None:
    value = item.get("size")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    if value is not None:
        misfits["size"] = value
    return None


@lru_cache(maxsize=64)
def expiry_of(text: str) -> datetime | None:
    """A moment that many results of a page share."""
    return parse_datetime(text)


def _signed_url(value: object) -> SignedUrl | None:
    if isinstance(value, dict) and isinstance(value.get("url"), str) and value["url"]:
        expires = value.get("date_expires")
        return SignedUrl(value["url"], expiry_of(expires) if isinstance(expires, str) else None)
    if isinstance(value, str) and value:
        return SignedUrl(value, None)
    return None


def extra_of(item: dict[str, Any], misfits: dict[str, Any]) -> str | None:
    """JSON text of what has no column of its own, if there is any."""
    if not misfits and KNOWN_FIELDS.issuperset(item):
        return None
    fields = {name: value for name, value in item.items() if name not in KNOWN_FIELDS} | misfits
    try:
        text = json.dumps(fields, ensure_ascii=False, sort_keys=True)
    except RecursionError:
        raise _Unfit("the item is nested too deeply") from None
    if len(text) > MAX_EXTRA_CHARACTERS:
        return json.dumps({"ricloud_connector": f"{len(fields)} unknown fields of {len(text)} characters were not kept"})
    return text


def _shown(value: object, secrets: Sequence[Secret]) -> str:
    """A value of any kind, in a few words."""
    if isinstance(value, str):
        return clean(repr(value[:MAX_TEXT_CHARACTERS]), *secrets, limit=80)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)[:80]
    return shape_of(value)


def shape_of(value: object) -> str:
    """What kind of JSON a value is, in words."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null or missing"}
    if isinstance(value, _DuplicateKeys):
        return "an object with a key that stands twice"
    return names.get(type(value), "a number")
