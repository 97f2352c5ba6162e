"""Lists as servers should not send them: cursors in circles, pages that repeat, filters and orders that are not kept."""

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from ricloud_connector.client import RicloudClient
from ricloud_connector.emulator import Behaviour, Emulator
from ricloud_connector.errors import ApiError, ApiRefused, UntrustedAnswer
from ricloud_connector.listing import Listing
from ricloud_connector.model import Rejection, Result, Window, id_of
from ricloud_connector.redact import Secret
from tests.hostile_server import HostileServer, Reply, Request, Steps, answer, page, reply
from tests.test_wire import make_item

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = Window.of_day(NOON.date())
TOKEN = Secret("t")


def written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def item(number: int, moment: datetime = NOON) -> dict[str, object]:
    return make_item(id=f"id{number}", date_created=written(moment))


def pages_of(*numbers: Sequence[int], endless: bool = False) -> list[Reply]:
    """Pages with these items, of which all but the last promise more."""
    last = len(numbers) - 1
    return [page([item(n) for n in ids], has_more=endless or index < last) for index, ids in enumerate(numbers)]


def read(
    *replies: Reply, window: Window | None = None, **options: object
) -> tuple[list[str], ApiError | None, HostileServer, Listing]:
    """The ids that were given out, how the walk ended, and what was asked for."""
    found: list[str] = []
    error: ApiError | None = None
    with HostileServer(*replies) as server, RicloudClient(server.url, TOKEN, deadline_s=2.0, **options) as client:  # type: ignore[arg-type]
        listing = client.list_results(window)
        try:
            for batch in listing.by_page():
                found += [id_of(entry) for entry in batch]
        except ApiError as raised:
            error = raised
    return found, error, server, listing


def cursors_of(server: HostileServer) -> list[str | None]:
    return [parse_qs(urlsplit(request.target).query).get("after_id", [None])[0] for request in server.requests]


def filters_of(server: HostileServer) -> list[bool]:
    return ["date_created__gte" in request.target for request in server.requests]


class Table:
    """A whole API over a list of items: pages of a size, an order, a filter kept or not. `replies` go first."""

    def __init__(self, items: Sequence[dict[str, object]], *, size: int = 10, heed: bool = False) -> None:
        self.items, self.size, self.heed = list(items), size, heed
        self.meddle: Callable[[Request], Steps | None] = lambda request: None

    def __call__(self, request: Request) -> Steps:
        meddled = self.meddle(request)
        if meddled is not None:
            return meddled
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.target).query).items()}
        items = self.items
        if self.heed and "date_created__gte" in query:
            items = [one for one in items if query["date_created__gte"] <= str(one["date_created"]) < query["date_created__lt"]]
        ids = [str(one["id"]) for one in items]
        start = ids.index(query["after_id"]) + 1 if "after_id" in query else 0
        return page(list(items[start : start + self.size]), has_more=start + self.size < len(items))


def test_pages_follow_each_other_by_the_last_id():
    found, error, server, listing = read(*pages_of([1, 2], [3], [4, 5]))
    assert (found, error) == (["id1", "id2", "id3", "id4", "id5"], None)
    assert cursors_of(server) == [None, "id2", "id3"]
    assert listing.pages == 3


def test_a_walk_can_go_on_where_another_ended():
    table = Table([item(number) for number in range(50)])
    with HostileServer(table) as server, RicloudClient(server.url, TOKEN) as client:
        first = client.list_results()
        seen = [id_of(entry) for entry in next(first.by_page())]
        seen += [id_of(entry) for entry in client.list_results(after_id=first.cursor)]
    assert seen == [f"id{number}" for number in range(50)]


def test_fault_029_empty_pages_that_promise_more_are_bounded_and_lose_nothing():
    found, error, server, _ = read(page([item(1)], has_more=True), page([], has_more=True))
    assert found == ["id1"]
    assert isinstance(error, UntrustedAnswer)
    assert cursors_of(server) == [None, "id1", "id1", "id1", "id1"]
    found, error, server, _ = read(page([], has_more=True))
    assert (found, len(server.requests)) == ([], 4)
    assert isinstance(error, UntrustedAnswer)


