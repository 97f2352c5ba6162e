"""Downloads from hosts that break, lie, stall, throttle and redirect: what is resumed, given up, and never let through."""

import gzip
import hashlib
import itertools
import logging
import os
import resource
import shutil
import signal
import socket
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest

from ricloud_connector import download as download_module
from ricloud_connector import fetch as fetch_module
from ricloud_connector import room
from ricloud_connector.client import RicloudClient
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.errors import ApiRefused, ApiUnavailable, LakeError, TokenRefused, UntrustedAnswer
from ricloud_connector.fetch import Elsewhere, Fetcher, Outcome
from ricloud_connector.location import HttpLocation, Policy
from ricloud_connector.model import Content, Rejection, Result, SignedUrl
from ricloud_connector.redact import Secret
from ricloud_connector.rereading import RENEWERS
from ricloud_connector.sink import MEMORY_BYTES, Sink
from ricloud_connector.stores import Remedy, Transfer, health
from ricloud_connector.stores import signed_url as signed_url_module
from ricloud_connector.stores.signed_url import SignedUrlStore
from tests.canary import assert_hides
from tests.certificates import EXPIRED, GOOD, OTHER_HOST, server_context, write_bundle
from tests.hostile_server import CLOSE, HANG, RESET, HostileServer, Reply, Request, Steps, dripping, head, reply

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SMALL = bytes(range(256)) * 8
LARGE = bytes(range(256)) * 8192  # 2 MiB: goes to a file
SECRET = "cafe1234"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def body_of(content: Content) -> bytes:
    return content.body if isinstance(content.body, bytes) else content.body.read_bytes()


def result_at(signed: str | None, content: bytes = SMALL, *, id: str = "a", **facts: object) -> Result:
    known: dict[str, object] = {
        "id": id,
        "wire_id": id,
        "state": "available",
        "date_created": NOON,
        "checksum": md5(content),
        "size": len(content),
        "signed_url": None if signed is None else SignedUrl(signed, None),
    }
    return Result(**(known | facts))  # type: ignore[arg-type]


def serving(content: bytes = SMALL) -> Callable[[Request], Steps]:
    """A host that keeps to the rules, ranges too."""

    def give(request: Request) -> Steps:
        start = request.offset
        if not start:
            return reply(200, {"Accept-Ranges": "bytes"}, content)
        if start >= len(content):
            return reply(416, {"Content-Range": f"bytes */{len(content)}"})
        return reply(206, {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:])

    return give


def breaking(content: bytes, after: int, how: object = RESET) -> Callable[[Request], Steps]:
    """A host that keeps to the rules until so many bytes of an answer are sent."""

    def give(request: Request) -> Steps:
        (whole,) = serving(content)(request)
        assert isinstance(whole, bytes)
        start, end, body = whole.partition(b"\r\n\r\n")
        # The pause lets the bytes arrive before a reset, which would take them along.
        return [start + end + body[:after], 0.05, how]  # type: ignore[list-item]

    return give


@dataclass
class Rig:
    """A fetcher with a clock that only sleeping moves, and an API that answers what the test says."""

    staging: Path
    policy: Policy = field(default_factory=Policy)
    concurrency: int = 8
    stall_s: int = 1
    proxy: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    answers: Callable[[str], Result | Rejection] | None = None
    asked: list[str] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None
    now: float = 0.0

    def retrieve(self, result_id: str) -> Result | Rejection:
        self.asked.append(result_id)
        if self.answers is None:
            raise ApiUnavailable("nobody there")
        return self.answers(result_id)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_sleep()

    @contextmanager
    def opened(self) -> Iterator[Fetcher]:
        http = SignedUrlStore(concurrency=self.concurrency, stall_s=self.stall_s, proxy=self.proxy)
        try:
            yield Fetcher(
                self.retrieve,
                self.policy,
                self.staging,
                http=http,
                sleep=self.sleep,
                clock=lambda: self.now + time.monotonic(),
                **self.options,  # type: ignore[arg-type]
            )
        finally:
            http.close()

    def fetch(self, *results: Result) -> list[Outcome]:
        """All outcomes; what lies in staging afterwards are the bodies of contents and nothing else."""
        with self.opened() as fetcher:
            outcomes = list(fetcher.fetch(results))
        assert len(outcomes) == len(results)
        kept = {outcome.body for outcome in outcomes if isinstance(outcome, Content) and isinstance(outcome.body, Path)}
        assert set(self.staging.iterdir()) == kept
        for outcome in outcomes:
            assert SECRET not in repr(outcome)
        return outcomes

    def content(self, result: Result) -> bytes:
        (outcome,) = self.fetch(result)
        assert isinstance(outcome, Content), outcome
        assert outcome.result is result
        body = body_of(outcome)
        assert (md5(body), len(body), hashlib.sha256(body).hexdigest()) == (result.checksum, result.size, outcome.sha256)
        return body

    def rejection(self, result: Result, reason: str, *, transient: bool = False) -> Rejection:
        (outcome,) = self.fetch(result)
        assert isinstance(outcome, Rejection), outcome
        assert (outcome.reason, outcome.transient) == (reason, transient), outcome
        assert (outcome.result_id, outcome.date_created, outcome.checksum) == (result.id, NOON, result.checksum)
        return outcome


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    staging = tmp_path / "staging"
    staging.mkdir()
    return Rig(staging)


@pytest.fixture
def serve(rig: Rig) -> Iterator[Callable[..., HostileServer]]:
    """Starts hosts that the policy names, as a private bucket would be."""
    servers = []

    def start(*replies: Reply, **options: object) -> HostileServer:
        server = HostileServer(*replies, **options)  # type: ignore[arg-type]
        server.__enter__()
        servers.append(server)
        rig.policy = replace(rig.policy, content_hosts=rig.policy.content_hosts | {server.host})
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def url_at(server: HostileServer, name: str = "key") -> str:
    return f"{server.url}/{name}?X-Amz-Signature={SECRET}"


