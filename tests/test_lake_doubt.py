"""What creating may answer, at a lake on a disk whose answers are lost, late or wrong, as a bucket's may be. Real files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ricloud_connector.errors import LakeError, UncertainCommit
from ricloud_connector.lake import Lake
from ricloud_connector.model import Place
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.storage import DiskStorage
from tests.lakes import DAY, ORGANISATION, ORIGIN, commit, opened_lake, parts_of, proven, small, stage, stored

MOST_PAUSES = 3


class Doubtful(DiskStorage):
    """A disk that answers as it is told, one answer for each file to be created, and then truly.

    `lost`: created, and nobody says so; `failed`: not created, and nobody says so; `taken`: said, and not so. Contents: a
    part that another run commits at this moment, while this answer is lost.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, sleep=lambda _: None)
        self.answers: list[str | dict[str, bytes]] = []
        self.tries: list[int] = []
        self.prepared: list[Path] = []

    def prepare(self, folder: Place, staged: Path) -> None:
        self.prepared.append(staged)
        super().prepare(folder, staged)

    def create(self, target: Place, staged: Path) -> bool:
        answer = self.answers.pop(0) if self.answers else "truly"
        if answer == "taken":
            return False
        if isinstance(answer, dict):
            with opened_lake(self.root, run_id="other") as other:
                commit(other, answer)
        if answer in ("truly", "lost"):
            done = super().create(target, staged)
            if answer == "truly":
                return done
        raise UncertainCommit(f"cannot create {target}: nobody knows")

    def pause(self, tries: int) -> None:
        self.tries.append(tries)
        if tries > MOST_PAUSES:
            raise LakeError("it takes no more parts")


@contextmanager
def doubtful_lake(folder: Path, *answers: str | dict[str, bytes]) -> Iterator[tuple[Lake, Doubtful]]:
    """A lake with one part that holds the id 0, whose store then gives these answers."""
    store = Doubtful(folder / "lake")
    lake = Lake(store, origin=ORIGIN, run_id="run")
    with lake.opened():
        lake.claim(ORGANISATION)
        commit(lake, small(0))
        assert store.tries == []
        store.answers.extend(answers)
        yield lake, store


def rows_of(lake: Lake) -> list[list[str]]:
    return [pq.read_table(path, partitioning=None).column("result_id").to_pylist() for path in parts_of(lake)]


def test_a_part_whose_answer_was_lost_is_found_and_counted(tmp_path: Path) -> None:
    with doubtful_lake(tmp_path, "lost") as (lake, store):
        assert commit(lake, small(0, 1, 2)) == 2
        assert rows_of(lake) == [["0"], ["1", "2"]]
        assert store.tries == []


@pytest.mark.parametrize("answers", [["failed"], ["taken"], ["failed", "taken", "failed"]])
def test_a_part_that_is_neither_created_nor_there_is_tried_again_under_its_number(tmp_path: Path, answers: list[str]) -> None:
    with doubtful_lake(tmp_path, *answers) as (lake, store):
        assert commit(lake, small(1, 2)) == 2
        assert rows_of(lake) == [["0"], ["1", "2"]]
        assert store.tries == list(range(1, len(answers) + 1)), "it waits longer each time"
        assert len(set(store.prepared)) == len(store.prepared) == 2, "each file is proven and synced once"
        assert stored(lake) == proven(small(0, 1, 2))


def test_waiting_begins_anew_where_the_partition_has_grown(tmp_path: Path) -> None:
    with doubtful_lake(tmp_path, "failed", "failed", small("other"), "failed") as (lake, store):
        assert commit(lake, small(1)) == 1
        assert rows_of(lake) == [["0"], ["other"], ["1"]]
        assert store.tries == [1, 2, 1]


@pytest.mark.parametrize(
    ("others", "added", "rows"),
    [
        (small(1), 1, [["0"], ["1"], ["2"]]),
        (small(8, 9), 2, [["0"], ["8", "9"], ["1", "2"]]),
        (small(1, 2, 3), 0, [["0"], ["1", "2", "3"]]),
        (small(*range(1, 40)), 0, [["0"], [*small(*range(1, 40))]]),
    ],
    ids=["some", "others", "more", "many more"],
)
def test_what_another_run_has_stored_meanwhile_is_not_counted_as_ours(
    tmp_path: Path, others: dict[str, bytes], added: int, rows: list[list[str]]
) -> None:
    """Also where it is under the number that was asked for, and nobody said whose it is."""
    with doubtful_lake(tmp_path, others) as (lake, _):
        assert commit(lake, small(1, 2)) == added
        assert rows_of(lake) == rows