def test_fault_029_some_empty_pages_are_nothing():
    found, error, _, _ = read(page([item(1)], has_more=True), *[page([], has_more=True)] * 3, page([item(2)]))
    assert (found, error) == (["id1", "id2"], None)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_fault_030_a_list_that_turns_in_a_circle_ends_with_what_came(length):
    table = [[10 * number, 10 * number + 1] for number in range(length)]

    def circle(request: Request) -> Steps:
        after = parse_qs(urlsplit(request.target).query).get("after_id", ["id-9"])[0]
        following = (int(after.removeprefix("id")) // 10 + 1) % length
        return page([item(number) for number in table[following]], has_more=True)

    found, error, server, _ = read(circle)
    assert set(found) == {f"id{number}" for ids in table for number in ids}
    assert isinstance(error, UntrustedAnswer)
    assert len(server.requests) <= length + 2


def test_fault_032_pages_that_bring_nothing_new_end_the_walk():
    def repeating(request: Request) -> Steps:
        return page([item(1), item(2), make_item(id=None, date_created=written(NOON))], has_more=True)

    found, error, server, _ = read(repeating)
    assert isinstance(error, UntrustedAnswer)
    assert {"id1", "id2"} < set(found)
    assert len(server.requests) <= 5


def test_fault_036_an_id_twice_in_a_page_or_in_the_next_is_given_out_once():
    found, error, _, _ = read(*pages_of([1, 1, 2], [2, 3, 1], [4, 3], [5]))
    assert sorted(found) == ["id1", "id2", "id3", "id4", "id5"]
    assert error is None


def test_fault_038_an_item_that_is_put_in_front_moves_nothing_twice_and_nothing_out():
    table = Table([item(number) for number in range(40)])
    pages = 0

    def grow(request: Request) -> None:
        nonlocal pages
        pages += 1
        table.items.insert(0, item(1000 + pages))

    table.meddle = grow
    found, error, _, _ = read(table)
    assert error is None
    assert {f"id{number}" for number in range(40)} <= set(found)
    assert len(found) == len(set(found))


def test_fault_039_an_item_that_comes_while_the_list_is_read_harms_nothing():
    with (
        Emulator(results=60, days=1, large_bytes=None) as emulator,
        RicloudClient(emulator.url, Secret(emulator.token)) as client,
    ):
        before = {result.id for result in emulator.results() if result.state == "available"}
        listing = client.list_results(filters={})
        found = set()
        for batch in listing.by_page():
            found |= {id_of(entry) for entry in batch}
            emulator.add_result(content=b"new")
        assert before <= found


def test_fault_040_a_page_size_that_is_ignored_is_no_matter():
    found, error, _, _ = read(page([item(number) for number in range(5000)]))
    assert (len(found), error) == (5000, None)


@pytest.mark.parametrize("status", [400, 404, 410])
@pytest.mark.parametrize("heed", [True, False])
def test_fault_042_a_cursor_that_is_forgotten_starts_the_walk_again(status, heed):
    table = Table([item(number) for number in range(35)], heed=heed)
    refused = []

    def forget(request: Request) -> Steps | None:
        if "after_id=id19" in request.target and not refused:
            refused.append(request)
            return answer({"error": "bad", "message": "no such id", "params": {"after_id": "unknown"}}, status)
        return None

    table.meddle = forget
    found, error, server, listing = read(table, window=DAY)
    assert error is None
    assert set(found) == {f"id{number}" for number in range(35)}
    assert cursors_of(server).count(None) == 2
    assert all(filters_of(server))
    assert not listing.filter_ignored


def test_fault_042_a_cursor_that_is_always_forgotten_ends_the_walk_with_what_came():
    def forgetful(request: Request) -> Steps:
        return reply(410) if "after_id" in request.target else page([item(1)], has_more=True)

    found, error, server, _ = read(forgetful)
    assert set(found) == {"id1"}
    assert isinstance(error, UntrustedAnswer)
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    "refusal",
    [
        {"error": "invalid", "message": "refused", "params": {"date_created__gte": "unknown", "date_created__lt": "unknown"}},
        {"error": "invalid", "message": "date_created__gte is not a filter"},
        {"error": "invalid", "message": "unknown parameter"},
    ],
)
def test_a_filter_that_is_refused_is_left_out_from_then_on(refusal):
    table = Table([item(1), item(2, NOON - timedelta(days=1)), item(3)])
    table.meddle = lambda request: answer(refusal, 400) if "date_created" in request.target else None
    with HostileServer(table) as server, RicloudClient(server.url, TOKEN) as client:
        for _ in range(2):
            listing = client.list_results(DAY)
            assert [id_of(entry) for entry in listing] == ["id1", "id3"]
            assert (listing.filter_ignored, listing.outside) == (True, 1)
    assert filters_of(server) == [True, False, False]


