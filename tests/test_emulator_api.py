"""The emulated results API: paging, filters, acknowledgements, behaviours. Talks to an emulator over loopback."""

import ssl
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.emulator.behaviour import Order
from ricloud_connector.emulator.data import make_content
from ricloud_connector.emulator.model import NOTHING, Draft, State, format_moment, microseconds_of
from ricloud_connector.emulator.query import BadQueryError, Query, Span, parse_query
from ricloud_connector.emulator.state import Entry, ResultStore

TODAY = date(2026, 11, 20)
Item = dict[str, object]
# Nothing here speaks TLS, but httpx loads the system's certificates for each client that is given none.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    """For tests that only read."""
    with Emulator(results=237, days=3, today=TODAY, large_bytes=None) as emulator:
        yield emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """For tests that change something."""
    with Emulator(results=60, days=3, today=TODAY, large_bytes=None) as emulator:
        yield emulator


def connect(emulator: Emulator) -> httpx.Client:
    headers = {"Authorization": f"Token {emulator.token}"}
    return httpx.Client(base_url=emulator.url, headers=headers, verify=TLS, trust_env=False)


def walk(emulator: Emulator, limit: int = 1000, **filters: str) -> list[str]:
    """Every id of a listing, page by page."""
    ids: list[str] = []
    cursor: dict[str, str] = {}
    with connect(emulator) as api:
        while True:
            response = api.get("/results", params={"limit": str(limit), **filters, **cursor})
            page = response.raise_for_status().json()
            assert len(page["data"]) <= limit
            assert page["url"] == "/results"
            ids += [str(item["id"]) for item in page["data"]]
            if not page["has_more"]:
                assert page["total_count"] == len(ids)
                return ids
            assert len(page["data"]) == limit
            cursor = {"after_id": ids[-1]}


def ids_of(emulator: Emulator, state: State = "available") -> list[str]:
    return [result.id for result in emulator.results() if result.state == state]


@pytest.mark.parametrize("limit", [1, 7, 10, 79, 236, 237, 238, 1000])
def test_pages_of_any_size_make_up_the_whole_list(shared: Emulator, limit: int) -> None:
    assert walk(shared, limit) == ids_of(shared)


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
def test_every_order_pages_completely(order: Order) -> None:
    with Emulator(results=60, today=TODAY, behaviour=Behaviour(order=order)) as emulator:
        listed = walk(emulator, 7)
        newest = ids_of(emulator)
        assert sorted(listed) == sorted(newest)
        assert (listed == newest) == (order == "newest")
        assert (listed == newest[::-1]) == (order == "oldest")
        assert sorted(walk(emulator, 7, date_created__gte="2026-11-20T00:00:00Z")) == sorted(
            result.id for result in emulator.results() if result.state == "available" and result.date_created.date() == TODAY
        )


def test_order_can_change_while_it_runs(emulator: Emulator) -> None:
    emulator.behaviour = Behaviour(order="oldest")
    assert walk(emulator, 7) == ids_of(emulator)[::-1]
    added = emulator.add_result(content=b"x", date_created="2026-01-01T00:00:00Z")
    assert walk(emulator, 7)[0] == added.id


def test_ten_results_come_where_no_limit_is_given(shared: Emulator) -> None:
    with connect(shared) as api:
        page = api.get("/results").json()
    assert [str(item["id"]) for item in page["data"]] == ids_of(shared)[:10]
    assert page["has_more"] is True
    assert page["total_count"] == 237


def test_before_id_stops_the_listing(shared: Emulator) -> None:
    ids = ids_of(shared)
    with connect(shared) as api:
        page = api.get("/results", params={"after_id": ids[4], "before_id": ids[20], "limit": 1000}).json()
        assert [str(item["id"]) for item in page["data"]] == ids[5:20]
        assert page["has_more"] is False
        page = api.get("/results", params={"after_id": ids[20], "before_id": ids[4]}).json()
        assert page["data"] == []
        assert page["has_more"] is False


