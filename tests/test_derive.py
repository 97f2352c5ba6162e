"""Contents to records: idempotent, racing, hostile, drifting; read whole by every engine. Writes lakes of its own."""

from __future__ import annotations

import json
import shutil
import threading
import time
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ricloud_connector.errors import LakeError, SettingsError
from ricloud_connector.lake import Lake
from ricloud_connector.listed import Listed
from ricloud_connector.records import RecordsReport, derive_records, rebuild_records
from ricloud_connector.records import filling as filling_module
from ricloud_connector.records.feed import Feed, feeds_of, folder_name, identifier_of
from ricloud_connector.records.lock import records_lock
from ricloud_connector.records.rows import reconstruct
from ricloud_connector.schemas import CONTENTS, QUARANTINE, RESULTS, result_rows
from tests.documents import document, drifting, same
from tests.exactness import assert_readable
from tests.lakes import DAY, FEED, MOMENT, opened_lake, parts_of, put, result_of


def derive(lake: Lake, day: date = DAY, **options) -> RecordsReport:
    return derive_records(lake, day, at=MOMENT, **options)


def tree(lake: Lake) -> dict[str, tuple[int, int]]:
    root = lake.data / "records"
    return {str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_size) for path in root.rglob("*.parquet")}


def table(lake: Lake, feed: str | None = FEED) -> pa.Table:
    return pa.concat_tables(
        [pq.read_table(file.path, partitioning=None) for file in Feed(lake, feed).files()], promote_options="default"
    )


def reasons(lake: Lake, day: date = DAY) -> dict[str, str]:
    index = lake.scan(QUARANTINE, day).index
    return dict(zip(index.column("result_id").to_pylist(), index.column("reason").to_pylist(), strict=True))


@pytest.fixture
def lake(tmp_path):
    with opened_lake(tmp_path / "lake") as opened:
        yield opened


def test_a_file_per_feed_and_contents_part_and_nothing_when_done_again(lake):
    put(lake, {"a": document([{"text": "x"}, {"text": "y"}]), "b": document([{"text": "z", "n": 1}])})
    put(lake, {"jpg": b"\xff\xd8"}, kind="jpg")
    put(lake, {"c": document([{"place": 1.5}])}, feed="ios_locations.locations")
    lake.commit_table(RESULTS, DAY, result_rows(Listed.of([result_of("a", b"")]), run_id="run", seen_at=MOMENT))
    report = derive(lake)
    assert (report.documents, report.files, report.rows) == (3, 2, {FEED: 3, "ios_locations.locations": 1})
    files = tree(lake)
    assert set(files) == {
        f"ricloud_feed={FEED}/created_date={DAY}/part-000000.parquet",
        f"ricloud_feed=ios_locations.locations/created_date={DAY}/part-000002.parquet",
    }
    rows = table(lake).to_pylist()
    assert [(row["result_id"], row["record_index"], row["poll"], row["text"], row["n"]) for row in rows] == [
        ("a", 0, "poll of a", "x", None),
        ("a", 1, "poll of a", "y", None),
        ("b", 0, None, "z", 1),
    ]
    again = derive(lake)
    assert (again.documents, again.files) == (0, 0)
    shutil.rmtree(lake.control / "records")
    shutil.rmtree(lake.control / "schemas")
    again = derive(lake)
    assert (again.documents, again.files, again.added) == (3, 0, [])
    assert tree(lake) == files
    assert reasons(lake) == {}
    assert_readable(lake.root)


def test_a_file_that_is_removed_is_derived_again(lake):
    put(lake, {"a": document([{"text": "x"}])})
    derive(lake)
    before = table(lake)
    shutil.rmtree(lake.data / "records")
    derive(lake)
    assert table(lake).equals(before)


