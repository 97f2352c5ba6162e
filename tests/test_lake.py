"""The lake's commit protocol: chains, keys, races, foreign parts. Writes real lakes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ricloud_connector import disk
from ricloud_connector import lake as lake_module
from ricloud_connector.cloud import BucketUrl, Cloud
from ricloud_connector.errors import BrokenChain, ForeignLake, LakeError, SettingsError, UnreadablePart
from ricloud_connector.ingest.open_parts import OpenParts
from ricloud_connector.lake import Lake
from ricloud_connector.listed import Listed
from ricloud_connector.model import Rejection
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS, QUARANTINE, RESULTS, quarantine_rows
from ricloud_connector.settings import absolute_lake
from ricloud_connector.storage import DiskStorage
from tests.exactness import assert_readable
from tests.lakes import (
    DAY,
    MOMENT,
    ORIGIN,
    acknowledgement_rows,
    commit,
    content_of,
    opened_lake,
    parts_of,
    proven,
    small,
    stage,
    stored,
)

MIB = 1024 * 1024


def test_a_partition_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        found = lake.scan(CONTENTS, DAY)
        assert (found.day, found.parts, found.index.num_rows) == (DAY, (), 0)
        assert found.index.schema == CONTENTS.index_schema
        assert found.whole_results().num_rows == 0


def test_each_commit_is_the_next_part(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        assert [commit(lake, small(number)) for number in range(3)] == [1, 1, 1]
        assert [path.name for path in parts_of(lake)] == ["part-000000.parquet", "part-000001.parquet", "part-000002.parquet"]
        found = lake.scan(CONTENTS, DAY)
        assert found.index.column("part").to_pylist() == [0, 1, 2]
        assert stored(lake) == proven(small(0, 1, 2))


def test_fault_113_overlapping_commits_give_the_exact_union(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        assert commit(lake, small(1, 2)) == 2
        assert commit(lake, small(1, 2, 3)) == 1
        assert commit(lake, small(3, 2, 1)) == 0
        assert [pq.read_table(path).column("result_id").to_pylist() for path in parts_of(lake)] == [["1", "2"], ["3"]]


def test_fault_112_the_same_contents_from_eight_writers_are_one_file(tmp_path: Path) -> None:
    contents = small(*range(50))

    def write(number: int) -> int:
        with opened_lake(tmp_path, run_id=f"run{number}") as lake:
            return commit(lake, contents)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [0] * 7 + [50]
    with opened_lake(tmp_path) as lake:
        assert len(parts_of(lake)) == 1
        assert stored(lake) == proven(contents)
    assert_readable(tmp_path)


def test_fault_113_different_contents_from_eight_writers_are_all_there_once(tmp_path: Path) -> None:
    def write(number: int) -> int:
        with opened_lake(tmp_path, run_id=f"run{number}") as lake:
            return sum(commit(lake, small(*range(first + number, first + number + 4))) for first in (0, 20, 40))

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(write, range(8)))
    with opened_lake(tmp_path) as lake:
        expected = proven(small(*(first + number for first in (0, 20, 40) for number in range(11))))
        assert stored(lake) == expected
        assert added == len(expected)
        assert lake.scan(CONTENTS, DAY).index.num_rows == len(expected)


def test_taken_is_not_read_as_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run takes the number between the look and the step: what it did not store is stored under the next one."""
    with opened_lake(tmp_path, run_id="slow") as slow, opened_lake(tmp_path, run_id="fast") as fast:
        staged = stage(slow, small(1, 2, 3))
        create, others = disk.create, iter([small(2), small(8), small(1, 9)])

        def create_late(target: Path, path: Path) -> bool:
            other = next(others, None) if path.parent == slow.staging else None
            if other is not None:
                commit(fast, other)
            return create(target, path)

        monkeypatch.setattr(disk, "create", create_late)
        assert slow.commit(DAY, staged) == 1
        rows = [pq.read_table(path).column("result_id").to_pylist() for path in parts_of(slow)]
        assert rows == [["2"], ["8"], ["1", "9"], ["3"]]
        assert not list(slow.staging.iterdir())


def test_fault_114_a_slow_writer_finds_what_the_fast_one_stored_and_writes_nothing(tmp_path: Path) -> None:
    with opened_lake(tmp_path, run_id="slow") as slow, opened_lake(tmp_path, run_id="fast") as fast:
        staged = stage(slow, small(1, 2))
        commit(fast, small(1))
        commit(fast, small(2))
        assert slow.commit(DAY, staged) == 0
        assert len(parts_of(slow)) == 2


