"""What may be acknowledged: proof that cannot be made up, and a read-back that nothing escapes. Writes real lakes."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ricloud_connector.audit import audit
from ricloud_connector.errors import LakeError, UnreadablePart
from ricloud_connector.lake import Lake
from ricloud_connector.model import CHUNK_BYTES, DataFile, Proven
from ricloud_connector.part_reader import fingerprint, read_chunks
from ricloud_connector.parts import ContentsWriter, StagedPart
from ricloud_connector.readback import PROOFS_KEPT, VerifiedCommit, prove_staged, read_back
from ricloud_connector.schemas import ACKNOWLEDGEMENTS, CONTENTS
from ricloud_connector.verify import StoredChunks
from tests.lakes import (
    DAY,
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
LARGE = random.Random(0).randbytes(9 * MIB)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(tmp_path / "lake") as lake:
        yield lake


def read_back_all(lake: Lake) -> dict[str, Proven]:
    found = lake.scan(CONTENTS, DAY)
    return {name: it for proof in read_back(found, range(len(found.parts))) for name, it in proof.proven.items()}


@pytest.fixture
def proof(lake: Lake) -> VerifiedCommit:
    commit(lake, small("a", "b"))
    (proof,) = read_back(lake.scan(CONTENTS, DAY), [0])
    return proof


def test_what_is_in_the_lake_reads_back(lake: Lake) -> None:
    contents = small(1, 2) | {"empty": b"", "large": LARGE, "even": LARGE[: 8 * MIB]}
    commit(lake, contents)
    commit(lake, small(3))
    assert read_back_all(lake) == proven(contents | small(3))


def test_only_the_parts_that_are_asked_for_are_read(lake: Lake) -> None:
    for number in range(4):
        commit(lake, small(number))
    found = lake.scan(CONTENTS, DAY)
    parts_of(lake)[1].write_bytes(b"")
    proofs = list(read_back(found, [3, 0, 3]))
    assert [(proof.file.number, dict(proof.proven)) for proof in proofs] == [(0, proven(small(0))), (3, proven(small(3)))]
    assert list(read_back(found, [])) == []


def test_only_contents_are_proof(lake: Lake) -> None:
    lake.commit_table(ACKNOWLEDGEMENTS, DAY, acknowledgement_rows("a"))
    with pytest.raises(TypeError, match=r"^only contents are read back for acknowledgement$"):
        list(read_back(lake.scan(ACKNOWLEDGEMENTS, DAY), [0]))


def test_a_content_under_another_ones_md5_is_found_before_it_is_committed_and_by_an_audit(lake: Lake, tmp_path: Path) -> None:
    """The sha256 is that of its bytes, so that only the md5 tells that a row says of one content what is true of another."""
    staged = stage(lake, small("a", "b"))
    with pq.ParquetFile(staged.path) as parquet:
        rows, metadata = parquet.read(), parquet.schema_arrow.metadata
    mixed = rows.set_column(
        rows.schema.get_field_index("checksum"), rows.schema.field("checksum"), rows.column("checksum").take([1, 0])
    )
    path = tmp_path / "mixed.parquet"
    pq.write_table(mixed.replace_schema_metadata(metadata), path)
    with pytest.raises(UnreadablePart, match=f"{re.escape(str(path))}: .*does not have the md5 that was proven with its bytes"):
        prove_staged(StagedPart(CONTENTS, path, (fingerprint(mixed),), staged.md5s))
    folder = lake.folder(CONTENTS, DAY)
    assert isinstance(folder, Path)
    folder.mkdir(parents=True)
    path.rename(folder / "part-000000.parquet")
    ((_, count, findings),) = audit(lake, [DAY])
    assert (count, len(findings)) == (0, 1)
    assert "are not those that were proven" in findings[0].detail


# Proof cannot be made up


def test_a_verified_commit_cannot_be_built(proof: VerifiedCommit) -> None:
    for seal in (None, True, object(), object, proof, "", VerifiedCommit):
        with pytest.raises(
            TypeError, match=r"^a VerifiedCommit is made by read_back, from what the lake holds, and by nothing"
        ):
            VerifiedCommit(seal, proof.file, proof.proven)
    with pytest.raises(TypeError):
        VerifiedCommit()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        _ = object.__new__(VerifiedCommit).proven


def test_a_verified_commit_cannot_be_copied_or_pickled(proof: VerifiedCommit) -> None:
    for duplicate in (copy.copy, copy.deepcopy, *(lambda it, p=p: pickle.dumps(it, p) for p in range(6))):
        with pytest.raises(
            TypeError, match=r"^a VerifiedCommit is neither copied nor pickled: proof does not travel, read back "
        ):
            duplicate(proof)
    with pytest.raises(TypeError):
        copy.deepcopy([proof])
    if sys.version_info >= (3, 13):
        with pytest.raises(TypeError):
            copy.replace(proof, proven={})
    with pytest.raises(TypeError):
        dataclasses.replace(proof, proven={})  # type: ignore[type-var]


CHANGED = r"^a VerifiedCommit says what was proven and cannot be changed$"


def test_a_verified_commit_cannot_be_changed(proof: VerifiedCommit) -> None:
    other: Any = proof
    with pytest.raises(AttributeError, match=CHANGED):
        other.proven = {"c": Proven("0" * 32, 1)}
    with pytest.raises(AttributeError, match=CHANGED):
        other.file = None
    with pytest.raises(AttributeError, match=CHANGED):
        other.more = 1
    with pytest.raises(AttributeError, match=CHANGED):
        del other.proven
    with pytest.raises(TypeError):
        other.proven["c"] = Proven("0" * 32, 1)
    with pytest.raises((TypeError, AttributeError)):
        other.proven.update(c=1)
    assert dict(proof.proven) == proven(small("a", "b"))


def test_nothing_can_be_derived_from_a_verified_commit() -> None:
    with pytest.raises(TypeError, match=r"^a VerifiedCommit is what read_back proved, and nothing is like it$"):
        type("Forged", (VerifiedCommit,), {"__init__": lambda self: None})


def test_a_verified_commit_shows_no_content(proof: VerifiedCommit) -> None:
    assert repr(proof) == "VerifiedCommit(part-000000.parquet, 2 results)"


# Whatever happens to a file, nothing false is proven


@pytest.fixture(scope="module")
def one_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, bytes, pa.Table]]:
    """A lake of one part with contents of every kind, compressible and not; its bytes and its rows."""
    contents = small(*range(20)) | {"empty": b"", "noise": LARGE[:5000], "zeros": b"\0" * 5000}
    with opened_lake(tmp_path_factory.mktemp("part") / "lake") as lake:
        commit(lake, contents)
        commit(lake, {"beside": b"it"})
        (path, _) = parts_of(lake)
        yield lake, path.read_bytes(), pq.read_table(path, partitioning=None)


def assert_nothing_false_is_proven(one_part: tuple[Lake, bytes, pa.Table], text: bytes) -> bool:
    """With the part's bytes replaced: read_back raises, or what it proves is there, byte for byte. True where it raised.

    The cache knows the part as it was: that is how a file that rots on the disk is met.
    """
    lake, original, rows = one_part
    found = lake.scan(CONTENTS, DAY)
    path = found.parts[0].path
    path.write_bytes(text)
    try:
        (proof,) = read_back(found, [0])
    except UnreadablePart as error:
        return error.args[0].startswith(str(path))
    else:
        # What no read can see (a statistic in the footer, padding) has not changed a value of any column.
        assert pq.read_table(path, partitioning=None).replace_schema_metadata(None).equals(rows.replace_schema_metadata(None))
        stored = zip(*(rows.column(name).to_pylist() for name in ("result_id", "checksum", "size")), strict=True)
        assert dict(proof.proven) == {name: Proven(checksum, size) for name, checksum, size in stored}
        return False
    finally:
        path.write_bytes(original)
        facts = found.parts[0]
        os.utime(path, ns=(facts.mtime_ns, facts.mtime_ns))


@given(st.data())
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_fault_085_no_flipped_byte_gets_through(one_part: tuple[Lake, bytes, pa.Table], data: st.DataObject) -> None:
    text = bytearray(one_part[1])
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    assert_nothing_false_is_proven(one_part, bytes(text))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fault_085_no_flipped_bit_gets_through_wherever_it_is(one_part: tuple[Lake, bytes, pa.Table]) -> None:
    original = one_part[1]
    for place in range(len(original)):
        text = bytearray(original)
        text[place] ^= 1 << place % 8
        assert_nothing_false_is_proven(one_part, bytes(text))


def test_fault_085_every_page_is_covered(one_part: tuple[Lake, bytes, pa.Table]) -> None:
    """Not only the contents: a byte of any column's data cannot change unnoticed."""
    _, original, rows = one_part
    with pq.ParquetFile(pa.BufferReader(original)) as parquet:
        group = parquet.metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
    assert [column.path_in_schema for column in columns] == CONTENTS.schema.names == rows.column_names
    for column in columns:
        start = column.dictionary_page_offset or column.data_page_offset
        text = bytearray(original)
        text[start + column.total_compressed_size - 1] ^= 1
        assert assert_nothing_false_is_proven(one_part, bytes(text)), column.path_in_schema


