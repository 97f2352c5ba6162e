"""Acknowledgements: sent for what is proven, in batches, and confirmed. Talks to an emulator; reads back a real lake."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import httpx
import pyarrow as pa
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ricloud_connector.acknowledge import LISTED, PAUSES_S, Acknowledger, Confirmation, find_consumed
from ricloud_connector.client import RicloudClient
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.errors import ApiRefused, ApiUnavailable, TokenRefused
from ricloud_connector.model import CONSUMED, EXPIRED, Window
from ricloud_connector.readback import VerifiedCommit, read_back
from ricloud_connector.redact import Secret
from ricloud_connector.schemas import CONTENTS
from tests.lakes import DAY, MOMENT, commit, opened_lake, proven, small

Intercept = Callable[[Request], Awaitable[Response | None]]
WINDOW = Window.of_day(DAY)


class Listed(NamedTuple):
    """A result that the API calls available."""

    id: str
    wire_id: int | str
    checksum: str
    size: int
    date_created: datetime


def table_of(listed: Sequence[Listed]) -> pa.Table:
    """The same as the pipeline hands it over."""
    rows = [(item.id, isinstance(item.wire_id, int), item.checksum, item.size, item.date_created) for item in listed]
    return pa.Table.from_pylist([dict(zip(LISTED.names, row, strict=True)) for row in rows], schema=LISTED)


class Scene:
    """Results that are available at an emulator, stored in a lake and read back from it."""

    def __init__(self, emulator: Emulator, client: RicloudClient, root: Path) -> None:
        self.emulator, self.client = emulator, client
        self.pauses: list[float] = []
        self.waited = threading.Event()
        self._root = root
        self._parts = 0

    def store(self, *ids: int | str) -> tuple[VerifiedCommit, list[Listed]]:
        """Publish and store them, all in one part; the proof, and what the API lists of them."""
        contents, listed = small(*ids), []
        for number, (wire_id, (result_id, content)) in enumerate(zip(ids, contents.items(), strict=True)):
            created = MOMENT + timedelta(microseconds=self._parts * 1000 + number // 3)
            self.emulator.add_result(content=content, id=wire_id, date_created=created)
            fact = proven(contents)[result_id] if len(ids) < 50 else proven({result_id: content})[result_id]
            listed.append(Listed(result_id, wire_id, fact.checksum, fact.size, created))
        with opened_lake(self._root) as lake:
            commit(lake, contents)
            (proof,) = read_back(lake.scan(CONTENTS, DAY), [self._parts])
        self._parts += 1
        return proof, listed

    def stored(self, *ids: int | str) -> tuple[VerifiedCommit, pa.Table]:
        """The same, as the pipeline hands it over."""
        proof, listed = self.store(*ids)
        return proof, table_of(listed)

    def acknowledger(self, batch_ids: int = 500) -> Acknowledger:
        return Acknowledger(self.client, batch_ids=batch_ids, sleep=self.pauses.append)

    def settle(self, proof: VerifiedCommit, listed: list[Listed], batch_ids: int = 500) -> Confirmation:
        acknowledger = self.acknowledger(batch_ids)
        acknowledger.send(proof, table_of(listed))
        return acknowledger.confirm()

    @property
    def calls(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.emulator.requests]

    @property
    def posts(self) -> int:
        return self.calls.count(("POST", "/results/ack"))

    def available(self) -> set[str]:
        return {result.id for result in self.emulator.results() if result.state == "available"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with (
        Emulator(results=0, days=1, today=date(2026, 11, 20)) as emulator,
        RicloudClient(emulator.url, Secret(emulator.token), deadline_s=1.0) as client,
    ):
        yield Scene(emulator, client, tmp_path / "lake")


def on_acknowledge(answer: Callable[[list[Any]], Response | None]) -> Intercept:
    """Answers acknowledgements by their ids, as they are on the wire."""

    async def intercept(request: Request) -> Response | None:
        if request.url.path == "/results/ack" and "x-let-through" not in request.headers:
            return answer(json.loads(await request.body())["ids"])
        return None

    return intercept


def on_retrieve(answer: Callable[[str], Response | None]) -> Intercept:
    async def intercept(request: Request) -> Response | None:
        if request.method == "GET" and request.url.path.startswith("/results/"):
            return answer(request.url.path.removeprefix("/results/"))
        return None

    return intercept


class Broken(Response):
    """No answer at all: the connection is cut."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionResetError


