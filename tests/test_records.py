"""Documents to tables and back: nothing is lost, hostile documents say why, types are decided once."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ricloud_connector.records.columns import MAX_COLUMNS, MAX_NAMES, TIMESTAMP, add_columns, infer_columns, merge_columns
from ricloud_connector.records.document import Fault, parse_document
from ricloud_connector.records.rows import EXTRA, Source, build_table, reconstruct
from tests.documents import document, records, same
from tests.lakes import MOMENT


def sources(*documents: list[dict]) -> list[Source]:
    return [Source(f"r{number}", MOMENT, None, data) for number, data in enumerate(documents)]


def table_of(data: list[dict], columns: dict | None = None, **options) -> pa.Table:
    columns = add_columns({}, infer_columns(data, {})) if columns is None else columns
    return build_table(sources(data), columns, **options).table


def extra_of(data: list[dict], columns: dict | None = None) -> list:
    return [json.loads(text) if text else None for text in table_of(data, columns).column(EXTRA).to_pylist()]


@settings(max_examples=50)
@given(st.lists(records, min_size=1, max_size=4))
def test_every_document_is_found_again_in_the_table_and_extra(documents):
    """Types are decided by the first document that has a value, as over years; all tables are readable as one."""
    columns: dict[str, pa.DataType] = {}
    tables = []
    for number, data in enumerate(documents):
        parsed = parse_document(document(data))
        assert not isinstance(parsed, Fault)
        columns = add_columns(columns, infer_columns(parsed, columns))
        tables.append(build_table([Source(str(number), MOMENT, "p", parsed)], columns).table)
    found = reconstruct(pa.concat_tables(tables, promote_options="default"))
    for number, data in enumerate(documents):
        if data:
            assert same(found[str(number)]) == same(data)


@settings(max_examples=40)
@given(records, records)
def test_types_merged_hold_what_each_side_held(one, other):
    merged = merge_columns(infer_columns(one, {}), infer_columns(other, {}))
    table = build_table(sources(one, other), add_columns({}, merged)).table
    found = reconstruct(table)
    assert same(found.get("r0", [])) == same(one)
    assert same(found.get("r1", [])) == same(other)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_no_bytes_raise(raw):
    assert isinstance(parse_document(raw), Fault)


FAULTS = {
    b"": "records_not_json",
    b"<html>": "records_not_json",
    b'{"data": [': "records_not_json",
    b'{"data": [{"a": NaN}], "metadata": {"count": 1}}': "records_not_json",
    b'{"data": [{"a": -Infinity}], "metadata": {"count": 1}}': "records_not_json",
    b'{"data": [{"a": ' + b"9" * 5000 + b'}], "metadata": {"count": 1}}': "records_number_out_of_range",
    b'{"data": [{"a": 1, "a": 2}], "metadata": {"count": 1}}': "records_duplicate_key",
    b'{"data": [], "data": [], "metadata": {"count": 0}}': "records_duplicate_key",
    b'{"data": [{"a": "\\ud800"}], "metadata": {"count": 1}}': "records_lone_surrogate",
    b'{"data": [{"\\uDFFF": 1}], "metadata": {"count": 1}}': "records_lone_surrogate",
    b'\xef\xbb\xbf{"data": [], "metadata": {"count": 0}}': "records_bom",
    '{"data": [], "metadata": {"count": 0}}'.encode("utf-16"): "records_not_utf8",
    b'{"data": [{"a": "\xed\xa0\x80"}], "metadata": {"count": 1}}': "records_not_utf8",
    b'{"data": [{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b'}], "metadata": {"count": 1}}': "records_too_deep",
    b'{"a": ' * 100_000: "records_too_deep",
    b"[]": "records_other_shape",
    b"3": "records_other_shape",
    b'{"data": {}, "metadata": {"count": 0}}': "records_other_shape",
    b'{"data": []}': "records_other_shape",
    b'{"data": [], "metadata": {"count": "0"}}': "records_other_shape",
    b'{"data": [], "metadata": {"count": false}}': "records_other_shape",
    b'{"data": [{}, 1], "metadata": {"count": 2}}': "records_other_shape",
    b'{"data": [{}], "metadata": {"count": 2}}': "records_count_mismatch",
    b'{"data": [{}], "metadata": {"count": 100000000000000000000000000000}}': "records_count_mismatch",
}


@pytest.mark.parametrize(("raw", "reason"), FAULTS.items(), ids=[f"{n}-{r}" for n, r in enumerate(FAULTS.values())])
def test_fault_171_a_hostile_document_says_why(raw, reason):
    fault = parse_document(raw)
    assert isinstance(fault, Fault)
    assert fault.reason == reason
    assert fault.detail


def test_members_beside_data_and_pairs_of_surrogates_are_no_fault():
    raw = b'{"next": null, "data": [{"a": "\\ud83d\\ude97"}], "metadata": {"count": 1, "more": 2}}'
    assert parse_document(raw) == [{"a": "🚗"}]


def test_types_are_decided_by_all_values_of_a_batch():
    data = [
        {"n": None, "i": 1, "f": 1, "t": "2026-11-20T10:00:00Z", "m": "2026-11-20T10:00:00Z", "e": [], "x": 1, "o": {"a": 1}},
        {"i": 2**63 - 1, "f": 1.5, "t": "no", "m": "2026-11-20T12:00:00+02:00", "e": [], "x": "a", "o": {"b": [{"c": True}]}},
        {"x": "b", "n": None, "o": {}},
    ]
    columns = infer_columns(data, {})
    inner = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.struct([("c", pa.bool_())])))])
    assert columns == {
        "i": pa.int64(),
        "f": pa.float64(),
        "t": pa.string(),
        "m": TIMESTAMP,
        "x": pa.string(),
        "o": inner,
    }
    assert extra_of(data) == [{"/x": 1, "/e": []}, {"/m": "2026-11-20T12:00:00+02:00", "/e": []}, None]


def test_what_a_column_cannot_hold_goes_to_extra_under_its_pointer():
    columns = infer_columns([{"i": 1, "f": 0.5, "s": "a", "l": [{"n": 1}], "t": "2026-11-20T10:00:00Z", "b": True}], {})
    data = [
        {"i": 12.0, "f": 12, "s": None, "l": None, "t": None, "b": None},
        {"i": 1.5, "f": 2**53 + 1, "s": 7, "l": [{"n": "x"}, 3, {"n": 2, "~new/": []}], "t": "soon", "b": 1},
        {"i": 2**63, "f": "1", "s": ["a"], "l": {}, "t": 5, "b": "true"},
    ]
    assert extra_of(data, columns) == [
        None,
        {
            "/i": 1.5,
            "/f": 2**53 + 1,
            "/s": 7,
            "/l/0/n": "x",
            "/l/1": 3,
            "/l/2/~0new~1": [],
            "/t": "soon",
            "/b": 1,
        },
        {"/i": 2**63, "/f": "1", "/s": ["a"], "/l": {}, "/t": 5, "/b": "true"},
    ]
    assert table_of(data, columns).column("f").to_pylist() == [12.0, None, None]
    built = build_table(sources(data), columns)
    assert built.misfits["/l/*/n"] == 1
    assert same(reconstruct(built.table)["r0"]) == same(data)


def test_fault_165_names_that_a_reader_could_confuse_are_no_columns():
    data = [{"poll": 1, "Result_ID": 2, "_extra": 3, "created_date": 4, "text": 5, "Text": 6, "": 7, "a\x00": 8, "ok": 9}]
    assert list(add_columns({}, infer_columns(data, {}))) == ["text", "ok"]
    assert same(reconstruct(table_of(data))["r0"]) == same(data)
    nested = [{"o": {"a": 1, "A": 2, "": 3}}]
    assert infer_columns(nested, {}) == {"o": pa.struct([("a", pa.int64())])}
    assert same(reconstruct(table_of(nested))["r0"]) == same(nested)


def test_maps_depths_and_thousands_of_columns_stay_in_extra():
    wide = [{"map": {f"k{n}": n for n in range(MAX_NAMES + 1)}}]
    assert infer_columns(wide, {}) == {}
    many = [{f"c{n}": n for n in range(MAX_COLUMNS + 5)}]
    assert len(add_columns({}, infer_columns(many, {}))) == MAX_COLUMNS
    deep: object = 1
    for _ in range(200):
        deep = [deep]
    for data in (wide, many, [{"deep": deep}]):
        assert same(reconstruct(table_of(data))["r0"]) == same(data)


def test_records_may_be_refused_alone():
    data = [{"a": 1}, {"a": "x"}, {"a": 2, "new": 3}, {"a": None}]
    built = build_table(sources(data, [{"b": 1}]), {"a": pa.int64()}, refuse=True)
    assert built.refused == {"r0": [1, 2], "r1": [0]}
    assert built.table.select(["result_id", "record_index", "a"]).to_pylist() == [
        {"result_id": "r0", "record_index": 0, "a": 1},
        {"result_id": "r0", "record_index": 3, "a": None},
    ]
