"""An iterator run ahead of its consumer in a thread of its own, by a bounded number of items. I/O: one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def stop(self) -> None:
        """Stop the thread at its next item and wait for it; nothing more comes. Safe to call again."""
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

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

    def _put(self, item: T | _End) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False
