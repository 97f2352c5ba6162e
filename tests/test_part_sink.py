"""Large contents, written into parts of their own while they arrive: what comes out, what is left behind, how many at once."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ricloud_connector import Settings, Window, ingest_results, open_run, part_sink, parts, room
from ricloud_connector.disk import discard
from ricloud_connector.emulator import Emulator
from ricloud_connector.errors import ContentError, LakeError, UnreadablePart
from ricloud_connector.ingest import days_of
from ricloud_connector.lake import Lake
from ricloud_connector.model import Content, Rejection, Result
from ricloud_connector.part_sink import OPEN_TOGETHER, PartSink, PartSinks
from ricloud_connector.parts import ContentPart, ContentsWriter, StagedPart
from ricloud_connector.readback import prove_staged, read_back
from ricloud_connector.schemas import CONTENTS, RESULTS
from ricloud_connector.verify import Digest
from tests.exactness import Witness, assert_exact, assert_readable
from tests.hostile_server import RESET
from tests.lakes import DAY, content_of, opened_lake, proven, stored
from tests.test_fetch import Rig, breaking, md5, result_at, serve, serving, url_at
from tests.test_ingest import NOON, run_ingest

__all__ = ["serve"]  # a fixture

MIB = 1024 * 1024
CHUNK = 1000


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (part_sink, parts):
        monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(part_sink, "LARGE_BYTES", 1)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(tmp_path / "lake") as lake:
        yield lake


@contextmanager
def sinks_of(lake: Lake, longest: int | None = None) -> Iterator[PartSinks]:
    sinks = PartSinks(lambda compressed: lake.writer(CONTENTS, compressed=compressed), lake.staging, longest)
    try:
        yield sinks
    finally:
        sinks.close()


def sink_for(sinks: PartSinks, result: Result) -> PartSink:
    sink = sinks.sink(result)
    assert sink is not None
    return sink


def staged_as_others_are(lake: Lake, content: Content, data: bytes) -> Path:
    body = lake.staging / "content"
    body.write_bytes(data)
    with lake.writer(CONTENTS) as writer:
        rows = ContentsWriter(writer)
        rows.add(replace(content, body=body))
        rows.flush()
        return writer.finish().path


def rows_of(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


@settings(max_examples=60)
@given(
    size=st.one_of(st.integers(1, 5 * CHUNK), st.integers(1, 5).map(lambda count: count * CHUNK)),
    cuts=st.lists(st.integers(1, 3 * CHUNK), max_size=8),
    begun=st.integers(0, 3 * CHUNK),
    seed=st.integers(0, 10),
)
def test_a_part_holds_what_came_however_it_came(size, cuts, begun, seed, tmp_path_factory):
    """Once from the beginning, and once after a beginning of something else was forgotten."""
    data = random.Random(seed).randbytes(size)
    content = content_of("it", data)
    with opened_lake(tmp_path_factory.mktemp("lake")) as lake, sinks_of(lake) as sinks:
        sink = sink_for(sinks, content.result)
        sink.write(b"!" * min(begun, size))
        sink.restart()
        start = 0
        for end in [*sorted(cut for cut in cuts if cut < size), size]:
            assert sink.write(data[start:end])
            assert (sink.size, sink.in_memory) == (end, 0)
            if end % 2:
                sink.rest()
            start = end
        made = sink.finish()
        sink.discard()  # does nothing any more
        assert (made.result, made.part.md5s) == (content.result, {content.sha256: content.md5})
        prove_staged(made.part)
        assert [path for path in lake.staging.iterdir() if path.name.startswith("part-")] == [made.part.path]
        rows = rows_of(made.part.path)
        assert rows.num_rows == made.part.rows
        assert rows == rows_of(staged_as_others_are(lake, content, data))
        assert rows.column("sha256").to_pylist() == [*[None] * (rows.num_rows - 1), content.sha256]
        assert lake.commit(DAY, made.part) == rows.num_rows
        assert stored(lake) == proven({"it": data})
        (commit,) = read_back(lake.scan(CONTENTS, DAY), [0], md5=True)
        assert commit.proven == proven({"it": data})


@pytest.mark.parametrize("data", [b"1" * 2500, b"1" * 2499 + b"2", b"1" * 2501], ids=["short", "wrong", "long"])
def test_what_is_not_what_was_listed_leaves_nothing(lake, data):
    result = content_of("it", b"1" * 2499 + b"3" if len(data) == 2500 else b"1" * 2500)
    result = result.result._replace(size=2501) if data == b"1" * 2500 else result.result
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, result)
        sink.write(data)
        if len(data) > 2500:
            assert sink.fault is not None
            assert sink.fault.reason == "size_mismatch"
        else:
            with pytest.raises(ContentError, match=r"(is|are) listed"):
                sink.finish()
        sink.discard()
    assert [*lake.staging.glob("part-*")] == []


def test_only_so_many_are_open_and_only_of_those_that_fit(lake):
    data = b"1" * 2500
    result = content_of("it", data).result
    with sinks_of(lake, longest=2500) as sinks:
        assert sinks.sink(result._replace(size=2501)) is None
        assert sinks.sink(result._replace(size=0)) is None
        assert sinks.sink(result._replace(size=None)) is None
        first, second, *_ = [sink_for(sinks, result) for _ in range(OPEN_TOGETHER)]
        assert sinks.sink(result) is None
        first.discard()
        first.discard()
        sink_for(sinks, result)
        assert sinks.sink(result) is None
        second.write(data)
        second.finish()
        second.discard()
        sink_for(sinks, result)
        assert sinks.sink(result) is None


@pytest.mark.parametrize(("data", "codec"), [(os.urandom(200_000), "UNCOMPRESSED"), (b"text " * 40_000, "ZSTD")])
def test_bytes_that_do_not_become_shorter_are_not_compressed(lake, monkeypatch, data, codec):
    for module in (part_sink, parts):
        monkeypatch.setattr(module, "CHUNK_BYTES", 128 * 1024)
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", data).result)
        sink.write(data)
        path = sink.finish().part.path
    groups = pq.ParquetFile(path).metadata
    assert groups.num_row_groups == 2
    for group in range(groups.num_row_groups):
        columns = [groups.row_group(group).column(column) for column in range(groups.num_columns)]
        assert {column.path_in_schema: column.compression for column in columns}["content"] == codec
        assert {column.compression for column in columns if column.path_in_schema != "content"} == {"ZSTD"}


def chunks_held_by(error: BaseException | None) -> list[str]:
    """The functions among an error's frames, and its causes', that hold the bytes of a chunk."""
    found = list[str]()
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if any(isinstance(value, memoryview | pa.Table) for value in frame.f_locals.values()):
                found.append(frame.f_code.co_name)
        error = error.__cause__
    return found


def test_an_error_of_a_chunk_does_not_keep_its_bytes(lake):
    """A report holds its error until the run ends."""
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", b"1" * 5000).result)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            sink.write(b"1" * 1500)
            with pytest.raises(LakeError, match="cannot write in") as caught:
                sink.rest()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(caught.value.__cause__, OSError)
        assert chunks_held_by(caught.value) == []
        sink.discard()


@pytest.mark.parametrize("limit", [0, 50_000, 10_000_000])
def test_a_disk_that_takes_no_more_is_an_error_of_the_lake_and_leaves_nothing(lake, limit):
    """Where the first chunk fails, one of the next, the footer."""
    data = os.urandom(200_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", data).result)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            if sink.write(data) and limit < len(data):
                with pytest.raises(LakeError, match="cannot write in"):
                    sink.finish()
            elif limit < len(data):
                assert isinstance(sink.fault, LakeError)
                assert "cannot write in" in str(sink.fault)
            else:
                prove_staged(sink.finish().part)
                return
            sink.discard()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [*lake.staging.glob("part-*")] == []


def test_a_bit_that_flips_between_the_hash_and_the_file_is_found_before_the_commit(lake, monkeypatch):
    hashed = Digest.hash

    def flip(self: Digest, chunk: memoryview) -> None:
        hashed(self, chunk)
        chunk[100] ^= 4

    monkeypatch.setattr(Digest, "hash", flip)
    data = os.urandom(2500)
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", data).result)
        sink.write(data)
        part = sink.finish().part
    with pytest.raises(UnreadablePart, match="not those that were proven"):
        lake.commit(DAY, part)
    assert stored(lake) == {}
    assert not part.path.exists()


# -- by the fetcher


@pytest.fixture
def rig(tmp_path: Path, lake: Lake) -> Iterator[Rig]:
    staging = tmp_path / "staging"
    staging.mkdir()
    with sinks_of(lake) as sinks:
        yield Rig(staging, options={"parts": sinks})


DATA = os.urandom(100_000)


def data_of(outcome: object) -> bytes:
    assert isinstance(outcome, ContentPart), outcome
    prove_staged(outcome.part)
    return b"".join(rows_of(outcome.part.path).column("content").to_pylist())


def test_a_large_content_that_breaks_goes_on_where_it_broke(rig, serve):
    server = serve(breaking(DATA, 30_000, RESET), breaking(DATA, 40_500), serving(DATA))
    (outcome,) = rig.fetch(result_at(url_at(server), DATA))
    assert data_of(outcome) == DATA
    assert [request.offset for request in server.requests] == [0, 30_000, 70_500]


def test_a_large_content_that_came_wrong_is_read_once_more(rig, serve):
    server = serve(serving(b"!" + DATA[1:]), serving(DATA))
    (outcome,) = rig.fetch(result_at(url_at(server), DATA))
    assert data_of(outcome) == DATA
    assert [request.offset for request in server.requests] == [0, 0]


def test_a_large_content_that_stays_wrong_is_rejected_and_leaves_nothing(rig, serve, lake):
    server = serve(serving(b"!" + DATA[1:]))
    (outcome,) = rig.fetch(result_at(url_at(server), DATA))
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.actual_checksum) == ("checksum_mismatch", md5(b"!" + DATA[1:]))
    assert [*lake.staging.glob("part-*")] == []


def test_more_large_ones_than_may_be_open_are_staged_as_others_are(rig, serve, lake):
    """All break at first, so that all wait together."""
    server = serve(*[breaking(DATA, 500)] * 12, serving(DATA))
    results = [result_at(url_at(server, str(number)), DATA, id=str(number)) for number in range(12)]
    outcomes = rig.fetch(*results)
    alone = [outcome for outcome in outcomes if isinstance(outcome, ContentPart)]
    others = [outcome for outcome in outcomes if isinstance(outcome, Content)]
    assert (len(alone), len(others)) == (OPEN_TOGETHER, 12 - OPEN_TOGETHER)
    assert [data_of(outcome) for outcome in alone] == [DATA] * OPEN_TOGETHER
    assert len([*lake.staging.glob("part-*")]) == OPEN_TOGETHER


def test_a_large_content_needs_room_on_the_disk_once(rig, serve, lake, monkeypatch):
    free, looked = [len(DATA) - 1], list[Path]()

    def usage(path: Path) -> object:
        looked.append(path)
        return shutil._ntuple_diskusage(0, 0, free[0])  # type: ignore[attr-defined]

    monkeypatch.setattr(room, "shutil", SimpleNamespace(disk_usage=usage))
    large = bytes(MIB + 1)
    server = serve(serving(large))
    (outcome,) = rig.fetch(result_at(url_at(server), large))
    assert isinstance(outcome, Rejection)
    assert (outcome.reason, outcome.transient) == ("no_room", True)
    assert outcome.detail == f"the staging folder {lake.staging} has no room for {len(large)} bytes: free some"
    free[0] = len(large)
    (outcome,) = rig.fetch(result_at(url_at(server), large))
    assert data_of(outcome) == large
    assert set(looked) == {lake.staging}


def test_what_is_in_memory_still_needs_its_room_on_the_disk(lake):
    data = os.urandom(5000)
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", data).result)
        assert (sink.unwritten_bytes, sink.copied_bytes) == (5000, 0)
        sink.write(data[:2500])
        sink.rest()
        assert (sink.size, sink.unwritten_bytes) == (2500, 3000)
        sink.discard()


def test_who_stops_early_leaves_nothing(rig, serve, lake):
    server = serve(lambda request: serving(DATA)(request) if "/1?" in request.target else breaking(DATA, 5_500, 60)(request))
    results = [result_at(url_at(server, str(number)), DATA, id=str(number)) for number in range(2)]
    with rig.opened() as fetcher:
        outcomes = fetcher.fetch(results)
        assert next(outcomes).result.id == "1"
        outcomes.close()
    assert len([*lake.staging.glob("part-*")]) == 1


# -- in a run


def results_first(commit: Callable[[Lake, date, StagedPart], int]) -> Callable[[Lake, date, StagedPart], int]:
    """The same, failing for contents of which there is no row in results."""

    def checked(lake: Lake, day: date, part: StagedPart) -> int:
        if part.dataset is CONTENTS:
            known = lake.scan(RESULTS, day).index.column("id").to_pylist()
            assert set(rows_of(part.path).column("result_id").to_pylist()) <= set(known)
        return commit(lake, day, part)

    return checked


def test_small_and_large_contents_of_a_day_are_exact(tmp_path, monkeypatch):
    """A large one closes no part of small ones, and is never in the lake before the row of its result."""
    monkeypatch.undo()
    with Emulator(results=0, days=1, today=NOON.date()) as emulator:
        large = random.Random(1).randbytes(33 * MIB)
        for number in range(60):
            emulator.add_result(content=large[number:] if number in (20, 40) else b"%d" % number, date_created=NOON)
        emulator.on_acknowledge = Witness(tmp_path, emulator)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Lake, "commit", results_first(Lake.commit))
            run_ingest(emulator, tmp_path)
        assert_exact(tmp_path, emulator)
        run_ingest(emulator, tmp_path)
    parts_there = sorted(tmp_path.glob("data/contents/*/*.parquet"))
    assert sorted(pq.read_metadata(path).num_rows for path in parts_there) == [5, 5, 58]
    assert_readable(tmp_path)


def test_a_day_whose_commits_fail_leaves_nothing_on_the_disk(tmp_path, monkeypatch):
    """Contents that are on their way then, of either kind, go at once: the other days need the room."""
    monkeypatch.undo()
    monkeypatch.setattr(part_sink, "LARGE_BYTES", 4 * MIB)
    left = list[list[str]]()

    def refuse(lake: Lake, day: date, part: StagedPart) -> int:
        discard(part.path)
        raise LakeError("no room")

    monkeypatch.setattr(Lake, "commit", refuse)
    with Emulator(results=0, days=2, today=NOON.date()) as emulator:
        for number in range(24):
            content = bytes([number]) * (5 if number % 2 else 2) * MIB
            emulator.add_result(content=content, date_created=NOON - timedelta(days=number % 3 % 2))
        settings = Settings.from_environment({**emulator.environment(), "RICLOUD_LAKE": str(tmp_path)})
        with open_run(settings) as run:
            for report in ingest_results(run, days_of(Window(NOON - timedelta(days=1), NOON + timedelta(hours=1)))):
                assert isinstance(report.error, LakeError)
                left.append([path.name for path in run.lake.staging.iterdir() if path.suffix != ".arrow"])
    assert [names for names in left if any(name.startswith(("part-", "content-")) for name in names)] == []
    assert len(left) == 2


class Broken(MemoryError):
    pass


def test_whatever_goes_wrong_in_a_lane_a_sink_can_be_discarded(lake):
    with sinks_of(lake) as sinks:
        sink = sink_for(sinks, content_of("it", b"1" * 5000).result)
        sink.write(b"1" * 1500)
        sink.rest()

        def fail(table: pa.Table) -> None:
            raise Broken

        assert sink._writer is not None
        sink._writer.write = fail  # type: ignore[method-assign]
        sink.write(b"1" * 1000)
        with pytest.raises(Broken):
            sink.rest()
        sink.write(b"1" * 1000)
        sink.discard()
        assert [*lake.staging.glob("part-*")] == []
        assert all(sinks.sink(content_of("it", b"1" * 5000).result) for _ in range(OPEN_TOGETHER))


def test_a_part_of_its_own_that_another_run_has_stored_meanwhile_is_dropped(lake):
    data = os.urandom(2500)
    content = content_of("it", data)
    with sinks_of(lake) as sinks:
        made = []
        for _ in range(2):
            sink = sink_for(sinks, content.result)
            sink.write(data)
            made.append(sink.finish().part)
    assert [lake.commit(DAY, part) for part in made] == [3, 0]
    assert stored(lake) == proven({"it": data})
    assert hashlib.sha256(data).hexdigest() == content.sha256
    assert [*lake.staging.glob("part-*")] == []