def test_result_has_the_documented_fields(shared: Emulator) -> None:
    with connect(shared) as api:
        listed = api.get("/results", params={"limit": 1}).json()["data"][0]
        alone = api.get(f"/results/{listed['id']}").json()
    assert alone == listed
    assert {
        *("id", "resource", "organisation", "poll", "task", "identifier", "url", "type", "checksum", "size"),
        *("signed_url", "state", "date_created", "date_consumed", "date_deleted"),
    } <= listed.keys()
    assert listed["resource"] == "result"
    assert listed["state"] == "available"
    assert listed["url"].startswith("s3://ricloud-emulator/")
    assert listed["signed_url"]["url"].startswith(f"http://{shared.contents_host}/ricloud-emulator/")


@pytest.mark.parametrize("authorization", [None, "Token wrong", "Token", "Bearer {}", "token {}", "{}", "Token {}x"])
def test_no_answer_without_the_token(shared: Emulator, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.format(shared.token)}
    for path in ("/results", "/results/x", "/nowhere"):
        response = httpx.get(shared.url + path, headers=headers, verify=TLS, trust_env=False)
        assert response.status_code == 401
        assert response.json().keys() == {"error", "message"}
        assert shared.token not in response.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "-1"),
        ("limit", "ten"),
        ("limit", ""),
        ("limit", "1.0"),
        ("limit", "٣"),
        ("state", "new"),
        ("state", ""),
        ("state", "available,consumed"),
        ("after_id", "nobody"),
        ("before_id", "nobody"),
        ("after_id", ""),
        ("date_created__gte", "yesterday"),
        ("date_created__lt", "2026-11-20"),
        ("date_created__lt", "2026-13-20T00:00:00Z"),
        ("date_created", "2026-11-20T00:00:00Z"),
        ("date_created__ne", "2026-11-20T00:00:00Z"),
        ("offset", "3"),
        ("LIMIT", "3"),
    ],
)
def test_refused_query_names_its_parameter(shared: Emulator, name: str, value: str) -> None:
    with connect(shared) as api:
        response = api.get("/results", params={"limit": "5", name: value})
    assert response.status_code == 400
    assert response.json()["params"].keys() == {name}
    assert {"error", "message"} < response.json().keys()


@pytest.mark.parametrize("name", ["poll", "task", "identifier", "checksum"])
def test_equality_filters(shared: Emulator, name: str) -> None:
    with connect(shared) as api:
        items: list[Item] = api.get("/results", params={"limit": 1000}).json()["data"]
    values = {str(item[name]) for item in items if item[name] is not None}
    for value in sorted(values)[:12]:
        expected = [str(item["id"]) for item in items if str(item[name]) == value]
        assert expected
        assert walk(shared, 2, **{name: value}) == expected
    assert walk(shared, 10, **{name: "nothing has this"}) == []
    assert walk(shared, 10, **{name: "None"}) == []


@pytest.mark.parametrize("state", ["available", "consumed", "expired"])
def test_state_filter(shared: Emulator, state: State) -> None:
    assert walk(shared, 5, state=state) == ids_of(shared, state)
    assert len(ids_of(shared, state)) == (237 if state == "available" else 23)


def test_windows_are_exact_to_the_microsecond(shared: Emulator) -> None:
    results = [result for result in shared.results() if result.state == "available"]
    middle = results[100].date_created
    text = format_moment(middle)
    expected = {
        "gte": [result.id for result in results if result.date_created >= middle],
        "gt": [result.id for result in results if result.date_created > middle],
        "lt": [result.id for result in results if result.date_created < middle],
        "lte": [result.id for result in results if result.date_created <= middle],
    }
    for operator, ids in expected.items():
        assert walk(shared, 50, **{f"date_created__{operator}": text}) == ids
    day = [result.id for result in results if result.date_created.date() == date(2026, 11, 19)]
    assert day
    window = {"date_created__gte": "2026-11-19T00:00:00Z", "date_created__lt": "2026-11-20T01:00:00+01:00"}
    assert walk(shared, 10, **window) == day
    assert walk(shared, date_created__gte="2026-11-20T00:00:00", date_created__lt="2026-11-19T00:00:00") == []


