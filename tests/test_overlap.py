"""Work beside its consumer: everything comes out once, errors come out where they are awaited, and whoever leaves is free."""

import itertools
import threading
import time

import pytest

from ricloud_connector.overlap import beside


def doubled(numbers):
    for number in numbers:
        if number is None:
            time.sleep(0.001)
        else:
            yield number * 2


def taken(working) -> list[int]:
    return [answer for answers in iter(working.take, []) for answer in answers]


def test_what_is_put_comes_out_once_and_in_order():
    with beside(doubled, lambda _: 1, 1000) as working:
        for start in range(0, 1000, 100):
            working.put(range(start, start + 100))
        working.end()
        assert taken(working) == [2 * number for number in range(1000)]
        assert working.pending == 0
        assert working.take() == []


def test_a_few_come_out_although_more_may_be_put():
    with beside(doubled, lambda _: 1, 1000) as working:
        working.put(range(5))
        assert working.take() == [0, 2, 4, 6, 8]
        assert working.take(wait=False) == []
        working.put([7])
        assert working.take() == [14]


def test_where_nothing_is_put_no_thread_is_started():
    before = threading.active_count()
    with beside(doubled, lambda _: 1, 10) as working:
        working.put([])
        working.end()
        assert threading.active_count() == before
        assert working.take() == []


def test_what_waits_to_be_taken_is_bounded():
    made = itertools.count()

    def work(numbers):
        for answer in doubled(numbers):
            next(made)
            yield answer

    with beside(work, lambda _: 1024 * 1024, 4 * 1024 * 1024) as working:
        working.put(range(100))
        working.end()
        time.sleep(0.3)
        assert next(made) <= 6
        assert len(taken(working)) == 100


def test_an_error_is_raised_after_what_came_before_it():
    def failing(numbers):
        yield from itertools.islice(doubled(numbers), 3)
        raise OSError("disk")

    with beside(failing, lambda _: 1, 10) as working:
        working.put(range(10))
        assert working.take() == [0, 2, 4]
        with pytest.raises(OSError, match="disk"):
            working.take()


def test_whoever_leaves_early_stops_the_work_and_its_clean_up_runs():
    cleaned = threading.Event()

    def work(numbers):
        try:
            yield from doubled(numbers)
        finally:
            cleaned.set()

    def leave() -> None:
        with beside(work, lambda _: 1, 10) as working:
            working.put(range(1000))
            working.take()
            raise KeyError

    with pytest.raises(KeyError):
        leave()
    assert cleaned.is_set()
