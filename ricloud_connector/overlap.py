"""Work beside its consumer, in a thread of its own, ahead by a bounded amount. I/O: threads.

A run's threads are started here, and the names are looked up in this module: a simulator that wants one order of
everything puts its own `ahead`, `beside` and `pool` in their place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

HANDED_OVER = 32  # at once: waking the consumer for each would cost more than the item
HANDED_OVER_WEIGHT = 1024 * 1024
LONGEST_HELD_S = 0.05  # where nothing more is to be done


def pool(workers: int, name: str = "") -> Executor:
    """Runs calls in up to so many threads."""
    return ThreadPoolExecutor(workers, name)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ahead(Generic[T]):  # noqa: N801  # reads as a verb: for page in ahead(pages, 4)
    """Iterate `items` in a thread, at most `depth` ahead. An error in there is raised here, at its place in the order.

    Use as a context manager or exhaust it: leaving early stops the thread at its next item.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stop = threading.Event()
        self._items = items
        self._thread = threading.Thread(target=self._run, name="ricloud-ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> Iterator[T]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cancel(self) -> None:
        """Have the thread stop at its next item; whoever waits for that gets a `CancelledError`. Safe to call again."""
        self._stop.set()

    def stop(self, longest_s: float | None = None) -> None:
        """The same, and wait for the thread."""
        self.cancel()
        self._thread.join(longest_s)

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def poll(self, timeout_s: float) -> T | None:
        """The next item, or None where none comes in time. Raises: StopIteration behind the last one."""
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, _End):
            raise item.error or StopIteration
        return item

    def _run(self) -> None:
        try:
            iterator = iter(self._items)
            try:
                for item in iterator:
                    if not self._put(item):
                        return
            finally:
                # A generator's own clean-up must run in the thread that drove it.
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # noqa: BLE001  # it is raised again, in the consumer's thread
            self._put(_End(error))
        else:
            self._put(_End(None))
        finally:
            if self._stop.is_set():
                self._end_early()

    def _end_early(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put(_End(CancelledError()))

    def _put(self, item: T | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False


class beside(Generic[S, T]):  # noqa: N801  # reads as a verb: with beside(fetch) as fetching
    """Runs `work` over what is `put`, in a thread; `take` gives what comes out. `work` answers each item once.

    `work` is given None where there is nothing to do at the moment. What waits to be taken is bounded by `weight`, summed up
    to `most`; then the thread waits. For one consumer; inside `with`, leaving early stops the thread at its next answer, and
    `drop` is given those that were not taken.
    """

    def __init__(
        self,
        work: Callable[[Iterable[S | None]], Iterator[T]],
        weight: Callable[[T], int],
        most: int,
        drop: Callable[[T], None] = lambda _: None,
    ) -> None:
        self._work, self._weight, self._most, self._drop = work, weight, most, drop
        self._held: list[T] = []  # on their way to those that are ready
        self._incoming, self._ready = deque[S](), deque[tuple[list[T], int]]()
        self._ready_weight = self._held_weight = 0
        self._handed_over_at = 0.0
        self._changed = threading.Condition()
        self._no_more = self._stopped = self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ricloud-beside", daemon=True)
        self.pending = 0

    def __enter__(self) -> beside[S, T]:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        for answers in (*(answers for answers, _ in self._ready), self._held):
            for answer in answers:
                self._drop(answer)

    def put(self, items: Iterable[S]) -> None:
        """Add work; `pending` counts what was put and not taken yet."""
        found = list(items)
        self._incoming.extend(found)
        self.pending += len(found)
        if found and self._thread.ident is None:
            self._thread.start()

    def end(self) -> None:
        """Nothing more is put."""
        self._no_more = True

    def take(self, *, wait: bool = True) -> list[T]:
        """Some answers, as soon as there are any; none once all are taken, or at once. Raises: what `work` raised."""
        if self._thread.ident is None:
            return []  # nothing was ever put
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._finished or not wait)
            if not self._ready:
                if self._error is not None:
                    raise self._error
                return []
            answers, weight = self._ready.popleft()
            self._ready_weight -= weight
            self._changed.notify_all()
        self.pending -= len(answers)
        return answers

    def _items(self) -> Iterator[S | None]:
        while not self._stopped:
            if self._incoming:
                yield self._incoming.popleft()
            elif self._no_more:
                if not self._incoming:  # looked at again: the last ones may have come in between
                    return
            else:
                if self._held and time.monotonic() - self._handed_over_at > LONGEST_HELD_S and self._has_room:
                    self._hand_over()
                yield None

    @property
    def _has_room(self) -> bool:
        return self._ready_weight < self._most

    def _run(self) -> None:
        try:
            working = self._work(self._items())
            try:
                for answer in working:
                    self._held.append(answer)
                    if self._stopped:
                        return
                    self._held_weight += self._weight(answer)
                    enough = len(self._held) >= HANDED_OVER or self._held_weight >= HANDED_OVER_WEIGHT
                    if enough and not self._hand_over():
                        return
            finally:
                close = getattr(working, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # noqa: BLE001  # it is raised again, in the consumer's thread
            self._error = error
        self._hand_over(finished=True)

    def _hand_over(self, *, finished: bool = False) -> bool:
        """Let them be taken, when there is room. False where nobody will."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._has_room)
            if self._held:
                self._ready.append((self._held, self._held_weight))
                self._ready_weight += self._held_weight
                self._held, self._held_weight = [], 0
            self._handed_over_at = time.monotonic()
            self._finished = finished
            self._changed.notify_all()
            return not self._stopped