def test_a_filter_that_is_refused_halfway_is_not_taken_for_a_lost_cursor():
    table = Table([item(number) for number in range(30)])
    named = {"error": "invalid", "message": "refused", "params": {"date_created__gte": "unknown"}}
    table.meddle = lambda request: answer(named, 400) if "after_id" in request.target and "__gte" in request.target else None
    found, error, server, listing = read(table, window=DAY)
    assert (found, error) == ([f"id{number}" for number in range(30)], None)
    assert cursors_of(server) == [None, "id9", "id9", "id19"]
    assert filters_of(server) == [True, True, False, False]
    assert listing.filter_ignored


def test_a_lost_cursor_is_not_taken_for_a_refused_filter():
    table = Table([item(number) for number in range(30)])
    refused = []

    def forget(request: Request) -> Steps | None:
        if "after_id=id9" in request.target and not refused:
            refused.append(request)
            return reply(400, body=b"no")
        return None

    table.meddle = forget
    found, error, server, listing = read(table, window=DAY)
    assert error is None
    assert set(found) == {f"id{number}" for number in range(30)}
    assert all(filters_of(server))
    assert not listing.filter_ignored


def test_a_list_that_is_refused_for_another_reason_is_refused():
    found, error, server, _ = read(answer({"error": "bad", "message": "no such state"}, 400), window=DAY)
    assert isinstance(error, ApiRefused)
    assert error.status == 400
    assert (found, filters_of(server)) == ([], [True, False])


def test_fault_045_5000_items_of_one_moment_come_once_each():
    found, error, _, _ = read(Table([item(number) for number in range(5000)], size=1000), window=DAY)
    assert (len(found), len(set(found)), error) == (5000, 5000, None)


def test_fault_046_and_047_a_window_is_half_open_to_the_microsecond():
    tick = timedelta(microseconds=1)
    moments = [DAY.since - tick, DAY.since, DAY.since + tick, DAY.until - tick, DAY.until, DAY.until + tick]
    table = Table([item(number, moment) for number, moment in enumerate(moments)])
    found, error, _, listing = read(table, window=DAY)
    assert (found, error) == (["id1", "id2", "id3"], None)
    assert listing.outside == 3
    assert not listing.filter_ignored  # as far outside as a server that compares whole seconds may be


def test_fault_043_items_outside_the_window_are_dropped_and_counted():
    old, new = NOON - timedelta(days=30), NOON + timedelta(days=30)
    found, error, _, listing = read(Table([item(1, new), item(2), item(3, old), item(4)]), window=DAY)
    assert (found, error) == (["id2", "id4"], None)
    assert (listing.outside, listing.filter_ignored) == (2, True)


def test_an_item_without_a_usable_date_belongs_to_every_window():
    bad = make_item(id="bad", date_created="soon")
    with HostileServer(page([bad, item(1)])) as server, RicloudClient(server.url, TOKEN) as client:
        found = list(client.list_results(DAY))
    assert {type(entry) for entry in found} == {Rejection, Result}