def test_a_document_that_a_part_holds_twice_gives_its_rows_once(lake):
    put(lake, {"a": document([{"text": "x"}]), "b": document([{"text": "y"}])})
    (path,) = parts_of(lake)
    part = pq.read_table(path, partitioning=None)
    with pq.ParquetWriter(path, part.schema) as writer:
        for rows in (pa.concat_tables([part, part.slice(1)]), part):
            writer.write_table(rows)
    assert derive(lake).documents == 2
    assert table(lake).column("text").to_pylist() == ["x", "y"]


def test_fault_171_hostile_documents_are_quarantined_and_the_others_go_on(lake):
    documents = {
        "no json": b"\x00\x01encrypted",
        "twice": b'{"data": [{"a": 1, "a": 2}], "metadata": {"count": 1}}',
        "count": document([{"a": 1}], count=7),
        "deep": b"[" * 200_000,
        "rather deep": b'{"data": [{"a": ' + b"[" * 450 + b"]" * 450 + b'}], "metadata": {"count": 1}}',
        "digits": b'{"data": [' + b"1" * 5000 + b'], "metadata": {"count": 1}}',
        "empty": b"",
        "good": document([{"a": 1}]),
    }
    put(lake, documents)
    put(lake, {"bytes": b"{not json", "shaped": document([{"a": 2}]), "picture": b"\x89PNG"}, kind=None)
    report = derive(lake)
    found = reasons(lake)
    assert found.pop("rather deep", None) in (None, "records_too_deep")
    assert found == {
        "no json": "records_not_json",
        "twice": "records_duplicate_key",
        "count": "records_count_mismatch",
        "deep": "records_too_deep",
        "digits": "records_number_out_of_range",
        "empty": "records_not_json",
    }
    assert report.quarantined in (6, 7)
    assert {"good", "shaped"} <= set(table(lake).column("result_id").to_pylist()) <= {"good", "shaped", "rather deep"}
    assert lake.scan(CONTENTS, DAY).whole_results().num_rows == len(documents) + 3
    shutil.rmtree(lake.control / "records")
    derive(lake)
    assert lake.scan(QUARANTINE, DAY).index.num_rows == report.quarantined


def test_a_failure_that_nobody_foresaw_costs_one_document(lake, monkeypatch):
    build = filling_module.build_table

    def fail(sources, columns, **options):
        if any(record.get("a") == 3 for source in sources for record in source.records):
            raise pa.ArrowInvalid("unforeseen")
        return build(sources, columns, **options)

    monkeypatch.setattr(filling_module, "build_table", fail)
    put(lake, {str(number): document([{"a": number}]) for number in range(8)})
    derive(lake)
    assert reasons(lake) == {"3": "records_unreadable"}
    assert table(lake).column("result_id").to_pylist() == ["0", "1", "2", "4", "5", "6", "7"]


def test_columns_that_come_while_a_file_is_written(lake, monkeypatch):
    monkeypatch.setattr(filling_module, "FLUSH_BYTES", 1)
    put(lake, {str(number): document([{f"f{n}": n for n in range(number + 1)}]) for number in range(5)})
    derive(lake)
    (path,) = (file.path for file in Feed(lake, FEED).files())
    assert pq.ParquetFile(path).num_row_groups == 5
    assert table(lake).select([f"f{n}" for n in range(5)]).to_pylist()[2] == {"f0": 0, "f1": 1, "f2": 2, "f3": None, "f4": None}
    assert not list(lake.staging.iterdir())


def test_values_that_repeat_stand_in_dictionaries_and_others_do_not(lake):
    rows = [{"guid": f"g{n}", "kind": "k", "inner": {"deep": "d"}, "list": [{"deep": f"{n}"}]} for n in range(50)]
    put(lake, {"a": document(rows)})
    derive(lake)
    (path,) = (file.path for file in Feed(lake, FEED).files())
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    plain = {column.path_in_schema for column in columns if not column.has_dictionary_page}
    assert plain == {"guid", "record_index"}