def test_what_nobody_has_said_to_be_there_ends_in_that_doubt(tmp_path: Path) -> None:
    with doubtful_lake(tmp_path, *["failed"] * 9) as (lake, store):
        with pytest.raises(UncertainCommit, match=r"^cannot create .*part-000001\.parquet: nobody knows$") as caught:
            commit(lake, small(1))
        assert caught.value.__suppress_context__
        assert store.tries == [1, 2, 3, 4]
        assert not list(lake.staging.iterdir())


@pytest.mark.parametrize("answers", [["taken"] * 9, [*["failed"] * 3, "taken"]])
def test_what_is_said_to_be_taken_and_is_not_there_ends_as_the_store_says(tmp_path: Path, answers: list[str]) -> None:
    with doubtful_lake(tmp_path, *answers) as (lake, store):
        with pytest.raises(LakeError, match=r"^it takes no more parts$") as caught:
            commit(lake, small(1))
        assert type(caught.value) is LakeError
        assert store.tries == [1, 2, 3, 4]


@pytest.mark.parametrize(("answers", "mine"), [(["lost"], False), (["failed", "failed"], True), (["taken"], True)])
def test_a_file_beside_the_parts_is_there_once_whatever_creating_answers(
    tmp_path: Path, answers: list[str], mine: bool
) -> None:
    """False says no more than that it is there."""
    with doubtful_lake(tmp_path, *answers) as (lake, store):
        (lake.staging / "staged").write_text("it")
        target = lake.control / "new" / "file"
        assert lake.create(target, lake.staging / "staged") is mine
        assert Path(target).read_text() == "it"
        assert store.tries == ([1, 2, 3][: len(answers)] if mine else [])


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        (["failed"] * 9, UncertainCommit, r"^cannot create .*/file: nobody knows$"),
        (["taken"] * 9, LakeError, r"^it takes no more parts$"),
    ],
    ids=["failed", "taken"],
)
def test_a_file_beside_the_parts_that_never_comes_ends_in_an_error(
    tmp_path: Path, answers: list[str], error: type[Exception], said: str
) -> None:
    with doubtful_lake(tmp_path, *answers) as (lake, store):
        (lake.staging / "staged").touch()
        with pytest.raises(error, match=said) as caught:
            lake.create(lake.control / "file", lake.staging / "staged")
        assert type(caught.value) is error
        assert store.tries == [1, 2, 3, 4]


def test_a_gap_that_stays_is_waited_for_a_moment_and_then_named(tmp_path: Path) -> None:
    waited = list[float]()
    with opened_lake(tmp_path / "lake") as lake:
        for number in range(5):
            commit(lake, small(number))
        for path in parts_of(lake)[1:3]:
            path.unlink()
        lake.storage.sleep = waited.append
        with pytest.raises(LakeError) as caught:
            lake.scan(CONTENTS, DAY)
    assert str(caught.value) == (
        f"{lake.folder(CONTENTS, DAY)}: part 1 is missing below part 4. Somebody removed a file: restore it, or remove the "
        "whole created_date= folder from every dataset (acknowledged results do not come back)"
    )
    assert waited == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])


def test_what_is_left_of_a_staged_part_is_proven_before_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_lake(tmp_path / "lake") as lake:
        assert [commit(lake, small(1)), commit(lake, small(1, 2))] == [1, 1]
        monkeypatch.setattr("ricloud_connector.readback.read_chunks", None)
        (proof,) = read_back(lake.scan(CONTENTS, DAY), [1], proofs=lake.proofs)
        assert dict(proof.proven) == proven(small(2))


def test_of_a_staged_part_any_row_group_may_be_there_already(tmp_path: Path) -> None:
    with opened_lake(tmp_path / "lake") as lake:
        commit(lake, small("b", "d"))
        parts = [stage(lake, small(name)) for name in "abcde"]
        with lake.writer(CONTENTS) as writer:
            for part in parts:
                writer.md5s.update(part.md5s)
                writer.write(pq.read_table(part.path))
                part.path.unlink()
            staged = writer.finish()
        assert pq.ParquetFile(staged.path).num_row_groups == 5
        assert lake.commit(DAY, staged) == 3
        assert rows_of(lake) == [["b", "d"], ["a", "c", "e"]]
        assert stored(lake) == proven(small(*"abcde"))
        assert not list(lake.staging.iterdir())
