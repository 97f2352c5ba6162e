"""The sensor's memory: new is decided by id, nothing within the overlap is missed or asked for twice."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ricloud_connector.model import Rejection, Result
from ricloud_connector.watch import Watch

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAUSE = timedelta(minutes=5)


def result(name: str, created: datetime, state: str = "available") -> Result:
    return Result(id=name, wire_id=name, state=state, date_created=created, checksum="0" * 32, size=1)


def walk(watch: Watch, *items, now: datetime = NOW) -> list[str]:
    """One whole walk; the keys asked for."""
    watch.start(datetime(2020, 1, 1, tzinfo=UTC), HOUR)
    watch.notice(items, now, HOUR)
    watch.finish()
    return [ask.key for ask in watch.asks(now, pause=PAUSE, most=50)]


def test_a_new_result_is_asked_for_once_and_again_only_when_there_is_something_newer():
    watch = Watch()
    first = result("a", NOW - timedelta(minutes=1))
    (key,) = walk(watch, first)
    assert key.startswith("2026-11-20:")
    assert walk(watch, first, now=NOW + 2 * PAUSE) == []
    assert len(walk(watch, first, result("b", NOW), now=NOW + 2 * PAUSE)) == 1


def test_equal_times_and_late_ones_within_the_overlap_are_new_by_their_ids():
    watch = Watch()
    walk(watch, result("a", NOW))
    assert len(walk(watch, result("a", NOW), result("b", NOW), now=NOW + PAUSE)) == 1
    late = result("late", NOW - timedelta(minutes=59))
    assert watch.start(datetime(2020, 1, 1, tzinfo=UTC), HOUR) <= late.date_created
    assert len(walk(watch, late, now=NOW + 2 * PAUSE)) == 1


def test_a_partition_is_asked_for_at_most_every_five_minutes_and_nothing_is_forgotten_meanwhile():
    watch = Watch()
    assert len(walk(watch, result("a", NOW))) == 1
    assert walk(watch, result("b", NOW), now=NOW + timedelta(minutes=1)) == []
    assert walk(watch, now=NOW + timedelta(minutes=4, seconds=59)) == []
    assert len(walk(watch, now=NOW + PAUSE)) == 1


def test_the_same_results_have_the_same_key_in_any_order_and_others_another():
    items = [result(str(number), NOW) for number in range(5)]
    assert walk(Watch(), *items) == walk(Watch(), *reversed(items)) != walk(Watch(), *items[1:])


def test_a_day_of_the_future_waits_until_it_has_come_and_does_not_hide_what_comes_before_it():
    watch = Watch()
    future = result("future", datetime(2099, 1, 1, tzinfo=UTC))
    assert walk(watch, future) == []
    assert len(walk(watch, future, result("a", NOW + timedelta(seconds=1)), now=NOW + PAUSE)) == 1
    assert len(walk(watch, now=datetime(2099, 1, 1, tzinfo=UTC))) == 1


def test_days_before_the_first_partition_are_named_and_dropped():
    watch = Watch()
    watch.notice([result("old", datetime(2019, 5, 1, tzinfo=UTC))], NOW, HOUR)
    assert watch.drop_before(date(2020, 1, 1)) == [date(2019, 5, 1)]
    assert watch.asks(NOW, pause=PAUSE, most=50) == []


def test_results_of_another_state_and_rejections_start_nothing():
    watch = Watch()
    assert walk(watch, result("c", NOW, "consumed"), Rejection("bad", "malformed", "no date")) == []
    assert watch.undated == 1


def test_a_walk_that_was_cut_goes_on_from_the_same_since():
    watch = Watch()
    walk(watch, result("a", NOW))
    since = watch.start(NOW - timedelta(days=9), HOUR)
    watch.notice([result("b", NOW + PAUSE)], NOW + PAUSE, HOUR)
    watch.walk = "b"
    again = Watch.load(watch.dump())
    assert again.start(NOW - timedelta(days=9), HOUR) == since
    assert again.walk == "b"


MOMENTS = st.datetimes(datetime(2026, 11, 18), datetime(2026, 11, 21), timezones=st.just(UTC))


@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), MOMENTS), max_size=30), MOMENTS)
def test_the_cursor_survives_being_written_down(items, now):
    watch = Watch()
    watch.start(datetime(2026, 1, 1, tzinfo=UTC), HOUR)
    watch.notice([result(name, created) for name, created in items], now, HOUR)
    watch.asks(now, pause=PAUSE, most=1)
    assert Watch.load(watch.dump()) == watch
    watch.finish()
    assert Watch.load(watch.dump()) == watch


@given(st.one_of(st.none(), st.text(), st.sampled_from(['{"version": 0}', '{"version": 1}', "[]", "null", '"2026-11-20"'])))
def test_a_bad_or_old_cursor_is_none_and_never_an_error(text):
    assert Watch.load(text) is None


@given(st.lists(st.tuples(st.uuids(), st.integers(0, 59)), min_size=1, max_size=60, unique_by=lambda pair: pair[0]), st.data())
def test_however_results_arrive_within_the_overlap_each_is_asked_for_exactly_once(arrivals, data):
    """Each tick sees everything that has appeared; a result's date may lie up to the overlap before its appearance."""
    watch, appeared, asked, tick = Watch(), [], [], NOW
    left = list(arrivals)
    while left:
        tick += PAUSE
        count = data.draw(st.integers(1, len(left)))
        fresh = [result(str(name), tick - timedelta(minutes=age) + timedelta(minutes=1)) for name, age in left[:count]]
        left = left[count:]
        appeared += fresh
        since = watch.start(datetime(2026, 1, 1, tzinfo=UTC), HOUR)
        known = set(watch.seen)
        watch.notice([item for item in appeared if item.date_created >= since], tick, HOUR)
        asked += [item.id for item in fresh if item.date_created >= since]
        assert len(set(watch.seen) - known) <= count
        watch.finish()
        keys = watch.asks(tick, pause=timedelta(0), most=50)
        assert {ask.start.date() for ask in keys} == {item.day for item in fresh if item.date_created >= since}
    assert sorted(asked) == sorted(str(name) for name, _ in arrivals)
