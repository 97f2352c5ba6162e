"""JSON results: bytes in, the records of a document out, or the reason why there are none. Pure.

A document is `{"data": [object, ...], "metadata": {"count": n}}` in I-JSON (RFC 7493): UTF-8 without a byte order mark, no
name twice in an object, no lone surrogates, finite numbers. Whatever departs from it has no one meaning that every reader of
the lake would agree on, so it gives no rows at all and says why; its bytes are stored and proven all the same. Members that
stand beside `data` and `count` are allowed and stay in the contents.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a document gives no rows: a stable code of the quarantine dataset, and the same in words."""

    reason: str
    detail: str


class _Refused(ValueError):
    """Raised inside the decoder, whose callbacks have no other way to stop it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(reason, detail)


def parse_document(raw: bytes) -> list[Record] | Fault:
    """The records of a JSON result, in order; never raises, whatever the bytes are."""
    document = decode(raw)
    return document if isinstance(document, Fault) else records_of(document)


def decode(raw: bytes) -> Any:
    """What the bytes say as I-JSON, or a Fault; never raises.

    A number beyond a 64-bit float is an infinity here, which `fitting.py` refuses: to look at each number now costs a fifth.
    """
    if raw.startswith(BOM):
        return Fault("records_bom", "the document starts with a byte order mark")
    try:
        text = raw.decode("utf-8")
        document = _DECODER.decode(text)
        if "\\ud" in text or "\\uD" in text:  # nearly always one half of a pair; only encoding tells
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        return Fault("records_not_utf8", f"byte {error.start} is not UTF-8")
    except UnicodeEncodeError:
        return Fault("records_lone_surrogate", "a text holds one half of a surrogate pair")
    except _Refused as error:
        return error.fault
    except json.JSONDecodeError as error:
        return Fault("records_not_json", f"{error.msg} at character {error.pos}")
    except RecursionError:
        return Fault("records_too_deep", "arrays and objects are nested too deep")
    except ValueError:
        return Fault("records_number_out_of_range", "an integer has more digits than Python converts")
    return document


@dataclass(frozen=True, slots=True)
class Quick:
    """What a quick decoder makes of a document, and how many names stand in it."""

    records: list[Record]
    names: int


def parse_quickly(raw: bytes) -> Quick | None:
    """What `parse_document` gives, in a third of the time but for two things; None where even that is in doubt.

    An integer beyond 64 bits is a float here, and of a name that stands twice in an object only the last value is left. Whoever
    takes the answer has to see to both: no float of 2**53 or more may be in it, and as many names as the text has.
    """
    try:
        match orjson.loads(raw):
            case {"data": list(data), "metadata": {"count": int(count), **rest}, **others} if not rest and not others:
                pass
            case _:
                return None
    except orjson.JSONDecodeError:
        return None
    if count is True or count is False or count != len(data) or not set(map(type, data)) <= {dict}:
        return None
    # A name is a text right before a colon: `":` inside a text makes them look more. White space between would make them less.
    if any(space in raw for space in _OTHER_SPACE) or (b" :" in raw and _SPACED.search(raw)):
        return None
    return Quick(data, raw.count(b'":') - _NAMES_AROUND)


_OTHER_SPACE = (b"\t", b"\n", b"\r")
_SPACED = re.compile(rb'" +:')
_NAMES_AROUND = 3  # data, metadata, count


def looks_like_document(raw: bytes) -> bool:
    """Whether bytes of no known type may be a document at all: cheap, before anything is decoded."""
    return raw[:64].lstrip(_SPACE).startswith(b"{")


def records_of(document: Any, *, held: int | None = None) -> list[Record] | Fault:
    """The records of a decoded document; `held` is how many there are where `data` has only some of them."""
    match document:
        case {"data": list(data), "metadata": {"count": int(count)}} if not isinstance(count, bool):
            pass
        case _:
            return Fault("records_other_shape", 'the document is not {"data": [...], "metadata": {"count": n}}')
    if not set(map(type, data)) <= {dict}:
        other = next(number for number, record in enumerate(data) if type(record) is not dict)
        return Fault("records_other_shape", f"record {other} is not an object")
    held = len(data) if held is None else held
    if count != held:
        # The count as text: it may have more digits than Python converts.
        said = str(count) if abs(count) < 10**18 else "another number"
        return Fault("records_count_mismatch", f"metadata.count says {said}, data holds {held} records")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise _Refused("records_duplicate_key", "an object holds a name twice")
    return record


def _constant(name: str) -> NoReturn:
    raise _Refused("records_not_json", f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
