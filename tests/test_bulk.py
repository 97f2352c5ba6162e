"""Two quick ways to read documents give what the strict way gives, or nothing: by hypothesis, and by mutilated documents."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ricloud_connector.emulator.feeds import FEEDS, VARIANTS, make_feed
from ricloud_connector.records.bulk import BulkReader, bulk_table
from ricloud_connector.records.columns import Columns, add_columns, infer_columns
from ricloud_connector.records.document import Fault, Record, parse_document, parse_quickly
from ricloud_connector.records.documents import Document, Documents
from ricloud_connector.records.fitting import EXACT, NotFinite
from ricloud_connector.records.rows import Source, build_table
from tests.documents import document, records
from tests.lakes import MOMENT

PLAIN = (
    b'{"data":[{"i":1,"f":1.5,"s":"x","b":true,"t":"2026-11-20T10:00:00Z","o":{"a":1,"l":[1,2]},"l":[{"q":"x"}]}],'
    b'"metadata":{"count":1}}'
)
SAMPLES = (PLAIN, b'{"data": [], "metadata": {"count": 0}}', b'{"data":[{"i":null,"f":3}, {}],"metadata":{"count":2}}')
COLUMNS = add_columns({}, infer_columns(json.loads(PLAIN)["data"], {}))
SNIPPETS = [
    *(bytes([byte]) for byte in b'"{}[]:,1e-.\\\n \x00\x1f\xff'),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1E2", b"-0", b"00", b"9007199254740993", b"9" * 21),
    *(b"null", b"true", b'"i":2,', b'"\\u0069":1,', b'"data":[],', b'"metadata":{"count":1}'),
    *(
        b'{"data":[],"metadata":{"count":0}}',
        b'"ricloud_line":0,',
        b'"ricloud_line":1',
        b"}},{",
        b"}",
        b"},{",
        b"}{",
        b"/*x*/",
        b"[[[[",
        b"]]]]",
    ),
    *(b"\\ud800", b"\\ud83d\\ude97", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(b"2026-02-30T00:00:00Z", b"0000-01-01T00:00:00Z", b"+00:00", b"+02:00"),
]


def doc(result_id: str, raw: bytes) -> Document:
    return Document(result_id, "feed", MOMENT, "p", "", len(raw), True, raw)


def strictly(documents: list[Document], columns: Columns) -> pa.Table | None:
    """The rows the strict way; None where a document gives none."""
    found = [parse_document(each.raw) for each in documents]
    if any(isinstance(records, Fault) for records in found):
        return None
    try:
        sources = [Source(d.result_id, d.date_created, d.poll, r) for d, r in zip(documents, found, strict=True)]
        return build_table(sources, columns).table
    except NotFinite:
        return None


def agrees(raws: list[bytes], columns: Columns) -> bool:
    """Whether Arrow gave an answer; it must be the strict one."""
    documents = [doc(str(number), raw) for number, raw in enumerate(raws)]
    table = bulk_table(Documents.of(documents), columns)
    if table is None:
        return False
    table.validate(full=True)
    strict = strictly(documents, columns)
    assert strict is not None, raws
    assert table.schema == strict.schema
    assert table.to_pylist() == strict.to_pylist(), raws
    return True


def columns_for(documents: list[list[Record]]) -> Columns:
    """The columns that a feed has after these documents, one after the other."""
    columns: dict[str, pa.DataType] = {}
    for data in documents:
        columns = add_columns(columns, infer_columns(data, columns))
    return columns


def agrees_quickly(raw: bytes, columns: Columns) -> bool:
    """Whether the quick decoder gave an answer that is not in doubt; it must be the strict one."""
    quick = parse_quickly(raw)
    if quick is None:
        return False
    built = build_table([Source("0", MOMENT, "p", quick.records)], columns)
    if built.names != quick.names or built.greatest >= EXACT:
        return False
    strict = strictly([doc("0", raw)], columns)
    assert strict is not None, raw
    assert built.table.to_pylist() == strict.to_pylist(), raw
    return True


@settings(max_examples=60)
@given(st.lists(records, min_size=1, max_size=3), st.lists(records, max_size=2))
def test_what_the_quick_decoder_reads_is_what_the_strict_one_reads(documents: list[list[Record]], others: list[list[Record]]):
    columns = columns_for(documents + others)
    for data in documents:
        agrees_quickly(json.dumps(json.loads(document(data)), separators=(",", ":")).encode(), columns)


@settings(max_examples=60)
@given(st.lists(records, min_size=1, max_size=3), st.lists(records, max_size=2))
def test_what_arrow_reads_is_what_the_strict_way_reads(documents: list[list[Record]], others: list[list[Record]]):
    columns = columns_for(documents + others)
    agrees([document(data) for data in documents], columns)


@pytest.mark.parametrize("examples", [2_000, pytest.param(40_000, marks=pytest.mark.slow)])
def test_mutilated_documents_are_doubted_or_read_the_same(examples: int):
    rng = random.Random(20261124)
    by_arrow = sum(agrees([_mutilated(rng) for _ in range(rng.randrange(1, 4))], COLUMNS) for _ in range(examples))
    quickly = sum(agrees_quickly(_mutilated(rng), COLUMNS) for _ in range(examples))
    assert examples * 0.05 < by_arrow < examples * 0.5
    assert examples * 0.1 < quickly < examples * 0.6


def _mutilated(rng: random.Random) -> bytes:
    raw = bytearray(rng.choice(SAMPLES))
    for _ in range(rng.randrange(0, 3)):
        start = rng.randrange(len(raw) + 1)
        raw[start : start + rng.choice((0, 0, 1, 1, 2, 5))] = rng.choice(SNIPPETS)
    return bytes(raw)


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN.replace(b'"i":1', b'"i":1,"i":2'),
        PLAIN.replace(b'"i":1', b'"i":1,"x":{"a":1,"a":2}'),
        PLAIN.replace(b'"i":1', b'"i":1,"x":1,"x" :2'),
        PLAIN.replace(b'"i":1', b'"i":1,"x":1,"x"\n:2'),
        PLAIN.replace(b'"i":1', b'"i":1,"x":"\\":","x":2'),
        PLAIN.replace(b'"i":1', b'"i":18446744073709551616'),
        PLAIN.replace(b'"i":1', b'"i":1,"x":[18446744073709551616]'),
        PLAIN.replace(b"1.5", b"9" * 400),
        PLAIN.replace(b'"x"', b'"\\ud800"'),
        b"[]",
    ],
)
def test_what_a_quick_decoder_would_get_wrong_is_in_doubt(raw: bytes):
    assert not agrees_quickly(raw, COLUMNS)


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN.replace(b'"i":1', b'"i":1,"i":2'),
        PLAIN.replace(b'"a":1', b'"a":1,"\\u0061":2'),
        PLAIN.replace(b"1.5", b"NaN"),
        PLAIN.replace(b"1.5", b"1e999"),
        PLAIN.replace(b"1.5", b"9007199254740993"),
        PLAIN.replace(b'"count":1', b'"count":2'),
        PLAIN.replace(b'"i":1', b'"i":' + b"[" * 200_000),
        PLAIN + b"\n" + PLAIN,
        b"",
        b" " + PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b'"x"', b'"\xff"'),
        PLAIN.replace(b"10:00:00Z", b"10:00:00+02:00"),
    ],
)
def test_one_doubtful_document_is_doubted_and_the_others_are_read(raw: bytes):
    documents = [doc(str(number), raw if number == 700 else PLAIN + b" " * 500) for number in range(1_000)]
    tables, doubted = BulkReader().read(Documents.of(documents), COLUMNS)
    assert 1 <= len(doubted) < 200
    assert "700" in {each.result_id for each in doubted}
    rows = pa.concat_tables(tables).column("result_id").to_pylist()
    assert sorted(rows + [each.result_id for each in doubted], key=int) == [each.result_id for each in documents]


@pytest.mark.parametrize("feed", FEEDS)
def test_the_documents_of_real_feeds_take_arrows_way_with_their_fields_that_are_always_null(feed: str):
    documents = [
        doc(str(number), make_feed(feed, number % VARIANTS, f"{number}", "2026-11-20")) for number in range(VARIANTS * 4)
    ]
    parsed = [record for each in documents for record in parse_document(each.raw)]
    columns = add_columns({}, infer_columns(parsed, {}))
    tables, doubted = BulkReader().read(Documents.of(documents), columns)
    assert not doubted
    strict = strictly(documents, columns)
    assert strict is not None
    assert pa.concat_tables(tables).to_pylist() == strict.to_pylist()


def test_a_field_that_was_always_null_is_no_longer_passed_over_once_it_holds_something():
    blank = document([{"a": 1, "later": None, "o": {"b": 1, "c/d": None}}])
    filled = document([{"a": 1, "later": 5, "o": {"b": 1, "c/d": None}}])
    columns = add_columns({}, infer_columns([{"a": 1, "o": {"b": 1}}], {}))
    reader = BulkReader()
    tables, doubted = reader.read(Documents.of([doc("0", blank), doc("1", blank)]), columns)
    assert (sum(table.num_rows for table in tables), doubted) == (2, [])
    tables, doubted = reader.read(Documents.of([doc("2", filled)]), columns)
    assert (tables, [each.result_id for each in doubted]) == ([], ["2"])