def test_many_feeds_in_one_part(lake, monkeypatch):
    monkeypatch.setattr(filling_module, "FLUSH_BYTES", 200)
    for number in range(40):
        put(lake, {f"{number}": document([{"n": number}])}, feed=f"feed {number}/ü%=é?")
    report = derive(lake)
    assert report.files == 40
    assert feeds_of(lake) == sorted(f"feed {number}/ü%=é?" for number in range(40))
    glob = f"'{lake.data}/records/*/*/*.parquet', union_by_name = true, hive_partitioning = true"
    found = duckdb.sql(f"SELECT ricloud_feed, n FROM read_parquet({glob})").fetchall()
    assert sorted(found) == sorted((f"feed {number}/ü%=é?", number) for number in range(40))


@pytest.mark.parametrize("name", [None, "", "a/b", "..", "__HIVE_DEFAULT_PARTITION__", "x" * 500, "ü" * 300, "a=b&c%20"])
def test_a_feeds_folder_says_its_name(name):
    folder = folder_name(name)
    assert "/" not in folder.removeprefix("ricloud_feed=")
    assert len(folder) < 255
    if len(name or "") < 200:
        assert identifier_of(folder) == (name or None)
    assert folder_name("x" * 500) != folder_name("x" * 501)


def test_contracts(lake):
    first, second = [{"a": 1}], [{"a": 2, "b": "new"}, {"a": "ill"}, {"a": 3, "c": None, "d": []}]
    for feed in ("frozen", "discarding", "evolving"):
        put(lake, {f"{feed} 1": document(first)}, feed=feed)
    contracts = {"frozen": "freeze", "discarding": "discard"}
    derive(lake, contracts=contracts)
    for feed in ("frozen", "discarding", "evolving"):
        put(lake, {f"{feed} 2": document(second)}, feed=feed)
    report = derive(lake, contracts=contracts)
    assert reasons(lake) == {"frozen 2": "records_frozen"}
    assert "records 0, 1" in report.rejections[0].detail
    assert table(lake, "frozen").column("a").to_pylist() == [1, 3]
    assert set(table(lake, "discarding").column_names) & {"b", "c", "d"} == set()
    assert table(lake, "discarding").column("_extra").to_pylist() == [None, '{"/b":"new"}', '{"/a":"ill"}', '{"/d":[]}']
    assert table(lake, "evolving").column("b").to_pylist() == [None, "new", None, None]
    assert [(feed, version.added) for feed, version in report.added] == [("evolving", ("b",))]
    ill = [("frozen", "/b"), ("frozen", "/a"), ("discarding", "/b"), ("discarding", "/a"), ("evolving", "/a")]
    assert report.misfits == dict.fromkeys(ill, 1)
    shutil.rmtree(lake.control / "schemas")
    put(lake, {"frozen 3": document([{"a": 4}, {"b": 1}])}, feed="frozen")
    assert derive(lake, contracts=contracts).rows == {"frozen": 1}
    assert [version.added for version in Feed(lake, "frozen").versions()] == [("a",)]
    with pytest.raises(SettingsError, match="evolve, freeze or discard"):
        derive(lake, contracts={"x": "thaw"})


def test_a_document_of_several_chunks_and_one_that_is_too_large(lake, monkeypatch):
    raw = document([{"text": "x" * 1000, "n": number} for number in range(9000)])
    put(lake, {"large": raw})
    assert derive(lake).rows == {FEED: 9000}
    assert table(lake).column("n").to_pylist() == list(range(9000))
    monkeypatch.setattr("ricloud_connector.records.sources.LARGE_BYTES", 50)
    monkeypatch.setattr("ricloud_connector.records.sources.MAX_DOCUMENT_BYTES", 100)
    put(lake, {"larger": document([{"text": "x" * 100}])})
    derive(lake)
    assert reasons(lake) == {"larger": "records_too_large"}


