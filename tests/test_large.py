"""A large document, read in pieces, gives what it would give as a whole. Pieces of a few bytes show it on small ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ricloud_connector.lake import Lake
from ricloud_connector.records import cutting, derive_records
from ricloud_connector.records.cutting import Cutter, Malformed
from ricloud_connector.records.document import Fault, parse_document
from ricloud_connector.records.feed import Feed
from ricloud_connector.schemas import QUARANTINE
from tests.documents import document, values
from tests.lakes import DAY, MOMENT, opened_lake, put
from tests.test_bulk import SNIPPETS

MEMBERS = st.one_of(values, st.lists(values, max_size=6), st.lists(st.dictionaries(st.text(max_size=3), values), max_size=6))


def whole_of(raw: bytes, chunk_bytes: int) -> Any:
    """The document put together again from its skeleton and its pieces."""
    cutter = Cutter([raw[start : start + chunk_bytes] for start in range(0, len(raw), chunk_bytes)])
    lists: dict[int, list[Any]] = {}
    for piece in cutter:
        found = json.loads(piece.raw)
        assert list(found) == ["data", "metadata"]
        assert found["data"]
        assert sum(isinstance(element, (dict, list)) for element in found["data"]) == found["metadata"]["count"] == piece.count
        lists.setdefault(piece.list, []).extend(found["data"])
    whole = json.loads(cutter.skeleton)
    for number, elements in lists.items():
        (name,) = [name for name, value in whole.items() if value == [cutter.mark(number)]]
        whole[name] = elements
    return whole


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from(["data", "metadata", "other", 'a"\\{[']), MEMBERS),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 60),
    st.sampled_from([1, 2, 7, 40, 1000]),
)
def test_pieces_and_skeleton_are_the_document(whole, ascii_only, indent, chunk_bytes, step_bytes):
    raw = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "STEP_BYTES", step_bytes)
        assert whole_of(raw, chunk_bytes) == whole


def raws(rng: random.Random) -> list[bytes]:
    """Documents of many records, and the same mutilated."""
    kinds = [
        1,
        2.5,
        True,
        None,
        "x",
        "2026-11-20T10:00:00Z",
        "2026-11-20T10:00:00+02:00",
        2**60,
        2**70,
        [1],
        [{"q": 1}],
        {"r": "s"},
        [],
    ]
    found = []
    for _ in range(60):
        some = rng.sample(kinds, rng.randrange(1, 4))
        records = [
            {name: rng.choice(some) for name in rng.sample("abcdeA", rng.randrange(5))} for _ in range(rng.randrange(12))
        ]
        raw = document(records, count=None if rng.random() < 0.9 else 3)
        if rng.random() < 0.4:
            at = rng.randrange(len(raw))
            raw = raw[:at] + rng.choice(SNIPPETS) + raw[at + rng.randrange(3) :]
        found.append(raw)
    return found


def rows_and_reasons(lake: Lake, raw: list[bytes], known: bytes | None) -> tuple[dict[str, pa.Table], set[str]]:
    for number, one in enumerate(raw):
        put(lake, ({"known": known} if known else {}) | {f"r{number}": one}, feed=f"feed{number}")
    derive_records(lake, DAY, at=MOMENT)
    tables = {
        f"feed{number}": pa.concat_tables([pq.read_table(file.path, partitioning=None) for file in files])
        for number in range(len(raw))
        if (files := list(Feed(lake, f"feed{number}").files()))
    }
    return tables, set(lake.scan(QUARANTINE, DAY).index.column("result_id").to_pylist())


@pytest.mark.parametrize("seed", [pytest.param(1, marks=pytest.mark.ci), pytest.param(2, marks=pytest.mark.slow)])
def test_a_large_document_gives_the_same_rows_columns_and_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int):
    rng = random.Random(seed)
    found, known = raws(rng), document([{"a": 1, "b": "x"}]) if seed == 2 else None
    with opened_lake(tmp_path / "whole") as lake:
        whole = rows_and_reasons(lake, found, known)
    monkeypatch.setattr("ricloud_connector.records.sources.LARGE_BYTES", 60)
    monkeypatch.setattr(cutting, "STEP_BYTES", 20)
    with opened_lake(tmp_path / "pieces") as lake:
        pieces = rows_and_reasons(lake, found, known)
    assert pieces[1] == whole[1]
    assert 5 < len(whole[1]) < 40
    assert pieces[0].keys() == whole[0].keys()
    for feed, table in whole[0].items():
        assert pieces[0][feed].schema == table.schema
        assert pieces[0][feed].to_pylist() == table.to_pylist(), feed


@pytest.mark.parametrize(
    ("raw", "faulty"),
    [
        (b'{"data":[{"a":1}{"a":2}],"metadata":{"count":2}}', True),
        (b'{"data":[{"a":1},,{"a":2}],"metadata":{"count":2}}', True),
        (b'{"data":[{"a":1},{"a":2},],"metadata":{"count":2}}', True),
        (b'{"data":[{"a":1},{"a":2}],"metadata":{"count":2}}}', True),
        (b'{"data":[{"a":1}],"x":[{"a":2}],"metadata":{"count":2}}', True),
        (b'{"data":[{"a":1},{"a":2}],"data":[],"metadata":{"count":0}}', True),
        (b'{"data":[{"a":1}],"x":[{"a":2},{}],"metadata":{"count":1}}', False),
    ],
)
def test_no_cut_makes_a_document_of_what_is_none(raw: bytes, faulty: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cutting, "STEP_BYTES", 3)
    assert isinstance(parse_document(raw), Fault) == faulty
    try:
        whole = whole_of(raw, 5)
    except (Malformed, ValueError):
        assert faulty
    else:
        assert isinstance(parse_document(json.dumps(whole).encode()), Fault) == faulty or raw.count(b'"data"') == 2