def test_dates_of_consumption_and_deletion_can_be_filtered(shared: Emulator) -> None:
    with connect(shared) as api:
        for state, name in (("consumed", "date_consumed"), ("expired", "date_deleted")):
            items: list[Item] = api.get("/results", params={"limit": 1000, "state": state}).json()["data"]
            middle = sorted(str(item[name]) for item in items)[len(items) // 2]
            expected = [str(item["id"]) for item in items if str(item[name]) >= middle]
            assert 0 < len(expected) < len(items)
            assert walk(shared, 3, state=state, **{f"{name}__gte": middle}) == expected
    assert walk(shared, date_consumed__gte="2000-01-01T00:00:00Z") == []


def test_unknown_ids_paths_and_methods(shared: Emulator) -> None:
    with connect(shared) as api:
        for path in ("/results/nobody", "/", "/results/", "/result", "/results/a/b", "/results/a/ack/b"):
            assert api.get(path).status_code == 404, path
        assert api.post("/results/nobody/ack").status_code == 404
        for method, path in (("POST", "/results"), ("DELETE", "/results/x"), ("GET", "/results/x/ack")):
            response = api.request(method, path)
            assert response.status_code == 405
            assert response.json().keys() == {"error", "message"}


def test_ids_may_hold_anything(emulator: Emulator) -> None:
    for id in ("a/b", "a b", "ä?&#%2F", "ack", "..", 10**29, 2**64, 0, -5):
        emulator.add_result(content=b"x", id=id)
    with connect(emulator) as api:
        for escaped, id in (("a%2Fb", "a/b"), ("%C3%A4%3F%26%23%252F", "ä?&#%2F"), ("ack", "ack"), ("0", 0)):
            assert api.get(f"/results/{escaped}").json()["id"] == id
        assert f'"id": {10**29},' in api.get(f"/results/{10**29}").text
        assert api.get("/results", params={"after_id": "a/b"}).status_code == 200
        assert api.post("/results/ack", json={"ids": [10**29, "a/b", -5, str(2**64)]}).status_code == 200
    assert set(emulator.acknowledged) == {str(10**29), "a/b", "-5", str(2**64)}
    with pytest.raises(ValueError, match="there already"):
        emulator.add_result(content=b"y", id="0")


def test_acknowledging_one_answers_it_consumed(emulator: Emulator) -> None:
    before = datetime.now(UTC)
    first = ids_of(emulator)[0]
    with connect(emulator) as api:
        # The vendor's client sends the body `null`.
        answer = api.post(f"/results/{first}/ack", content=b"null").json()
        assert answer["state"] == "consumed"
        assert before <= datetime.fromisoformat(answer["date_consumed"]) <= datetime.now(UTC)
        assert api.get(f"/results/{first}").json() == answer
        again = api.post(f"/results/{first}/ack").json()
        assert again["date_consumed"] == answer["date_consumed"]
    assert first not in walk(emulator)
    assert first in walk(emulator, state="consumed")
    assert emulator.acknowledged == [first, first]


def test_batch_of_known_unknown_repeated_and_gone_ids_is_answered_200(emulator: Emulator) -> None:
    ids, expired = ids_of(emulator), ids_of(emulator, "expired")[0]
    batch = [ids[3], ids[1], "nobody", ids[3], expired]
    with connect(emulator) as api:
        assert api.post("/results/ack", json={"ids": batch}).status_code == 200
        assert api.post("/results/ack", json={"ids": [ids[1]]}).status_code == 200
        assert api.post("/results/ack", json={"ids": []}).status_code == 200
    assert emulator.acknowledged == [*batch, ids[1]]
    assert walk(emulator) == [id for id in ids if id not in batch]
    assert expired in walk(emulator, state="expired")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"ids": "x"}', b'{"ids": [1.5]}', b'{"ids": [true]}', b"[" * 99999, b"\xff"]
)
def test_malformed_acknowledgement_is_refused(shared: Emulator, body: bytes) -> None:
    with connect(shared) as api:
        response = api.post("/results/ack", content=body)
    assert response.status_code == 400
    assert response.json()["params"].keys() == {"ids"}