def apply(scene: Scene, ids: list[Any]) -> None:
    """Let the emulator apply an acknowledgement, whatever the client is going to be told."""
    headers = {"Authorization": f"Token {scene.emulator.token}", "X-Let-Through": "1"}
    httpx.post(f"{scene.emulator.url}/results/ack", json={"ids": ids}, headers=headers, trust_env=False).raise_for_status()


def confirmed(confirmation: Confirmation) -> list[tuple[str, str]]:
    """Each id with how it was seen."""
    return [(name, how) for table, how in confirmation.confirmed for name in table.column("result_id").to_pylist()]


def refused(confirmation: Confirmation) -> list[str]:
    return confirmation.refused.column("result_id").to_pylist()


def ids_of(confirmation: Confirmation) -> set[str]:
    ids = [name for name, _ in confirmed(confirmation)]
    assert len(set(ids)) == len(ids)
    return set(ids)


def how(confirmation: Confirmation) -> set[str]:
    return {how for _, how in confirmed(confirmation)}


# What is sent


def test_what_is_proven_is_acknowledged_and_confirmed(scene: Scene) -> None:
    confirmation = scene.settle(*scene.store("a", "b", "c"))
    assert ids_of(confirmation) == {"a", "b", "c"}
    assert refused(confirmation) == []
    assert scene.available() == set()
    assert scene.posts == 1
    assert scene.pauses == []


def test_nothing_is_sent_for_nothing(scene: Scene) -> None:
    proof, _ = scene.store("a")
    confirmation = scene.settle(proof, [])
    assert (confirmed(confirmation), refused(confirmation)) == ([], [])
    assert scene.calls == []


def test_batches_are_of_500(scene: Scene) -> None:
    sizes = list[int]()
    scene.emulator.on_acknowledge = lambda ids: sizes.append(len(ids))
    proof, listed = scene.store(*(f"id{number}" for number in range(1100)))
    assert len(ids_of(scene.settle(proof, listed))) == 1100
    assert sorted(sizes) == [100, 500, 500]


def test_integer_ids_are_sent_back_as_integers(scene: Scene) -> None:
    sent = list[Any]()
    scene.emulator.intercept = on_acknowledge(sent.extend)
    wire_ids = [7, 10**29 + 1, "8", "007", "x", -1, 0]
    confirmation = scene.settle(*scene.store(*wire_ids))
    assert sent == wire_ids
    assert [type(it) for it in sent] == [type(it) for it in wire_ids]
    assert ids_of(confirmation) == {str(it) for it in wire_ids}


def test_fault_087_what_the_api_now_lists_with_another_md5_or_size_is_not_acknowledged(scene: Scene) -> None:
    proof, (a, b, c) = scene.store("a", "b", "c")
    changed = [
        Listed(a.id, a.wire_id, "0" * 32, a.size, a.date_created),
        Listed(b.id, b.wire_id, b.checksum, b.size + 1, b.date_created),
        Listed("d", "d", c.checksum, c.size, c.date_created),
        c,
    ]
    assert ids_of(scene.settle(proof, changed)) == {"c"}
    assert scene.emulator.acknowledged == ["c"]


def test_only_the_proof_of_the_very_part_counts(scene: Scene) -> None:
    first, listed_first = scene.store("a")
    second, listed_second = scene.store("b")
    acknowledger = scene.acknowledger()
    acknowledger.send(first, table_of(listed_second))
    acknowledger.send(second, table_of(listed_first))
    assert confirmed(acknowledger.confirm()) == []
    assert scene.emulator.acknowledged == []


def test_nothing_but_a_verified_commit_is_proof(scene: Scene) -> None:
    proof, listed = scene.store("a")
    looks_like_it: Any = SimpleNamespace(file=proof.file, proven=proof.proven)
    for forged in (looks_like_it, dict(proof.proven), None):
        with pytest.raises(TypeError, match="only what read_back has proven"):
            scene.acknowledger().send(forged, table_of(listed))
    assert scene.calls == []


