"""A lake in a bucket: the same protocol as on a disk, whatever the bucket answers. Real S3, and a store that misbehaves."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.dataset as pads
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from ricloud_connector import bucket_storage
from ricloud_connector.audit import audit, days_of, summarise
from ricloud_connector.doctor import examine
from ricloud_connector.emulator import Emulator
from ricloud_connector.emulator.seaweedfs import SeaweedFS
from ricloud_connector.errors import (
    BrokenChain,
    ForeignLake,
    LakeError,
    SettingsError,
    UncertainCommit,
    UnreadablePart,
    UnsafeStore,
)
from ricloud_connector.ingest import days_of as ingest_days
from ricloud_connector.ingest import ingest_results
from ricloud_connector.ingest.open_parts import OpenParts
from ricloud_connector.ingest.run import DayReport
from ricloud_connector.lake_commands import show_status, verify_lake
from ricloud_connector.listed import Listed
from ricloud_connector.model import Content, ObjectPath, Rejection, Window
from ricloud_connector.parts import Contents, joined
from ricloud_connector.read import list_data_types, read_content, read_records
from ricloud_connector.readback import read_back
from ricloud_connector.reconcile import survey
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.session import open_run
from ricloud_connector.settings import Settings, lake_of
from tests.buckets import BucketPlace, place_on
from tests.command import run_command
from tests.exactness import Witness, assert_exact, assert_readable
from tests.lakes import DAY, MOMENT, commit, content_of, proven, small, stored
from tests.object_server import Asked, Fault, ObjectServer

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer() as server:
        yield server


@pytest.fixture(params=["s3", pytest.param("gs", marks=pytest.mark.ci)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    """Each store in turn."""
    if request.param == "s3":
        found = place_on(request.getfixturevalue("s3"), tmp_path)
    else:
        found = place_on(request.getfixturevalue("server"), tmp_path, scheme="gs")
    return _in_environment(found, monkeypatch)


@pytest.fixture(params=["gs", pytest.param("s3", marks=pytest.mark.ci)])
def hostile(
    request: pytest.FixtureRequest, server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> BucketPlace:
    """A place on a store that does what a test says, by the interface of either."""
    monkeypatch.setattr(bucket_storage, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(bucket_storage, "LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr(bucket_storage, "RETRIES", 1)
    server.page = 3
    return _in_environment(place_on(server, tmp_path, scheme=request.param), monkeypatch)


def _in_environment(place: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> BucketPlace:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    return place


def parts(place: BucketPlace) -> list[str]:
    return sorted(path.name for path in (place.mirror.look() / "data" / "contents" / f"created_date={DAY}").glob("*"))


def read_all(lake: object) -> dict[str, object]:
    found = lake.scan(CONTENTS, DAY)  # type: ignore[attr-defined]
    return {name: it for proof in read_back(found, range(len(found.parts))) for name, it in proof.proven.items()}


# The protocol


def test_what_is_committed_is_read_back_from_the_bucket(place: BucketPlace) -> None:
    contents = {**small(1, 2), "empty": b"", "large": random.Random(3).randbytes(20 * MIB)}
    with place.opened() as lake:
        assert [commit(lake, {name: data}) for name, data in contents.items()] == [1, 1, 1, 3]
        assert stored(lake) == read_all(lake) == proven(contents)
        assert commit(lake, small(1, 2, 3)) == 1
    assert parts(place) == [f"part-{number:06d}.parquet" for number in range(5)]
    assert_readable(place.mirror.look())


def test_the_same_contents_from_eight_writers_are_one_file(place: BucketPlace) -> None:
    contents = small(*range(50))

    def write(number: int) -> int:
        with place.opened(f"run{number}") as lake:
            return commit(lake, contents)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [0] * 7 + [50]
    assert len(parts(place)) == 1
    assert_readable(place.mirror.look())


def test_different_contents_from_eight_writers_are_all_there_once(place: BucketPlace) -> None:
    def write(number: int) -> int:
        with place.opened(f"run{number}") as lake:
            return sum(commit(lake, small(*range(first + number, first + number + 4))) for first in (0, 20, 40))

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(write, range(8)))
    expected = proven(small(*(first + number for first in (0, 20, 40) for number in range(11))))
    with place.opened() as lake:
        assert stored(lake) == expected
        assert added == len(expected) == lake.scan(CONTENTS, DAY).index.num_rows
    assert_readable(place.mirror.look())


def test_nothing_is_left_on_the_local_disk(place: BucketPlace) -> None:
    with place.opened() as lake:
        commit(lake, small(1))
        read_all(lake)
        scratch = lake.staging.parent
    assert list(scratch.iterdir()) == []


def test_another_organisation_is_refused(place: BucketPlace) -> None:
    with place.opened() as lake:
        commit(lake, small(1))
    with place.opened(organisation=None) as lake:
        assert lake.organisation is not None
        with pytest.raises(ForeignLake):
            lake.claim("another")


def test_what_a_run_has_seen_it_does_not_read_again(hostile: BucketPlace) -> None:
    """Promise 6: the index lies in the bucket, so that a run on another machine reads only what is new."""
    with hostile.opened() as lake:
        for number in range(3):
            commit(lake, small(number))
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.asked.clear()
    with hostile.opened("another") as lake:
        assert stored(lake) == proven(small(0, 1, 2))
    read = Counter(
        asked.key.rpartition("/")[2] for asked in hostile.server.asked if asked.method == "GET" and not asked.listing
    )
    assert read == {"probe": 1, "part-000000.parquet": 1, f"{DAY}.arrow": 1}, "part 0 says whose lake it is"


def test_a_cache_that_was_cut_short_or_is_of_other_files_is_not_believed(hostile: BucketPlace) -> None:
    with hostile.opened() as lake:
        commit(lake, small(1))
    assert isinstance(hostile.server, ObjectServer)
    (name,) = (name for name in hostile.server.objects if name.endswith(".arrow"))
    kept = hostile.server.objects[name]
    for body in (b"", kept.body[:100], b"x" * 1000):
        hostile.server.objects[name] = replace(kept, body=body)
        with hostile.opened() as lake:
            assert stored(lake) == proven(small(1))
    (part,) = (name for name in hostile.server.objects if name.endswith(".parquet"))
    with hostile.opened() as lake:
        hostile.server.objects[part] = replace(hostile.server.objects[part], etag="another", body=b"PAR1")
        with pytest.raises(UnreadablePart):
            lake.scan(CONTENTS, DAY)


def test_fault_134_and_140_a_gap_and_a_stray_file_stop_the_partition(hostile: BucketPlace) -> None:
    with hostile.opened() as lake:
        for number in range(3):
            commit(lake, small(number))
        assert isinstance(hostile.server, ObjectServer)
        (second,) = (name for name in hostile.server.objects if name.endswith("part-000001.parquet"))
        hostile.server.hidden = {second}
        with pytest.raises(BrokenChain, match="part 1 is missing"):
            lake.scan(CONTENTS, DAY)
        hostile.server.hidden = set()
        hostile.server.put(second.replace("part-000001", "mine"), b"x", only_if_absent=True)
        with pytest.raises(LakeError, match=r"mine\.parquet is not part of the lake"):
            lake.scan(CONTENTS, DAY)


@pytest.mark.parametrize(
    "damage", [lambda body: body[:-1] + b"x", lambda body: body[:-30], lambda body: b"", lambda body: body + b"x"]
)
def test_fault_137_other_bytes_than_were_written_are_never_proof(
    hostile: BucketPlace, damage: Callable[[bytes], bytes]
) -> None:
    with hostile.opened() as lake:
        commit(lake, small(1, 2))
        found = lake.scan(CONTENTS, DAY)
        assert isinstance(hostile.server, ObjectServer)
        (name,) = (name for name in hostile.server.objects if name.endswith(".parquet"))
        kept = hostile.server.objects[name]
        hostile.server.objects[name] = replace(kept, body=damage(kept.body))
        if len(damage(kept.body)) > len(kept.body):
            assert len(list(read_back(found, [0]))) == 1, "what was listed of it is whole"
            return
        with pytest.raises(LakeError):
            list(read_back(found, [0]))


def test_fault_138_an_object_that_was_deleted_is_never_proof(hostile: BucketPlace) -> None:
    with hostile.opened() as lake:
        commit(lake, small(1))
        found = lake.scan(CONTENTS, DAY)
        assert isinstance(hostile.server, ObjectServer)
        hostile.server.objects.clear()
        with pytest.raises(LakeError, match="no such object"):
            list(read_back(found, [0]))


# What a bucket may answer to a create


def of_parts(fault: Fault, *, times: int) -> Callable[[Asked], Fault | None]:
    left = iter(range(times))

    def befall(asked: Asked) -> Fault | None:
        wanted = asked.method == "PUT" and asked.key.endswith(".parquet")
        return fault if wanted and next(left, None) is not None else None

    return befall


FINAL = (Fault.EXPIRED, Fault.DENIED, Fault.NO_BUCKET, Fault.UNCONDITIONAL)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in FINAL])
def test_faults_127_to_133_whatever_creating_answers_each_row_is_there_once(hostile: BucketPlace, fault: Fault) -> None:
    assert isinstance(hostile.server, ObjectServer)
    with hostile.opened() as lake:
        commit(lake, small(0))
        hostile.server.fault = of_parts(fault, times=3)
        assert commit(lake, small(1, 2)) == 2
        assert stored(lake) == read_all(lake) == proven(small(0, 1, 2))
    assert len(parts(hostile)) == 2


@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.DENIED])
def test_fault_136_credentials_that_run_out_end_the_run(hostile: BucketPlace, fault: Fault) -> None:
    assert isinstance(hostile.server, ObjectServer)
    with hostile.opened() as lake:
        hostile.server.fault = of_parts(fault, times=1)
        with pytest.raises(LakeError, match="credentials") as caught:
            commit(lake, small(1))
        assert not isinstance(caught.value, UncertainCommit)
        assert stored(lake) == {}


@pytest.mark.parametrize("fault", [Fault.REFUSED_500, Fault.REFUSED_412, Fault.SAYS_200])
def test_a_bucket_that_never_takes_a_part_is_given_up(hostile: BucketPlace, fault: Fault) -> None:
    assert isinstance(hostile.server, ObjectServer)
    with hostile.opened() as lake:
        hostile.server.fault = of_parts(fault, times=1000)
        with pytest.raises(LakeError) as caught:
            commit(lake, small(1))
        assert isinstance(caught.value, UncertainCommit) == (fault is Fault.REFUSED_500)


def test_fault_133_a_list_that_lags_behind_is_waited_for(hostile: BucketPlace) -> None:
    """The newest part is there and not listed yet: its number is refused, and nobody takes the next one."""
    assert isinstance(hostile.server, ObjectServer)
    objects = hostile.server
    with hostile.opened() as lake, hostile.opened("other") as other:
        commit(lake, small(0))
        newest = commit_hidden(other, objects)
        timer = threading.Timer(0.02, objects.hidden.clear)
        timer.start()
        assert commit(lake, small(2)) == 1
        timer.join()
        assert newest == 1
        assert stored(lake) == proven(small(0, 1, 2))


def commit_hidden(lake: object, objects: ObjectServer) -> int:
    """Commit a result whose part is left out of lists."""
    hide = {name.replace("part-000000", "part-000001") for name in objects.objects if name.endswith("part-000000.parquet")}
    added = commit(lake, small(1))  # type: ignore[arg-type]
    objects.hidden |= hide
    return added


# The probe


def test_fault_135_a_store_that_ignores_the_condition_is_found_out(hostile: BucketPlace) -> None:
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.fault = lambda asked: Fault.UNCONDITIONAL if asked.method == "PUT" else None
    with pytest.raises(UnsafeStore, match="a second time"), hostile.opened():
        pass


@pytest.mark.ci
def test_fault_135_nothing_is_acknowledged_on_such_a_store(hostile: BucketPlace) -> None:
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.fault = lambda asked: Fault.UNCONDITIONAL if asked.method == "PUT" else None
    with Emulator(results=5, days=1, today=DAY) as emulator:
        environment = {**emulator.environment(), **hostile.environment, "RICLOUD_LAKE": hostile.url}
        ended = run_command("ingest", "--since", str(DAY), "--until", str(DAY + timedelta(days=1)), environment=environment)
        assert ended.returncode == 1
        assert "nothing would be acknowledged safely" in ended.stderr
        assert not emulator.acknowledged


def test_a_store_that_does_not_list_what_it_holds_is_refused(hostile: BucketPlace) -> None:
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.hidden = {f"{hostile.url.partition('://lake/')[2]}/control/probe"}
    with pytest.raises(UnsafeStore, match="does not list"), hostile.opened():
        pass


def test_the_probe_of_another_is_not_taken_for_ours(hostile: BucketPlace) -> None:
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.put(f"{hostile.url.partition('://lake/')[2]}/control/probe", b"mine", only_if_absent=True)
    with pytest.raises(UnsafeStore, match="does not read back"), hostile.opened():
        pass


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DONE_503, Fault.SLOW_DOWN])
def test_a_probe_whose_answer_is_lost_is_asked_again(hostile: BucketPlace, fault: Fault) -> None:
    assert isinstance(hostile.server, ObjectServer)
    left = iter(range(2))
    hostile.server.fault = lambda asked: fault if asked.method == "PUT" and next(left, None) is not None else None
    with hostile.opened() as lake:
        commit(lake, small(1))


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.EXPIRED, Fault.NO_BUCKET])
def test_a_bucket_that_cannot_be_written_is_a_setting_to_mend(hostile: BucketPlace, fault: Fault) -> None:
    assert isinstance(hostile.server, ObjectServer)
    hostile.server.fault = lambda _: fault
    with pytest.raises(SettingsError, match=f"RICLOUD_LAKE={hostile.url}"), hostile.opened():
        pass


# Contents that span parts


@pytest.fixture
def capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_storage.BucketStorage, "longest_part", 8 * MIB)


def add_large(lake: object, content: Content, folder: Path) -> tuple[OpenParts, Rejection | None]:
    body = folder / f"body-{random.getrandbits(32)}"
    assert isinstance(content.body, bytes)
    body.write_bytes(content.body)
    with OpenParts(lake, DAY, run_id="run") as open_parts:  # type: ignore[arg-type]
        rejected = open_parts.add_content(replace(content, body=body))
        assert rejected is None or isinstance(rejected, Rejection)
        open_parts.commit()
    return open_parts, rejected


@pytest.mark.usefixtures("capped")
def test_a_content_above_the_cap_spans_parts_and_is_proven_over_all_of_them(place: BucketPlace, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(20 * MIB)
    with place.opened() as lake:
        commit(lake, small("before"))
        add_large(lake, content_of("large", data), tmp_path)
        commit(lake, small("after"))
        found = lake.scan(CONTENTS, DAY)
        assert len(found.parts) == 1 + 3 + 1
        assert {row["result_id"]: row["part"] for row in found.whole_results().to_pylist()} == {
            "before": 0,
            "large": 3,
            "after": 4,
        }
        assert read_all(lake) == proven({"large": data, **small("before", "after")})
        (proof,) = read_back(found, [3])
        assert dict(proof.proven) == proven({"large": data})
        ((_, count, findings),) = audit(lake, [DAY])
        assert (count, findings) == (3, [])
    sizes = [path.stat().st_size for path in sorted(place.mirror.look().glob("data/contents/*/*"))]
    assert max(sizes) < 9 * MIB


@pytest.mark.usefixtures("capped")
def test_a_content_whose_first_parts_are_there_is_completed_and_proven(place: BucketPlace, tmp_path: Path) -> None:
    data = random.Random(6).randbytes(20 * MIB)
    content = content_of("large", data)
    with place.opened() as lake:
        created = 0
        create = lake.storage.create

        def die_at_the_third(target: object, staged: Path) -> bool:
            nonlocal created
            created += 1
            if created == 3:
                raise MemoryError("as a kill would end it")
            return create(target, staged)  # type: ignore[arg-type]

        lake.storage.create = die_at_the_third  # type: ignore[method-assign]
        with pytest.raises(MemoryError):
            add_large(lake, content, tmp_path)
    with place.opened("next") as lake:
        assert stored(lake) == read_all(lake) == {}, "a beginning is no proof"
        ((_, count, findings),) = audit(lake, [DAY])
        assert (count, [finding.detail for finding in findings]) == (0, ["result 'large' is stored in part only"])
        changed = content_of("large", data[:-1])
        _, rejected = add_large(lake, changed, tmp_path)
        assert rejected is not None
        assert rejected.reason == "changed"
        with OpenParts(lake, DAY, run_id="run") as open_parts:
            assert open_parts.stored(Listed.of([content_of(name, b"").result for name in ("large", "short")])) == {}
            both = [content_of(name, b"short") for name in ("large", "short")]
            listed = Listed.of([content.result for content in both])
            together = Contents(listed, [content.sha256 for content in both], joined(b"shortshort", [5, 5]))
            assert [result.id for result in open_parts.add_contents(together)] == ["large", "short"]
            assert open_parts.add_content(content_of("short", b"short")) is None
            rejected = open_parts.add_content(content_of("large", b"short"))
            assert rejected is not None, "one that fits into a part would be taken for stored, and never be acknowledged"
            assert rejected.reason == "changed"
        open_parts, rejected = add_large(lake, content, tmp_path)
        assert (rejected, open_parts.new_contents) == (None, 1)
        assert stored(lake) == read_all(lake) == proven({"large": data})
        open_parts, _ = add_large(lake, content, tmp_path)
        assert (open_parts.new_contents, open_parts.stored_by_others) == (0, 1)
    assert len(parts(place)) == 3


def test_a_beginning_that_was_cut_by_another_cap_is_completed(hostile: BucketPlace, tmp_path: Path) -> None:
    """A piece of which some chunks are stored: what is left of it is written, and everything is proven."""
    data = random.Random(9).randbytes(41 * MIB)
    with hostile.opened() as lake:
        patch = pytest.MonkeyPatch()
        patch.setattr(bucket_storage.BucketStorage, "longest_part", 8 * MIB)
        create, names = lake.storage.create, []

        def die_at_the_second(target: object, staged: Path) -> bool:
            names.append(target)
            if len(names) == 2:
                raise MemoryError("as a kill would end it")
            return create(target, staged)  # type: ignore[arg-type]

        lake.storage.create = die_at_the_second  # type: ignore[method-assign]
        with pytest.raises(MemoryError):
            add_large(lake, content_of("large", data), tmp_path)
    patch.setattr(bucket_storage.BucketStorage, "longest_part", 24 * MIB)
    with hostile.opened("next") as lake:
        add_large(lake, content_of("large", data), tmp_path)
        found = lake.scan(CONTENTS, DAY)
        assert found.index.column("part").to_pylist() == [0, 1, 1, 2, 2, 2]
        assert read_all(lake) == proven({"large": data})
    patch.undo()


@pytest.mark.usefixtures("capped")
def test_one_part_of_such_a_content_that_changed_is_no_proof(hostile: BucketPlace, tmp_path: Path) -> None:
    with hostile.opened() as lake:
        add_large(lake, content_of("large", random.Random(7).randbytes(20 * MIB)), tmp_path)
        found = lake.scan(CONTENTS, DAY)
        assert isinstance(hostile.server, ObjectServer)
        name = next(name for name in hostile.server.objects if name.endswith("part-000001.parquet"))
        kept = hostile.server.objects[name]
        middle = len(kept.body) // 2
        hostile.server.objects[name] = replace(kept, body=kept.body[:middle] + b"\0\0\0\0" + kept.body[middle + 4 :])
        with pytest.raises(UnreadablePart):
            list(read_back(found, [2]))


@pytest.mark.usefixtures("capped")
def test_writers_of_the_same_large_content_write_each_chunk_once(place: BucketPlace, tmp_path: Path) -> None:
    data = random.Random(8).randbytes(20 * MIB)

    def write(number: int) -> None:
        with place.opened(f"run{number}") as lake:
            add_large(lake, content_of("large", data), tmp_path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    with place.opened() as lake:
        assert read_all(lake) == proven({"large": data})
        assert lake.scan(CONTENTS, DAY).index.num_rows == 3


# Whole runs


def ingest(emulator: Emulator, place: BucketPlace) -> list[DayReport]:
    settings = Settings.from_environment({**emulator.environment(), **place.environment, "RICLOUD_LAKE": place.url})
    settings = replace(settings, api_deadline_s=5.0, stall_s=5)
    with open_run(settings) as run:
        return list(ingest_results(run, ingest_days(Window.of_day(DAY))))


@pytest.mark.usefixtures("capped")
def test_every_result_is_in_the_bucket_once_and_acknowledged(place: BucketPlace, tmp_path: Path) -> None:
    with Emulator(results=120, days=1, today=DAY, large_bytes=20 * MIB) as emulator:
        witness = Witness(place.mirror.folder, emulator, look=place.mirror.look)
        emulator.on_acknowledge = witness
        (report,) = ingest(emulator, place)
        assert_exact(place.mirror.look(), emulator)
        assert report.acknowledged == len(set(emulator.acknowledged)) > 100
        files, calls = parts(place), len(witness.calls)
        (again,) = ingest(emulator, place)
        assert (again.new, again.acknowledged, again.error) == (0, 0, None)
        assert (parts(place), len(witness.calls)) == (files, calls)

        settings = Settings.from_environment({**emulator.environment(), **place.environment, "RICLOUD_LAKE": place.url})
        with open_run(settings) as run:
            assert survey(run, lookback=timedelta(days=30), budget_s=20).missing == {}
            assert days_of(run.lake) == [DAY]
            assert summarise(run.lake, DAY).acknowledged == report.acknowledged


def test_the_commands_look_at_a_lake_in_a_bucket(place: BucketPlace, capsys: pytest.CaptureFixture[str]) -> None:
    with Emulator(results=20, days=1, today=DAY) as emulator:
        environment = {**emulator.environment(), **place.environment, "RICLOUD_LAKE": place.url}
        root = lake_of(environment)
        with pytest.raises(SettingsError, match="holds no lake"):
            show_status(root, as_json=True)
        ingest(emulator, place)
        names = sorted(place.mirror.look().rglob("*"))
        assert show_status(root, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["acknowledged"] == len(set(emulator.acknowledged))
        assert verify_lake(root, since=None, until=None) == 0
        assert "nothing wrong" in capsys.readouterr().out
        assert sorted(place.mirror.look().rglob("*")) == names, "looking leaves no trace"
        checks = list(examine({**environment, "RICLOUD_STAGING": str(place.mirror.folder.parent)}))
        assert [(check.name, check.well) for check in checks] == [
            *(("settings", True), ("API", True), ("clock", True), ("lake", True), ("disk", True)),
        ]


def records_of(lake: str) -> dict[str, list[dict[str, object]]]:
    """The records of each feed, in order."""
    found = {feed: read_records(lake, feed, engine="arrow").to_pylist() for feed in list_data_types(lake)}
    return {feed: sorted(rows, key=lambda row: (row["result_id"], row["record_index"])) for feed, rows in found.items()}


@pytest.mark.ci
def test_records_are_derived_and_read_in_a_bucket_as_on_a_disk(place: BucketPlace, tmp_path: Path) -> None:
    local = str(tmp_path / "local")
    with Emulator(results=120, days=1, today=DAY) as emulator:
        for lake in (local, place.url):
            settings = Settings.from_environment({**emulator.environment(), **place.environment, "RICLOUD_LAKE": lake})
            with open_run(settings) as run:
                (report,) = ingest_results(run, ingest_days(Window.of_day(DAY)), acknowledge=False)
                assert report.records_error is None
                assert report.record_rows > 0
    expected = records_of(local)
    assert len(expected) > 1
    assert records_of(place.url) == expected
    result_id = str(next(iter(expected.values()))[0]["result_id"])
    assert b"".join(read_content(place.url, result_id)) == b"".join(read_content(local, result_id))
    assert_readable(place.mirror.look())


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DONE_500, Fault.REFUSED_409, Fault.SLOW_DOWN])
def test_records_whose_creation_is_answered_wrongly_are_there_once(hostile: BucketPlace, fault: Fault) -> None:
    """Files of records and versions of columns alike: each first answer is wrong."""
    assert isinstance(hostile.server, ObjectServer)
    refused = set[str]()

    def befall(asked: Asked) -> Fault | None:
        derived = "/data/records/" in asked.key or "/control/schemas/" in asked.key
        if asked.method != "PUT" or not derived or asked.key in refused:
            return None
        refused.add(asked.key)
        return fault

    document = json.dumps({"data": [{"text": "a", "n": 1}, {"text": "b"}], "metadata": {"count": 2}}).encode()
    with Emulator(results=0, days=1, today=DAY) as emulator:
        for number in range(3):
            emulator.add_result(content=document, identifier="feed", type="json", date_created=MOMENT, id=f"r{number}")
        hostile.server.fault = befall
        (report,) = ingest(emulator, hostile)
    assert (report.records_error, report.acknowledged) == (None, 3)
    assert len(refused) >= 2
    assert [row["text"] for row in records_of(hostile.url)["feed"]] == ["a", "b"] * 3


@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(pytest.param(seed, marks=pytest.mark.ci) for seed in range(1, 4)),
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 8)),
    ],
)
def test_runs_on_a_bucket_that_fails_at_random_become_exact(hostile: BucketPlace, seed: int) -> None:
    """Each request may fail, before or after it was done; nothing is acknowledged that is not there, and it ends exact."""
    assert isinstance(hostile.server, ObjectServer)
    rng, faults = random.Random(seed), [fault for fault in Fault if fault is not Fault.UNCONDITIONAL]
    with Emulator(results=0, days=1, today=DAY) as emulator:
        emulator.on_acknowledge = Witness(hostile.mirror.folder, emulator, look=lambda: look_in_peace(hostile))
        failed = 0
        for attempt in range(30):
            if attempt < 4:
                for number in range(5):
                    emulator.add_result(content=f"content {attempt} {number}".encode(), date_created=MOMENT)
            share = 0.15 if attempt < 20 else 0.0

            def befall(asked: Asked, share: float = share) -> Fault | None:
                if asked.key.endswith("peace") or rng.random() >= share or PEACE.locked():
                    return None
                return rng.choice(faults if asked.method == "PUT" else [Fault.LOST, Fault.REFUSED_500, Fault.SLOW_DOWN])

            hostile.server.fault = befall
            try:
                (report,) = ingest(emulator, hostile)
                ended = report.complete
            except (LakeError, SettingsError):
                ended = False
            failed += not ended
            if ended and attempt >= 4:
                break
        hostile.server.fault = lambda _: None
        assert failed
        ingest(emulator, hostile)
        assert_exact(hostile.mirror.look(), emulator)


PEACE = threading.Lock()


def look_in_peace(place: BucketPlace) -> None:
    """The witness's own look is not what is tested."""
    with PEACE:
        place.mirror.look()