@given(st.data())
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_fault_086_no_cut_or_overwritten_file_gets_through(one_part: tuple[Lake, bytes, pa.Table], data: st.DataObject) -> None:
    original = one_part[1]
    start = data.draw(st.integers(0, len(original) - 1))
    kind = data.draw(st.sampled_from(["cut", "zeros", "noise", "lost block", "beside", "twice"]))
    if kind == "cut":
        text = original[:start]
    elif kind == "zeros":
        text = original[:start] + b"\0" * (len(original) - start)
    elif kind == "noise":
        text = original[:start] + random.Random(start).randbytes(200) + original[start + 200 :]
    elif kind == "lost block":
        text = original[:start] + original[start + 512 :]
    elif kind == "beside":
        text = original + original[:start]
    else:
        text = original + original
    raised = assert_nothing_false_is_proven(one_part, text)
    assert raised or text == original or kind in ("twice", "noise", "zeros")


@pytest.mark.parametrize("text", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"PAR1\xff\xff\xff\xffPAR1"])
def test_fault_086_what_is_no_parquet_file_proves_nothing(one_part: tuple[Lake, bytes, pa.Table], text: bytes) -> None:
    assert assert_nothing_false_is_proven(one_part, text)


def test_fault_086_another_parts_file_in_its_place_proves_nothing(one_part: tuple[Lake, bytes, pa.Table]) -> None:
    assert assert_nothing_false_is_proven(one_part, parts_of(one_part[0])[1].read_bytes())