# -- the good case


@pytest.mark.parametrize("content", [b"x", SMALL, b"\0" * MEMORY_BYTES, b"\0" * (MEMORY_BYTES + 1), LARGE])
def test_a_content_is_read_whole_and_proven(rig, serve, content):
    server = serve(serving(content))
    assert rig.content(result_at(url_at(server), content)) == content
    assert len(server.requests) == 1


def test_fault_149_a_request_carries_the_path_and_nothing_of_ours(rig, serve):
    server = serve([head(200, {"Set-Cookie": "a=b; Path=/"}, len(SMALL)) + SMALL])
    rig.concurrency = 1
    rig.fetch(*[result_at(url_at(server, f"a/../b//{n}%2F"), id=str(n)) for n in range(3)])
    assert server.connections == 1
    for number, request in enumerate(server.requests):
        assert (request.method, request.target) == ("GET", f"/a/../b//{number}%2F?X-Amz-Signature={SECRET}")
        assert request.headers == {
            "host": server.host,
            "user-agent": "ricloud-connector",
            "accept": "*/*",
            "accept-encoding": "identity",
        }


def test_fault_071_an_empty_content_is_a_content(rig, serve):
    assert rig.content(result_at(url_at(serve(serving(b""))), b"")) == b""


def test_contents_come_in_the_order_in_which_they_are_done(rig, serve):
    server = serve(lambda request: [0.3, *reply(200, body=SMALL)] if "late" in request.target else reply(200, body=SMALL))
    names = ["late", "b", "c", "d"]
    outcomes = rig.fetch(*[result_at(url_at(server, name), id=name) for name in names])
    assert [outcome.result.id for outcome in outcomes if isinstance(outcome, Content)][-1] == "late"


def test_two_fetchers_in_one_folder_do_not_meet(rig, serve):
    server = serve(serving(LARGE))
    with rig.opened() as one, rig.opened() as other:
        pairs = [list(fetcher.fetch([result_at(url_at(server), LARGE)])) for fetcher in (one, other)]
    bodies = {outcome.body for outcomes in pairs for outcome in outcomes if isinstance(outcome, Content)}
    assert len(bodies) == 2


# -- broken transfers


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["memory", "file"])
@pytest.mark.parametrize("after", [0, 1, 0.5, -1])
@pytest.mark.parametrize("how", [RESET, CLOSE])
def test_fault_059_and_066_a_broken_transfer_goes_on_where_it_broke(rig, serve, content, after, how):
    sent = len(content) - 1 if after == -1 else int(after if after >= 1 else after * len(content))
    server = serve(breaking(content, sent, how), serving(content))
    assert rig.content(result_at(url_at(server), content)) == content
    assert len(server.requests) == 2
    assert server.requests[0].offset == 0
    assert "range" not in server.requests[0].headers
    # A reset may take bytes along that were on their way; a clean end never does.
    assert (server.requests[1].offset == sent) if how is CLOSE else (server.requests[1].offset <= sent)


