"""What every reader may rely on: names, chunks, row groups, footers, three engines. Writes real lakes."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ricloud_connector import disk
from ricloud_connector.lake import Lake
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, DATASETS
from tests.exactness import ENGINES, assert_readable
from tests.lakes import DAY, acknowledgement_rows, commit, opened_lake, parts_of, proven, small, stage, stored

MIB = 1024 * 1024
OTHER_DAY = date(2026, 11, 21)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(tmp_path / "lake") as lake:
        yield lake


@pytest.mark.parametrize(
    ("size", "chunks"),
    [
        (0, [0]),
        (1, [1]),
        (8 * MIB - 1, [8 * MIB - 1]),
        (8 * MIB, [8 * MIB]),
        (8 * MIB + 1, [8 * MIB, 1]),
        (20 * MIB, [8 * MIB, 8 * MIB, 4 * MIB]),
    ],
)
def test_fault_071_a_content_is_a_row_per_8_mib(lake: Lake, size: int, chunks: list[int]) -> None:
    data = random.Random(size).randbytes(size)
    commit(lake, {"before": b"b", "it": data, "after": b"a"})
    rows = [row for row in pq.read_table(parts_of(lake)[0]).to_pylist() if row["result_id"] == "it"]
    assert [len(row["content"]) for row in rows] == chunks
    assert [row["chunk_index"] for row in rows] == list(range(len(chunks)))
    assert {row["chunk_count"] for row in rows} == {len(chunks)}
    assert {row["size"] for row in rows} == {size}
    assert b"".join(row["content"] for row in rows) == data
    assert stored(lake) == proven({"before": b"b", "it": data, "after": b"a"})
    assert_readable(lake.root)


def test_reading_one_row_group_stays_under_64_mib(lake: Lake) -> None:
    noise = random.Random(1).randbytes(MIB)
    contents = {f"large{number}": noise * size for number, size in enumerate((17, 9, 8))}
    contents |= {f"middle{number}": noise * 7 for number in range(3)}
    contents |= {f"small{number}": noise[: number * 1000] for number in range(500)}
    commit(lake, contents)
    (path,) = parts_of(lake)
    with pq.ParquetFile(path) as parquet:
        groups = [parquet.metadata.row_group(number) for number in range(parquet.num_row_groups)]
        assert len(groups) > 3
        assert max(group.total_byte_size for group in groups) < 18 * MIB
        largest = max(range(len(groups)), key=lambda number: groups[number].total_byte_size)
        before = pa.total_allocated_bytes()
        table = parquet.read_row_group(largest)
        assert pa.total_allocated_bytes() - before < 40 * MIB
        assert table.nbytes < 18 * MIB
    assert stored(lake) == proven(contents)


def test_content_has_neither_dictionary_nor_statistics_and_every_page_a_checksum(lake: Lake) -> None:
    commit(lake, {f"{number}": b"the same" for number in range(100)})
    (path,) = parts_of(lake)
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    content = columns.pop("content")
    assert not content.has_dictionary_page
    assert not any("DICTIONARY" in encoding for encoding in content.encodings)
    assert content.statistics is None
    assert all(column.statistics is not None for column in columns.values())
    assert {column.compression for column in columns.values()} == {content.compression} == {"ZSTD"}
    text = path.read_bytes()
    place = text.index(b"the same")
    path.write_bytes(text[:place] + b"another!" + text[place + 8 :])
    with pytest.raises(OSError, match=r"(?i)crc"), pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        parquet.read()


def test_values_that_repeat_stand_in_dictionaries_and_others_do_not(lake: Lake) -> None:
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows(*map(str, range(100))))
    (path,) = parts_of(lake, "acknowledgements")
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    with_dictionary = {column.path_in_schema for column in columns if column.has_dictionary_page}
    assert with_dictionary == {"acknowledged_at", "confirmed_by", "run_id"}


def test_columns_and_their_descriptions_are_in_the_file(lake: Lake) -> None:
    commit(lake, small(1))
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a"))
    for dataset in (CONTENTS, ACKNOWLEDGEMENTS):
        schema = pq.read_schema(parts_of(lake, dataset.name)[0])
        assert schema.equals(dataset.schema, check_metadata=False)
        for field in schema:
            assert field.metadata[b"description"] == dataset.schema.field(field.name).metadata[b"description"]


def test_the_partition_key_is_no_column_of_any_dataset() -> None:
    for dataset in DATASETS:
        assert "created_date" not in dataset.schema.names


def test_pyarrow_duckdb_and_polars_read_a_plain_glob(lake: Lake) -> None:
    contents = small(1, 2) | {"großé ☕ 東京": b"\0\xff", "large": b"l" * (9 * MIB)}
    commit(lake, contents)
    commit(lake, small(3))
    commit(lake, small("elsewhere"), OTHER_DAY)
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("1", "2"))
    expected = {**dict.fromkeys([*contents, "3"], DAY), "elsewhere": OTHER_DAY}
    for read in ENGINES.values():
        table = read(lake.root, "contents")
        assert table is not None
        days = {row["result_id"]: date.fromisoformat(str(row["created_date"])) for row in table.to_pylist()}
        assert days == expected
        acknowledged = read(lake.root, "acknowledgements")
        assert acknowledged is not None
        assert sorted(acknowledged.column("result_id").to_pylist()) == ["1", "2"]
    assert_readable(lake.root)


def test_nothing_but_parts_is_ever_seen_under_data(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at whenever the connector touches the disk: before and after each file gets its name or is made durable."""
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        for path in lake.data.glob("**/*"):
            if path.is_file():
                assert pq.read_metadata(path).num_rows > 0
                assert re.fullmatch(
                    r"\w+/created_date=2026-11-2\d/part-00000\d\.parquet", path.relative_to(lake.data).as_posix()
                )
        assert not list(lake.control.glob("**/*.parquet"))

    for name in ("create", "sync", "settle", "list_parts", "make_folder", "discard", "replace"):
        original = getattr(disk, name)

        def watched(*arguments: Path, original=original) -> object:
            look()
            answer = original(*arguments)
            look()
            return answer

        monkeypatch.setattr(disk, name, watched)
    commit(lake, small(1, 2))
    commit(lake, small(2, 3))
    commit(lake, small(4), OTHER_DAY)
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("1"))
    assert looks > 40


def test_fault_121_readers_that_glob_all_the_time_never_see_half_a_row_or_a_duplicate(lake: Lake) -> None:
    """DuckDB, Polars and pyarrow read without a pause, while three writers commit overlapping contents."""
    done = threading.Event()
    times = dict.fromkeys(ENGINES, 0)

    def read(engine: str) -> None:
        while not done.is_set():
            table = ENGINES[engine](lake.root, "contents")
            ids = [] if table is None else table.column("result_id").to_pylist()
            assert len(ids) == len(set(ids)), f"{engine} saw a result twice"
            times[engine] += 1

    def write(run: int) -> None:
        with opened_lake(lake.root, run_id=f"writer{run}") as writer:
            number = 0
            while number < 20 or min(times.values()) < 4:
                commit(writer, small(*range(number * 3, number * 3 + 5)))
                number += 1

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read, engine) for engine in ENGINES]
        try:
            list(pool.map(write, range(3)))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert_readable(lake.root)


def test_a_part_that_is_staged_is_not_in_the_lake(lake: Lake) -> None:
    """Fault 107: what a power cut leaves of an unfinished file lies in staging, where no reader looks."""
    staged = stage(lake, small(1))
    (lake.staging / "part-9").write_bytes(b"")
    assert staged.path.parent == lake.staging
    assert stored(lake) == {}
    assert not list(lake.data.iterdir())