def test_fault_088_two_ids_with_the_same_content_are_two_rows(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        assert commit(lake, {"a": b"same", "b": b"same"}) == 2
        assert stored(lake) == proven({"a": b"same", "b": b"same"})


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 17 * MIB), (17 * MIB, 1), (17 * MIB, 9 * MIB)])
def test_fault_087_a_content_that_changed_after_it_was_stored_is_kept_as_it_was(
    tmp_path: Path, first: int, second: int
) -> None:
    """Also where the two have different numbers of chunks, so that some chunks of the second have keys of their own."""
    with opened_lake(tmp_path) as lake:
        commit(lake, {"changed": b"1" * first, "other": b"x"})
        assert commit(lake, {"changed": b"2" * second, "new": b"y"}) == 1
        assert stored(lake) == proven({"changed": b"1" * first, "other": b"x", "new": b"y"})
    assert_readable(tmp_path)


def test_a_row_that_is_given_twice_is_stored_once(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a", "b", "a")) == 2
        with lake.writer(ACKNOWLEDGEMENTS) as writer:
            for _ in range(3):
                writer.write(acknowledgement_rows("c", "b", "c"))
            assert lake.commit(DAY, writer.finish()) == 1
        assert lake.scan(ACKNOWLEDGEMENTS, DAY).index.column("result_id").to_pylist() == ["a", "b", "c"]


def test_commit_table_writes_many_rows_as_several_parts_and_row_groups(tmp_path: Path) -> None:
    ids = [str(number) for number in range(60_000)]
    with opened_lake(tmp_path) as lake:
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows(*ids, "0")) == 60_000
        paths = parts_of(lake, ACKNOWLEDGEMENTS.name)
        assert [pq.read_metadata(path).num_row_groups for path in paths] == [5, 1]
        found = pa.concat_tables([pq.read_table(path) for path in paths])
        assert found.column("result_id").to_pylist() == ids


@pytest.mark.parametrize("before", [0, 1])
def test_what_being_told_of_a_commit_raises_is_raised_though_it_happens_beside_the_next(tmp_path: Path, before: int) -> None:
    told: list[list[str]] = []

    def refuse(ids: Collection[str]) -> None:
        told.append(list(ids))
        if len(told) > before:
            raise LakeError("as an example")

    with opened_lake(tmp_path) as lake, OpenParts(lake, DAY, run_id="run", committed=refuse) as parts:
        for name in ("a", "b")[:before]:
            parts.add_content(content_of(name, b"bytes"))
            parts.commit()
        parts.add_content(content_of("last", b"bytes"))
        with pytest.raises(LakeError, match="as an example"):
            parts.commit()
        assert told[-1] == ["last"]
        assert "last" in stored(lake)


def test_a_result_that_is_listed_again_has_one_row_wherever_the_first_one_is_by_then(tmp_path: Path) -> None:
    listed = Listed.of([content_of(f"{number}", b"").result for number in range(20)])
    with opened_lake(tmp_path) as lake:
        for new in (20, 0):  # the second time all of it is in the lake
            with OpenParts(lake, DAY, run_id="run") as parts:
                parts.add_results(listed.slice(0, 10), MOMENT)
                parts.add_results(listed.slice(5, 15), MOMENT)
                parts.add_content(content_of("0", b"bytes"))
                parts._close()  # what was added before is on its way into the lake
                parts.add_results(listed, MOMENT)
                parts.commit()
                assert parts.new_results == new
        rows = pa.concat_tables([pq.read_table(path, partitioning=None) for path in parts_of(lake, "results")])
        assert sorted(rows.column("id").to_pylist(), key=int) == [f"{number}" for number in range(20)]


def test_commit_table_writes_what_is_missing_and_tells_how_much(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows()) == 0
        assert not (lake.data / "acknowledgements").exists()
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a", "b")) == 2
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("b", "c", "a")) == 1
        assert lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("c")) == 0
        assert len(parts_of(lake, "acknowledgements")) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "a|b", "", "null", "None"]),
            st.sampled_from(["gone", "changed"]),
            st.sampled_from([None, "0" * 32, ""]),
            st.sampled_from([None, 0, 1]),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_keys_of_several_columns_with_nulls_are_told_apart(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, str, str | None, int | None]], cut: int
) -> None:
    rejections = [Rejection(name, reason, "", MOMENT, checksum=md5, size=size) for name, reason, md5, size in keys]
    rows = quarantine_rows(rejections, run_id="run", seen_at=MOMENT)
    with opened_lake(tmp_path_factory.mktemp("lake")) as lake:
        first = lake.commit_table(QUARANTINE, DAY, rows.slice(0, cut))
        assert first == len(set(keys[:cut]))
        assert lake.commit_table(QUARANTINE, DAY, rows) == len(set(keys)) - first