def test_several_parts_are_settled_by_one_confirmation(scene: Scene) -> None:
    acknowledger = scene.acknowledger()
    for ids in (["a", "b"], ["c"], ["d"]):
        acknowledger.send(*scene.stored(*ids))
    assert ids_of(acknowledger.confirm()) == {"a", "b", "c", "d"}
    acknowledger.send(*scene.stored("e"))
    assert ids_of(acknowledger.confirm()) == {"e"}
    assert confirmed(acknowledger.confirm()) == []


# Batches that the server does not take


def test_fault_027_a_batch_that_is_too_long_is_halved_and_the_length_remembered(scene: Scene) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=413) if len(ids) > 30 else None)
    acknowledger = scene.acknowledger(batch_ids=200)
    acknowledger.send(*scene.stored(*(f"a{number}" for number in range(200))))
    learning = scene.posts
    acknowledger.send(*scene.stored(*(f"b{number}" for number in range(200))))
    assert scene.posts - learning == 8, "25 each, and none in vain"
    assert learning < 20
    assert len(ids_of(acknowledger.confirm())) == 400


def test_fault_027_batches_that_were_made_before_the_length_was_known_are_sent_in_parts(scene: Scene) -> None:
    """All of them, without being asked for again."""
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=413) if len(ids) > 10 else None)
    acknowledger = scene.acknowledger(batch_ids=30)
    acknowledger.send(*scene.stored(*(f"a{number}" for number in range(240))))
    assert scene.available() == set()
    assert len(scene.emulator.acknowledged) == 240


def test_so_many_refusals_and_nothing_accepted_end_the_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ricloud_connector.acknowledge.MAX_REFUSED", 2)
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=400))
    acknowledger = scene.acknowledger()
    acknowledger.send(*scene.stored("a"))
    with pytest.raises(ApiRefused):
        acknowledger.send(*scene.stored("b"))


def test_so_many_refusals_beside_one_that_was_accepted_are_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ricloud_connector.acknowledge.MAX_REFUSED", 2)
    scene.emulator.intercept = on_acknowledge(lambda ids: None if ids == ["a"] else Response(status_code=400))
    acknowledger = scene.acknowledger()
    for name in ("a", "b", "c", "d"):
        acknowledger.send(*scene.stored(name))
    confirmation = acknowledger.confirm()
    assert (ids_of(confirmation), refused(confirmation)) == ({"a"}, ["b", "c", "d"])


def test_a_server_that_says_400_to_long_batches_gets_all_of_them(scene: Scene) -> None:
    scene.emulator.behaviour = Behaviour(max_ack_batch=60)
    confirmation = scene.settle(*scene.store(*(f"{number}" for number in range(450))))
    assert len(ids_of(confirmation)) == 450
    assert scene.available() == set()


@pytest.mark.parametrize("bad", [{"17"}, {"0", "1"}, {"99"}, {"3", "50", "51", "98"}])
def test_fault_023_ids_that_the_server_will_not_take_are_found_and_named_and_the_others_acknowledged(
    scene: Scene, bad: set[str]
) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=400) if bad & set(ids) else None)
    confirmation = scene.settle(*scene.store(*map(str, range(100))))
    assert set(refused(confirmation)) == bad
    assert ids_of(confirmation) == {str(number) for number in range(100)} - bad
    assert scene.posts < 2 + 14 * len(bad), "bisected, and not sent again"
    assert scene.pauses == []


def test_a_refused_id_that_is_not_available_any_more_is_no_fault(scene: Scene) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=400) if "b" in ids else None)
    proof, listed = scene.store("a", "b", "c")
    apply(scene, ["b"])
    confirmation = scene.settle(proof, listed)
    assert ids_of(confirmation) == {"a", "b", "c"}
    assert refused(confirmation) == []


def test_a_server_that_refuses_every_id_is_not_asked_100_000_times(scene: Scene) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=400))
    acknowledger = scene.acknowledger()
    with pytest.raises(ApiRefused, match="400"):
        acknowledger.send(*scene.stored(*map(str, range(1000))))
    assert scene.posts < 400
    assert len(scene.available()) == 1000