def test_fault_062_a_chunked_answer_cut_short_is_resumed(rig, serve):
    start = head(200, {"Transfer-Encoding": "chunked"}) + b"400\r\n" + SMALL[:1024] + b"\r\n400\r\n" + SMALL[1024:1500]
    server = serve([start, CLOSE], serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert server.requests[1].offset == 1500


def test_fault_066_a_content_whose_last_byte_came_is_complete_whatever_follows(rig, serve):
    server = serve([head(200, {"Transfer-Encoding": "chunked"}) + b"800\r\n" + SMALL, CLOSE])
    assert rig.content(result_at(url_at(server))) == SMALL
    assert len(server.requests) == 1


def test_an_empty_content_is_not_complete_before_anybody_answered(rig, serve):
    rig.rejection(result_at(url_at(serve([CLOSE])), b""), "unreachable", transient=True)


def test_an_answer_without_a_length_ends_with_the_connection(rig, serve):
    assert rig.content(result_at(url_at(serve([head(200) + SMALL, CLOSE])))) == SMALL


def test_fault_063_a_range_answered_with_everything_starts_again(rig, serve):
    server = serve(breaking(LARGE, 1_500_000, CLOSE), reply(200, body=LARGE))
    assert rig.content(result_at(url_at(server), LARGE)) == LARGE
    assert [request.offset for request in server.requests] == [0, 1_500_000, 0]


@pytest.mark.parametrize("range_", ["bytes 0-2047/2048", "bytes 999-2047/2048", "bytes 1001-2047/2048", "garbage", None])
def test_fault_064_a_part_from_elsewhere_is_not_taken(rig, serve, range_):
    wrong = [head(206, {} if range_ is None else {"Content-Range": range_}, 1048) + b"x" * 1048]
    server = serve(breaking(SMALL, 1000, CLOSE), wrong, serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert [request.offset for request in server.requests] == [0, 1000, 0]


def test_fault_064_a_part_nobody_asked_for_is_not_the_whole(rig, serve):
    part = [head(206, {"Content-Range": "bytes 5-2047/2048"}, 2043) + SMALL[5:]]
    assert rig.content(result_at(url_at(serve(part, serving())))) == SMALL
    rejected = rig.rejection(result_at(url_at(serve(part))), "size_mismatch")
    assert rejected.actual_size == 2043


def test_a_part_of_another_version_is_found_out_and_read_again(rig, serve):
    def other(request: Request) -> Steps:
        return serving(bytes(reversed(SMALL)))(request)

    server = serve(breaking(SMALL, 1000, CLOSE), other, serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert [request.offset for request in server.requests] == [0, 1000, 0]


def test_fault_067_a_range_that_cannot_be_had_starts_again(rig, serve):
    server = serve(breaking(SMALL, 1000, CLOSE), reply(416, body=b"<Error/>"), serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert [request.offset for request in server.requests] == [0, 1000, 0]
    server = serve(reply(416, body=b"<Error/>"))
    rig.rejection(result_at(url_at(server)), "unreadable")
    assert len(server.requests) == 3


def test_a_large_content_may_break_often_as_long_as_it_comes_forward(rig, serve):
    content = LARGE * 5
    server = serve(breaking(content, 1_100_000, CLOSE))
    assert rig.content(result_at(url_at(server), content)) == content
    assert len(server.requests) == 10


@pytest.mark.parametrize("content", [SMALL, LARGE])
def test_a_content_that_comes_byte_by_byte_is_given_up(rig, serve, content):
    server = serve(breaking(content, 1, CLOSE))
    rig.rejection(result_at(url_at(server), content), "unreachable", transient=True)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "broken",
    [
        [RESET],
        [CLOSE],
        [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE],
        [b"HTTP/1.1 100 Continue\r\n\r\n", CLOSE],
        reply(500, body=b"x" * 9999),
        reply(502),
        reply(504),
        reply(408),
    ],
)
def test_fault_013_a_host_that_breaks_is_tried_again_and_not_for_ever(rig, serve, broken):
    assert rig.content(result_at(url_at(serve(broken, broken, serving())))) == SMALL
    server = serve(broken)
    rejected = rig.rejection(result_at(url_at(server)), "unreachable", transient=True)
    assert server.host in rejected.detail
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0\1\2\3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        head(200, {"Long": "x" * 300_000}, 0),
    ],
)
def test_fault_018_an_answer_that_is_not_http_is_a_rejection(rig, serve, garbage):
    (outcome,) = rig.fetch(result_at(url_at(serve([garbage, CLOSE]))))
    assert isinstance(outcome, Rejection)
    assert outcome.reason in ("unreadable", "unreachable")


# -- what the host says


@pytest.mark.parametrize("status", [400, 401, 403])
def test_fault_057_expired_signature_is_renewed_and_resumed(rig, serve, status):
    def give(request: Request) -> Steps:
        if "fresh" in request.target:
            return serving(LARGE)(request)
        if not request.offset:
            return breaking(LARGE, 1_500_000, CLOSE)(request)
        return reply(status, body=b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>" * 100)

    server = serve(give)
    rig.answers = lambda result_id: result_at(url_at(server, "fresh"), LARGE, id=result_id)
    assert rig.content(result_at(url_at(server), LARGE)) == LARGE
    assert rig.asked == ["a"]
    assert [request.offset for request in server.requests] == [0, 1_500_000, 1_500_000]


def test_fault_057_against_a_bucket_whose_signatures_expire(rig):
    moment = [1_800_000_000.0]
    with Emulator(results=0, clock=lambda: moment[0], behaviour=Behaviour(signature_lifetime_s=10)) as emulator:
        published = emulator.add_result(content=LARGE)
        with RicloudClient(emulator.url, Secret(emulator.token)) as client:
            (listed,) = client.list_results()
            assert isinstance(listed, Result)
            moment[0] += 60
            rig.policy, rig.answers = Policy(content_hosts=frozenset({emulator.contents_host})), client.retrieve_result
            assert rig.content(listed) == LARGE
        assert rig.asked == [published.id]


def test_fault_056_a_signature_that_seems_expired_is_tried_all_the_same(rig, serve):
    server = serve(serving())
    past = SignedUrl(url_at(server), NOON - timedelta(days=300))
    assert rig.content(result_at(None, signed_url=past)) == SMALL
    assert rig.asked == []


def test_fault_056_and_057_a_url_that_is_refused_for_good_is_given_up(rig, serve):
    server = serve(reply(403))
    rig.answers = lambda result_id: result_at(url_at(server), id=result_id)
    rig.rejection(result_at(url_at(server)), "access_denied")
    assert len(server.requests) == 3
    assert rig.asked == ["a", "a"]


@pytest.mark.parametrize("status", [404, 410])
def test_fault_058_what_is_gone_was_acknowledged_by_another_run(rig, serve, status):
    result = result_at(url_at(serve(reply(status, body=b"<Error/>"))))
    rig.answers = lambda result_id: result._replace(state="consumed")
    assert rig.fetch(result) == [Elsewhere(result)]


@pytest.mark.parametrize("status", [404, 410])
def test_fault_058_what_is_gone_is_gone(rig, serve, status):
    server = serve(reply(status))
    result = result_at(url_at(server))
    rig.answers = lambda result_id: result
    rig.rejection(result, "gone")
    rig.answers = lambda result_id: result._replace(state="expired")
    rig.rejection(result, "gone")

    def unknown(result_id: str) -> Result:
        raise ApiRefused("HTTP 404", status=status)

    rig.answers = unknown
    rig.rejection(result, "gone")


@pytest.mark.parametrize(
    "error",
    [ApiUnavailable("no"), TokenRefused("no", status=401), UntrustedAnswer("no"), ApiRefused("no", status=418)],
)
def test_a_result_that_cannot_be_read_again_says_nothing_of_the_result(rig, serve, error):
    def fail(result_id: str) -> Result:
        raise error

    rig.answers = fail
    rig.rejection(result_at(url_at(serve(reply(403)))), "unreachable", transient=True)


@pytest.mark.parametrize("change", [{"checksum": "0" * 32}, {"size": 1}, {"date_created": NOON + timedelta(seconds=1)}])
def test_fault_087_a_result_that_became_another_is_set_aside(rig, serve, change):
    result = result_at(url_at(serve(reply(403))))
    rig.answers = lambda result_id: result._replace(**change)
    rig.rejection(result, "changed")
    rig.answers = lambda result_id: Rejection(result_id, "malformed", "")
    rig.rejection(result, "changed")


@pytest.mark.parametrize("status", [429, 503])
def test_fault_076_a_host_that_asks_for_a_rest_gets_it(rig, serve, status):
    server = serve(reply(status, {"Retry-After": "17"}), serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert [seconds >= 17 for seconds in rig.sleeps] == [True]


@pytest.mark.parametrize("written", ["1000000000", "-5", "abc", "Fri, 20 Nov 2026 10:00:00 GMT", "0"])
def test_fault_076_rests_are_bounded(rig, serve, written):
    rig.rejection(result_at(url_at(serve(reply(503, {"Retry-After": written})))), "throttled", transient=True)
    assert 0.5 < sum(rig.sleeps) < 330


def test_fault_076_a_host_that_throttles_is_asked_less_at_once(rig, serve):
    busy, refused, lock = [0], [0], threading.Lock()

    def throttle(request: Request) -> Iterator[bytes | float]:
        with lock:
            busy[0] += 1
            allowed = busy[0] <= 3
            refused[0] += not allowed
        yield 0.01
        with lock:
            busy[0] -= 1
        yield from reply(200, body=SMALL) if allowed else reply(503, body=b"<Code>SlowDown</Code>")  # type: ignore[misc]

    server = serve(throttle)
    rig.concurrency = 32
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), id=str(n)) for n in range(100)])
    assert all(isinstance(outcome, Content) for outcome in outcomes)
    assert refused[0] > 0