def test_a_result_is_whole_only_with_every_chunk(tmp_path: Path) -> None:
    contents = {"big": b"b" * (17 * MIB), "small": b"s", "even": b"e" * (16 * MIB)}
    with opened_lake(tmp_path) as lake:
        commit(lake, contents)
        found = lake.scan(CONTENTS, DAY)
        assert found.index.num_rows == 6
        assert {row["result_id"]: row["part"] for row in found.whole_results().to_pylist()} == dict.fromkeys(contents, 0)
        for lost in range(6):
            index = pa.concat_tables([found.index.slice(0, lost), found.index.slice(lost + 1)])
            partial = replace(found, index=index)
            lost_id = found.index.column("result_id")[lost].as_py()
            assert set(partial.whole_results().column("result_id").to_pylist()) == contents.keys() - {lost_id}


# What stops a run rather than being guessed at


@pytest.mark.parametrize("lost", [0, 1])
def test_fault_134_a_missing_part_stops_everything(tmp_path: Path, lost: int) -> None:
    with opened_lake(tmp_path) as lake:
        for number in range(3):
            commit(lake, small(number))
        parts_of(lake)[lost].unlink()
        with pytest.raises(BrokenChain, match=rf"part {lost} is missing below part 2.*created_date=2026-11-20|created_date="):
            lake.scan(CONTENTS, DAY)
        with pytest.raises(BrokenChain):
            commit(lake, small(9))
        assert len(parts_of(lake)) == 2
        assert commit(lake, small(9), date(2026, 11, 21)) == 1  # the other partitions go on


def test_fault_133_a_listing_that_lags_behind_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened_lake(tmp_path) as lake:
        for number in range(3):
            commit(lake, small(number))
        list_parts, lagging = disk.list_parts, [[0, 2], [1, 2], [2]]

        def list_some(folder: Path) -> list[disk.DataFile]:
            shown = lagging.pop(0) if lagging else range(3)
            return [part for part in list_parts(folder) if part.number in shown]

        monkeypatch.setattr(disk, "list_parts", list_some)
        assert stored(lake) == proven(small(0, 1, 2))


@pytest.mark.parametrize(
    "name",
    [
        "part-0000001.parquet",
        "part-1.parquet",
        "part-\u0660\u0660\u0660\u0660\u0660\u0661.parquet",
        "part-000000 (1).parquet",
        ".hidden.parquet",
        "x.parquet",
    ],
)
def test_a_parquet_file_that_is_no_part_is_loud(tmp_path: Path, name: str) -> None:
    """Every engine would read it beside the parts; most often it is a copy of one, and each of its rows there twice."""
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        folder = parts_of(lake)[0].parent
        (folder / name).write_bytes(parts_of(lake)[0].read_bytes())
        with pytest.raises(LakeError, match="not part of the lake"):
            lake.scan(CONTENTS, DAY)