# -- order: only a list that is seen to come newest first is not read to its end


def history(days: int, per_day: int) -> list[dict[str, object]]:
    """Items from newest to oldest, the newest on the day after DAY."""
    moments = [DAY.until + timedelta(hours=12) - timedelta(days=back) for back in range(days)]
    return [
        item(day * per_day + n, moment - timedelta(seconds=n)) for day, moment in enumerate(moments) for n in range(per_day)
    ]


def ids_of_day(items: Sequence[dict[str, object]]) -> set[str]:
    return {str(one["id"]) for one in items if written(DAY.since) <= str(one["date_created"]) < written(DAY.until)}


def test_a_list_newest_first_is_read_until_it_is_past_the_window():
    items = history(days=100, per_day=20)
    found, error, server, _ = read(Table(items), window=DAY)
    assert (set(found), error) == (ids_of_day(items), None)
    assert len(found) == 20
    assert len(server.requests) <= 8


def test_results_of_the_same_hour_may_stand_in_any_order():
    items = history(days=100, per_day=20)
    items[0], items[7] = items[7], items[0]
    items[25], items[31] = items[31], items[25]
    found, error, server, _ = read(Table(items), window=DAY)
    assert (set(found), error) == (ids_of_day(items), None)
    assert len(server.requests) <= 8


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_fault_044_a_list_in_another_order_is_read_to_its_end(size):
    items = history(days=12, per_day=4)
    shuffled = random.Random(size).sample(items, len(items))
    by_hour = sorted(items, key=lambda one: str(one["date_created"])[11:])
    for table in (items[::-1], shuffled, by_hour):
        found, error, _, _ = read(Table(table, size=size), window=DAY)
        assert (set(found), error) == (ids_of_day(table), None)


def test_fault_044_old_items_of_one_moment_are_no_order_and_a_step_forward_is_none_either():
    old = NOON - timedelta(days=9)
    bulk = [item(number, old) for number in range(40)]
    downhill = [item(100 + number, old - timedelta(hours=number)) for number in range(60)]
    forward = [*downhill[:30], item(99, NOON + timedelta(days=9)), *downhill[30:]]
    due = [item(1000 + number) for number in range(3)]
    for table in (Table([*bulk, *due], size=10), Table([*forward, *due], size=61)):
        found, error, _, _ = read(table, window=DAY)
        assert (set(found), error) == ({"id1000", "id1001", "id1002"}, None)


def test_fault_049_one_date_far_away_does_not_end_the_walk():
    items = history(days=60, per_day=2)
    for place, far in (
        (3, datetime(1, 1, 1, tzinfo=UTC)),
        (3, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (9, NOON.replace(1970)),
    ):
        table = [*items[:place], item(9999, far), *items[place:]]
        found, error, _, _ = read(Table(table, size=5), window=DAY)
        assert (set(found), error) == (ids_of_day(items), None)


def test_a_list_whose_filter_is_kept_is_never_cut_short():
    items = [item(number, NOON - timedelta(hours=number % 12)) for number in range(200)]
    found, error, server, listing = read(Table(items, heed=True), window=DAY)
    assert (set(found), error, listing.filter_ignored) == ({f"id{number}" for number in range(200)}, None, False)
    assert len(server.requests) == 20


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("date_filter", ["apply", "ignore", "reject"])
def test_fault_043_and_044_every_server_gives_the_same_day(order, date_filter):
    behaviour = Behaviour(order=order, date_filter=date_filter)
    with (
        Emulator(results=300, days=3, large_bytes=None, behaviour=behaviour) as emulator,
        RicloudClient(emulator.url, Secret(emulator.token)) as client,
    ):
        for day in emulator.days:
            listing = client.list_results(Window.of_day(day))
            expected = {r.id for r in emulator.results() if r.state == "available" and r.date_created.date() == day}
            assert {id_of(entry) for entry in listing} == expected
            assert listing.filter_ignored == (date_filter != "apply")