@pytest.mark.parametrize("status", [201, 204, 205, 299, 304, 402, 405, 418, 451])
def test_any_other_answer_is_no_content(rig, serve, status):
    steps = [head(status)] if status in (204, 304) else reply(status, body=SMALL)
    rejected = rig.rejection(result_at(url_at(serve(steps))), "unreadable" if status != 304 else "redirected")
    assert f"answered {status}" in rejected.detail


# -- proof


def test_fault_080_a_wrong_md5_is_read_once_more_from_the_first_byte(rig, serve):
    wrong = SMALL[:-1] + b"?"
    server = serve(reply(200, body=wrong), serving())
    assert rig.content(result_at(url_at(server))) == SMALL
    assert [request.offset for request in server.requests] == [0, 0]
    server = serve(reply(200, body=wrong))
    rejected = rig.rejection(result_at(url_at(server)), "checksum_mismatch")
    assert (rejected.actual_checksum, rejected.actual_size) == (md5(wrong), len(wrong))
    assert len(server.requests) == 2


@pytest.mark.parametrize("listed", [len(SMALL) + 1, len(SMALL) - 1, 1])
def test_fault_081_a_wrong_size_is_set_aside_although_the_md5_is_right(rig, serve, listed):
    server = serve(reply(200, body=SMALL))
    rejected = rig.rejection(result_at(url_at(server), size=listed), "size_mismatch")
    assert rejected.size == listed
    assert rejected.actual_size == len(SMALL)
    assert len(server.requests) == 2


def test_fault_060_bytes_beyond_the_promised_length_do_not_count(rig, serve):
    assert rig.content(result_at(url_at(serve([head(200, {}, 5) + b"12345678", CLOSE])), b"12345")) == b"12345"
    rejected = rig.rejection(result_at(url_at(serve([head(200, {}, 5) + b"12345678", CLOSE])), b"12345678"), "size_mismatch")
    assert rejected.actual_size == 5


def counted(chunk: bytes, most: int, sent: list[int]) -> Callable[[Request], Steps]:
    """An answer without end, that counts what the client lets through."""

    def give(request: Request) -> Iterator[bytes | float]:
        yield head(200, {"Transfer-Encoding": "chunked"})
        for _ in range(most):
            yield f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
            sent.append(len(chunk))
            yield 0.0005

    return give


@pytest.mark.parametrize("listed", [0, 1, 5000, LARGE])
def test_fault_072_and_074_an_answer_without_end_is_left_at_the_first_byte_too_many(rig, serve, listed):
    content = listed if isinstance(listed, bytes) else b"\0" * listed
    sent: list[int] = []
    server = serve(counted(b"\0" * 65_536, 100_000, sent))
    rejected = rig.rejection(result_at(url_at(server), content), "size_mismatch")
    assert rejected.detail == f"more than the listed {len(content)} bytes came"
    assert len(server.requests) == 2
    assert sum(sent) < 2 * len(content) + 40_000_000  # what the kernel holds between us


def test_fault_073_a_content_above_the_limit_is_not_asked_for(rig, serve):
    server = serve(serving())
    rig.options["max_bytes"] = 10 * 1024**3 - 1
    rejected = rig.rejection(result_at(url_at(server), size=10 * 1024**3), "too_large")
    assert str(10 * 1024**3) in rejected.detail
    assert server.connections == 0


@pytest.mark.parametrize("size", [2**40, 2**63 - 1])
def test_fault_073_a_listed_size_that_is_absurd_breaks_nothing(rig, serve, size):
    rig.options["max_bytes"] = 2**63
    server = serve(serving())
    rig.rejection(result_at(url_at(server), size=size), "no_room", transient=True)
    assert server.connections == 0