def test_fault_138_a_file_that_is_gone_proves_nothing(lake: Lake) -> None:
    commit(lake, small(1))
    found = lake.scan(CONTENTS, DAY)
    parts_of(lake)[0].unlink()
    with pytest.raises(LakeError, match="No such file"):
        list(read_back(found, [0]))


def test_proofs_before_a_broken_part_stand(lake: Lake) -> None:
    for number in range(3):
        commit(lake, small(number))
    found = lake.scan(CONTENTS, DAY)
    parts_of(lake)[1].write_bytes(b"")
    proofs = read_back(found, range(3))
    assert dict(next(proofs).proven) == proven(small(0))
    with pytest.raises(UnreadablePart, match="part-000001"):
        next(proofs)


# Whole contents in their order


def rewrite(lake: Lake, change: Any) -> list[str]:
    """Rewrite the one part with its rows changed; the faults that read_back then finds."""
    found = lake.scan(CONTENTS, DAY)
    path = found.parts[0].path
    original = path.read_bytes()
    table = pq.read_table(path, partitioning=None)
    pq.write_table(change(table), path)
    try:
        (proof,) = read_back(found, [0])
    except UnreadablePart as error:
        return [str(error)]
    finally:
        path.write_bytes(original)
    return list(proof.proven)


def test_chunks_that_are_missing_out_of_order_twice_or_mixed_prove_nothing(lake: Lake) -> None:
    commit(lake, {"one": LARGE, "two": LARGE[::-1]})
    ids = ["one", "two"]
    assert rewrite(lake, lambda table: table) == ids
    for order, said in {
        (0,): "missing",
        (0, 1): "other results than its index",
        (0, 1, 2): "last chunks of result 'two' are missing",
        (1, 0, 2, 3): "chunk 1 of result 'one' is out of place",
        (0, 2, 1, 3): "chunk 0 of result 'two' is out of place",
        (0, 0, 1, 2, 3): "chunk 0 of result 'one' is out of place",
        (0, 1, 1, 2, 3): "chunk 1 of result 'one' is out of place",
        (0, 3, 2, 1): "out of place",
    }.items():
        (fault,) = rewrite(lake, lambda table, order=order: table.take(list(order)))
        assert said in fault
    assert rewrite(lake, lambda table: table.take([2, 3, 0, 1])) == ["two", "one"]