@pytest.mark.parametrize(("status", "error"), [(401, TokenRefused), (403, TokenRefused), (404, ApiRefused), (405, ApiRefused)])
def test_any_other_refusal_stops_at_once(scene: Scene, status: int, error: type[Exception]) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=status))
    acknowledger = scene.acknowledger(batch_ids=10)
    with pytest.raises(error):
        acknowledger.send(*scene.stored(*map(str, range(100))))
    assert scene.posts <= 4, "those that were on their way"


# Replies that are lost or lie


def test_fault_025_a_reply_that_is_lost_is_asked_for_again(scene: Scene) -> None:
    lost = list[Any]()

    def lose(ids: list[Any]) -> Response | None:
        if lost:
            return None
        lost.extend(ids)
        return Broken()

    scene.emulator.intercept = on_acknowledge(lose)
    confirmation = scene.settle(*scene.store("a", "b"))
    assert ids_of(confirmation) == {"a", "b"} == set(lost)
    assert scene.posts == 2


@pytest.mark.parametrize(
    ("answer", "count"), [(Broken(), 3), (Response(status_code=500), 3), (Broken(), 30)], ids=["cut", "500", "cut, many"]
)
def test_fault_026_what_was_applied_although_the_api_never_said_so_is_no_error(
    scene: Scene, answer: Response, count: int
) -> None:
    """Every reply is lost, until the deadline: a look at what is available tells that all is well."""

    def lose(ids: list[Any]) -> Response:
        apply(scene, ids)
        return answer

    async def in_thread(request: Request) -> Response | None:
        if request.url.path == "/results/ack" and "x-let-through" not in request.headers:
            return await asyncio.to_thread(lose, json.loads(await request.body())["ids"])
        return None

    scene.emulator.intercept = in_thread
    acknowledger = scene.acknowledger()
    acknowledger.send(*scene.stored(*map(str, range(count))))
    confirmation = acknowledger.confirm()
    assert ids_of(confirmation) == set(map(str, range(count)))
    scene.emulator.intercept = None
    acknowledger.send(*scene.stored("later"))
    assert ids_of(acknowledger.confirm()) == {"later"}, "one day without answers is not held against the next"


def test_an_api_that_does_not_answer_is_not_asked_for_every_batch(scene: Scene) -> None:
    scene.emulator.intercept = on_acknowledge(lambda ids: Response(status_code=503))
    acknowledger = scene.acknowledger(batch_ids=10)
    started = time.monotonic()
    acknowledger.send(*scene.stored(*map(str, range(200))))
    before = scene.posts
    acknowledger.send(*scene.stored("more"))
    assert scene.posts == before
    with pytest.raises(ApiUnavailable):
        acknowledger.confirm()
    assert time.monotonic() - started < 10
    assert scene.emulator.acknowledged == []


@pytest.mark.parametrize(
    "answer",
    [
        Response("{}", media_type="application/json"),
        JSONResponse({"ids": []}),
        JSONResponse([1, 2]),
        Response("<html>Sign in</html>", media_type="text/html"),
        Response(b"", status_code=204),
    ],
    ids=["object", "no ids", "list", "html", "204"],
)
@pytest.mark.parametrize("count", [4, 40])
def test_faults_021_and_022_a_200_proves_nothing_whatever_its_body_says(scene: Scene, answer: Response, count: int) -> None:
    """The first call is applied for half of its ids only: the look afterwards tells, and the rest is sent again."""
    ids = [f"id{number}" for number in range(count)]
    calls = list[list[Any]]()

    async def intercept(request: Request) -> Response | None:
        if request.url.path != "/results/ack" or "x-let-through" in request.headers:
            return None
        calls.append(json.loads(await request.body())["ids"])
        if len(calls) > 1:
            return None
        await asyncio.to_thread(apply, scene, calls[0][::2])
        return answer

    scene.emulator.intercept = intercept
    confirmation = scene.settle(*scene.store(*ids))
    assert ids_of(confirmation) == set(ids)
    assert calls == [ids, ids[1::2]]
    assert scene.pauses == [PAUSES_S[0]]


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("dropped", [1, 3])
def test_what_is_still_available_is_sent_again_up_to_three_times(scene: Scene, count: int, dropped: int) -> None:
    scene.emulator.behaviour = Behaviour(dropped_acknowledgements=dropped)
    confirmation = scene.settle(*scene.store(*map(str, range(count))))
    assert len(ids_of(confirmation)) == count
    assert scene.posts == dropped + 1
    assert scene.pauses == list(PAUSES_S[:dropped])