def test_a_content_waits_until_the_disk_has_room_for_it_twice(rig, serve, monkeypatch):
    free = [2 * len(LARGE) - 1]
    monkeypatch.setattr(room, "shutil", SimpleNamespace(disk_usage=lambda path: shutil._ntuple_diskusage(0, 0, free[0])))
    server = serve(lambda request: serving(LARGE if "large" in request.target else SMALL)(request))
    large, small = result_at(url_at(server, "large"), LARGE, id="large"), result_at(url_at(server), id="small")
    by_id = {
        outcome.result_id if isinstance(outcome, Rejection) else outcome.result.id: outcome
        for outcome in rig.fetch(large, small)
    }
    assert isinstance(by_id["small"], Content)
    assert isinstance(by_id["large"], Rejection)
    assert (by_id["large"].reason, by_id["large"].transient) == ("no_room", True)
    rig.on_sleep = lambda: free.__setitem__(0, 2 * len(LARGE))
    assert rig.content(large) == LARGE


def test_those_in_flight_count_for_the_room(rig, serve, monkeypatch):
    usage = shutil._ntuple_diskusage(0, 0, 3 * len(LARGE))
    monkeypatch.setattr(room, "shutil", SimpleNamespace(disk_usage=lambda path: usage))
    busy, most = [0], [0]

    def slow(request: Request) -> Iterator[bytes | float]:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        yield 0.05
        busy[0] -= 1
        yield from reply(200, body=LARGE)  # type: ignore[misc]

    server = serve(slow)
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), LARGE, id=str(n)) for n in range(4)])
    assert all(isinstance(outcome, Content) for outcome in outcomes)
    assert most[0] == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-nonsense"])
def test_fault_068_stored_bytes_are_not_decoded(rig, serve, encoding):
    bomb = gzip.compress(b"\0" * 10_000_000)
    server = serve(reply(200, {"Content-Encoding": encoding, "Content-Type": "text/plain"}, bomb))
    assert rig.content(result_at(url_at(server), bomb)) == bomb
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_fault_069_a_host_that_decodes_unless_asked_for_gzip_is_asked_for_it(rig, serve, monkeypatch):
    monkeypatch.setattr(signed_url_module, "GCS_HOSTS", ("localhost",))
    packed = gzip.compress(SMALL)
    server = serve(
        lambda request: reply(
            200, {"Content-Encoding": "gzip"}, packed if request.headers["accept-encoding"] == "gzip" else SMALL
        )
    )
    rig.policy = Policy(content_hosts=frozenset({"localhost"}))
    assert rig.content(result_at(f"http://localhost:{server.port}/k", packed)) == packed
    assert signed_url_module.GCS_HOSTS == ("localhost",)


@pytest.mark.parametrize("host", ["storage.googleapis.com", "bucket.storage.googleapis.com"])
def test_fault_069_gcs_is_such_a_host(host):
    assert host.endswith(signed_url_module.GCS_HOSTS)
    assert not "storage.googleapis.com.evil.example".endswith(signed_url_module.GCS_HOSTS)


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_fault_146_a_redirect_is_followed_where_the_policy_allows_it(rig, serve, status):
    target = serve(serving())
    relative = serve(reply(status, {"Location": f"/elsewhere?s={SECRET}"}, b"x" * 99_999), serving())
    absolute = serve(reply(status, {"Location": url_at(target), "Set-Cookie": "a=b"}, b"x" * 99_999))
    assert rig.content(result_at(url_at(absolute))) == SMALL
    assert set(target.requests[0].headers) == {"host", "user-agent", "accept", "accept-encoding"}
    assert rig.content(result_at(url_at(relative))) == SMALL
    assert relative.requests[1].target == f"/elsewhere?s={SECRET}"


def test_fault_146_a_redirect_of_a_resumed_transfer_starts_again(rig, serve):
    target = serve(serving())
    server = serve(breaking(SMALL, 1000, CLOSE), reply(302, {"Location": url_at(target)}, b"moved"))
    assert rig.content(result_at(url_at(server))) == SMALL
    assert target.requests[0].offset == 0


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/?s=" + SECRET,
        "https://127.0.0.1/?s=" + SECRET,
        "https://[::1]/",
        "https://2130706433/",
        "http://bucket.example/",
        "file:///etc/passwd",
        "ftp://bucket.example/",
        "gopher://127.0.0.1:70/",
        "javascript:alert(1)",
        "//user@bucket.example/",
        "https://user:word@bucket.example/",
        "https://bucket.example\\@127.0.0.1/",
    ],
)
def test_fault_146_a_redirect_inside_is_refused(rig, serve, target):
    server = serve(reply(302, {"Location": target}))
    rejected = rig.fetch(result_at(url_at(server)))[0]
    assert isinstance(rejected, Rejection)
    assert rejected.reason in ("forbidden_url", "redirected")
    assert not rejected.transient
    assert len(server.requests) == 1


def test_fault_145_a_redirect_to_a_name_that_leads_inside_is_refused_at_the_socket(rig, serve):
    with HostileServer(serving()) as inside:
        server = serve(reply(302, {"Location": f"https://localhost:{inside.port}/?s={SECRET}"}))
        rig.rejection(result_at(url_at(server)), "forbidden_url")
        assert inside.connections == 0


def test_fault_146_redirects_are_followed_three_times(rig, serve):
    hops = [reply(302, {"Location": "/next"})] * 3
    assert rig.content(result_at(url_at(serve(*hops, serving())))) == SMALL
    server = serve(*hops, reply(302, {"Location": "/next"}))
    rig.rejection(result_at(url_at(server)), "redirected")
    assert len(server.requests) == 4
    rig.rejection(result_at(url_at(serve(reply(302)))), "redirected")


def test_fault_148_a_redirect_from_https_to_http_is_refused(rig, serve, tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path)
    monkeypatch.setattr(certifi, "where", lambda: str(bundle))
    plain = serve(serving())
    secure = serve(reply(302, {"Location": url_at(plain)}), tls=server_context(tmp_path, GOOD))
    rejected = rig.rejection(result_at(url_at(secure)), "forbidden_url")
    assert "from https to http" in rejected.detail
    assert plain.connections == 0


# -- TLS, proxies, passwords