def test_two_runs_that_meet_a_new_feed_at_once_agree_on_its_columns(tmp_path):
    """Each of many runs has another day, and would give the same names other types."""
    values = [1, 1.5, "text", True, [1], {"x": 1}, "2026-11-20T10:00:00Z", [{"y": "z"}]]
    days = [DAY + timedelta(days=number) for number in range(len(values))]
    for attempt in range(3):
        root = tmp_path / str(attempt)
        with opened_lake(root) as lake:
            for number, day in enumerate(days):
                put(lake, {f"{number}": document([{f"f{k}": values[(number + k) % 8] for k in range(8)}])}, day=day)
        barrier, failed = threading.Barrier(len(days)), []

        def run(day: date, root: Path = root, barrier: threading.Barrier = barrier, failed: list = failed) -> None:
            try:
                with opened_lake(root, run_id=f"run-{day}") as mine:
                    barrier.wait()
                    derive(mine, day)
            except Exception as error:  # noqa: BLE001  # shown by the test
                failed.append(error)

        threads = [threading.Thread(target=run, args=(day,)) for day in days]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        with opened_lake(root) as lake:
            found = table(lake)  # without promoting types: every file has the same one for a column
            for number in range(8):
                expected = [{f"f{k}": values[(number + k) % 8] for k in range(8)}]
                assert same(reconstruct(found)[f"{number}"]) == same(expected)
            assert len(list(Feed(lake, FEED).files())) == 8


def test_rows_of_two_parsers_do_not_mix(lake, monkeypatch):
    put(lake, {"a": document([{"a": 1}])})
    derive(lake)
    put(lake, {"b": document([{"a": 1}])})
    monkeypatch.setattr("ricloud_connector.records.feed.PARSER", 2)
    with pytest.raises(LakeError, match="rebuild records"):
        derive(lake)
    shutil.rmtree(lake.control / "schemas")
    with pytest.raises(LakeError, match="rebuild records"):
        derive(lake)


def drifted(lake: Lake, partitions: int, per_day: int) -> dict[str, list]:
    """Documents of many days whose fields change from era to era; derived day by day as they would have come."""
    truth = {}
    for number in range(partitions):
        day, era = DAY + timedelta(days=number), number * 8 // partitions
        documents = {f"{number}-{each}": drifting(number * 1000 + each, era) for each in range(per_day)}
        put(lake, {name: document(data) for name, data in documents.items()}, day=day)
        derive(lake, day)
        truth |= documents
    return truth


@pytest.mark.parametrize(("partitions", "per_day"), [(8, 6), pytest.param(100, 21, marks=pytest.mark.ci)])
def test_years_of_drift_are_read_whole_by_every_engine(lake, partitions, per_day):
    truth = drifted(lake, partitions, per_day)
    rows = sum(map(len, truth.values()))
    amount = sum(record["amount"] for data in truth.values() for record in data)
    files = [str(file.path) for file in Feed(lake, FEED).files()]
    glob = f"{lake.data}/records/ricloud_feed={FEED}/*/*.parquet"
    assert len(truth) == partitions * per_day
    by_duckdb = duckdb.sql(f"SELECT count(*), sum(amount) FROM read_parquet('{glob}', union_by_name = true)")
    assert by_duckdb.fetchall() == [(rows, amount)]
    by_polars = pl.concat([pl.scan_parquet(path) for path in files], how="diagonal").select(pl.len(), pl.col("amount").sum())
    assert by_polars.collect().row(0) == (rows, amount)
    schema = Feed(lake, FEED).schema()
    of_files = pa.unify_schemas([pq.read_schema(path).remove_metadata() for path in files])  # raises where types differ
    assert {field.name: field.type for field in schema} == {field.name: field.type for field in of_files}
    by_scan = pl.scan_parquet(files, schema=pl.from_arrow(schema.empty_table()).schema, missing_columns="insert")
    assert by_scan.select(pl.len(), pl.col("amount").sum()).collect().row(0) == (rows, amount)
    by_pyarrow = pq.ParquetDataset(files, schema=schema).read()
    assert (by_pyarrow.num_rows, pc.sum(by_pyarrow.column("amount")).as_py()) == (rows, amount)
    by_pandas = pd.concat([pd.read_parquet(path) for path in files])
    assert (len(by_pandas), by_pandas["amount"].sum()) == (rows, amount)
    found = reconstruct(by_pyarrow)
    assert {name: same(data) for name, data in found.items()} == {name: same(data) for name, data in truth.items() if data}
    assert json.loads(by_pyarrow.filter(pc.is_valid(by_pyarrow.column("_extra"))).column("_extra")[0].as_py())


