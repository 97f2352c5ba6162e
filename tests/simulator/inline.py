"""The connector's threads as plain calls, so that a run has one order of everything. No I/O.

What a thread would do ahead of its consumer is done here when the consumer asks for it, or, as the seed has it, at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from ricloud_connector import overlap


class Inline:
    """Stands in for `overlap`; `rng` is that of the history under way."""

    def __init__(self) -> None:
        self.rng = random.Random(0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        kept = overlap.ahead, overlap.beside, overlap.pool
        overlap.ahead, overlap.beside, overlap.pool = self.ahead, InlineBeside, InlinePool  # type: ignore[misc,assignment]
        try:
            yield
        finally:
            overlap.ahead, overlap.beside, overlap.pool = kept  # type: ignore[misc]

    def ahead(self, items: Iterable[Any], depth: int) -> InlineAhead:
        return InlineAhead(items, self.rng.randrange(depth + 1))


class InlineAhead:
    """`ahead`, with so many items taken at once and the others when they are asked for."""

    def __init__(self, items: Iterable[Any], at_once: int) -> None:
        self._iterator = iter(items)
        self._held = deque[Any]()
        self._error: Exception | None = None
        self._stopped = False
        for _ in range(at_once):
            try:
                self._held.append(next(self._iterator))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001  # raised at its place in the order
                self._error = error
                break

    def __enter__(self) -> Iterator[Any]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cancel(self) -> None:
        self._stopped = True

    def stop(self) -> None:
        self.cancel()
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[Any]:
        while self._held:
            yield self._held.popleft()
        if self._error is not None:
            raise self._error
        if not self._stopped:
            yield from self._iterator


class InlineBeside:
    """`beside`, working when an answer is asked for."""

    def __init__(self, work: Callable[[Iterable[Any]], Iterator[Any]], *_: object) -> None:
        self._incoming = deque[Any]()
        self._no_more = self._begun = False
        self._working = work(self._items())
        self.pending = 0

    def __enter__(self) -> InlineBeside:
        return self

    def __exit__(self, *_: object) -> None:
        close = getattr(self._working, "close", None)
        if close is not None:
            close()

    def put(self, items: Iterable[Any]) -> None:
        found = list(items)
        self._incoming.extend(found)
        self.pending += len(found)
        self._begun = self._begun or bool(found)

    def end(self) -> None:
        self._no_more = True

    def take(self, *, wait: bool = True) -> list[Any]:
        if not self._begun or not wait:
            return []
        for answer in self._working:
            self.pending -= 1
            return [answer]
        return []

    def _items(self) -> Iterator[Any]:
        while True:
            if self._incoming:
                yield self._incoming.popleft()
            elif self._no_more:
                return
            else:
                yield None


class InlinePool(Executor):
    """An executor that does at once what it is given."""

    def __init__(self, workers: int, name: str = "") -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            future.set_exception(error)
        return future