def test_batches_are_bounded() -> None:
    with Emulator(results=5, behaviour=Behaviour(max_ack_batch=2)) as emulator, connect(emulator) as api:
        ids = ids_of(emulator)
        assert api.post("/results/ack", json={"ids": ids[:3]}).status_code == 400
        assert emulator.acknowledged == []
        assert api.post("/results/ack", json={"ids": ids[:2]}).status_code == 200
        emulator.behaviour = Behaviour()
        assert api.post("/results/ack", json={"ids": ["x"] * 1001}).status_code == 400
        assert api.post("/results/ack", json={"ids": ["x"] * 1000}).status_code == 200


def test_cursor_outlives_its_acknowledgement(emulator: Emulator) -> None:
    ids = ids_of(emulator)
    with connect(emulator) as api:
        api.post("/results/ack", json={"ids": ids[:10]})
        page = api.get("/results", params={"after_id": ids[9], "limit": 5}).json()
        assert [str(item["id"]) for item in page["data"]] == ids[10:15]
        page = api.get("/results", params={"after_id": ids[4], "limit": 5}).json()
        assert [str(item["id"]) for item in page["data"]] == ids[10:15]


def test_result_published_meanwhile_does_not_move_the_pages(emulator: Emulator) -> None:
    ids = ids_of(emulator)
    emulator.add_result(content=b"new")
    with connect(emulator) as api:
        page = api.get("/results", params={"after_id": ids[9], "limit": 5}).json()
    assert [str(item["id"]) for item in page["data"]] == ids[10:15]


def test_date_filter_can_be_ignored_or_refused(emulator: Emulator) -> None:
    emulator.behaviour = Behaviour(date_filter="ignore")
    assert walk(emulator, date_created__gte="2030-01-01T00:00:00Z") == ids_of(emulator)
    emulator.behaviour = Behaviour(date_filter="reject")
    with connect(emulator) as api:
        response = api.get("/results", params={"date_created__gte": "2026-01-01T00:00:00Z", "limit": 5})
    assert response.status_code == 400
    assert response.json()["params"].keys() == {"date_created__gte"}


def test_dropped_acknowledgements_look_like_any_other(emulator: Emulator) -> None:
    emulator.behaviour = Behaviour(dropped_acknowledgements=2)
    first, second = ids_of(emulator)[:2]
    with connect(emulator) as api:
        assert api.post("/results/ack", json={"ids": [first]}).status_code == 200
        assert api.post(f"/results/{first}/ack").json()["state"] == "available"
        assert first in walk(emulator)
        assert api.post("/results/ack", json={"ids": [first, second]}).status_code == 200
    assert not {first, second} & set(walk(emulator))
    assert emulator.acknowledged == [first, first, first, second]


def test_acknowledged_contents_may_be_deleted(emulator: Emulator) -> None:
    emulator.behaviour = Behaviour(delete_acknowledged=True)
    with connect(emulator) as api:
        item = api.get("/results", params={"limit": 1}).json()["data"][0]
        assert httpx.get(item["signed_url"]["url"], verify=TLS, trust_env=False).status_code == 200
        answer = api.post(f"/results/{item['id']}/ack").json()
    assert answer["date_deleted"] == answer["date_consumed"]
    assert answer["signed_url"] is None
    assert httpx.get(item["signed_url"]["url"], verify=TLS, trust_env=False).status_code == 404
    gone = next(result for result in emulator.results() if result.id == str(item["id"]))
    assert not gone.path.exists()


def test_latency_delays_both_servers() -> None:
    with Emulator(results=1, behaviour=Behaviour(latency_s=0.1)) as emulator, connect(emulator) as api:
        response = api.get("/results")
        assert response.elapsed >= timedelta(seconds=0.1)
        url = response.json()["data"][0]["signed_url"]["url"]
        assert httpx.get(url, verify=TLS, trust_env=False).elapsed >= timedelta(seconds=0.1)