@pytest.mark.slow
def test_years_of_drift_are_read_whole_by_spark(lake):
    """Spark needs Java and a package of 300 MB: `pip install pyspark`, then `pytest -m slow tests/test_derive.py`."""
    session = pytest.importorskip("pyspark.sql").SparkSession
    truth = drifted(lake, 100, 21)
    rows = sum(map(len, truth.values()))
    amount = sum(record["amount"] for data in truth.values() for record in data)
    builder = session.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate()
    try:
        root = str(lake.data / "records" / f"ricloud_feed={FEED}")
        frame = spark.read.option("mergeSchema", "true").parquet(root)
        assert frame.selectExpr("count(*)", "sum(amount)").collect()[0] == (rows, amount)
        assert {"key", "amount", "tags", "attachments", "_extra"} <= set(frame.columns)
        assert frame.selectExpr("sum(size(attachments))").collect()[0][0] > 0
    finally:
        spark.stop()


def test_columns_that_come_in_the_middle_of_a_part_lose_nothing(lake):
    """Documents after those that brought a new column are read without it: the file has the columns of all of them."""
    put(lake, {"first": document([{"id": 1, "text": "x", "attachments": []}])})
    derive(lake)
    for part in range(3):
        documents = {}
        for number in range(6):
            records = [{"id": each, "text": "p" * 200, "attachments": []} for each in range(1500)]
            if number == 0:
                records[3][f"new{part}"] = "precious"
            documents[f"{part}-{number}"] = document(records)
        put(lake, documents)
    derive(lake)
    found = table(lake)
    for part in range(3):
        assert found.column(f"new{part}").drop_null().to_pylist() == ["precious"]


def test_a_map_for_each_record_is_no_hang(lake):
    records = [{f"{number:032x}": 1} for number in range(8_000)]
    blank = [{f"{number:032x}": None, "a": 1} for number in range(8_000)]
    put(lake, {"known": document([{"a": 1}])})
    derive(lake)
    put(lake, {"map": document(records), "blank": document(blank)})
    started = time.monotonic()
    assert derive(lake).rows == {FEED: 16_000}
    assert time.monotonic() - started < 30


def test_a_document_of_too_many_values_is_told_and_not_parsed(lake, monkeypatch):
    monkeypatch.setattr("ricloud_connector.records.large.MAX_DOCUMENT_VALUES", 1_000_000)
    put(
        lake,
        {"bomb": b'{"data": [' + b"{}," * 1_500_000 + b'{}], "metadata": {"count": 1500001}}', "good": document([{"a": 1}])},
    )
    assert derive(lake).rows == {FEED: 1}
    assert reasons(lake) == {"bomb": "records_too_large"}


def test_fault_171_a_document_of_too_many_cells_is_told_and_takes_no_memory(lake):
    """1 MiB of objects with a name of their own each would be a thousand columns of sixty thousand rows."""
    sparse = [{f"k{number}": number} for number in range(60_000)]
    put(lake, {"sparse": document(sparse), "good": document([{"a": 1}])})
    assert derive(lake).rows == {FEED: 1}
    assert reasons(lake) == {"sparse": "records_too_large"}


