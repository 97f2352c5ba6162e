"""The API's protocol without HTTP: request values out; status, headers and body in, facts or a typed error back. Pure.

What is documented and what is inferred of the API is said at each place. Whatever a server sends, only two things leave
this module: facts whose types hold, or an error of `errors.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from ricloud_connector.errors import (
    ApiError,
    ApiRefused,
    ApiUnavailable,
    FilterRefused,
    TokenRefused,
    UntrustedAnswer,
)
from ricloud_connector.model import Rejection, Result, SignedUrl, Window
from ricloud_connector.redact import Secret, clean

PAGE_LIMIT = 1000  # documented maximum of `limit`
MAX_ID_CHARACTERS = 512
MAX_TEXT_CHARACTERS = 16_384
MAX_EXTRA_CHARACTERS = 65_536
MAX_RETRY_AFTER_S = 300.0

# How a datetime filter is written is not documented; keyword arguments of the vendor's own client can carry this style.
DATE_FILTER = ("date_created__gte", "date_created__lt")

_ID_REFUSED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MD5 = re.compile(r"[0-9a-f]{32}")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE)

_TEXT_FIELDS = ("identifier", "type", "url", "resource", "organisation", "poll", "task")
_DATE_FIELDS = ("date_consumed", "date_deleted")
_KNOWN_FIELDS = frozenset({"id", "state", "date_created", "checksum", "size", "signed_url", *_TEXT_FIELDS, *_DATE_FIELDS})


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the API, before HTTP."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    json: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `cursor` is the id of its last item, exactly as `after_id` takes it."""

    items: tuple[Result | Rejection, ...]
    has_more: bool
    cursor: str | None


class _DuplicateKeys(dict[str, Any]):
    """An object in which a key stood twice: parsers differ on which one counts, so it is nobody's fact."""


def list_request(
    window: Window | None,
    state: str,
    after_id: str | None,
    *,
    limit: int = PAGE_LIMIT,
    date_filter: tuple[str, str] | None = DATE_FILTER,
    filters: Mapping[str, str] | None = None,
) -> Request:
    """A page of results. The window is widened to whole seconds, since a server may compare truncated fractions."""
    params = [("limit", str(limit)), ("state", state), *(filters or {}).items()]
    if window is not None and date_filter is not None:
        until = window.until + timedelta(seconds=1 if window.until.microsecond else 0)
        params += [(date_filter[0], _whole_seconds(window.since)), (date_filter[1], _whole_seconds(until))]
    if after_id is not None:
        params.append(("after_id", after_id))
    return Request("GET", "/results", tuple(params))


def retrieve_request(result_id: str) -> Request:
    """One result by id.

    Raises: ApiRefused for `.` and `..`, which no URL can carry as a path segment.
    """
    if result_id in (".", ".."):
        raise ApiRefused(f"the id {result_id!r} cannot be asked for by a URL", status=0)
    return Request("GET", f"/results/{quote(result_id, safe='')}")


def acknowledge_request(wire_ids: Sequence[int | str]) -> Request:
    """A batch of acknowledgements. The ids are written as the API wrote them: integers stay integers."""
    return Request("POST", "/results/ack", json={"ids": list(wire_ids)})


