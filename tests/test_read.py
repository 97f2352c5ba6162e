"""Reading by name: frames of four engines, bytes of one result, rebuilding. Writes lakes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ricloud_connector import list_data_types, read_content, read_records
from ricloud_connector.errors import SettingsError, UnreadablePart
from ricloud_connector.records.feed import Feed
from ricloud_connector.records.rows import reconstruct
from tests.documents import document, same
from tests.lakes import DAY, FEED, MOMENT, ORIGIN, opened_lake, parts_of, put
from tests.test_derive import derive, table, tree

BIG = 2**62 + 1


@pytest.fixture
def root(tmp_path) -> Path:
    """Three days of messages, whose columns grow, and one of places."""
    with opened_lake(tmp_path / "lake") as lake:
        for number in range(3):
            day = DAY + timedelta(days=number)
            record = {"text": f"t{number}", "n": BIG if number else None, **({"seen": True} if number == 2 else {})}
            put(lake, {f"m{number}": document([record])}, day=day)
            derive(lake, day)
        put(lake, {"p": document([{"at": 1.5}])}, feed="ios_locations.locations")
        derive(lake)
    return tmp_path / "lake"


def test_feeds_are_listed(root):
    assert list_data_types(root) == ["ios_locations.locations", FEED]
    with pytest.raises(SettingsError, match="holds no lake"):
        list_data_types(root / "nowhere")


def test_the_same_rows_in_four_engines(root):
    frame = read_records(root, FEED)
    assert isinstance(frame, pd.DataFrame)
    assert frame["n"].dtype == pd.Int64Dtype()
    assert frame.sort_values("result_id")["n"].tolist() == [pd.NA, BIG, BIG]
    assert list(frame.columns) == ["result_id", "record_index", "date_created", "poll", "text", "n", "seen", "_extra"]
    arrow = read_records(root, FEED, engine="arrow")
    assert isinstance(arrow, pa.Table)
    reader = read_records(root, FEED, engine="reader")
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.read_all().sort_by("result_id").equals(arrow.sort_by("result_id"))
    polars = read_records(root, FEED, engine="polars")
    assert isinstance(polars, pl.DataFrame)
    relation = read_records(root, FEED, engine="duckdb")
    names = ["result_id", "text", "n", "seen"]
    rows = [tuple(row.values()) for row in arrow.select(names).sort_by("result_id").to_pylist()]
    assert rows == [("m0", "t0", None, None), ("m1", "t1", BIG, None), ("m2", "t2", BIG, True)]
    assert polars.select(names).sort("result_id").rows() == rows
    assert sorted(relation.select(*names).fetchall()) == rows


@pytest.mark.parametrize("engine", ["pandas", "arrow", "polars", "duckdb"])
def test_a_span_is_half_open_and_in_utc(root, engine):
    def ids(since=None, until=None):
        found = read_records(root, FEED, since, until, engine=engine)
        column = [row[0] for row in found.select("result_id").fetchall()] if engine == "duckdb" else list(found["result_id"])
        return sorted(value.as_py() if isinstance(value, pa.Scalar) else value for value in column)

    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert ids("2026-11-21") == ["m1", "m2"]
    assert ids(date(2026, 11, 21), date(2026, 11, 22)) == ["m1"]
    assert ids(noon, noon + timedelta(microseconds=1)) == ["m1"]
    assert ids(None, noon) == ["m0"]
    assert ids("2026-11-21T13:00:00+01:00", "2026-11-21T12:00:01") == ["m1"]
    assert ids("2027-01-01") == []


def test_what_is_not_there_is_named(root):
    with pytest.raises(SettingsError, match=r"it has ios_locations.locations, ios_messages.messages"):
        read_records(root, "nothing")
    with pytest.raises(SettingsError, match="engine"):
        read_records(root, FEED, engine="excel")
    with pytest.raises(SettingsError, match="since"):
        read_records(root, FEED, "yesterday")


def test_reading_writes_nothing(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    read_records(root, FEED)
    list(read_content(root, "m1"))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_bytes_of_a_result_are_streamed_and_proven(tmp_path):
    large = os.urandom(17 * 1024 * 1024)
    with opened_lake(tmp_path / "lake") as lake:
        put(lake, {"large": large, "empty": b""}, kind="bin")
        put(lake, {"small": b"small"}, kind="bin", day=DAY + timedelta(days=1))
    chunks = list(read_content(tmp_path / "lake", "large"))
    assert len(chunks) == 3
    assert b"".join(chunks) == large
    assert b"".join(read_content(tmp_path / "lake", "empty", day=DAY)) == b""
    assert b"".join(read_content(tmp_path / "lake", "small")) == b"small"
    with pytest.raises(KeyError, match="does not hold"):
        read_content(tmp_path / "lake", "small", day=DAY)
    (path,) = parts_of(lake)
    path.write_bytes(path.read_bytes().replace(large[:100], bytes(100)))
    with pytest.raises(UnreadablePart):
        list(read_content(tmp_path / "lake", "large"))


def test_rebuilding_decides_types_by_all_values_and_keeps_every_record(tmp_path):
    documents = [[{"n": 1, "o": {"id": 1}}], [{"n": 1.5, "t": "2026-11-20T10:00:00Z", "o": {"file_id": 2}}], [{"t": "soon"}]]
    with opened_lake(tmp_path / "lake") as lake:
        for number, data in enumerate(documents):
            put(lake, {str(number): document(data)}, day=DAY + timedelta(days=number))
            derive(lake, DAY + timedelta(days=number))
        put(lake, {"bad": b"no json"})
        derive(lake)
        assert table(lake).column("_extra").to_pylist() == [None, '{"/n":1.5,"/o/file_id":2}', '{"/t":"soon"}']
    code = "from ricloud_connector.cli import main; main()"
    command = [sys.executable, "-c", code, "rebuild", "records"]
    environment = {**os.environ, "RICLOUD_LAKE": str(tmp_path / "lake")}
    first = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert first.returncode == 1, first.stderr
    assert "records_not_json" in first.stderr
    assert "3 records rebuilt; 1 documents" in first.stdout
    with opened_lake(tmp_path / "lake") as lake:
        rebuilt = table(lake)
        assert rebuilt.column("_extra").to_pylist() == [None, None, None]
        assert rebuilt.schema.field("n").type == pa.float64()
        assert rebuilt.schema.field("t").type == pa.string()
        assert {name: same(data) for name, data in reconstruct(rebuilt).items()} == {
            str(number): same(data) for number, data in enumerate(documents)
        }
        schemas = [pq.read_schema(file.path) for file in Feed(lake, FEED).files()]
        assert {schema.metadata[b"ricloud_origin"].decode() for schema in schemas} == {ORIGIN}
        before = tree(lake)
        assert derive(lake).files == 0
        assert tree(lake) == before
        put(lake, {"next": document([{"n": 2.5}])})
        assert derive(lake).misfits == {}
    assert MOMENT.date() == DAY