def test_tls_works_at_all(rig, serve, tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path)
    monkeypatch.setattr(certifi, "where", lambda: str(bundle))
    assert rig.content(result_at(url_at(serve(serving(), tls=server_context(tmp_path, GOOD))))) == SMALL


@pytest.mark.parametrize("certificate", [EXPIRED, OTHER_HOST, None], ids=["expired", "other host", "nobody's"])
def test_fault_014_a_certificate_that_is_not_valid_ends_it_for_this_run(rig, serve, tmp_path, monkeypatch, certificate):
    if certificate is not None:
        bundle = write_bundle(tmp_path)
        monkeypatch.setattr(certifi, "where", lambda: str(bundle))
    server = serve(serving(), tls=server_context(tmp_path, certificate or GOOD))
    rejected = rig.rejection(result_at(url_at(server)), "untrusted_host", transient=True)
    assert "certificate" in rejected.detail
    assert (server.requests, server.connections) == ([], 1)


def test_fault_014_a_host_with_a_bad_certificate_is_not_asked_for_every_result(rig, serve, tmp_path):
    server = serve(serving(), tls=server_context(tmp_path, GOOD))
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), id=str(n)) for n in range(300)])
    assert all(isinstance(outcome, Rejection) and outcome.transient for outcome in outcomes)
    assert server.connections < 32 + 8 + 5 * 4


def test_fault_015_proxies_and_passwords_of_the_surroundings_are_ignored(rig, serve, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password netrc-word\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with HostileServer(reply(200)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        server = serve(serving())
        assert rig.content(result_at(url_at(server))) == SMALL
        assert proxy.connections == 0
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_of_the_settings_is_used_and_decides(rig):
    with HostileServer(serving()) as proxy:
        rig.proxy = proxy.url
        rig.policy = Policy(content_hosts=frozenset({"bucket.invalid"}))
        assert rig.content(result_at(f"http://bucket.invalid/key?s={SECRET}")) == SMALL
        assert proxy.requests[0].target == f"http://bucket.invalid/key?s={SECRET}"


# -- time


def test_fault_016_a_transfer_that_stalls_is_resumed(rig, serve):
    server = serve(breaking(SMALL, 1000, HANG), serving())
    started = time.monotonic()
    assert rig.content(result_at(url_at(server))) == SMALL
    assert time.monotonic() - started < 4
    assert server.requests[1].offset == 1000


def test_fault_017_a_transfer_that_drips_is_given_up(rig, serve, monkeypatch):
    monkeypatch.setattr(download_module, "MAX_TRIES", 2)
    server = serve(
        [head(200, {}, len(SMALL)), *dripping(SMALL, 0.05)],
        dripping(head(206, {"Content-Range": "bytes 0-1/2", "Long": "x" * 999}), 0.05),
    )
    started = time.monotonic()
    rig.rejection(result_at(url_at(server)), "unreachable", transient=True)
    assert time.monotonic() - started < 8


def test_one_that_stalls_holds_up_nobody(rig, serve):
    server = serve(lambda request: [HANG] if "stall" in request.target else reply(200, body=SMALL))
    rig.concurrency = 2
    results = [
        result_at(url_at(server, "stall"), id="stall"),
        *[result_at(url_at(server, str(n)), id=str(n)) for n in range(50)],
    ]
    started = time.monotonic()
    with rig.opened() as fetcher:
        outcomes = fetcher.fetch(results)
        for _ in range(50):
            assert isinstance(next(outcomes), Content)
        assert time.monotonic() - started < 0.9
        outcomes.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", [[CLOSE], [RESET], reply(500), reply(503)])
def test_a_host_that_is_down_is_not_asked_for_every_result(rig, serve, broken):
    server = serve(broken)
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), id=str(n)) for n in range(500)])
    assert all(isinstance(outcome, Rejection) and outcome.transient for outcome in outcomes)
    assert len(server.requests) < 32 + 8 + 5 * 4
    assert sum(rig.sleeps) < 60
    assert any("not tried" in outcome.detail for outcome in outcomes if isinstance(outcome, Rejection))


def test_a_host_where_nobody_listens_costs_a_moment(rig):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    rig.policy = Policy(content_hosts=frozenset({host}))
    started = time.monotonic()
    outcomes = rig.fetch(*[result_at(f"http://{host}/{n}", id=str(n)) for n in range(2000)])
    assert time.monotonic() - started < 5
    assert Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Rejection)) == {"unreachable": 2000}


def test_a_host_that_only_keeps_waiting_costs_some_time_outs_and_not_one_for_every_result(rig, serve, monkeypatch):
    monkeypatch.setattr(health, "DOWN_AFTER", 8)
    rig.concurrency = 16
    server = serve([0.3, CLOSE])
    rig.on_sleep = lambda: setattr(rig, "now", rig.now + health.PATIENCE_S)
    results = [result_at(url_at(server, str(n)), id=str(n)) for n in range(300)]
    with rig.opened() as fetcher:
        for most in (16 + 7 + 2 * 4, 4):  # the second batch finds the host down already
            before = len(server.requests)
            outcomes = list(fetcher.fetch(results))
            assert all(isinstance(outcome, Rejection) and outcome.transient for outcome in outcomes)
            assert len(server.requests) - before <= most


def test_a_host_that_comes_back_is_served_to_the_end(rig, serve):
    down = [True]
    server = serve(lambda request: [CLOSE] if down[0] else reply(200, body=SMALL))
    rig.on_sleep = lambda: down.__setitem__(0, len(rig.sleeps) < 3)
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), id=str(n)) for n in range(200)])
    assert all(isinstance(outcome, Content) for outcome in outcomes)