@pytest.mark.parametrize("count", [3, 30])
def test_what_is_still_available_after_four_sends_is_named(scene: Scene, count: int) -> None:
    scene.emulator.behaviour = Behaviour(dropped_acknowledgements=1000)
    confirmation = scene.settle(*scene.store(*map(str, range(count))))
    assert confirmed(confirmation) == []
    assert set(refused(confirmation)) == set(map(str, range(count)))
    assert Counter(scene.emulator.acknowledged) == dict.fromkeys(map(str, range(count)), 4)


# How it is confirmed


def test_up_to_20_are_read_one_by_one(scene: Scene) -> None:
    confirmation = scene.settle(*scene.store(*map(str, range(20))))
    assert how(confirmation) == {"result"}
    assert sorted(path for method, path in scene.calls if method == "GET") == sorted(f"/results/{it}" for it in range(20))


def test_more_than_20_are_looked_for_in_one_listing(scene: Scene) -> None:
    confirmation = scene.settle(*scene.store(*map(str, range(21))))
    assert how(confirmation) == {"listing"}
    assert [path for method, path in scene.calls if method == "GET"] == ["/results"]


@pytest.mark.parametrize("date_filter", ["apply", "ignore", "reject"])
def test_the_listing_that_confirms_is_complete_whatever_the_server_does_with_the_filter(scene: Scene, date_filter: Any) -> None:
    """There are others, older and younger, and as young as the youngest."""
    for number in range(1000):
        scene.emulator.add_result(content=b"", date_created=MOMENT - timedelta(hours=16) + timedelta(minutes=2 * number))
    proof, listed = scene.store(*map(str, range(30)))
    scene.emulator.behaviour = Behaviour(date_filter=date_filter, dropped_acknowledgements=1)
    confirmation = scene.settle(proof, listed)
    assert ids_of(confirmation) == set(map(str, range(30)))
    assert scene.posts == 2


def test_the_listing_that_confirms_is_of_the_time_of_what_was_sent_alone(scene: Scene) -> None:
    """To the second, as the API may take no finer one."""
    proof, listed = scene.store(*map(str, range(30)))
    listed[-1] = listed[-1]._replace(date_created=MOMENT.replace(second=40, microsecond=999_999))
    assert len(ids_of(scene.settle(proof, listed))) == 30
    (asked,) = (parse_qs(request.query) for request in scene.emulator.requests if request.method == "GET")
    assert datetime.fromisoformat(asked["date_created__gte"][0]) == MOMENT.replace(microsecond=0)
    assert datetime.fromisoformat(asked["date_created__lt"][0]) == MOMENT.replace(second=41, microsecond=0)


def test_a_token_that_is_refused_while_it_looks_ends_the_run(scene: Scene) -> None:
    proof, listed = scene.store("a", "b")
    scene.emulator.intercept = on_retrieve(lambda _: Response(status_code=401))
    acknowledger = scene.acknowledger()
    acknowledger.send(proof, table_of(listed))
    with pytest.raises(TokenRefused):
        acknowledger.confirm()


@pytest.mark.parametrize("status", [404, 410, 400, 405])
def test_a_result_that_cannot_be_read_any_more_is_looked_for_in_the_listing(scene: Scene, status: int) -> None:
    """Once acknowledged it may be deleted, which is a 404, and so is a server that has no such path."""
    proof, listed = scene.store("a", "b", "c")
    scene.emulator.intercept = on_retrieve(lambda it: Response(status_code=status) if it in ("b", "c") else None)
    confirmation = scene.settle(proof, listed)
    assert ids_of(confirmation) == {"a", "b", "c"}
    assert how(confirmation) == {"listing"}


