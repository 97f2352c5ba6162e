"""Small contents fetched by a process of its own: those that come as listed, and everything else left to others."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ricloud_connector import bulk_fetch
from ricloud_connector.bulk_fetch import BulkFetch
from ricloud_connector.ingest.open_parts import OpenParts
from ricloud_connector.listed import Listed
from ricloud_connector.location import Policy
from ricloud_connector.model import Result, SignedUrl
from ricloud_connector.parts import Contents, joined
from ricloud_connector.readback import read_back
from ricloud_connector.schemas import CONTENTS
from ricloud_connector.stores.worker import DOWN_AFTER, Order
from tests.hostile_server import CLOSE, HANG, HostileServer, Request, Steps, head, reply
from tests.lakes import DAY, content_of, opened_lake, proven

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
BODIES = {f"r{number}": f"content {number} ".encode() * (number % 40) for number in range(1_500)}


def served(request: Request) -> Steps:
    return reply(200, {}, BODIES[request.target.rpartition("/")[2].partition("?")[0]])


def results_at(url: str, bodies: dict[str, bytes], **changes: object) -> list[Result]:
    return [
        Result(name, name, "available", NOON, hashlib.md5(body).hexdigest(), len(body))._replace(
            **{"signed_url": SignedUrl(f"{url}/{name}?X-Amz-Signature=cafe1234", None), **changes}
        )
        for name, body in bodies.items()
    ]


@pytest.fixture
def host() -> Iterator[HostileServer]:
    with HostileServer(served) as running:
        yield running


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_fetch, "STARTED_FROM", 0)
    monkeypatch.setattr(bulk_fetch, "FROM_RESULTS", 0)


def bulk_for(server: HostileServer, **options: object) -> BulkFetch:
    return BulkFetch(Policy(frozenset({server.host})), **{"stall_s": 2, **options})  # type: ignore[arg-type]


def fetched(bulk: BulkFetch, *results: Sequence[Result], within_s: float = 30) -> tuple[dict[str, bytes], list[str]]:
    """The bytes of what came, by id, and the ids of what was left; each result is one or the other, once."""
    deadline, found, left = time.monotonic() + within_s, dict[str, bytes](), list[str]()
    for some in results:
        left += [result.id for result in bulk.put(Listed.of(some), alone=True)]
    while bulk.pending:
        assert time.monotonic() < deadline, bulk.pending
        taken = bulk.take(alone=True)
        left += [result.id for result in taken.left]
        if taken.contents is not None:
            bodies = taken.contents.body.to_pylist()
            assert [hashlib.sha256(body).hexdigest() for body in bodies] == taken.contents.sha256s
            assert not found.keys() & set(taken.contents.listed.ids)
            found |= zip(taken.contents.listed.ids, bodies, strict=True)
    assert sorted([*found, *left]) == sorted(result.id for some in results for result in some)
    return found, left


def test_contents_come_as_they_are_and_each_once(host):
    results = results_at(host.url, BODIES)
    with closing(bulk_for(host)) as bulk:
        assert fetched(bulk, results[:1_200], results[1_200:]) == (BODIES, [])
        assert fetched(bulk, results[:10]) == ({name: BODIES[name] for name in list(BODIES)[:10]}, [])
    assert len(host.requests) == len(BODIES) + 10
    assert host.connections <= 64


def test_few_results_start_no_process(host, monkeypatch):
    monkeypatch.setattr(bulk_fetch, "STARTED_FROM", 100)
    monkeypatch.setattr(bulk_fetch, "FROM_RESULTS", 120)
    with closing(bulk_for(host)) as bulk:
        results = results_at(host.url, BODIES)
        assert fetched(bulk, results[:99]) == ({}, [result.id for result in results[:99]])
        assert bulk._process is None
        assert fetched(bulk, results[99:110]) == ({}, [result.id for result in results[99:110]])
        assert bulk._process is not None, "it loads while others fetch the first ones"
        found, left = fetched(bulk, results[110:150])
        assert (len(found), left) == (40, [])


def test_what_is_large_or_has_no_signed_url_is_left(host):
    bodies = {"r1": BODIES["r1"], "r2": b"", "r3": BODIES["r3"], "r4": BODIES["r4"]}
    one, two, three, four = results_at(host.url, bodies)
    results = [one._replace(size=bulk_fetch.SMALL_BYTES + 1), two._replace(signed_url=None), three, four._replace(size=None)]
    with closing(bulk_for(host)) as bulk:
        assert fetched(bulk, results) == ({"r3": BODIES["r3"]}, ["r1", "r2", "r4"])


@pytest.mark.parametrize(
    "answer",
    [
        reply(404),
        reply(403, {}, b"<Error/>"),
        reply(302, {"Location": "/elsewhere"}),
        reply(200, {}, b"another content"),
        reply(200, {}, BODIES["r7"] + b"!"),
        [head(200, {}, len(BODIES["r7"])) + BODIES["r7"][:9], CLOSE],
        [b"garbage\r\n\r\n", CLOSE],
    ],
    ids=["404", "403", "redirect", "other bytes", "too long", "cut", "no HTTP"],
)
def test_fault_057_058_059_060_080_146_what_does_not_come_as_listed_is_left_and_the_others_come(answer: Steps):
    def serve(request: Request) -> Steps:
        return answer if request.target.startswith("/r7?") else served(request)

    with HostileServer(serve) as host, closing(bulk_for(host)) as bulk:
        some = {name: BODIES[name] for name in list(BODIES)[:60]}
        found, left = fetched(bulk, results_at(host.url, some), within_s=20)
        assert left[:1] == ["r7"] or "r7" in left
        assert found == {name: body for name, body in some.items() if name not in left}


def test_fault_013_a_host_that_does_not_answer_is_left_at_once_and_for_a_while():
    with HostileServer([HANG]) as host, closing(bulk_for(host, concurrency=4)) as bulk:
        results = results_at(host.url, BODIES)
        started = time.monotonic()
        found, left = fetched(bulk, results, within_s=15)
        assert (found, len(left)) == ({}, len(results))
        assert len(host.requests) <= 4 * DOWN_AFTER
        assert fetched(bulk, results[:50]) == ({}, [result.id for result in results[:50]])
        assert time.monotonic() - started < 15


def test_fault_013_a_host_that_breaks_now_and_then_costs_only_what_broke():
    def serve(request: Request) -> Steps:
        body = BODIES[request.target.rpartition("/")[2].partition("?")[0]]
        return [head(200, {}, len(body)) + body[:-1], CLOSE] if len(body) % 13 == 1 else reply(200, {}, body)

    with HostileServer(serve) as host, closing(bulk_for(host)) as bulk:
        found, left = fetched(bulk, results_at(host.url, BODIES))
        assert found == {name: body for name, body in BODIES.items() if len(body) % 13 != 1}
        assert len(left) > 50


def test_fault_076_a_host_that_asks_to_slow_down_is_left_to_those_who_can_and_they_are_told():
    told: list[int] = []
    replies = [reply(200, {}, BODIES["r1"])] * 20 + [reply(429, {"Retry-After": "3"})]
    with HostileServer(*replies) as host, closing(bulk_for(host, concurrency=4, throttled=told.append)) as bulk:
        some = {f"r{number}": BODIES["r1"] for number in range(500)}
        found, left = fetched(bulk, results_at(host.url, some))
        assert (len(found), len(left)) == (20, 480)
        assert 1 <= sum(told) <= 4
        assert len(host.requests) <= 24


def test_fault_145_an_address_that_is_not_public_is_not_connected_to(host):
    with closing(BulkFetch(Policy())) as bulk:
        secret = [result._replace(signed_url=SignedUrl("https://localhost:1/x", None)) for result in results_at("", BODIES)]
        assert fetched(bulk, secret[:20]) == ({}, [result.id for result in secret[:20]])
    assert host.connections == 0


def test_where_buckets_come_first_nothing_is_taken_on(host):
    with closing(BulkFetch(Policy(frozenset({host.host}), read=("bucket", "signed_url")))) as bulk:
        results = results_at(host.url, {"r1": BODIES["r1"]})
        assert bulk.put(Listed.of(results), alone=True) == results


def test_a_process_that_dies_leaves_all_that_it_had_to_others(host):
    with closing(bulk_for(host)) as bulk:
        results = results_at(host.url, BODIES)
        assert bulk.put(Listed.of(results), alone=True) == []
        assert bulk._process is not None
        found = 0
        while not found:
            taken = bulk.take(alone=True)
            found += len(taken.contents.listed) if taken.contents is not None else 0
        bulk._process.kill()
        left = 0
        while bulk.pending:
            taken = bulk.take(alone=True)
            found += len(taken.contents.listed) if taken.contents is not None else 0
            left += len(taken.left)
        assert found + left == len(results)
        assert bulk.put(Listed.of(results[:5]), alone=True) == results[:5]


def test_where_no_process_can_be_started_everything_is_left(host, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with closing(bulk_for(host)) as bulk:
        results = results_at(host.url, {"r1": BODIES["r1"]})
        assert bulk.put(Listed.of(results), alone=True) == results


def test_what_is_dropped_never_comes_and_another_process_goes_on(host):
    with closing(bulk_for(host)) as bulk:
        results = results_at(host.url, BODIES)
        bulk.put(Listed.of(results[:700]), alone=True)
        first = bulk._process
        bulk.drop()
        assert first is not None
        assert first.poll() is not None
        assert bulk.pending == 0
        found, left = fetched(bulk, results[700:800])
        assert (list(found), left) == ([result.id for result in results[700:800]], []) or len(found) == 100


@pytest.mark.parametrize(("alone", "others", "most"), [(True, 0, 8), (False, 2, 6), (False, 5, 3), (True, 1, 7)])
def test_with_what_others_have_under_way_it_never_has_more_connections_than_allowed(alone: bool, others: int, most: int):
    def slowly(request: Request) -> Steps:
        return [0.02, *served(request)]

    with HostileServer(slowly) as host, closing(bulk_for(host, concurrency=8, others=lambda: others)) as bulk:
        bulk.put(Listed.of(results_at(host.url, {name: BODIES[name] for name in list(BODIES)[:120]})), alone=alone)
        assert bulk.reserved == (8 if alone else 6)
        while bulk.pending:
            bulk.take(alone=alone)
        assert host.connections == most
        assert bulk.reserved == 0


def test_where_others_have_all_connections_it_waits_until_they_leave_some(host):
    under_way = 8
    with closing(bulk_for(host, concurrency=8, others=lambda: under_way)) as bulk:
        bulk.put(Listed.of(results_at(host.url, {"r1": BODIES["r1"]})), alone=False)
        for _ in range(5):
            assert bulk.take(alone=False).contents is None
        assert host.connections == 0
        under_way = 2
        while bulk.pending:
            bulk.take(alone=False)
    assert host.connections == 1


def test_what_came_is_not_held_back_while_others_wait():
    def slowly(request: Request) -> Steps:
        return [0.2, *served(request)]

    with HostileServer(slowly) as host, closing(bulk_for(host, concurrency=2)) as bulk:
        started = time.monotonic()
        bulk.put(Listed.of(results_at(host.url, {name: BODIES[name] for name in list(BODIES)[:100]})), alone=True)
        while bulk.take(alone=True).contents is None:
            assert time.monotonic() - started < 3


@pytest.mark.parametrize("odd", ["path", "site", "nothing", "frozen"])
def test_however_python_was_started_it_works_or_leaves_everything(host, monkeypatch, tmp_path, odd):
    results = results_at(host.url, {"r1": BODIES["r1"]})
    if odd == "path":
        (tmp_path / "pycurl.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)  # where `python -c` would look first
        monkeypatch.setattr(sys, "path", [*(path for path in sys.path if path), tmp_path, 7])
    elif odd == "site":
        (tmp_path / "sitecustomize.py").write_text("print('hooked', flush=True)")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elif odd == "nothing":
        monkeypatch.setattr(sys, "executable", None)
    else:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    with closing(bulk_for(host)) as bulk:
        left = bulk.put(Listed.of(results), alone=True)
        if odd in ("nothing", "frozen"):
            assert left == results
        else:
            assert left == []
            while bulk.pending:
                taken = bulk.take(alone=True)
                assert not taken.left
            assert taken.contents is not None


def test_an_answer_to_nothing_that_was_ordered_ends_the_process_and_loses_nothing(host, monkeypatch):
    results = results_at(host.url, {name: BODIES[name] for name in ("r1", "r2", "r3")})
    with closing(bulk_for(host)) as bulk:
        bulk.put(Listed.of(results), alone=True)
        assert bulk._answers is not None
        true = bulk._answers.poll
        monkeypatch.setattr(bulk._answers, "poll", lambda wait_s: (found := true(wait_s)) and replace(found, sizes=[7]))
        left = list[str]()
        while bulk.pending:
            left += [result.id for result in bulk.take(alone=True).left]
        assert left == ["r1", "r2", "r3"]


def test_orders_and_answers_show_no_url_and_no_content(host):
    assert "cafe1234" not in repr(Order(0, 0, ["https://h/x?sig=cafe1234"], [1], 8))


def test_fault_150_the_process_has_neither_token_nor_url_in_what_others_can_see(host, monkeypatch):
    monkeypatch.setenv("RICLOUD_TOKEN", "canary-token")
    monkeypatch.setenv("RICLOUD_PROXY", "http://user:canary-proxy@127.0.0.1:1")
    with closing(bulk_for(host)) as bulk:
        fetched(bulk, results_at(host.url, {"r1": BODIES["r1"]}))
        assert bulk._process is not None
        folder = Path(f"/proc/{bulk._process.pid}")
        seen = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
    assert b"canary" not in seen
    assert b"cafe1234" not in seen


def test_it_ends_with_the_process_that_started_it_however_that_ends(host):
    code = """