def test_a_host_that_is_down_does_not_stop_another(rig, serve):
    dead, alive = serve([CLOSE]), serve(serving())
    results = [
        result_at(url_at(host, str(n)), id=f"{name}{n}") for n in range(200) for name, host in (("d", dead), ("a", alive))
    ]
    outcomes = rig.fetch(*results)
    assert sum(isinstance(outcome, Content) for outcome in outcomes) == 200
    assert all(outcome.result_id.startswith("d") for outcome in outcomes if isinstance(outcome, Rejection))


def test_an_api_that_is_down_is_not_asked_for_every_result(rig, serve):
    server = serve(reply(403))
    outcomes = rig.fetch(*[result_at(url_at(server, str(n)), id=str(n)) for n in range(300)])
    assert all(isinstance(outcome, Rejection) and outcome.transient for outcome in outcomes)
    assert len(rig.asked) <= 2 * RENEWERS


def test_results_without_a_signed_url_are_read_together(rig, serve):
    server = serve(serving())

    def sign(result_id: str) -> Result:
        time.sleep(0.05)
        return result_at(url_at(server), id=result_id) if int(result_id) % 2 else result_at(None, id=result_id)

    rig.answers = sign
    started = time.monotonic()
    outcomes = rig.fetch(*[result_at(None, id=str(n)) for n in range(40)])
    assert time.monotonic() - started < 1.5
    assert sorted(rig.asked) == sorted(map(str, range(40)))
    assert Counter(type(outcome) for outcome in outcomes) == {Content: 20, Rejection: 20}
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Rejection)} == {"no_location"}


# -- bounds


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_fault_075_many_small_contents_take_few_connections_and_descriptors(rig, serve):
    busy, most, lock = [0], [0], threading.Lock()

    def give(request: Request) -> Steps:
        with lock:
            most[0] = max(most[0], busy[0])
        return reply(200, body=SMALL)

    server = serve(give)
    before, peak = count_descriptors(), 0
    with rig.opened() as fetcher:
        for number, outcome in enumerate(fetcher.fetch([result_at(url_at(server), id=str(n)) for n in range(3000)])):
            assert isinstance(outcome, Content)
            if number % 100 == 0:
                peak = max(peak, count_descriptors())
    assert server.connections <= 8
    assert peak - before < 8 * 2 + 30  # both ends of each connection are in this process


def test_fault_075_broken_files_are_closed_until_their_next_try(rig, serve):
    seen = []
    server = serve(
        lambda request: breaking(LARGE, 1_500_000, CLOSE)(request) if not request.offset else serving(LARGE)(request)
    )
    rig.on_sleep = lambda: seen.append(sum(1 for link in Path("/proc/self/fd").iterdir() if _points_into(link, rig.staging)))
    outcomes = rig.fetch(*[result_at(url_at(server), LARGE, id=str(n)) for n in range(20)])
    assert all(isinstance(outcome, Content) for outcome in outcomes)
    assert seen == [0]


def _points_into(link: Path, folder: Path) -> bool:
    try:
        return Path(os.readlink(link)).is_relative_to(folder)
    except OSError:
        return False


def test_what_came_of_broken_contents_is_kept_in_memory_within_bounds(rig, serve, monkeypatch):
    monkeypatch.setattr(fetch_module, "KEPT_BYTES", 5 * 1000)
    server = serve(lambda request: breaking(SMALL, 1000, CLOSE)(request) if not request.offset else serving()(request))
    outcomes = rig.fetch(*[result_at(url_at(server), id=str(n)) for n in range(20)])
    assert len(outcomes) == 20
    offsets = Counter(request.offset for request in server.requests)
    assert offsets[1000] >= 5
    assert offsets[0] >= 35  # those beyond the budget began again


def test_more_descriptors_than_select_knows_are_no_trouble(rig, serve):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this machine allows no more descriptors than select knows")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    rig.stall_s = 5
    server = serve([0.8, *reply(200, body=SMALL)])
    pipes = [os.pipe() for _ in range(600)]
    try:
        used = time.process_time()
        assert rig.content(result_at(url_at(server))) == SMALL
        assert time.process_time() - used < 0.3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for pair in pipes:
            for end in pair:
                os.close(end)


# -- leaving early, and the disk


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_leaves_no_file_and_no_busy_handle(rig, serve, taken):
    server = serve(
        lambda request: breaking(LARGE, 1_500_000, HANG)(request) if "hang" in request.target else serving(LARGE)(request)
    )
    results = [result_at(url_at(server, "hang" if n % 2 else "ok"), LARGE, id=str(n)) for n in range(20)]
    with rig.opened() as fetcher:
        outcomes = fetcher.fetch(results)
        mine = [outcome.body for outcome in itertools.islice(outcomes, taken) if isinstance(outcome, Content)]
        outcomes.close()  # type: ignore[attr-defined]
        assert set(rig.staging.iterdir()) == set(mine)
        again = list(fetcher.fetch([result_at(url_at(server, "ok"), LARGE, id=str(n)) for n in range(10)]))
        assert all(isinstance(outcome, Content) for outcome in again)


def test_fault_122_a_staging_folder_that_cannot_be_written_stops_it_all(rig, serve, tmp_path):
    server = serve(serving(LARGE))
    (tmp_path / "file").write_bytes(b"")
    for staging in (tmp_path / "file", tmp_path / "file" / "below"):
        rig.staging = staging
        with rig.opened() as fetcher, pytest.raises(LakeError, match="staging folder") as caught:
            list(fetcher.fetch([result_at(url_at(server), LARGE, id=str(n)) for n in range(5)]))
        assert_hides(caught.value, SECRET)


