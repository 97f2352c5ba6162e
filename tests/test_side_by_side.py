"""What is listed and nothing more: days are stored side by side, whatever one of them meets. Writes lakes of its own."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ricloud_connector import lake as lake_module
from ricloud_connector.client import RicloudClient
from ricloud_connector.errors import ApiRefused, BrokenChain, ForeignLake
from ricloud_connector.fetch import Fetcher
from ricloud_connector.ingest import DayReport, Run, store_results
from ricloud_connector.lake import Lake
from ricloud_connector.location import Policy
from ricloud_connector.model import Window
from ricloud_connector.overlap import ahead
from ricloud_connector.redact import Secret
from ricloud_connector.stores.signed_url import SignedUrlStore
from ricloud_connector.wire import Request
from tests.test_wire import make_item

DAYS = [date(2026, 11, 1) + timedelta(days=number) for number in range(8)]
MANY_DAYS = [DAYS[0] + timedelta(days=number) for number in range(24)]
ITEMS = 5


class Api:
    """Lists some pages a day, each answer so late, by its own clock, that all days are listed at a time.

    `look` is called with day and page before an answer. Without `filters` a page holds items of all days, or, `oldest_first`,
    ten pages those of one.
    """

    def __init__(
        self,
        pages: int,
        look: Callable[[date, int], None] = lambda *_: None,
        *,
        filters: bool = True,
        oldest_first: bool = False,
    ) -> None:
        self.pages = dict.fromkeys(MANY_DAYS, pages)
        self._look, self._filters, self._oldest_first = look, filters, oldest_first
        self.asked = Counter[date]()
        self.organisations: dict[date, str] = {}
        self._clock = threading.local()

    def now(self) -> float:
        return getattr(self._clock, "now", 0.0)

    def exchange(self, request: Request, _: float) -> tuple[int, dict[str, str], bytes]:
        params = dict(request.params)
        day, page = date.fromisoformat(params["date_created__gte"][:10]), int(params.get("after_id", "x-0-0").split("-")[1])
        self._look(day, page)
        self.asked[day] += 1
        self._clock.now = self.now() + 1.0
        begins = [f"{each}T00" for each in ([DAYS[page // 10]] if self._oldest_first else DAYS)]
        listed = [params["date_created__gte"][:13]] if self._filters else begins
        items = [self._item(hour, page + 1, number) for hour in listed for number in range(ITEMS)]
        return 200, {}, json.dumps({"data": items, "has_more": page + 1 < self.pages[day]}).encode()

    def _item(self, hour: str, page: int, number: int) -> dict[str, object]:
        organisation, name = self.organisations.get(date.fromisoformat(hour[:10]), "org"), hour.replace("-", "")
        return make_item(id=f"{name}-{page}-{number}", date_created=f"{hour}:30:00Z", organisation=organisation)


@contextmanager
def opened_run(lake: Path, api: Api) -> Iterator[Run]:
    client = RicloudClient("https://api", Secret("token"), exchange=api.exchange, clock=api.now)
    with Lake(lake, origin="https://api:443", run_id="run").opened() as opened:
        fetcher = Fetcher(client.retrieve_result, Policy(), opened.staging, http=SignedUrlStore(concurrency=1))
        yield Run(client, opened, fetcher, "run")


@contextmanager
def storing(lake: Path, api: Api, days: Sequence[date] = DAYS) -> Iterator[Iterator[DayReport]]:
    """A run over some days, and its reports as they come."""
    with opened_run(lake, api) as run, closing(stored(run, days)) as reports:
        yield reports


def stored(run: Run, days: Sequence[date] = DAYS) -> Iterator[DayReport]:
    return store_results(run, [(day, Window.of_day(day)) for day in days], contents=False)


def rows_of(lake: Path) -> Counter[str]:
    """How many results the lake has of each day."""
    parts = lake.glob("data/results/*/*.parquet")
    return Counter({path.parent.name.partition("=")[2]: rows_in(path) for path in parts})


def rows_in(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def test_no_day_waits_for_another_however_many_pages_they_have(tmp_path):
    together = threading.Barrier(len(DAYS), timeout=20)

    def look(_: date, page: int) -> None:
        if page:
            together.wait()  # breaks where one of them is not asked for its next page

    with storing(tmp_path, Api(20, look)) as reports:
        found = list(reports)
    assert [report.day for report in found] == DAYS
    assert all(report.complete and report.new_result_rows == report.listed == 20 * ITEMS for report in found)
    assert rows_of(tmp_path) == {str(day): 20 * ITEMS for day in DAYS}


def test_long_parts_that_end_together_are_committed_two_at_a_time(tmp_path, monkeypatch):
    together, at_once, most = threading.Barrier(len(DAYS), timeout=20), [], []

    def look(_: date, page: int) -> None:
        if page:
            together.wait()

    def prove_staged(*given: object) -> None:
        at_once.append(None)
        most.append(len(at_once))
        time.sleep(0.02)
        prove(*given)
        at_once.pop()

    prove = lake_module.prove_staged
    monkeypatch.setattr(lake_module, "prove_staged", prove_staged)
    monkeypatch.setattr(lake_module, "TABLE_ROWS", 5)
    with storing(tmp_path, Api(2, look)) as reports:
        assert all(report.new_result_rows == 2 * ITEMS for report in reports)
    assert max(most) <= 2


def test_a_day_that_cannot_be_stored_is_told_and_the_others_go_on(tmp_path):
    broken = tmp_path / f"data/results/created_date={DAYS[3]}"
    broken.mkdir(parents=True)
    (broken / "part-000001.parquet").write_bytes(b"")  # and no part 0
    with storing(tmp_path, Api(3)) as reports:
        found = list(reports)
    assert [report.day for report in found] == DAYS
    assert [report.day for report in found if report.error is not None] == [DAYS[3]]
    assert isinstance(found[3].error, BrokenChain)
    assert [report.new_result_rows for report in found] == [3 * ITEMS] * 3 + [0] + [3 * ITEMS] * 4


def test_contents_that_cannot_be_read_do_not_keep_a_listing_from_being_stored(tmp_path):
    broken = tmp_path / f"data/contents/created_date={DAYS[3]}"
    broken.mkdir(parents=True)
    (broken / "part-000001.parquet").write_bytes(b"")  # and no part 0
    with storing(tmp_path, Api(1)) as reports:
        assert all(report.complete and report.new_result_rows == ITEMS for report in reports)


def test_what_ends_the_run_ends_every_day_at_its_next_page(tmp_path):
    def look(day: date, page: int) -> None:
        time.sleep(0.01)
        if day == DAYS[2] and page == 3:
            raise ApiRefused("as an example", status=403)

    api, told = Api(100_000, look), list[date]()
    api.pages |= dict.fromkeys(DAYS[:2], 3)
    with storing(tmp_path, api) as reports, pytest.raises(ApiRefused, match="as an example"):
        told.extend(report.day for report in reports)
    assert told == DAYS[:2]
    assert rows_of(tmp_path) == {str(day): 3 * ITEMS for day in DAYS[:2]}
    assert "ricloud-day" not in " ".join(thread.name for thread in threading.enumerate())


def test_whoever_leaves_early_keeps_what_was_done_and_nothing_else_is_stored(tmp_path):
    left = threading.Event()

    def look(day: date, page: int) -> None:
        if day != DAYS[0] and page:
            assert left.wait(20)

    api = Api(3, look)
    with storing(tmp_path, api) as reports:
        assert next(reports).day == DAYS[0]
        threading.Timer(0.3, left.set).start()  # by then all of them have been told
    assert rows_of(tmp_path) == {str(DAYS[0]): 3 * ITEMS}
    assert max(api.asked[day] for day in DAYS[1:]) <= 2
    assert not list(tmp_path.glob("control/staging/*"))


def test_a_long_first_day_keeps_no_place_that_another_could_have(tmp_path):
    others = threading.Event()

    def look(day: date, page: int) -> None:
        if day == MANY_DAYS[-1]:
            others.set()
        if day == MANY_DAYS[0] and page:
            assert others.wait(20)

    with storing(tmp_path, Api(2, look), MANY_DAYS) as reports:
        assert [report.day for report in reports if report.complete] == MANY_DAYS


def test_no_day_is_begun_after_what_ends_the_run(tmp_path):
    begun = threading.Barrier(8, timeout=20)

    def look(day: date, page: int) -> None:
        if page == 1:
            begun.wait()
        if page == 1 and day == MANY_DAYS[1]:
            raise ApiRefused("as an example", status=403)
        if page > 1:
            time.sleep(0.2)  # of the first day too, whose turn comes before the error's

    api = Api(4, look)
    with storing(tmp_path, api, MANY_DAYS) as reports, pytest.raises(ApiRefused, match="as an example"):
        list(reports)
    assert api.asked.keys() == set(MANY_DAYS[:8])


def test_a_server_that_ignores_the_filter_is_walked_once_for_all_days(tmp_path):
    api = Api(4, filters=False)
    with opened_run(tmp_path, api) as run:
        for times in (1, 2):  # by then it is known how long an answer takes
            assert sum(report.new_result_rows for report in stored(run)) == (4 * ITEMS * len(DAYS) if times == 1 else 0)
            # The first day's walk, and one for all the others.
            assert api.asked == {DAYS[0]: 4 * times, DAYS[1]: 4 * times}


def test_a_server_of_which_only_a_later_page_shows_that_it_ignores_the_filter_is_not_walked_for_each_day(tmp_path):
    api = Api(80, lambda *_: time.sleep(0.01), filters=False, oldest_first=True)
    with storing(tmp_path, api) as reports:
        assert [report.new_result_rows for report in reports] == [10 * ITEMS] * len(DAYS)
    assert api.asked[DAYS[0]] == 80
    assert sum(api.asked.values()) < 80 + 80 + 8 * 16  # the first day's walk, that for all others, and those that were begun


def test_hours_of_one_day_are_stored_side_by_side_into_one_partition(tmp_path):
    first = Window.of_day(DAYS[0]).since
    hours = [Window(first + timedelta(hours=hour), first + timedelta(hours=hour + 1)) for hour in range(24)]
    with opened_run(tmp_path, Api(3)) as run:
        for new in (3 * ITEMS, 0):
            reports = list(store_results(run, [(DAYS[0], hour) for hour in hours], contents=False))
            assert [(report.span, report.new_result_rows) for report in reports] == [(hour, new) for hour in hours]
    assert sum(map(rows_in, tmp_path.glob("data/results/*/*.parquet"))) == 24 * 3 * ITEMS


def test_results_of_two_organisations_are_never_stored_together(tmp_path):
    api = Api(2)
    api.organisations = dict.fromkeys(DAYS[::2], "another")
    with storing(tmp_path, api) as reports, pytest.raises(ForeignLake):
        list(reports)
    footers = [pq.read_schema(path).metadata[b"ricloud_organisation"] for path in tmp_path.glob("data/results/*/*.parquet")]
    assert len(set(footers)) <= 1
    days = {str(day) for day in (DAYS[::2] if b"another" in footers else DAYS[1::2])}
    assert rows_of(tmp_path).keys() <= days


def test_a_thread_that_waits_for_what_is_ahead_is_told_that_nothing_comes_any_more():
    going = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        going.wait(20)
        yield 2

    pages, came = ahead(items(), 2), list[object]()

    def wait() -> None:
        try:
            came.extend(pages)
        except BaseException as error:  # noqa: BLE001
            came.append(type(error).__name__)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    while not came:
        time.sleep(0.001)
    pages.cancel()
    going.set()
    waiting.join(10)
    assert not waiting.is_alive()
    assert came == [1, "CancelledError"]