# Readers


def test_engines_read_a_lake_in_s3_where_it_is(s3: SeaweedFS, tmp_path: Path) -> None:
    place = place_on(s3, tmp_path)
    with place.opened() as lake:
        commit(lake, small(1, 2))
        commit(lake, small(3))
        assert isinstance(lake.root, ObjectPath)
    folder = place.url.removeprefix("s3://") + "/data/contents"
    files = pyarrow.fs.S3FileSystem(
        access_key=s3.access_key, secret_key=s3.secret_key, endpoint_override=s3.url, region=s3.region
    )
    table = pads.dataset(folder, filesystem=files, partitioning="hive").to_table()
    assert sorted(table.column("result_id").to_pylist()) == ["1", "2", "3"]
    options = {
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
        "aws_endpoint_url": s3.url,
        "aws_region": s3.region,
        "aws_allow_http": "true",
    }
    frame = pl.scan_parquet(
        f"{place.url}/data/contents/**/*.parquet", hive_partitioning=True, storage_options=options
    ).collect()
    assert sorted(frame["result_id"].to_list()) == ["1", "2", "3"]
    assert {str(day) for day in frame["created_date"].to_list()} == {str(DAY)}
    assert pq.read_table(f"{folder}/created_date={DAY}/part-000000.parquet", filesystem=files).num_rows == 2
    assert hashlib.md5(frame.filter(pl.col("result_id") == "3")["content"][0]).hexdigest() == proven(small(3))["3"].checksum
