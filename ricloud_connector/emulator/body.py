"""The JSON bodies of results and pages. Pure.

A page of 1,000 is rendered at each request with 1,000 new signatures, so whatever never changes of a result is
rendered once (`render_head`) and the rest is appended as bytes.
"""

import json
from collections.abc import Iterable
from datetime import datetime

from ricloud_connector.emulator.model import Draft, format_moment
from ricloud_connector.emulator.state import Entry

# Everything else of the draft's fields is appended to the head as it is.
_CHANGING = frozenset({"signed_url", "state", "date_consumed", "date_deleted"})


def render_head(draft: Draft, url: str) -> bytes:
    """The start of a result's JSON object, up to what may change, without the closing brace."""
    facts: dict[str, object] = {
        "id": draft.id,
        "resource": "result",
        "organisation": draft.organisation,
        "poll": draft.poll,
        "task": draft.task,
        "identifier": draft.identifier,
        "url": url,
        "type": draft.type,
        "checksum": draft.checksum,
        "size": draft.size,
        "date_created": draft.date_created,
    }
    facts |= {name: value for name, value in draft.fields.items() if name not in _CHANGING}
    for name in draft.without:
        facts.pop(name, None)
    return json.dumps(facts).encode().removesuffix(b"}")


def render_signed_url(url: str, date_expires: str) -> bytes:
    """The `signed_url` of a result. The URL is percent-encoded, so nothing in it needs a JSON escape."""
    return f'{{"url": "{url}", "date_expires": "{date_expires}"}}'.encode()


def render_result(entry: Entry, signed_url: bytes) -> bytes:
    """One result; `signed_url` is JSON."""
    draft = entry.draft
    if _CHANGING.isdisjoint(draft.fields) and _CHANGING.isdisjoint(draft.without) and len(entry.head) > 1:
        return b'%b, "signed_url": %b, "state": "%b", "date_consumed": %b, "date_deleted": %b}' % (
            entry.head,
            signed_url,
            entry.state.encode(),
            _render_moment(entry.date_consumed),
            _render_moment(entry.date_deleted),
        )
    facts: dict[str, object] = json.loads(entry.head + b"}")
    facts["signed_url"] = json.loads(signed_url)
    facts["state"] = entry.state
    facts["date_consumed"] = entry.date_consumed and format_moment(entry.date_consumed)
    facts["date_deleted"] = entry.date_deleted and format_moment(entry.date_deleted)
    facts |= {name: value for name, value in draft.fields.items() if name in _CHANGING}
    for name in draft.without:
        facts.pop(name, None)
    return json.dumps(facts).encode()


def render_page(results: Iterable[bytes], *, has_more: bool, total_count: int) -> bytes:
    """A page of rendered results."""
    end = {"has_more": has_more, "total_count": total_count, "url": "/results"}
    return b'{"data": [%b], %b' % (b", ".join(results), json.dumps(end).encode().removeprefix(b"{"))


def render_error(error: str, message: str, params: dict[str, str] | None = None) -> bytes:
    """The body of an error, `params` only where it applies."""
    body: dict[str, object] = {"error": error, "message": message}
    if params:
        body["params"] = params
    return json.dumps(body).encode()


def _render_moment(moment: datetime | None) -> bytes:
    return b"null" if moment is None else f'"{format_moment(moment)}"'.encode()