def test_a_full_disk_stops_it_all_and_leaves_nothing(rig, serve, monkeypatch):
    server = serve(serving(LARGE))

    def full(handle: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ricloud_connector.sink.os.write", full)
    with rig.opened() as fetcher, pytest.raises(LakeError, match="No space left") as caught:
        list(fetcher.fetch([result_at(url_at(server), LARGE, id=str(n)) for n in range(5)]))
    assert_hides(caught.value, SECRET)
    assert list(rig.staging.iterdir()) == []


def test_a_disk_that_takes_a_little_at_a_time_gets_it_all(rig, serve, monkeypatch):
    write = os.write
    monkeypatch.setattr("ricloud_connector.sink.os.write", lambda handle, data: write(handle, data[:70_000]))
    assert rig.content(result_at(url_at(serve(serving(LARGE))), LARGE)) == LARGE


def test_a_sink_keeps_to_itself(tmp_path):
    one, other = Sink(result_at(None, LARGE), tmp_path), Sink(result_at(None, LARGE), tmp_path)
    for sink in (one, other):
        assert sink.write(LARGE[:1_500_000])
        assert (sink.size, sink.in_memory) == (1_500_000, 0)
    assert len(list(tmp_path.iterdir())) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
    other.discard()
    one.rest()
    assert one.write(LARGE[1_500_000:])
    content = one.finish()
    one.discard()
    assert body_of(content) == LARGE
    assert list(tmp_path.iterdir()) == [content.body]
    small = Sink(result_at(None), tmp_path)
    assert small.write(SMALL[:5])
    small.restart()
    assert (small.size, small.in_memory) == (0, 0)
    assert small.write(SMALL)
    assert not small.write(b"!")
    assert small.fault is not None


def test_a_content_that_comes_in_single_bytes_takes_no_more_memory_than_its_length(tmp_path):
    data = os.urandom(100_000)
    sink = Sink(result_at(None, data), tmp_path)
    tracemalloc.start()
    try:
        assert all(sink.write(bytes([byte])) for byte in data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data)
    assert sink.in_memory == len(data)
    assert body_of(sink.finish()) == data


# -- secrets, and what pycurl would print


class BadSink(Sink):
    def write(self, chunk: bytes) -> bool:
        raise RuntimeError("a bug of ours")


def test_an_error_in_a_callback_is_raised_and_not_printed_and_is_over_then(serve, tmp_path, capfd):
    server = serve(serving())
    location = HttpLocation(url_at(server), server.host, trusted=True)
    store = SignedUrlStore(concurrency=4, stall_s=5)
    try:
        with pytest.raises(RuntimeError, match="a bug of ours") as caught:
            list(store.transfer([Transfer(location, BadSink(result_at(None), tmp_path)) for _ in range(4)]))
        assert_hides(caught.value, SECRET)
        ended = list(store.transfer([Transfer(location, Sink(result_at(None), tmp_path)) for _ in range(8)]))
        assert [fault for _, fault in ended] == [None] * 8
    finally:
        store.close()
    assert capfd.readouterr() == ("", "")


def test_a_listed_size_that_is_absurd_is_no_time_out_that_libcurl_refuses(serve, tmp_path):
    server = serve(serving())
    store = SignedUrlStore(concurrency=1)
    sink = Sink(result_at(None, size=2**63 - 1), tmp_path)
    ((_, fault),) = store.transfer([Transfer(HttpLocation(url_at(server), server.host, trusted=True), sink)])
    store.close()
    assert (fault, sink.size) == (None, len(SMALL))


def test_a_signal_ends_a_transfer_and_is_not_swallowed(rig, serve, capfd):
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    former = signal.signal(signal.SIGALRM, ring)
    try:
        sent: list[int] = []
        for steps in ([HANG], counted(b"\0" * 100, 100_000, sent)):
            server = serve(steps)
            rig.stall_s = 30
            with rig.opened() as fetcher:
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                started = time.monotonic()
                with pytest.raises(Alarm):
                    list(fetcher.fetch([result_at(url_at(server), b"\0" * 10_000_000)]))
                assert time.monotonic() - started < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert capfd.readouterr() == ("", "")


def test_no_descriptor_left_is_a_host_that_cannot_be_reached(rig, serve, monkeypatch, capfd):
    def none_left(*_: object) -> object:
        raise OSError(24, "Too many open files")

    server = serve(serving())
    monkeypatch.setattr(signed_url_module, "socket", SimpleNamespace(socket=none_left))
    rig.rejection(result_at(url_at(server)), "unreachable", transient=True)
    assert capfd.readouterr() == ("", "")


def test_fault_175_to_180_no_signature_is_logged_printed_or_shown(rig, serve, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    faults: Sequence[Reply] = [
        [RESET],
        reply(403),
        reply(404),
        reply(416),
        reply(503),
        reply(302, {"Location": f"https://127.0.0.1/?s={SECRET}"}),
        reply(302, {"Location": f"nonsense://{SECRET}"}),
        [head(200, {"Echo": SECRET}, 9999) + SECRET.encode(), CLOSE],
        [b"garbage " + SECRET.encode() + b"\r\n\r\n", CLOSE],
        reply(200, body=b"wrong"),
    ]
    for steps in faults:
        rig.fetch(result_at(url_at(serve(steps))))
    rig.fetch(result_at(f"https://no-such-host.invalid/?s={SECRET}"), result_at(f"https://localhost/?s={SECRET}"))
    rig.fetch(result_at(f"http://bucket.example/?s={SECRET}"), result_at(f"https://u:{SECRET}@b.example/"))
    assert SECRET not in caplog.text
    assert SECRET not in "".join(capfd.readouterr())


def test_a_transfer_says_nothing_of_its_url(tmp_path):
    transfer = Transfer(
        HttpLocation(f"https://b.example/?s={SECRET}", "b.example:443", trusted=False), Sink(result_at(None), tmp_path)
    )
    assert SECRET not in repr(transfer)
    assert Remedy.RESUME.value