def test_a_404_does_not_stand_for_an_acknowledgement_that_was_not_applied(scene: Scene) -> None:
    proof, listed = scene.store("a", "b")
    scene.emulator.behaviour = Behaviour(dropped_acknowledgements=1000)
    scene.emulator.intercept = on_retrieve(lambda it: Response(status_code=404))
    confirmation = scene.settle(proof, listed)
    assert set(refused(confirmation)) == {"a", "b"}
    assert confirmed(confirmation) == []


def test_ids_that_no_url_can_carry_are_looked_for_in_the_listing(scene: Scene) -> None:
    confirmation = scene.settle(*scene.store("..", ".", "a/b", "a?b#c", "%2e%2e"))
    assert ids_of(confirmation) == {"..", ".", "a/b", "a?b#c", "%2e%2e"}
    assert how(confirmation) == {"listing"}


@pytest.mark.parametrize("state", ["available", "pending", "AVAILABLE", "", None, 1])
def test_a_state_that_is_not_known_to_follow_an_acknowledgement_confirms_none(scene: Scene, state: object) -> None:
    proof, listed = scene.store("a", "b")
    body = {"id": "b", "state": state, "date_created": "2026-11-20T10:15:30Z"}
    scene.emulator.intercept = on_retrieve(lambda it: JSONResponse(body) if it == "b" else None)
    confirmation = scene.settle(proof, listed)
    assert ids_of(confirmation) == {"a"}
    assert refused(confirmation) == ["b"]


@pytest.mark.parametrize("state", ["consumed", "expired"])
def test_states_that_follow_an_acknowledgement_confirm_it(scene: Scene, state: str) -> None:
    proof, listed = scene.store("a")
    body = {"id": "a", "state": state, "date_created": "2026-11-20T10:15:30Z"}
    scene.emulator.intercept = on_retrieve(lambda it: JSONResponse(body))
    assert ids_of(scene.settle(proof, listed)) == {"a"}


def test_an_answer_that_cannot_be_made_out_confirms_nothing(scene: Scene) -> None:
    proof, listed = scene.store("a")
    scene.emulator.intercept = on_retrieve(
        lambda it: JSONResponse({"id": "a", "state": "consumed", "date_created": "yesterday"})
    )
    confirmation = scene.settle(proof, listed)
    assert refused(confirmation) == ["a"]


def test_an_item_of_the_listing_that_cannot_be_made_out_counts_as_available(scene: Scene) -> None:
    """It is sent again, and then read by itself."""
    proof, listed = scene.store(*map(str, range(30)))
    item = {"id": "7", "state": "available", "date_created": "2026-11-20T10:15:30.123458Z", "identifier": "\ud800"}

    async def intercept(request: Request) -> Response | None:
        if request.method == "GET" and request.url.path == "/results":
            return Response(json.dumps({"data": [item], "has_more": False}))
        return None

    scene.emulator.intercept = intercept
    confirmation = scene.settle(proof, listed)
    assert {name: how for name, how in confirmed(confirmation) if how == "result"} == {"7": "result"}
    assert len(ids_of(confirmation)) == 30
    assert Counter(scene.emulator.acknowledged)["7"] == 2


def test_the_states_of_a_listing_say_which_are_still_available(scene: Scene) -> None:
    """Also where the server was asked for what is available and lists everything."""
    proof, listed = scene.store(*map(str, range(30)))
    states = [CONSUMED, EXPIRED, "available"]
    items = [
        {"id": item.id, "state": states[number % 3], "date_created": "2026-11-20T10:15:30.123458Z"}
        for number, item in enumerate(listed)
    ]

    async def intercept(request: Request) -> Response | None:
        if request.method == "GET" and request.url.path == "/results":
            return JSONResponse({"data": items, "has_more": False})
        return None

    scene.emulator.intercept = intercept
    confirmation = scene.settle(proof, listed)
    said = dict(confirmed(confirmation))
    assert said == {item.id: "result" if number % 3 == 2 else "listing" for number, item in enumerate(listed)}


# When a run is cancelled


def test_fault_104_nothing_is_sent_after_a_cancel(scene: Scene) -> None:
    proof, listed = scene.store("a", "b")
    acknowledger = scene.acknowledger()
    acknowledger.cancel()
    acknowledger.send(proof, table_of(listed))
    confirmation = acknowledger.confirm()
    assert (confirmed(confirmation), refused(confirmation)) == ([], [item.id for item in listed])
    assert scene.posts == 0
    assert scene.available() == {"a", "b"}