@pytest.mark.parametrize(
    "wrong", [{"order": "random"}, {"date_filter": "maybe"}, {"latency_s": -1}, {"dropped_acknowledgements": -1}]
)
def test_impossible_behaviour_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Behaviour(**wrong)  # type: ignore[arg-type]


def test_intercept_answers_instead_of_the_api(emulator: Emulator) -> None:
    def fail_once(request: Request) -> Response | None:
        emulator.intercept = None
        return JSONResponse({"error": "rate_limited", "message": request.url.path}, 429, {"Retry-After": "3"})

    async def pass_on(request: Request) -> Response | None:
        assert await request.body() == b'{"ids": ["x"]}'
        return None

    with connect(emulator) as api:
        emulator.intercept = fail_once
        refused = api.get("/results")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
        assert api.get("/results").status_code == 200
        emulator.intercept = pass_on
        assert api.post("/results/ack", content=b'{"ids": ["x"]}').status_code == 200
    assert emulator.acknowledged == ["x"]
    assert len(emulator.requests) == 3


def test_intercept_sees_both_servers_and_may_call_the_api_itself(emulator: Emulator) -> None:
    seen = []

    def look(request: Request) -> Response | None:
        seen.append(request.state.server)
        if len(seen) == 1:
            with connect(emulator) as api:
                assert api.get("/results").status_code == 200
        return None

    emulator.intercept = look
    with connect(emulator) as api:
        url = api.get("/results").json()["data"][0]["signed_url"]["url"]
    httpx.get(url, verify=TLS, trust_env=False)
    assert seen == ["api", "api", "contents"]


def test_hook_comes_before_an_acknowledgement_is_applied(emulator: Emulator) -> None:
    first = ids_of(emulator)[0]
    seen: list[list[str]] = []

    def look(ids: list[str]) -> None:
        seen.append(ids)
        assert first in walk(emulator)

    emulator.on_acknowledge = look
    with connect(emulator) as api:
        assert api.post("/results/ack", json={"ids": [first, 7]}).status_code == 200
    assert first not in walk(emulator)
    assert seen == [[first, "7"]]


def test_failed_hook_is_raised_at_stop_and_nothing_is_applied() -> None:
    def fail(ids: list[str]) -> None:
        pytest.fail(f"acknowledged too early: {ids}")

    emulator = Emulator(results=3, on_acknowledge=fail)
    emulator.start()
    first = ids_of(emulator)[0]
    with connect(emulator) as api:
        assert api.post("/results/ack", json={"ids": [first]}).status_code == 500
    assert first in walk(emulator)
    with pytest.raises(pytest.fail.Exception, match="acknowledged too early"):
        emulator.stop()


def test_failed_hook_does_not_hide_the_test_s_own_error() -> None:
    def fail(request: Request) -> Response | None:
        raise LookupError("the hook's own")

    with pytest.raises(httpx.HTTPStatusError) as caught, Emulator(results=3, intercept=fail) as emulator:
        walk(emulator)
    assert any("the hook's own" in note for note in caught.value.__notes__)


def test_requests_are_recorded_and_show_no_secret(emulator: Emulator) -> None:
    with connect(emulator) as api:
        url = api.get("/results", params={"limit": 1}).json()["data"][0]["signed_url"]["url"]
    httpx.get(url, headers={b"X-Test": "Größe".encode()}, verify=TLS, trust_env=False)
    listed, read = emulator.requests
    assert (listed.server, listed.method, listed.path, listed.query) == ("api", "GET", "/results", "limit=1")
    assert listed.headers["authorization"] == f"Token {emulator.token}"
    assert (read.server, read.method) == ("contents", "GET")
    assert "authorization" not in read.headers
    assert read.query in url
    assert emulator.token not in repr(emulator.requests)
    assert "Signature" not in repr(emulator.requests)
    assert emulator.token not in repr(emulator)