def parse_page(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Page:
    """The page in a reply to `list_request`.

    Items with an id but a fault of their own come back as a `Rejection`; the others of the page are not harmed.

    Raises: UntrustedAnswer for a page that cannot be believed; TokenRefused, FilterRefused, ApiRefused, ApiUnavailable.
    """
    document = _document(status, headers, body, *secrets)
    if type(document) is not dict:
        raise UntrustedAnswer(f"GET /results: the answer is {_shape(document)}, not an object")
    data, has_more = document.get("data"), document.get("has_more")
    if not isinstance(data, list):
        raise UntrustedAnswer(f"GET /results: `data` is {_shape(data)}, not a list")
    if not isinstance(has_more, bool):
        raise UntrustedAnswer(f"GET /results: `has_more` is {_shape(has_more)}, not true or false")
    items = tuple(_item(item) for item in data)
    return Page(items, has_more, _id_of(data[-1])[0] if data else None)


def parse_result(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Result | Rejection:
    """The result in a reply to `retrieve_request`. Raises: as `parse_page`."""
    return _item(_document(status, headers, body, *secrets))


def parse_acknowledgement(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> None:
    """Nothing: a 200 proves nothing about one id [doc], so the body is not even read. Raises: as `parse_page`."""
    if status not in (200, 201, 202, 204):
        raise _error(status, headers, body, *secrets)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds asked for by a `Retry-After` header, from 0 to 300; None for one that makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def parse_datetime(value: object) -> datetime | None:
    """An ISO 8601 datetime as aware UTC, to the microsecond (further digits are cut); None for anything else.

    The vendor documents UTC with and without a fraction; a time without a zone is taken as UTC, one with an offset is
    converted. Numbers are refused: nobody can tell seconds from milliseconds.
    """
    match = _DATETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    seconds, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{seconds}.{(fraction or '0')[:6]:0<6}{zone or 'Z'}".upper())
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _document(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Any:
    if status != 200:
        raise _error(status, headers, body, *secrets)
    # Bytes that are no UTF-8 become lone surrogates, which are then the fault of the one item that holds them.
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        kind = headers.get("content-type", "no content type")
        raise UntrustedAnswer(
            f"the answer ({len(body)} bytes, {clean(kind, *secrets, limit=60)}) is not JSON that can be read "
            f"({type(error).__name__}): {clean(text, *secrets)!r}",
            cut_short=True,
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _DuplicateKeys(found)


def _error(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> ApiError:
    """The typed error of a reply other than 200. Error bodies are `{"error", "message", "params"}` [client]."""
    text = body[:4096].decode("utf-8", "replace")
    params: tuple[str, ...] = ()
    try:
        document = json.loads(body)
        text = f"{document.get('error', '')}: {document.get('message', '')}"
        if isinstance(document.get("params"), dict):
            params = tuple(clean(str(name), *secrets, limit=64) for name in document["params"])
    except (ValueError, AttributeError, RecursionError):
        pass  # a proxy in between may answer HTML: its text serves as well as ours would
    said = f"HTTP {status}: {clean(text, *secrets)}" + (f" ({', '.join(params[:10])})" if params else "")
    if status in (401, 403):
        return TokenRefused(f"RICLOUD_TOKEN is not accepted: {said}", status=status)
    if status == 429 or status >= 500:
        wait = retry_after_s(headers.get("retry-after"), datetime.now(UTC))
        return ApiUnavailable(said, retry_after_s=wait)
    if status == 400 and ("date_created" in text or any(name.startswith("date_created") for name in params)):
        return FilterRefused(said, status=status, params=params)
    if 300 <= status < 400:
        target = clean(headers.get("location", "nowhere"), *secrets)
        return ApiRefused(f"the API redirects to {target}, which is not followed; check RICLOUD_URL", status=status)
    return ApiRefused(said, status=status, params=params)


def _id_of(item: object) -> tuple[str, int | str]:
    """The id as exact text and as the API wrote it. Raises: UntrustedAnswer, since what has no id cannot be followed."""
    if not isinstance(item, dict):
        raise UntrustedAnswer(f"an item of the list is {_shape(item)}, not an object")
    value = item.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value_text = str(value)
    elif isinstance(value, str) and value and not _ID_REFUSED.search(value):
        value_text = value
    else:
        raise UntrustedAnswer(f"an item of the list has no usable id: {clean(repr(value), limit=80)}")
    if len(value_text) > MAX_ID_CHARACTERS:
        raise UntrustedAnswer(f"an item of the list has an id of {len(value_text)} characters")
    return value_text, value


def _item(item: object) -> Result | Rejection:
    result_id, wire_id = _id_of(item)
    assert isinstance(item, dict)
    created = parse_datetime(item.get("date_created"))
    fault = _fault(item, created)
    if fault is not None or created is None:
        identifier = item.get("identifier")
        shown = clean(identifier) if isinstance(identifier, str) else None
        return Rejection(result_id, "malformed", fault or "", date_created=created, identifier=shown)
    # A known field of an unexpected type is not lost: it stays empty in its column and goes to `extra` as it came.
    misfits: dict[str, Any] = {}
    texts = {name: _text(item, name, misfits) for name in _TEXT_FIELDS}
    dates = {name: _date(item, name, misfits) for name in _DATE_FIELDS}
    unknown = {name: value for name, value in item.items() if name not in _KNOWN_FIELDS}
    state = item.get("state")
    return Result(
        id=result_id,
        wire_id=wire_id,
        state=state if isinstance(state, str) else "",
        date_created=created,
        checksum=_checksum(item, misfits),
        size=_size(item, misfits),
        signed_url=_signed_url(item.get("signed_url")),
        extra=_extra(unknown | misfits),
        **texts,  # type: ignore[arg-type]  # the names of _TEXT_FIELDS are fields of type str | None
        **dates,  # type: ignore[arg-type]  # likewise datetime | None
    )


def _fault(item: dict[str, Any], created: datetime | None) -> str | None:
    """What makes the item unfit for a row, if anything."""
    if created is None:
        return f"date_created is no ISO 8601 datetime: {clean(repr(item.get('date_created')), limit=80)}"
    if _has_duplicate_keys(item):
        return "a key stands twice in one object"
    for name, value in item.items():
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS and name in _KNOWN_FIELDS:
            return f"{name} has {len(value)} characters"
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return "a number is not finite, or the item is nested too deeply"
    return "text that is not valid Unicode" if _SURROGATE.search(text) else None


def _has_duplicate_keys(value: object) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _DuplicateKeys) or any(map(_has_duplicate_keys, value.values()))
    return isinstance(value, list) and any(map(_has_duplicate_keys, value))


def _text(item: dict[str, Any], name: str, misfits: dict[str, Any]) -> str | None:
    value = item.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return value
    misfits[name] = value
    return None


def _date(item: dict[str, Any], name: str, misfits: dict[str, Any]) -> datetime | None:
    moment = parse_datetime(item.get(name))
    if moment is None and item.get(name) is not None:
        misfits[name] = item[name]
    return moment


def _checksum(item: dict[str, Any], misfits: dict[str, Any]) -> str | None:
    value = item.get("checksum")
    if isinstance(value, str) and _MD5.fullmatch(value.lower()):
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


def _signed_url(value: object) -> SignedUrl | None:
    if isinstance(value, str) and value:
        return SignedUrl(value, None)
    if isinstance(value, dict) and isinstance(value.get("url"), str) and value["url"]:
        return SignedUrl(value["url"], parse_datetime(value.get("date_expires")))
    return None


def _extra(fields: dict[str, Any]) -> str | None:
    if not fields:
        return None
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True)
    if len(text) > MAX_EXTRA_CHARACTERS:
        return json.dumps({"ricloud_connector": f"{len(fields)} unknown fields of {len(text)} characters were not kept"})
    return text


def _whole_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _shape(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null or missing"}
    return names.get(type(value), f"a {type(value).__name__}")
