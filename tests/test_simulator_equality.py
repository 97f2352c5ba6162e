"""The simulated world answers as the real one does: API, contents, bucket, disk, Parquet. With a mounted ext4 and servers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ricloud_connector import disk, part_reader, parts
from ricloud_connector.client import RicloudClient
from ricloud_connector.cloud import Cloud, lake_url
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.errors import ApiError, UnreadablePart
from ricloud_connector.fetch import Fetcher
from ricloud_connector.location import Policy
from ricloud_connector.model import Content, Rejection, Result, Window, id_of
from ricloud_connector.objects import ObstoreObjects
from ricloud_connector.redact import Secret
from ricloud_connector.refusal import Refused
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.stores.signed_url import SignedUrlStore
from tests.mounts import make_ext4, mounted_image
from tests.object_server import ObjectServer
from tests.simulator.columnar import STAND_IN
from tests.simulator.disks import SimulatedKernel
from tests.simulator.objects import SimulatedObjects
from tests.simulator.processes import Stage
from tests.simulator.world import POLICY, World

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def stage() -> Stage:
    stage = Stage(random.Random(0))
    stage.faulty = False
    return stage


@pytest.fixture
def world(stage: Stage, tmp_path: Path) -> World:
    world = World(stage, tmp_path, bucket=True)
    world.api.on_acknowledge = lambda _: None  # there is no lake here, and nothing to judge
    return world


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(results=0, days=1, today=DAY) as emulator:
        yield emulator


def publish(world: World, emulator: Emulator) -> None:
    """The same results to both: at the borders of a day, with equal moments, with each flaw that both can have."""
    moments = [NOON, NOON, NOON + timedelta(hours=1), Window.of_day(DAY).since, Window.of_day(DAY).until]
    for number, moment in enumerate(moments, 1):
        add(world, emulator, number, moment + timedelta(microseconds=number), b"content %d" % number)
    add(world, emulator, 6, NOON - timedelta(hours=1), b"")
    for number, flaw in enumerate(("changed bytes", "wrong size", "no place", "gone"), 7):
        add(world, emulator, number, NOON - timedelta(hours=number), b"flawed", flaw)


def add(world: World, emulator: Emulator, number: int, moment: datetime, data: bytes, flaw: str | None = None) -> None:
    simulated = world.publish(number, moment, data, flaw)
    published = emulator.add_result(
        id=simulated.id,
        content=simulated.data,
        date_created=moment,
        checksum=simulated.checksum,
        size=simulated.size,
        signed=flaw != "no place",
        organisation="o1",
    )
    if flaw == "gone":
        published.path.unlink()


def asked_of(client: RicloudClient) -> Iterator[Any]:
    """What a client of either is told, without what is the servers' own: URLs, moments of acknowledging, words of errors."""
    day = Window.of_day(DAY)
    windows = [day, None, Window(NOON, NOON + timedelta(hours=1)), Window(NOON + timedelta(days=3), NOON + timedelta(days=4))]

    def lists() -> Iterator[Any]:
        for window, state in itertools.product(windows, ("available", "consumed", "expired")):
            yield state, [plain(item) for item in client.list_results(window, state)]

    def tried(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except ApiError as error:
            return type(error), getattr(error, "status", None)

    yield from lists()
    for name in ("1", "r3", "r9", "unknown"):
        yield tried(lambda name=name: plain(client.retrieve_result(name)))
    yield [plain(item) for item in client.list_results(day, after_id="unknown")]
    yield [plain(item) for item in client.list_results(day, after_id="1")]
    for ids in ([1, "r3"], [1, 2, "unknown"], ["unknown"]):
        yield tried(lambda ids=ids: client.send_acknowledgements(ids))
        yield from lists()
    yield tried(lambda: plain(client.retrieve_result("r3")))


def plain(item: Result | Rejection) -> tuple[Any, ...]:
    if isinstance(item, Rejection):
        return id_of(item), item.reason, item.date_created
    shown = (item.id, item.wire_id, item.state, item.date_created, item.checksum, item.size, item.organisation)
    return (*shown, item.signed_url is None, item.date_consumed is None)


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("date_filter", ["apply", "ignore", "reject"])
def test_the_simulated_api_answers_as_the_emulator_does(world: World, emulator: Emulator, order: Any, date_filter: Any) -> None:
    emulator.behaviour = Behaviour(order=order, date_filter=date_filter)
    world.api.order, world.api.date_filter = order, date_filter
    publish(world, emulator)
    environment = emulator.environment()
    with RicloudClient(environment["RICLOUD_URL"], Secret(environment["RICLOUD_TOKEN"])) as real:
        told = list(asked_of(real))
    assert list(asked_of(RicloudClient("https://api.test", Secret("t"), exchange=world.api))) == told
    assert sum(len(answer[1]) for answer in told if isinstance(answer, tuple) and isinstance(answer[1], list)) > 20


def test_the_simulated_contents_come_as_the_emulators_do(world: World, emulator: Emulator, tmp_path: Path) -> None:
    publish(world, emulator)
    environment = emulator.environment()
    http = SignedUrlStore()
    outcomes = []
    with RicloudClient(environment["RICLOUD_URL"], Secret(environment["RICLOUD_TOKEN"])) as real:
        simulated = RicloudClient("https://api.test", Secret("t"), exchange=world.api)
        hosts = Policy(content_hosts=frozenset({emulator.contents_host}))
        for client, policy, store in ((real, hosts, http), (simulated, POLICY, world.contents)):
            fetcher = Fetcher(client.retrieve_result, policy, tmp_path, http=store, sleep=lambda _: None)
            listed = [item for item in client.list_results() if isinstance(item, Result)]
            outcomes.append(sorted(map(came_of, fetcher.fetch(listed))))
    http.close()
    assert outcomes[0] == outcomes[1]
    assert {outcome[1] for outcome in outcomes[0]} >= {"content", "gone", "checksum_mismatch", "size_mismatch"}


def came_of(outcome: Any) -> tuple[Any, ...]:
    if isinstance(outcome, Content):
        return outcome.result.id, "content", outcome.body, outcome.sha256
    return outcome.result_id, outcome.reason, outcome.actual_checksum, outcome.actual_size, outcome.transient


def test_the_simulated_bucket_answers_as_a_server_of_s3_does(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    with ObjectServer() as server:
        for name, value in server.environment("s3").items():
            monkeypatch.setenv(name, value)
        url = lake_url("s3://lake", Cloud.from_environment(server.environment("s3")))
        real = list(asked_of_bucket(ObstoreObjects(url, retries=0)))
    assert list(asked_of_bucket(SimulatedObjects(stage))) == real


def asked_of_bucket(objects: Any) -> Iterator[Any]:
    def tried(verb: str, key: str, **named: Any) -> Any:
        try:
            answer = objects(verb, key, **named)
        except Refused as refused:
            return refused.kind
        if verb == "list":
            return [(facts["path"], facts["size"], facts["e_tag"].strip('"')) for facts in answer]
        return answer

    yield tried("list", "data/a")
    yield tried("list_with_delimiter", "data")
    yield tried("get", "data/a/part-000000.parquet")
    yield tried("get_range", "data/a/part-000000.parquet", start=0, end=3)
    for body in (b"first", b"second"):
        yield tried("create", "data/a/part-000000.parquet", body=body)
        yield tried("create", "data/b/part-000000.parquet", body=memoryview(body))
        yield tried("put", "control/x", body=body)
        yield tried("get", "control/x")
    yield tried("create", "data/ab/c/part-000000.parquet", body=b"")
    yield tried("get", "data/a/part-000000.parquet")
    yield tried("get_range", "data/a/part-000000.parquet", start=1, end=4)
    for prefix in ("data", "data/a", "control", "nowhere"):
        yield tried("list", prefix)
        yield tried("list_with_delimiter", prefix)


def test_what_the_simulated_disk_calls_durable_survives_a_power_cut_on_ext4(stage: Stage, tmp_path: Path) -> None:
    """The other way round it is stricter than ext4, which writes out more than it was asked to."""
    make_ext4(tmp_path / "image", 16)
    with mounted_image(tmp_path / "image", tmp_path / "mounted") as place:
        kernel = SimulatedKernel(place, stage, fsync=True)
        with kernel.in_place():
            paths = [written(place, number) for number in range(8)]
        promised = [path for path in paths if kernel.durable(str(path))]
        copy = tmp_path / "cut"
        copy.write_bytes((tmp_path / "image").read_bytes())
    assert [path.name for path in promised] == ["3", "7"], "the folder of the third was synced with a later one"
    with mounted_image(copy, tmp_path / "after") as after:
        for path in promised:
            assert (after / path.relative_to(place)).read_bytes() == b"content " * 1000


def written(place: Path, number: int) -> Path:
    """A file in a folder of its own, with some of the steps that make it durable: those of the bits of `number`."""
    folder, staged = place / f"folder{number}", place / f"staged{number}"
    folder.mkdir()
    staged.write_bytes(b"content " * 1000)
    if number & 1:
        disk.sync(staged)
    assert disk.create(folder / str(number), staged)
    if number & 2:
        disk.sync(folder)
    if number & 4:
        disk.sync(place)
    return folder / str(number)


@pytest.mark.parametrize("columnar", [pq, STAND_IN], ids=["Parquet", "stand-in"])
def test_a_changed_byte_is_noticed_by_whoever_reads_it(columnar: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one among contents by nobody who reads only the other columns."""
    monkeypatch.setattr(parts, "pq", columnar)
    monkeypatch.setattr(part_reader, "pq", columnar)
    path = tmp_path / "part"
    facts = {"chunk_index": 0, "chunk_count": 1, "checksum": "md5", "sha256": "sha256", "size": 500, "date_created": NOON}
    rows = [{"result_id": name, "content": random.Random(name).randbytes(500), **facts} for name in ("1", "2")]
    with parts.PartWriter(CONTENTS, path, {"ricloud_format": "1"}) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=CONTENTS.schema))
        writer.finish()
    body = path.read_bytes()
    kinds = set()
    for at in range(0, len(body), 11):
        path.write_bytes(body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :])
        whole = read_or_not(lambda: [row for group in part_reader.read_groups(path, CONTENTS) for row in group.to_pylist()])
        index = read_or_not(lambda: part_reader.read_index(path, CONTENTS)[1])
        assert whole is None or [row["content"] for row in whole] == [row["content"] for row in rows]
        assert index is None or index.column("result_id").to_pylist() == ["1", "2"]
        kinds.add((whole is None, index is None))
    assert {(True, True), (True, False)} <= kinds


def read_or_not(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UnreadablePart:
        return None