def test_only_the_latest_requests_are_kept() -> None:
    with Emulator(results=0, keep_requests=3) as emulator, connect(emulator) as api:
        for number in range(5):
            api.get(f"/results/{number}")
        assert [request.path for request in emulator.requests] == ["/results/2", "/results/3", "/results/4"]


def make_entry(number: int, created: datetime, state: State = "available", task: int | None = None) -> Entry:
    draft = Draft(
        id=number,
        identifier="x",
        type=None,
        organisation=1,
        poll=None,
        task=task,
        content=make_content(b""),
        checksum="",
        size=0,
        created=created,
        date_created="",
        fields=NOTHING,
    )
    return Entry(draft=draft, key="", url="", head=b"{", state=state, date_consumed=None, date_deleted=None)


START = datetime(2026, 11, 20, tzinfo=UTC)
bounds = st.one_of(st.none(), st.integers(-2, 12))


@given(
    moments=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    order=st.sampled_from(["newest", "oldest"]),
    limit=st.integers(1, 8),
    start=bounds,
    stop=bounds,
    task=st.one_of(st.none(), st.integers(0, 1)),
    data=st.data(),
)
def test_store_agrees_with_a_plain_list(
    moments: list[int],
    order: Order,
    limit: int,
    start: int | None,
    stop: int | None,
    task: int | None,
    data: st.DataObject,
) -> None:
    zero = microseconds_of(START)
    entries = [
        make_entry(number, START + timedelta(microseconds=moment), task=number % 2) for number, moment in enumerate(moments)
    ]
    store = ResultStore(order)
    store.load(entries[::2])
    for entry in entries[1::2]:
        store.add(entry)
    consumed = data.draw(st.sets(st.integers(0, len(entries) - 1)))
    store.acknowledge(map(str, consumed), START)
    everything = sorted(entries, key=lambda entry: entry.rank)
    cursors = st.one_of(st.none(), st.integers(0, len(entries) - 1))
    after, before = data.draw(cursors), data.draw(cursors)

    span = Span(None if start is None else zero + start, None if stop is None else zero + stop)
    query = Query(
        limit=limit,
        after_id=None if after is None else str(after),
        before_id=None if before is None else str(before),
        equals={} if task is None else {"task": str(task)},
        spans={} if start is None and stop is None else {"date_created": span},
    )
    page = store.find_page(query)

    matching = [
        entry
        for entry in everything
        if entry.state == "available"
        and (task is None or entry.draft.task == task)
        and (start is None or entry.draft.created >= START + timedelta(microseconds=start))
        and (stop is None or entry.draft.created < START + timedelta(microseconds=stop))
    ]
    place = {entry.id: index for index, entry in enumerate(everything)}
    between = [
        entry
        for entry in matching
        if (after is None or place[entry.id] > place[str(after)]) and (before is None or place[entry.id] < place[str(before)])
    ]
    assert [entry.id for entry in page.entries] == [entry.id for entry in between[:limit]]
    assert page.has_more == (len(between) > limit)
    assert page.total == len(matching)


def test_equal_dates_keep_the_order_of_publication() -> None:
    store = ResultStore("newest")
    store.load([make_entry(number, START) for number in range(5)])
    assert [entry.id for entry in store.find_page(Query()).entries] == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T00:00:00Z", 0),
        ("2026-11-20T00:00:00", 0),
        ("2026-11-20T00:00:00.5Z", 500_000),
        ("2026-11-20T00:00:00.000001+00:00", 1),
        ("2026-11-19T23:00:00-01:00", 0),
    ],
)
def test_datetimes_are_read_exactly(text: str, expected: int) -> None:
    query = parse_query([("date_created__gt", text)])
    assert query.spans["date_created"].start == microseconds_of(START) + expected + 1


def test_all_faults_of_a_query_are_named_at_once() -> None:
    with pytest.raises(BadQueryError) as caught:
        parse_query([("limit", "x"), ("foo", "1"), ("date_created__lt", "x"), ("state", "available")])
    assert caught.value.params.keys() == {"limit", "foo", "date_created__lt"}
