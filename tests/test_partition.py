"""What an index says of a partition: which results are whole, which parts prove them, which rows are missing. No files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ricloud_connector.partition import Partition
from ricloud_connector.schemas import CONTENTS, QUARANTINE, Dataset
from ricloud_connector.storage import DiskStorage
from tests.lakes import DAY, MOMENT

Row = tuple[int, str, int, int, str, int]
"""Of a row of contents: part, id, chunk and how many there are, md5, size."""


def contents(*rows: Row) -> Partition:
    """A partition of contents with this index."""
    names = ("part", "result_id", "chunk_index", "chunk_count", "checksum", "size")
    values = [{**dict(zip(names, row, strict=True)), "date_created": MOMENT} for row in rows]
    return partition(CONTENTS, values)


def partition(dataset: Dataset, values: list[dict[str, object]]) -> Partition:
    index = pa.Table.from_pylist(values, schema=dataset.index_schema)
    return Partition(dataset, DAY, (), index, DiskStorage(Path("/nowhere")))


def whole(*rows: Row) -> list[tuple[str, int]]:
    found = contents(*rows).whole_results()
    assert found.column_names == ["result_id", "checksum", "size", "date_created", "part"]
    return [(row["result_id"], row["part"]) for row in found.to_pylist()]


SMALL: list[Row] = [(0, "a", 0, 1, "m", 5), (1, "b", 0, 1, "m", 5)]
TWO: list[Row] = [(0, "t", 0, 2, "m", 9), (1, "t", 1, 2, "m", 9)]
THREE: list[Row] = [(number, "s", number, 3, "m", 17) for number in range(3)]


def test_results_are_whole_with_every_chunk_and_lie_where_their_last_one_does() -> None:
    assert whole() == []
    assert whole(*SMALL) == [("a", 0), ("b", 1)]
    assert whole(*TWO) == [("t", 1)]
    assert whole(*TWO, *SMALL) == [("t", 1), ("a", 0), ("b", 1)]
    assert whole(*THREE, *TWO) == [("s", 2), ("t", 1)]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_result_without_one_of_its_chunks_is_not_whole(lost: int) -> None:
    rest = [row for row in THREE if row[2] != lost]
    assert whole(*rest) == []
    assert whole(*rest, *SMALL, *TWO) == [("a", 0), ("b", 1), ("t", 1)]
    assert whole(TWO[lost % 2]) == []


@pytest.mark.parametrize(
    "other",
    [(1, "t", 1, 2, "another", 9), (1, "t", 1, 2, "m", 10), (1, "u", 1, 2, "m", 9), (1, "tm", 1, 2, "", 9)],
    ids=["md5", "size", "id", "md5 in id"],
)
def test_chunks_of_different_versions_or_results_make_nothing_whole(other: Row) -> None:
    assert whole(TWO[0], other) == []


def test_what_tells_results_apart_does_not_run_together() -> None:
    assert whole((0, "a1", 0, 2, "m", 2), (0, "a", 1, 2, "m", 12)) == []
    assert whole((0, "a", 0, 2, "1m", 2), (0, "a1", 1, 2, "m", 2)) == []
    assert whole((0, "a", 0, 2, "m1", 2), (0, "a", 1, 2, "m", 12)) == []


def test_of_some_results_only_a_beginning_is_stored() -> None:
    def begun(*rows: Row) -> set[str]:
        found = contents(*rows)
        return found.begun_results(found.whole_results())

    assert begun() == begun(*SMALL) == begun(*SMALL, *TWO) == set()
    assert begun(*SMALL, TWO[0], *THREE[:2]) == {"t", "s"}
    assert begun(*TWO, *THREE[1:]) == {"s"}


def test_a_part_of_whole_results_is_read_by_itself() -> None:
    for rows in (
        SMALL,
        [(0, "t", 0, 2, "m", 9), (0, "t", 1, 2, "m", 9)],
        [*SMALL, (0, "t", 0, 2, "m", 9), (0, "t", 1, 2, "m", 9)],
    ):
        assert contents(*rows).parts_with(0) == [0]
    assert contents(*SMALL).parts_with(1) == [1]
    assert contents(*SMALL).parts_with(7) == [7], "it holds no row"


def test_a_part_with_the_end_of_a_content_is_read_with_those_before_it() -> None:
    assert [contents(*TWO).parts_with(number) for number in range(2)] == [[], [0, 1]]
    assert [contents(*THREE).parts_with(number) for number in range(3)] == [[], [], [0, 1, 2]]
    cut = [(0, "s", 0, 3, "m", 17), (2, "s", 1, 3, "m", 17), (2, "s", 2, 3, "m", 17), (1, "a", 0, 1, "m", 5)]
    assert [contents(*cut).parts_with(number) for number in range(3)] == [[], [1], [0, 2]]
    backwards = [THREE[2], THREE[1], THREE[0]]
    assert contents(*backwards).parts_with(2) == [0, 1, 2], "in their order"


def test_a_beginning_of_another_version_is_not_read_with_it() -> None:
    assert contents((0, "t", 0, 2, "old", 9), (1, "t", 0, 2, "m", 9), (2, "t", 1, 2, "m", 9)).parts_with(2) == [1, 2]
    assert contents((0, "u", 0, 2, "m", 9), (1, "t", 0, 2, "m", 9), (2, "t", 1, 2, "m", 9)).parts_with(2) == [1, 2]


def test_the_ids_of_a_part_are_those_of_its_rows() -> None:
    found = contents(*SMALL, (0, "c", 0, 1, "m", 1), *THREE)
    assert [found.ids_in(number) for number in range(4)] == [{"a", "c", "s"}, {"b", "s"}, {"s"}, set()]


def missing(found: Partition, *rows: tuple[str, int]) -> list[bool]:
    names, chunks = [name for name, _ in rows], [chunk for _, chunk in rows]
    return found.missing(
        pa.table({"result_id": pa.array(names, pa.string()), "chunk_index": pa.array(chunks, pa.int32())})
    ).to_pylist()


def test_a_row_is_missing_once_where_its_key_is_not_stored() -> None:
    found = contents(*SMALL, THREE[1])
    assert missing(found, ("a", 0), ("c", 0), ("c", 0), ("b", 0), ("d", 0)) == [False, True, False, False, True]
    assert missing(found, ("s", 0), ("s", 1), ("s", 2), ("s", 2)) == [True, False, True, False]
    assert missing(found) == []
    assert missing(contents(), ("a", 0), ("a", 1), ("a", 0)) == [True, True, False]


def test_of_a_result_that_is_whole_nothing_is_missing() -> None:
    """Whatever other version of it comes, of more chunks or fewer."""
    assert missing(contents(*TWO), ("t", 0), ("t", 1), ("t", 2), ("u", 2)) == [False, False, False, True]
    assert missing(contents(TWO[0]), ("t", 0), ("t", 1), ("t", 2)) == [False, True, True]


def test_keys_do_not_run_together_and_null_is_a_value_of_its_own() -> None:
    stored = [
        {"part": 0, "result_id": "a", "reason": "bc", "expected_checksum": None, "expected_size": 1},
        {"part": 0, "result_id": "n", "reason": "r", "expected_checksum": "", "expected_size": None},
    ]
    found = partition(QUARANTINE, stored)
    given = [("ab", "c", None, 1), ("a", "bc", None, 1), ("a", "bc", "", 1), ("n", "r", None, None), ("n", "r", "", None)]
    names = QUARANTINE.key
    rows = [dict(zip(names, row, strict=True)) for row in given]
    table = pa.Table.from_pylist(rows, schema=pa.schema([QUARANTINE.schema.field(name) for name in names]))
    assert found.missing(table).to_pylist() == [True, False, True, True, False]
