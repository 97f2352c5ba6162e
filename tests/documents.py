"""JSON documents for tests: by hypothesis, hostile in every value; and by seed, drifting over years. Pure."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

NAMES = (
    "id",
    "ID",
    "size",
    "text",
    "date",
    "a/b",
    "~",
    "poll",
    "result_id",
    "_extra",
    "created_date",
    "",
    "größe",
    "x.y",
    "\n",
)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)

_moments = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**300]),
    st.floats(allow_nan=False, allow_infinity=False),
    _texts,
    _moments,
    st.sampled_from(
        ["2026-11-20T10:00:00+02:00", "2026-11-20T10:00:00.5Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "2026-11-20"]
    ),
)
_names = st.one_of(st.sampled_from(NAMES), _texts)
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=4)), max_leaves=12
)
records = st.lists(st.dictionaries(_names, values, max_size=5), max_size=5)


def document(data: list[dict[str, Any]], *, count: int | None = None) -> bytes:
    return json.dumps({"data": data, "metadata": {"count": len(data) if count is None else count}}).encode()


def same(value: Any) -> Any:
    """The value without what a table cannot tell: null members, and how a moment's fraction is spelled."""
    if isinstance(value, dict):
        return {name: same(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [same(element) for element in value]
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    # 1, 1.0 and True are equal in Python: a boolean is told apart, a number is a number.
    return ("bool", value) if isinstance(value, bool) else value


def drifting(seed: int, era: int) -> list[dict[str, Any]]:
    """The records of one document; from era to era fields come, go, are renamed and change their kind."""
    rng = random.Random(f"{seed}")
    return [_drifting_record(rng, number, era) for number in range(rng.randrange(0, 8))]


def _drifting_record(rng: random.Random, number: int, era: int) -> dict[str, Any]:
    identity = "file_id" if era >= 3 else "id"
    size: Any = rng.randrange(10**6)
    record: dict[str, Any] = {
        "key": f"{rng.getrandbits(64):016x}",
        "amount": rng.randrange(1000),
        "date": f"2026-{1 + era % 12:02d}-11T10:{number:02d}:00Z",
        "size": size if era < 2 else (size + 0.5 if era < 4 else f"{size} B"),
        "tags": [] if era == 0 else rng.sample(["a", "b", "c"], rng.randrange(3)),
        "note": None if era < 2 else ("text" if era < 5 else {"text": "text", "lang": "en"}),
        "attachments": [
            {identity: rng.randrange(10**9), "name": f"IMG_{part}.JPG", **({"checksum": "0" * 32} if era >= 4 else {})}
            for part in range(rng.randrange(3))
        ],
    }
    if era >= 1:
        record["big"] = rng.choice([1, 2**63 - 1, 2**64, 10**30])
    if era % 2:
        record["Amount"] = "another but for case"
        del record["note"]
    return record
