"""The index cache under `control/`: saves reading, and can cause neither a loss nor a duplicate. Writes real lakes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ricloud_connector import index_cache
from ricloud_connector.errors import BrokenChain, ForeignLake, UnreadablePart
from ricloud_connector.index_cache import KEPT, KEPT_ANYHOW
from ricloud_connector.lake import Lake
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS
from tests.exactness import assert_readable
from tests.lakes import DAY, acknowledgement_rows, commit, opened_lake, parts_of, proven, small, stage, stored


def cache_of(lake: Lake, dataset: str = "contents", day: date = DAY) -> Path:
    return lake.control / "index" / dataset / f"{day}.arrow"


def ruin(path: Path) -> None:
    """Make a file undecodable in a way that no listing can tell: the same size, times and inode."""
    facts = path.stat()
    path.write_bytes(b"\0" * facts.st_size)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    """A lake of three parts that hold the ids 0 to 5."""
    with opened_lake(tmp_path / "lake") as lake:
        for first in (0, 2, 4):
            commit(lake, small(first, first + 1))
        yield lake


def test_no_file_is_read_twice(lake: Lake) -> None:
    """Promise 6: what was seen once is known by its name, size, time and inode; only new files are opened."""
    stored(lake)
    for path in parts_of(lake):
        ruin(path)
    assert stored(lake) == proven(small(*range(6)))
    assert commit(lake, small(5, 6)) == 1
    assert stored(lake) == proven(small(*range(7)))


def test_what_a_run_has_read_of_many_days_the_next_one_does_not_read_again(tmp_path: Path) -> None:
    """Also where a partition grew too little for its file to be replaced at once, and others took its place in memory."""
    days = [DAY + timedelta(days=number) for number in range(KEPT + 3)]
    with opened_lake(tmp_path / "lake") as lake:
        for day in days:
            for first in range(0, 20, 2):
                commit(lake, small(first, first + 1), day)
                stored(lake, day)
            commit(lake, small(20), day)
            stored(lake, day)
    for day in days[:-1]:  # a lake is recognised by any part of it that can be read
        for path in sorted((tmp_path / "lake" / "data" / "contents" / f"created_date={day}").iterdir()):
            ruin(path)
    with opened_lake(tmp_path / "lake", run_id="next") as lake:
        assert all(stored(lake, day) == proven(small(*range(21))) for day in days)


@pytest.mark.parametrize(("most_rows", "kept"), [(1_000_000, KEPT), (40, 10), (3, KEPT_ANYHOW)])
def test_memory_holds_indexes_of_many_small_partitions_or_few_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_rows: int, kept: int
) -> None:
    monkeypatch.setattr(index_cache, "KEPT_ROWS", most_rows)
    days = [DAY + timedelta(days=number) for number in range(KEPT + 3)]
    with opened_lake(tmp_path / "lake") as lake:
        for day in days:
            commit(lake, small(1, 2, 3, 4), day)
        assert [place.name for place in lake._indexes._kept] == [f"{day}.arrow" for day in days[-kept:]]


def test_a_deleted_cache_is_made_anew(lake: Lake) -> None:
    before = lake.scan(CONTENTS, DAY)
    shutil.rmtree(lake.control / "index")
    assert lake.scan(CONTENTS, DAY) == before
    assert cache_of(lake).exists()
    shutil.rmtree(lake.control)
    assert lake.scan(CONTENTS, DAY) == before  # not even a place for a new one is needed


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cache_in_which_anything_has_changed_is_made_anew(lake: Lake, data: st.DataObject) -> None:
    """Also one that still decodes: an id in it that no part holds would never be fetched."""
    stored(lake)
    cache = cache_of(lake)
    text = bytearray(cache.read_bytes())
    place = data.draw(st.integers(0, len(text) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "zeros", "insert"]))
    if kind == "flip":
        text[place] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del text[place:]
    elif kind == "zeros":  # what a power cut leaves of blocks that were not written
        text[place:] = b"\0" * (len(text) - place)
    else:
        text[place:place] = b"x"
    cache.write_bytes(text)
    assert stored(lake) == proven(small(*range(6)))
    assert stored(lake) == proven(small(*range(6)))


@pytest.mark.parametrize("text", [b"", b"\0" * 32, b"\0" * 100, b"ARROW1", hashlib.sha256(b"").digest()])
def test_a_cache_that_is_none_is_made_anew(lake: Lake, text: bytes) -> None:
    cache_of(lake).write_bytes(text)
    assert stored(lake) == proven(small(*range(6)))


def test_a_folder_where_the_cache_should_be_costs_time_only(lake: Lake) -> None:
    cache_of(lake).unlink()
    cache_of(lake).mkdir()
    assert stored(lake) == proven(small(*range(6)))
    assert commit(lake, small(6)) == 1
    assert not list(lake.staging.iterdir())


def test_a_stale_cache_is_brought_up_to_date_by_the_new_parts_alone(lake: Lake) -> None:
    stored(lake)
    old = cache_of(lake).read_bytes()
    commit(lake, small(6))
    cache_of(lake).write_bytes(old)
    for path in parts_of(lake)[:3]:
        ruin(path)
    assert stored(lake) == proven(small(*range(7)))


def test_a_cache_of_more_parts_than_there_are_is_not_believed(lake: Lake) -> None:
    """After a power cut took the last part with it."""
    stored(lake)
    parts_of(lake)[-1].unlink()
    assert stored(lake) == proven(small(0, 1, 2, 3))
    assert commit(lake, small(4, 5)) == 2
    assert stored(lake) == proven(small(*range(6)))


def test_a_cache_does_not_hide_a_gap(lake: Lake) -> None:
    stored(lake)
    parts_of(lake)[1].unlink()
    with pytest.raises(BrokenChain):
        stored(lake)


def test_a_partition_that_was_removed_and_filled_again_is_read_anew(lake: Lake) -> None:
    """Supported deletion: a whole created_date= folder."""
    stored(lake)
    shutil.rmtree(lake.folder(CONTENTS, DAY))
    assert stored(lake) == {}
    for first in (10, 12, 14):
        commit(lake, small(first, first + 1))
    assert stored(lake) == proven(small(*range(10, 16)))


def test_a_cache_of_another_partition_is_not_believed(lake: Lake) -> None:
    other = date(2026, 11, 21)
    for name in "abcd":  # more parts than the cache knows, so that only their identities tell
        commit(lake, small(name), other)
    stored(lake)
    shutil.copy(cache_of(lake), cache_of(lake, day=other))
    assert stored(lake, other) == proven(small("a", "b", "c", "d"))
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a"))
    shutil.copy(cache_of(lake), cache_of(lake, "acknowledgements"))
    assert lake.scan(ACKNOWLEDGEMENTS, DAY).index.column("result_id").to_pylist() == ["a"]


def test_a_lake_that_was_copied_or_moved_is_read_right(lake: Lake, tmp_path: Path) -> None:
    stored(lake)
    shutil.copytree(lake.root, tmp_path / "copy")
    (lake.root).rename(tmp_path / "moved")
    for place in ("copy", "moved"):
        with opened_lake(tmp_path / place) as there:
            assert stored(there) == proven(small(*range(6)))
            assert commit(there, small(5, 6)) == 1


def test_a_cache_made_by_another_run_does_not_hide_a_foreign_part(lake: Lake, tmp_path: Path) -> None:
    """What the footers say is in the cache as well: a run that opens no part still learns whose they are."""
    stored(lake)
    with opened_lake(tmp_path / "lake", run_id="other", organisation=None) as other:
        other.organisation = "somebody else"
        with pytest.raises(ForeignLake):
            other.scan(CONTENTS, DAY)
    moved = Lake(tmp_path / "lake", origin="https://elsewhere.example", run_id="moved")
    moved.scan(CONTENTS, DAY)
    assert moved.other_origin == "http://127.0.0.1:8000"


def forge(lake: Lake, change: dict[str, str], *, drop: int | None = None) -> None:
    """Rewrite the cache with a valid digest: ids renamed, or a row left out."""
    text = cache_of(lake).read_bytes()
    with pa.ipc.open_file(pa.py_buffer(text[:-32])) as reader:
        table = reader.read_all()
    if drop is not None:
        table = pa.concat_tables([table.slice(0, drop), table.slice(drop + 1)])
    ids = pa.array([change.get(name, name) for name in table.column("result_id").to_pylist()])
    table = table.set_column(1, table.schema.field("result_id"), ids)
    assert json.loads(table.schema.metadata[b"ricloud_index"])["parts"]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    cache_of(lake).write_bytes(body + hashlib.sha256(body).digest())


@pytest.mark.parametrize(("change", "drop"), [({"3": "9"}, None), ({}, 3), ({"3": "2"}, None)])
def test_a_cache_that_lies_is_found_out_before_anything_is_acknowledged(
    lake: Lake, change: dict[str, str], drop: int | None
) -> None:
    """Nothing writes such a cache; if a bug ever did, the acknowledgement that would rest on it ends in a clear error."""
    stored(lake)
    forge(lake, change, drop=drop)
    found = lake.scan(CONTENTS, DAY)
    with pytest.raises(UnreadablePart, match=r"part-000001.*control/index"):
        list(read_back(found, [1]))
    shutil.rmtree(lake.control / "index")
    assert [set(commit.proven) for commit in read_back(lake.scan(CONTENTS, DAY), [1])] == [{"2", "3"}]


def test_a_cache_cannot_be_torn_by_two_writers(lake: Lake) -> None:
    """It is swapped in one step: a reader sees the one or the other, whole."""
    with opened_lake(lake.root, run_id="other") as other:
        for number in range(6, 30):
            writer, reader = (lake, other) if number % 2 else (other, lake)
            commit(writer, small(number))
            assert stored(reader) == proven(small(*range(number + 1)))
        assert {path.name for path in (lake.control / "index" / "contents").iterdir()} == {f"{DAY}.arrow"}
    assert_readable(lake.root)


def test_a_crashed_cache_writer_leaves_nothing_beside_the_cache(lake: Lake) -> None:
    """Its temporary file lies in the run's staging folder, which is swept."""
    (lake.staging / "index-0badcafe").write_bytes(b"half of a cache")
    commit(lake, small(6))
    assert {path.name for path in (lake.control / "index" / "contents").iterdir()} == {f"{DAY}.arrow"}


def test_a_scan_of_100_000_rows_in_300_parts_with_nothing_new_is_quick(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        table = pq.read_table(stage(lake, small(*range(333))).path)
        folder = lake.folder(CONTENTS, DAY)
        folder.mkdir(parents=True)
        for number in range(300):
            ids = [f"{number:04d}{row:020d}" for row in range(333)]
            rows = table.set_column(0, CONTENTS.schema.field(0), pa.array(ids)).cast(table.schema)
            with lake.writer(CONTENTS) as writer:
                writer.write(rows)
                writer.finish().path.rename(folder / f"part-{number:06d}.parquet")
        assert lake.scan(CONTENTS, DAY).index.num_rows == 99_900
        times = []
        for _ in range(5):
            started = time.perf_counter()
            found = lake.scan(CONTENTS, DAY)
            found.whole_results()
            assert not any(found.missing(rows.select(["result_id", "chunk_index"])).to_pylist())
            times.append(time.perf_counter() - started)
        assert min(times) < 0.2, times