import sys, time
from ricloud_connector import bulk_fetch
from tests.test_bulk_fetch import *
bulk_fetch.STARTED_FROM = bulk_fetch.FROM_RESULTS = 0
bulk = BulkFetch(Policy(frozenset({sys.argv[1]})))
fetched(bulk, results_at("http://" + sys.argv[1], {"r1": BODIES["r1"]}))
print(bulk._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, host.host], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        os.kill(worker, signal.SIGINT)  # as a terminal sends it to all; this one waits for its end
        time.sleep(0.2)
        assert _runs(worker)
        process.kill()
    deadline = time.monotonic() + 10
    while _runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_process_loads_no_arrow():
    code = "import sys, ricloud_connector.stores.worker; assert not {'pyarrow', 'numpy', 'httpx', 'orjson'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_contents_together_never_stand_between_the_chunks_of_another(tmp_path):
    """Whatever comes before and after them: the part is proven, and read back, row after row."""
    orders = ["mw", "wm", "mwm", "wwwmwww", "smwwwwwwsm", "mswms"]
    with opened_lake(tmp_path / "lake") as lake, OpenParts(lake, DAY, run_id="run") as open_parts:
        data: dict[str, bytes] = {}
        for order in orders:
            for place, kind in enumerate(order):
                names = [f"{order}-{place}-{number}" for number in range(8 if kind == "w" else 1)]
                size = {"m": 9 * 1024 * 1024, "w": 60_000, "s": 50}[kind]
                some = {name: (name.encode() * size)[:size] for name in names}
                data |= some
                contents = [content_of(name, body) for name, body in some.items()]
                if kind == "w":
                    listed = Listed.of([content.result for content in contents])
                    sha256s = [content.sha256 for content in contents]
                    body = joined(b"".join(some.values()), [*map(len, some.values())])
                    assert open_parts.add_contents(Contents(listed, sha256s, body)) == []
                else:
                    staged = tmp_path / names[0]
                    staged.write_bytes(some[names[0]])
                    content = replace(contents[0], body=staged) if kind == "m" else contents[0]
                    assert open_parts.add_content(content) is None
        open_parts.commit()
        assert open_parts.new_contents == len(data)
        partition = lake.scan(CONTENTS, DAY)
        found: dict[str, object] = {}
        for commit in read_back(partition, range(len(partition.parts))):
            found |= commit.proven
        assert found == proven(data)
