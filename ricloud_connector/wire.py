"""The API's protocol without HTTP: request values out; status, headers and body in, facts or a typed error back. Pure.

What is documented and what is inferred of the API is said at each place. Whatever a server sends, only two things leave
this module: facts whose types hold, or an error of `errors.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from ricloud_connector.headers import retry_after_s
from ricloud_connector.item import FEW_BYTES, JsonReader, parse_item, shape_of
from ricloud_connector.listed import Listed
from ricloud_connector.model import Rejection, Result, Window, id_of
from ricloud_connector.quick_page import read_quickly
from ricloud_connector.redact import Secret, clean

LIST_PATH = "/results"
PAGE_LIMIT = 1000  # documented maximum of `limit`
MAX_ITEMS = 100_000  # of one page: a server may ignore `limit`, but not by that much
MAX_ERROR_BYTES = 65_536

# How a datetime filter is written is not documented; keyword arguments of the vendor's own client can carry this style.
DATE_FILTER = ("date_created__gte", "date_created__lt")


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

    items: Listed
    has_more: bool
    cursor: str | None


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
    return Request("GET", LIST_PATH, tuple(params))


def retrieve_request(result_id: str) -> Request:
    """One result by id.

    Raises: ApiRefused for an id that no URL can carry as a path segment: `.`, `..`, or half a character.
    """
    try:
        segment = quote(result_id, safe="")
    except UnicodeEncodeError:
        segment = ""
    if segment in ("", ".", ".."):
        raise ApiRefused(f"the id {clean(repr(result_id), limit=80)} cannot be asked for by a URL", status=0)
    return Request("GET", f"/results/{segment}")


def acknowledge_request(wire_ids: Sequence[int | str]) -> Request:
    """A batch of acknowledgements. The ids are written as the API wrote them: integers stay integers."""
    return Request("POST", "/results/ack", json={"ids": list(wire_ids)})


def parse_page(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Page:
    """The page in a reply to `list_request`.

    Items with a fault of their own come back as a `Rejection`; the others of the page are not harmed.

    Raises: UntrustedAnswer for a page that cannot be believed; TokenRefused, FilterRefused, ApiRefused, ApiUnavailable.
    """
    quick = read_quickly(body) if status == 200 and len(body) <= FEW_BYTES else None
    if quick is not None:
        return Page(quick.items, quick.has_more, quick.items.column("id")[-1].as_py())
    return parse_page_with_care(status, headers, body, *secrets)


def parse_page_with_care(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Page:
    """The same, item by item, whatever they hold. Raises: as `parse_page`."""
    document, doubtful = _document(status, headers, body, *secrets)
    if type(document) is not dict:
        raise UntrustedAnswer(f"GET /results: the answer is {shape_of(document)}, not an object")
    data, has_more = document.get("data"), document.get("has_more")
    if not isinstance(data, list):
        raise UntrustedAnswer(f"GET /results: `data` is {shape_of(data)}, not a list")
    if not isinstance(has_more, bool):
        raise UntrustedAnswer(f"GET /results: `has_more` is {shape_of(has_more)}, not true or false")
    if len(data) > MAX_ITEMS:
        raise UntrustedAnswer(f"GET /results: a page of {len(data)} items; {PAGE_LIMIT} were asked for")
    items: list[Result | Rejection] = []
    cursor: str | None = None
    for item in data:
        try:
            parsed = parse_item(item, *secrets, doubtful=doubtful)
            cursor = id_of(parsed)
        except UntrustedAnswer as error:  # it has no id: what is wrong with it is all the name there is
            parsed = Rejection(str(error), "malformed", str(error))
        items.append(parsed)
    if items and cursor is None:
        raise UntrustedAnswer(f"GET /results: not one item can be told from another: {id_of(items[0])}")
    return Page(Listed.of(items), has_more, cursor)


def parse_result(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> Result | Rejection:
    """The result in a reply to `retrieve_request`. Raises: as `parse_page`."""
    document, doubtful = _document(status, headers, body, *secrets)
    return parse_item(document, *secrets, doubtful=doubtful)


def parse_acknowledgement(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> None:
    """Nothing: a 200 proves nothing about one id [doc], so the body is not even read. Raises: as `parse_page`."""
    if status not in (200, 201, 202, 204):
        raise _error(status, headers, body, *secrets)


def _document(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> tuple[Any, bool]:
    """The JSON of a 200, and whether each item in it must be looked at closely."""
    if status != 200:
        raise _error(status, headers, body, *secrets)
    reader = JsonReader()
    try:
        return reader.read(body), reader.doubtful
    except (ValueError, RecursionError) as error:
        said = f"the answer ({len(body)} bytes, {clean(headers.get('content-type', 'no type'), *secrets, limit=60)}) "
        # A page of HTML says what stands in between, and will again; of JSON cut short nothing is shown, since signed
        # URLs are what most of it consists of.
        if body.lstrip().startswith(b"<"):
            text = body[:4096].decode("utf-8", "replace")
            raise UntrustedAnswer(f"{said}is not JSON but {clean(text, *secrets)!r}") from None
        raise UntrustedAnswer(f"{said}is not JSON that can be read ({type(error).__name__})", cut_short=True) from None


def _error(status: int, headers: Mapping[str, str], body: bytes, *secrets: Secret) -> ApiError:
    """The typed error of a reply other than 200. Error bodies are `{"error", "message", "params"}` [client]."""
    text = body[:4096].decode("utf-8", "replace")
    named: list[str] = []
    try:
        document = json.loads(body[:MAX_ERROR_BYTES])
        text = f"{document.get('error', '')}: {document.get('message', '')}"
        if isinstance(document.get("params"), dict):
            named = list(document["params"])
    except (ValueError, AttributeError, RecursionError):
        pass  # a proxy in between may answer HTML: its text serves as well as ours would
    params = tuple(clean(name, *secrets, limit=64) for name in named[:10])
    said = f"HTTP {status}: {clean(text, *secrets)}" + (f" ({', '.join(params)})" if params else "")
    if status in (401, 403):
        return TokenRefused(f"RICLOUD_TOKEN is not accepted: {said}", status=status)
    if status == 429 or status >= 500:
        return ApiUnavailable(said, retry_after_s=retry_after_s(headers))
    if status == 400 and any("date_created" in name for name in named or [text]):
        return FilterRefused(said, status=status, params=params)
    if 300 <= status < 400:
        target = clean(headers.get("location", "nowhere").partition("?")[0], *secrets)
        return ApiRefused(f"the API redirects to {target}, which is not followed; check RICLOUD_URL", status=status)
    return ApiRefused(said, status=status, params=params)


def _whole_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
