"""What a day fetches, by two ways: many small contents together, and each result by itself. Runs the edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ricloud_connector import overlap
from ricloud_connector.disk import discard
from ricloud_connector.fetch import Outcome
from ricloud_connector.ingest.run import Run
from ricloud_connector.listed import Listed
from ricloud_connector.model import Content, Result
from ricloud_connector.parts import ContentPart, Contents

READY_BYTES = 8 * 1024 * 1024  # of contents that wait to be written


class Fetching:
    """Fetches what is put. Use as a context manager: what is not taken at its end is dropped, and its files removed.

    `pending` counts what was put and not taken yet.
    """

    def __init__(self, run: Run) -> None:
        self._bulk = run.bulk
        self._each = overlap.beside(run.fetcher.fetch, _weight, READY_BYTES, drop)
        self._ended = False

    def __enter__(self) -> Fetching:
        self._each.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._bulk is not None and self._bulk.pending:
                self._bulk.drop()
        finally:
            self._each.__exit__(kind, error, trace)

    @property
    def pending(self) -> int:
        return self._each.pending + (self._bulk.pending if self._bulk is not None else 0)

    def put(self, listed: Listed) -> None:
        """Fetch these: together as far as they are small."""
        if self._bulk is None:
            self._each.put(listed.results())
        else:
            self._each.put(self._bulk.put(listed, alone=not self._each.pending))

    def put_each(self, results: Sequence[Result]) -> None:
        """Fetch these one by one."""
        self._each.put(results)

    def end(self) -> None:
        """Nothing more is put, but what was taken and is to be fetched again."""
        self._ended = True

    def take(self) -> Sequence[Outcome | Contents]:
        """Some of what came, as soon as there is any; nothing once all is taken. Raises: LakeError."""
        while self._bulk is not None and self._bulk.pending:
            taken = self._bulk.take(alone=not self._each.pending)
            self._each.put(taken.left)
            found: list[Outcome | Contents] = [] if taken.contents is None else [taken.contents]
            if self._each.pending:
                found += self._each.take(wait=False)
            if found:
                return found
        if self._ended:
            self._each.end()
        return self._each.take()


def _weight(outcome: Outcome) -> int:
    """Bytes in memory; of a content on the disk, as many as make 64 of them enough."""
    if isinstance(outcome, Content) and isinstance(outcome.body, bytes):
        return len(outcome.body) + 1024
    return READY_BYTES // 64 if isinstance(outcome, Content | ContentPart) else 1024


def drop(outcome: Outcome | Contents) -> None:
    """Remove the file of a content that is not stored this time: a day that fails leaves the disk to the others."""
    if isinstance(outcome, ContentPart):
        discard(outcome.part.path)
    elif isinstance(outcome, Content) and isinstance(outcome.body, Path):
        discard(outcome.body)