@pytest.fixture(scope="module")
def two_chunks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake of one content; `rewrite` leaves it as it was."""
    with opened_lake(tmp_path_factory.mktemp("two chunks") / "lake") as lake:
        commit(lake, {"one": LARGE})
        yield lake


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("chunk_count", 1),
        ("chunk_count", 3),
        ("chunk_index", 5),
        ("chunk_index", None),
        ("checksum", "0" * 32),
        ("checksum", None),
        ("size", 0),
        ("size", None),
        ("result_id", "other"),
        ("result_id", None),
        ("content", b""),
        ("content", None),
        ("content", LARGE),
    ],
)
@pytest.mark.parametrize("row", [0, 1])
def test_a_row_with_a_wrong_fact_proves_nothing(two_chunks: Lake, column: str, value: object, row: int) -> None:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        place = table.column_names.index(column)
        return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))

    (fault,) = rewrite(two_chunks, change)
    assert "part-000000.parquet" in fault


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.string(), pa.large_string(), pa.binary(8)])
def test_contents_of_another_type_prove_nothing(lake: Lake, kind: pa.DataType) -> None:
    """The same bytes, and read as they come they would be taken from the wrong places."""
    commit(lake, {"one": b"12345678"})

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(3, "content", table.column("content").cast(kind))

    (fault,) = rewrite(lake, change)
    assert "no column content" in fault


# A content that spans parts


SPANNING = [b"a" * CHUNK_BYTES, b"b" * CHUNK_BYTES, b"c"]


def piece_of(lake: Lake, *indexes: int) -> StagedPart:
    """Some of the three chunks of a content, which follow each other, in a staged part."""
    body = lake.staging / "spanning"
    body.write_bytes(b"".join(SPANNING))
    content = replace(content_of("spanning", b"".join(SPANNING)), body=body)
    with lake.writer(CONTENTS) as writer:
        rows = ContentsWriter(writer)
        rows.add_chunks(content, range(indexes[0], indexes[-1] + 1))
        rows.flush()
        md5 = hashlib.md5(b"".join(SPANNING[index] for index in indexes)).hexdigest()
        return replace(writer.finish(), piece_md5=md5)


def test_a_content_that_spans_parts_is_proven_with_its_last_one_over_all_of_them(lake: Lake) -> None:
    commit(lake, small("before"))
    for index in range(3):
        assert lake.commit(DAY, piece_of(lake, index)) == 1
        found = lake.scan(CONTENTS, DAY)
        assert found.parts_with(index + 1) == ([1, 2, 3] if index == 2 else [])
        proofs = list(read_back(found, range(index + 2), proofs=lake.proofs))
        assert [proof.file.number for proof in proofs] == ([0, 3] if index == 2 else [0])
    commit(lake, small("after"))
    expected = {**small("before"), "spanning": b"".join(SPANNING), **small("after")}
    assert read_back_all(lake) == proven(expected)
    assert stored(lake) == proven(expected)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_content_of_which_one_part_holds_other_bytes_is_not_proven(lake: Lake, lost: int) -> None:
    for index in range(3):
        lake.commit(DAY, piece_of(lake, index))
    found = lake.scan(CONTENTS, DAY)
    path = parts_of(lake)[lost]
    table = pq.read_table(path, partitioning=None)
    changed = pa.array([SPANNING[0]], table.schema.field("content").type)
    pq.write_table(table.set_column(table.schema.get_field_index("content"), "content", changed), path)
    assert list(read_back(found, [0, 1])) == []
    with pytest.raises(UnreadablePart, match="the bytes of result 'spanning' are not those that were proven"):
        list(read_back(found, [2]))


def test_of_a_piece_what_is_stored_already_is_left_out(lake: Lake) -> None:
    lake.commit(DAY, piece_of(lake, 0))
    assert lake.commit(DAY, piece_of(lake, 0, 1, 2)) == 2
    assert lake.commit(DAY, piece_of(lake, 1, 2)) == 0
    assert len(parts_of(lake)) == 2
    assert read_back_all(lake) == proven({"spanning": b"".join(SPANNING)})


def test_a_piece_is_stored_and_read_back_on_a_machine_that_allows_md5_for_no_security(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in FIPS mode."""
    staged = [piece_of(lake, 0), piece_of(lake, 0, 1, 2)]
    expected = proven({"spanning": b"".join(SPANNING)})
    allowed = hashlib.md5

    def strict(data: bytes = b"", *, usedforsecurity: bool = True) -> object:
        if usedforsecurity is not False:
            raise ValueError("disabled for FIPS")
        return allowed(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", strict)
    assert [lake.commit(DAY, each) for each in staged] == [1, 2]
    assert [dict(proof.proven) for proof in read_back(lake.scan(CONTENTS, DAY), [0, 1], md5=True)] == [expected]


@pytest.mark.parametrize("stored_before", [(), (0,)])
def test_fault_084_a_piece_that_does_not_decode_to_its_bytes_is_not_committed(lake: Lake, stored_before: tuple[int]) -> None:
    for index in stored_before:
        lake.commit(DAY, piece_of(lake, index))
    wrong = replace(piece_of(lake, 0, 1), piece_md5=hashlib.md5(SPANNING[1]).hexdigest())
    with pytest.raises(UnreadablePart, match="does not decode to the bytes that were written"):
        lake.commit(DAY, wrong)
    assert len(parts_of(lake)) == len(stored_before)
    assert not wrong.path.exists()


# What this run has proven before it committed it


@given(st.data())
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_fault_085_a_file_that_changed_after_this_run_had_proven_it_is_found(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    with opened_lake(tmp_path_factory.mktemp("lake") / "lake") as lake:
        commit(lake, small(1, 2))
        found = lake.scan(CONTENTS, DAY)
        (path,) = parts_of(lake)
        text = bytearray(path.read_bytes())
        text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(text)
        try:
            (proof,) = read_back(found, [0], proofs=lake.proofs)
        except UnreadablePart:
            return
        assert dict(proof.proven) == proven(small(1, 2))
        assert pq.read_table(pa.BufferReader(bytes(text))).column("content").to_pylist() == [*small(1, 2).values()]


def test_what_was_proven_before_it_was_committed_is_not_decoded_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(lake, small(1, 2))
    commit(lake, small(3))
    found = lake.scan(CONTENTS, DAY)
    with monkeypatch.context() as patch:
        patch.setattr("ricloud_connector.readback.read_chunks", None)
        proofs = list(read_back(found, [0, 1], proofs=lake.proofs))
    assert [dict(proof.proven) for proof in proofs] == [proven(small(1, 2)), proven(small(3))]
    assert [dict(proof.proven) for proof in read_back(found, [0], proofs=lake.proofs)] == [proven(small(1, 2))], "once"


def test_what_was_proven_of_a_file_cannot_be_made_up(lake: Lake) -> None:
    commit(lake, small(1))
    with pytest.raises(TypeError, match=r"^only prove_staged says what was proven of a file$"):
        lake.proofs.add(object(), hashlib.sha256(parts_of(lake)[0].read_bytes()).digest(), proven(small(2)))
    (proof,) = read_back(lake.scan(CONTENTS, DAY), [0], proofs=lake.proofs)
    assert dict(proof.proven) == proven(small(1))


def test_of_files_that_nobody_reads_back_few_proofs_are_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones: the others are decoded once more."""
    for number in range(PROOFS_KEPT + 2):
        commit(lake, small(number))
    found, decoded = lake.scan(CONTENTS, DAY), list[str | None]()

    def noting(path: Path, name: str | None = None) -> Iterator[StoredChunks]:
        decoded.append(name)
        return read_chunks(path, name)

    monkeypatch.setattr("ricloud_connector.readback.read_chunks", noting)
    assert [proven(small(number)) for number in range(PROOFS_KEPT + 2)] == [
        dict(proof.proven) for proof in read_back(found, range(PROOFS_KEPT + 2), proofs=lake.proofs)
    ]
    assert decoded == [str(found.parts[number].path) for number in (0, 1)]
    assert not lake.proofs


def test_md5_is_hashed_again_where_that_is_asked_for(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(lake, small(1, 2))
    found, hashed, expected = lake.scan(CONTENTS, DAY), list[int](), proven(small(1, 2))
    md5 = hashlib.md5

    def counting(*data: bytes, usedforsecurity: bool = True) -> object:
        hashed.append(1)
        return md5(*data, usedforsecurity=usedforsecurity)

    monkeypatch.setattr(hashlib, "md5", counting)
    for asked, count in ({}, 0), ({"md5": True}, 2):
        (proof,) = read_back(found, [0], **asked)
        assert (dict(proof.proven), len(hashed)) == (expected, count)


class Elsewhere:
    """A store that reads a part from a copy, as one in a bucket is; the copy has a flipped bit."""

    def __init__(self, store: Any, copy: Path) -> None:
        self._store, self._copy = store, copy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def settled(self, part: DataFile) -> Iterator[Path]:
        text = bytearray(Path(str(part.path)).read_bytes())
        text[len(text) // 3] ^= 1
        self._copy.write_bytes(text)
        yield self._copy


def test_a_fault_names_the_part_and_not_the_copy_that_was_read(lake: Lake, tmp_path: Path) -> None:
    commit(lake, {"large": LARGE})
    found = lake.scan(CONTENTS, DAY)
    with pytest.raises(UnreadablePart) as raised:
        list(read_back(replace(found, storage=Elsewhere(found.storage, tmp_path / "copy")), [0]))  # type: ignore[arg-type]
    assert str(found.parts[0].path) in str(raised.value)
    assert "copy" not in str(raised.value)


def test_an_index_that_tells_of_other_results_proves_nothing(lake: Lake) -> None:
    commit(lake, small("a", "b"))
    found = lake.scan(CONTENTS, DAY)
    renamed = found.index.set_column(1, found.index.schema.field("result_id"), pa.array(["a", "c"]))
    said = (
        " holds other results than its index says. If the file is as it was written, remove the lake's folder control/index, "
        "and it is read anew"
    )
    with pytest.raises(UnreadablePart) as raised:
        list(read_back(replace(found, index=renamed), [0]))
    assert str(raised.value) == f"{found.parts[0].path}{said}"


# Before the commit


@given(st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_fault_084_a_flip_before_the_commit_is_found_while_the_file_can_be_thrown_away(
    one_part: tuple[Lake, bytes, pa.Table], data: st.DataObject
) -> None:
    lake, original, rows = one_part
    text = bytearray(original)
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    path = lake.staging / "part-flipped"
    path.write_bytes(text)
    try:
        md5s = dict(zip(rows.column("sha256").to_pylist(), rows.column("checksum").to_pylist(), strict=True))
        prove_staged(StagedPart(CONTENTS, path, (fingerprint(rows),), md5s))
    except UnreadablePart:
        return
    finally:
        path.unlink()
    decoded = pq.read_table(pa.BufferReader(bytes(text)))
    assert decoded.replace_schema_metadata(None).equals(rows.replace_schema_metadata(None))


def test_fault_084_a_value_that_changed_between_the_rows_and_the_file_is_found(lake: Lake) -> None:
    """In any column of any dataset, md5 or not."""
    staged = stage(lake, small(1, 2))
    table = pq.read_table(staged.path)
    prove_staged(staged)
    for name in CONTENTS.schema.names:
        field = table.schema.field(name)
        values = table.column(name).to_pylist()
        for changed in (values[::-1], [values[0], None], values[:1] * 2):
            if changed == values:
                continue
            place = table.column_names.index(name)
            pq.write_table(table.set_column(place, field, pa.array(changed, field.type)), staged.path)
            with pytest.raises(UnreadablePart, match=re.escape(str(staged.path))):
                prove_staged(staged)
    pq.write_table(table, staged.path)
    prove_staged(staged)
    pq.write_table(table.slice(0, 1), staged.path)
    with pytest.raises(UnreadablePart, match=re.escape(str(staged.path))):
        prove_staged(staged)


@pytest.mark.parametrize("piece_md5", [None, "0" * 32])
def test_fault_084_a_name_that_is_no_text_is_found_and_the_file_is_named(lake: Lake, piece_md5: str | None) -> None:
    staged = stage(lake, small(1))
    table = pq.read_table(staged.path)
    no_text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\x01\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(table.set_column(0, table.schema.field(0), no_text), staged.path)
    with pytest.raises(UnreadablePart, match=re.escape(f"{staged.path} cannot be decoded")):
        prove_staged(replace(staged, piece_md5=piece_md5))


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=3)), st.one_of(st.none(), st.integers(-5, 5))), max_size=8),
    st.integers(0, 8),
)
def test_a_fingerprint_is_that_of_the_rows_however_they_lie_in_memory(
    rows: list[tuple[str | None, int | None]], cut: int
) -> None:
    schema = pa.schema([("text", pa.string()), ("number", pa.int64()), ("content", pa.binary())])
    filler = [("filler", 9)]

    def table(values: list[tuple[str | None, int | None]]) -> pa.Table:
        columns = [[text for text, _ in values], [number for _, number in values], [b"x"] * len(values)]
        return pa.table(columns, schema=schema)

    whole = table(rows)
    sliced = table(filler + rows + filler).slice(1, len(rows))
    chunked = pa.concat_tables([table(rows[:cut]), table(rows[cut:])])
    assert fingerprint(whole) == fingerprint(sliced) == fingerprint(chunked)
    for place, (text, number) in enumerate(rows):
        for other in ((text, None if number == 0 else 0), ("" if text is None else None, number)):
            assert fingerprint(table([*rows[:place], other, *rows[place + 1 :]])) != fingerprint(whole) or other == (
                text,
                number,
            )


def test_a_fingerprint_tells_where_one_text_ends_and_the_next_begins() -> None:
    texts = (["ab", "c"], ["a", "bc"], ["abc", ""], ["", "abc"], ["abc", None], ["abc"])
    prints = {fingerprint(pa.table({"text": pa.array(values, pa.string())})) for values in texts}
    assert len(prints) == len(texts)


# Memory


_PEAK = """
import resource, sys
from datetime import date
from pathlib import Path
from ricloud_connector.lake import Lake
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import CONTENTS
lake = Lake(Path(sys.argv[1]), origin="http://x", run_id="run")
found = lake.scan(CONTENTS, date(2026, 11, 20))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(proof,) = read_back(found, [0])
print(proof.proven["large"].size, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def grown_by_mib(lake: Lake, size: int) -> int:
    """How much more memory a process needs at most while it reads back one content of that size."""
    # zstd makes little of it, so that the disk is not what this test is about; in memory it is as large as any other
    commit(lake, {"large": b"\0" * size})
    answer = subprocess.run([sys.executable, "-c", _PEAK, str(lake.root)], capture_output=True, text=True, check=True)
    read, grown = map(int, answer.stdout.split())
    assert read == size
    return grown


@pytest.mark.ci
def test_reading_back_a_large_content_stays_flat(lake: Lake) -> None:
    assert grown_by_mib(lake, 320 * MIB) < 150


@pytest.mark.slow
def test_reading_back_2_gib_stays_flat(lake: Lake) -> None:
    assert grown_by_mib(lake, 2047 * MIB) < 150