def test_rows_of_many_cells_are_written_in_between_and_all_there(lake, monkeypatch):
    for module in ("filling", "portions"):
        monkeypatch.setattr(f"ricloud_connector.records.{module}.MANY_CELLS", 500)
    names = [f"c{number}" for number in range(50)]
    documents = {f"r{n}": document([{name: n, "c0": row} for row, name in enumerate(names)]) for n in range(40)}
    put(lake, {"first": document([dict.fromkeys(names, 0)])})
    derive(lake)
    put(lake, documents)
    assert derive(lake).rows == {FEED: 2000}
    rows = table(lake).to_pylist()
    assert len(rows) == 2001
    assert {(row["result_id"], row["record_index"]) for row in rows} >= {(name, n) for name in documents for n in range(50)}
    assert all(row["c49"] == (int(row["result_id"][1:]) if row["record_index"] == 49 else None) for row in rows[1:])


def test_faults_of_documents_without_a_type_are_told_where_they_are_documents(lake):
    documents = {"count": document([{"x": 1}], count=2), "twice": b'{"data": [{"a": 1, "a": 2}], "metadata": {"count": 1}}'}
    put(lake, {**documents, "settings": b'{"theme": "dark"}', "text": b"{not json"}, kind=None)
    derive(lake)
    assert reasons(lake) == {"count": "records_count_mismatch", "twice": "records_duplicate_key"}


def test_names_that_can_be_no_column_do_not_freeze_a_feed_out(lake):
    put(lake, {"1": document([{"a": 1}])})
    derive(lake, contracts={"*": "freeze"})
    put(lake, {"2": document([{"a": 2, "poll": "x", "A": "twin", "__filename": "y", "": 0}])})
    report = derive(lake, contracts={"*": "freeze"})
    assert (report.rows, report.quarantined) == ({FEED: 1}, 0)
    assert json.loads(table(lake).column("_extra")[1].as_py()) == {"/poll": "x", "/A": "twin", "/__filename": "y", "/": 0}


def test_runs_do_not_derive_while_records_are_rebuilt(lake):
    put(lake, {"1": document([{"a": 1}])})
    rebuilding = rebuild_records(lake, at=MOMENT)
    next(rebuilding)
    with pytest.raises(LakeError, match="being rebuilt"):
        derive(lake)
    rebuilding.close()
    with records_lock(lake, alone=False), pytest.raises(LakeError, match="a run derives records"):
        next(rebuild_records(lake, at=MOMENT))
    assert derive(lake).files == 0


def test_a_rebuild_goes_on_after_a_broken_day_and_removes_nothing_where_it_sees_one_before(lake):
    days = [DAY + timedelta(days=number) for number in range(3)]
    for number, day in enumerate(days):
        put(lake, {str(number): document([{"a": number}])}, day=day)
        derive(lake, day)
    folder = lake.folder(QUARANTINE, days[1])
    folder.mkdir(parents=True)
    (folder / "part-000001.parquet").write_bytes(b"")
    with pytest.raises(LakeError, match="is missing below"):
        list(rebuild_records(lake, at=MOMENT))
    assert table(lake).num_rows == 3


def test_most_values_of_the_first_batch_decide_a_type_when_all_is_rebuilt(lake):
    put(lake, {"odd": document([{"size": "12 kB"}]), **{str(n): document([{"size": n}]) for n in range(100)}})
    derive(lake)
    list(rebuild_records(lake, at=MOMENT))
    assert table(lake).schema.field("size").type == pa.int64()
    assert table(lake).column("_extra").null_count == 100


def test_a_feed_whose_name_is_too_long_for_a_folder_keeps_its_name(lake):
    name = "ü" * 80
    put(lake, {"1": document([{"a": 1}])}, feed=name)
    derive(lake)
    assert feeds_of(lake) == [name]
    assert table(lake, name).num_rows == 1