def test_a_part_that_leads_nowhere_is_not_taken_for_an_empty_partition(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        parts_of(lake)[0].unlink()
        (lake.folder(CONTENTS, DAY) / "part-000000.parquet").symlink_to(tmp_path / "nowhere")
        with pytest.raises(LakeError, match="cannot list"):
            lake.scan(CONTENTS, DAY)


def test_part_numbers_beyond_six_digits_are_in_order(tmp_path: Path) -> None:
    numbers = [0, 999_999, 1_000_000, 12_345_678]
    for number in numbers:
        disk.part_path(tmp_path, number).touch()
    assert [part.number for part in disk.list_parts(tmp_path)] == numbers
    assert disk.part_path(tmp_path, 1_000_000).name == "part-1000000.parquet"


def test_fault_086_an_unreadable_part_stops_its_own_partition(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        commit(lake, small(2), date(2026, 11, 21))
        parts_of(lake)[0].write_bytes(b"PAR1 this is no Parquet PAR1")
    with opened_lake(tmp_path) as lake:
        with pytest.raises(UnreadablePart, match="part-000000"):
            lake.scan(CONTENTS, DAY)
        with pytest.raises(UnreadablePart):
            commit(lake, small(3))
        assert stored(lake, date(2026, 11, 21)) == proven(small(2))
        assert len(parts_of(lake)) == 1


def test_a_lake_of_which_nothing_can_be_read_is_not_written(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        parts_of(lake)[0].write_bytes(b"")
    with pytest.raises(UnreadablePart), opened_lake(tmp_path):
        pass


def test_a_part_without_the_columns_is_unreadable(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        path = parts_of(lake)[0]
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.drop(["chunk_count"]), path)
        with pytest.raises(UnreadablePart, match="chunk_count"):
            lake.scan(CONTENTS, DAY)
        pq.write_table(table.set_column(1, "chunk_index", table.column("chunk_index").cast(pa.int64())), path)
        with pytest.raises(UnreadablePart, match="chunk_index"):
            lake.scan(CONTENTS, DAY)


# Whose lake it is


def test_a_lake_belongs_to_the_organisation_that_wrote_it(tmp_path: Path) -> None:
    with opened_lake(tmp_path, organisation="one") as lake:
        commit(lake, small(1))
    with opened_lake(tmp_path, organisation=None) as lake:
        assert lake.organisation == "one"
        with pytest.raises(ForeignLake) as caught:
            lake.claim("two")
        assert str(caught.value) == (
            f"the lake {tmp_path} holds results of organisation 'one'; the API lists results of 'two'. One lake, one "
            "organisation: set RICLOUD_LAKE to another folder"
        )


def test_folders_without_parts_do_not_say_whose_lake_it_is(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    with opened_lake(root) as lake:
        commit(lake, small(1))
    for name in ("created_date=2026-01-01", "a folder of somebody"):
        (root / "data" / "contents" / name).mkdir()
    (root / "data" / "contents" / "a folder of somebody" / "part-000000.parquet").write_text("not ours")
    with pytest.raises(ForeignLake), opened_lake(root, organisation="another"):
        pass


def test_a_part_of_another_organisation_stops_the_run_at_first_sight(tmp_path: Path) -> None:
    """Two runs of two organisations have started on one new lake at the same moment."""
    with opened_lake(tmp_path, run_id="a", organisation="one") as one, opened_lake(tmp_path, organisation="two") as two:
        staged = stage(two, small(2))
        commit(one, small(1))
        with pytest.raises(ForeignLake):
            two.commit(DAY, staged)
        assert stored(one) == proven(small(1))
        assert not list(two.staging.iterdir())


@pytest.mark.parametrize("written", ["2", "10", "", "²", "1.0", "-1", None])
def test_a_part_of_another_format_is_refused(tmp_path: Path, written: str | None) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        path = parts_of(lake)[0]
        table = pq.read_table(path, partitioning=None)
        footer = {**(table.schema.metadata or {})}
        footer.pop(b"ricloud_format")
        pq.write_table(
            table.replace_schema_metadata(footer if written is None else {**footer, "ricloud_format": written}), path
        )
        with pytest.raises(ForeignLake) as caught:
            lake.scan(CONTENTS, DAY)
        newer = f"of format {written}; this version reads up to 1: upgrade ricloud-connector, or"
        what = newer if written in ("2", "10") else "that is not ours:"
        assert str(caught.value) == f"the lake {tmp_path} has a part {what} set RICLOUD_LAKE to another folder"
    with pytest.raises(SettingsError), opened_lake(tmp_path):
        pass


def test_a_part_from_another_origin_is_remembered(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        commit(lake, small(1))
        assert lake.other_origin is None
    elsewhere = Lake(tmp_path, origin="https://elsewhere.example", run_id="run")
    with elsewhere.opened():
        assert elsewhere.other_origin == "http://127.0.0.1:8000"


def test_footers_say_format_organisation_and_origin(tmp_path: Path) -> None:
    with opened_lake(tmp_path, organisation="Größe") as lake:
        commit(lake, small(1))
        lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a"))
        for path in [*parts_of(lake), *parts_of(lake, "acknowledgements")]:
            footer = pq.read_metadata(path).metadata
            assert footer[b"ricloud_format"] == b"1"
            assert footer[b"ricloud_organisation"] == "Größe".encode()
            assert footer[b"ricloud_origin"] == b"http://127.0.0.1:8000"


# Opening


def test_fault_108_eight_processes_open_a_new_lake_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom ricloud_connector.lake import Lake\n"
        "lake = Lake(pathlib.Path(sys.argv[1]), origin='http://x', run_id='same')\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with lake.opened():\n    assert lake.staging.is_dir()\n    print('opened')\n"
    )
    root = tmp_path / "new" / "deeper" / "lake"
    command = [sys.executable, "-c", code, str(root)]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in started] == ["opened\n"] * 8
    assert sorted(path.name for path in root.iterdir()) == ["control", "data"]
    assert not list((root / "control" / "staging").iterdir())


@pytest.mark.parametrize(
    "text", ["az://bucket/lake", "s3://", "s3:///lake", "s3://bucket/a//b", "gs://bucket/../x", "s3://b*t/x"]
)
def test_a_lake_that_is_neither_a_folder_nor_in_a_bucket_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="RICLOUD_LAKE"):
        absolute_lake(text)


def test_a_lake_in_a_bucket_is_shown_as_it_is_set() -> None:
    for text in ("s3://bucket", "gs://bucket/lakes/ricloud"):
        assert str(absolute_lake(text)) == str(absolute_lake(f"{text}/")) == text


def test_a_lake_in_a_bucket_is_reached_as_it_is_set() -> None:
    cloud = Cloud(s3_endpoint="https://storage.example")
    for cloud_given, expected in ((cloud, cloud), (None, Cloud())):
        url = absolute_lake("s3://bucket/lake", cloud_given)
        assert isinstance(url, BucketUrl)
        assert url.cloud == expected


def test_a_lake_may_be_given_its_store(tmp_path: Path) -> None:
    lake = Lake(DiskStorage(tmp_path / "lake"), origin=ORIGIN, run_id="run")
    with lake.opened():
        commit(lake, small(1))
        assert stored(lake) == proven(small(1))
    assert lake.root == tmp_path / "lake"


def test_a_lake_in_a_bucket_stages_in_a_local_folder_and_is_not_asked_for_before_it_is_opened(tmp_path: Path) -> None:
    lake = Lake(BucketUrl("s3", "bucket", "lake", Cloud()), origin=ORIGIN, run_id="run", scratch=tmp_path)
    assert (str(lake.root), lake.storage.staging) == ("s3://bucket/lake", tmp_path)


def test_a_short_part_does_not_wait_for_long_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_module, "TABLE_ROWS", 2)
    with opened_lake(tmp_path) as lake, lake._long, lake._long, ThreadPoolExecutor(1) as thread:
        assert thread.submit(commit, lake, small(1, 2)).result(timeout=30) == 2


def test_fault_106b_a_partition_that_is_settled_is_durable_whoever_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_lake(tmp_path / "lake") as lake:
        commit(lake, small(1))
        synced = list[Path]()
        monkeypatch.setattr(disk, "sync", synced.append)
        lake.settle(CONTENTS, DAY)
        folder = lake.folder(CONTENTS, DAY)
        assert synced == [folder, folder.parent, lake.data]


def test_a_commit_that_never_gets_its_turn_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose listing never shows the name that it says is taken."""
    with opened_lake(tmp_path / "lake") as lake:
        monkeypatch.setattr(disk, "create", lambda *_: False)
        monkeypatch.setattr("ricloud_connector.lake.MAX_RACES", 20)
        with pytest.raises(LakeError, match=f"^{DAY}: lost 20 races for the next part of contents$"):
            commit(lake, small(1))
        assert not list(lake.staging.iterdir())


def test_a_file_beside_the_parts_is_created_once_by_whomever(tmp_path: Path) -> None:
    with opened_lake(tmp_path / "lake") as lake, opened_lake(tmp_path / "lake", run_id="other") as other:
        target = lake.control / "new" / "file"
        for writer, said in ((lake, True), (lake, False), (other, False)):
            staged = writer.staging / "staged"
            staged.write_text(writer.run_id)
            assert writer.create(target, staged) is said
            staged.unlink()
        assert Path(target).read_text() == "run"


def test_a_file_beside_the_parts_that_is_neither_created_nor_there_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    with opened_lake(tmp_path / "lake") as lake:
        monkeypatch.setattr(disk, "create", lambda *_: tries.append(1))
        monkeypatch.setattr("ricloud_connector.lake.MAX_RACES", 20)
        (lake.staging / "staged").touch()
        with pytest.raises(LakeError, match=r"^lost 20 races for .*/control/file$"):
            lake.create(lake.control / "file", lake.staging / "staged")
    assert len(tries) == 20


def test_a_relative_lake_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert absolute_lake("a/../lake") == tmp_path / "lake"
    assert absolute_lake("~/lake") == tmp_path / "home" / "lake"


def test_an_interrupted_writer_leaves_nothing_in_staging(tmp_path: Path) -> None:
    with opened_lake(tmp_path) as lake:
        with pytest.raises(KeyboardInterrupt), lake.writer(RESULTS):
            raise KeyboardInterrupt

        def write_and_stop() -> None:
            with lake.writer(CONTENTS) as writer:
                writer.write(pa.Table.from_pylist([{"result_id": "a"}], schema=CONTENTS.schema))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_and_stop()
        assert not list(lake.staging.iterdir())
    assert not lake.staging.exists()