def test_fault_104_of_many_batches_only_those_on_their_way_are_sent(scene: Scene) -> None:
    proof, listed = scene.store(*map(str, range(40)))
    acknowledger = scene.acknowledger(batch_ids=1)
    scene.emulator.on_acknowledge = lambda ids: acknowledger.cancel()
    acknowledger.send(proof, table_of(listed))
    assert 1 <= scene.posts <= 8, "four at a time, and what they took up before the first was answered"
    assert len(scene.available()) == 40 - scene.posts


# Speed


def test_calls_are_on_their_way_a_few_at_a_time(scene: Scene) -> None:
    """40 calls of 50 ms in less than the 2 s that they take one by one, and never more than four at once."""
    lock, now_open, most = threading.Lock(), 0, 0

    def watch(ids: list[str]) -> None:
        nonlocal now_open, most
        with lock:
            now_open += 1
            most = max(most, now_open)
        time.sleep(0.05)
        with lock:
            now_open -= 1

    scene.emulator.on_acknowledge = watch
    proof, listed = scene.store(*map(str, range(400)))
    started = time.monotonic()
    acknowledger = scene.acknowledger(batch_ids=10)
    acknowledger.send(proof, table_of(listed))
    assert time.monotonic() - started < 1.5
    assert most == 4
    assert len(ids_of(acknowledger.confirm())) == 400


def test_some_results_are_read_at_once_and_not_all(scene: Scene) -> None:
    now_open, most = 0, 0

    async def intercept(request: Request) -> Response | None:
        nonlocal now_open, most
        if request.method == "GET":
            now_open += 1
            most = max(most, now_open)
            await asyncio.sleep(0.05)
            now_open -= 1
        return None

    scene.emulator.intercept = intercept
    assert len(ids_of(scene.settle(*scene.store(*map(str, range(20)))))) == 20
    assert most == 8


# What an earlier run acknowledged and could not write down


@pytest.mark.parametrize("count", [0, 1, 20, 21, 60])
def test_fault_103_what_is_consumed_is_found_among_stored_results(scene: Scene, count: int) -> None:
    for number in range(count):
        scene.emulator.add_result(content=b"", id=f"c{number}", date_created=MOMENT, state="consumed")
        scene.emulator.add_result(content=b"", id=f"e{number}", date_created=MOMENT, state="expired")
    scene.emulator.add_result(content=b"", id="other", date_created=MOMENT, state="consumed")
    scene.emulator.add_result(content=b"", id="available", date_created=MOMENT)
    ids = [f"c{number}" for number in range(count)]
    assert sorted(find_consumed(scene.client, WINDOW, ids)) == sorted(ids)
    gets = [path for method, path in scene.calls if method == "GET"]
    assert gets == (["/results"] if count > 20 else gets)
    assert len(gets) == (1 if count > 20 else count)


def test_what_is_not_consumed_is_not_found(scene: Scene) -> None:
    for state in ("expired", "available", "consumed"):
        scene.emulator.add_result(content=b"", id=state, date_created=MOMENT, state=state)
    asked = ["expired", "available", "consumed", "unknown", ".."]
    assert list(find_consumed(scene.client, WINDOW, asked)) == ["consumed"]
    many = [*asked, *map(str, range(30))]
    assert list(find_consumed(scene.client, WINDOW, many)) == ["consumed"]
    assert list(find_consumed(scene.client, Window.of_day(DAY + timedelta(days=1)), many)) == [], "of that window"


def test_a_server_that_lists_other_states_as_consumed_is_not_believed(scene: Scene) -> None:
    items = [
        {"id": str(it), "state": state, "date_created": "2026-11-20T10:15:30Z"}
        for it, state in enumerate(["available", CONSUMED])
    ]

    async def intercept(request: Request) -> Response | None:
        return JSONResponse({"data": items, "has_more": False})

    scene.emulator.intercept = intercept
    assert list(find_consumed(scene.client, WINDOW, list(map(str, range(30))))) == ["1"]
