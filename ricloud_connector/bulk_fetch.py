"""Many small contents fetched by a process of its own, and taken as columns. I/O: starts the process, talks with it by pipes.

A content that comes whole, with the length and the md5 that are listed, takes this way: nearly all do. Whatever else happens is
judged nowhere here: the result is given back, and `fetch.py` tries it with all of its patience. So is everything where the
process cannot be started or dies.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ricloud_connector import overlap
from ricloud_connector.listed import Listed
from ricloud_connector.location import Policy
from ricloud_connector.model import Result
from ricloud_connector.parts import Contents, joined
from ricloud_connector.stores.worker import Answer, Order, Terms

FROM_RESULTS = 4_000
"""Where there are fewer to fetch, starting a process would take longer than they do."""

SMALL_BYTES = 128 * 1024
ORDERED_TOGETHER = 1_000
ANSWERS_AHEAD = 3  # each about 1 MiB
PIPE_BYTES = 1024 * 1024
REST_RESULTS = 10_000  # that others fetch, after a host that did not answer
LOOK_AGAIN_S = 0.02

_MAIN = "from ricloud_connector.stores.worker import main; main()"
_SECRETS = {"RICLOUD_TOKEN", "RICLOUD_PROXY"}


@dataclass(slots=True)
class _Ordered:
    """Results that were ordered together, and which of them nothing was heard of."""

    listed: Listed
    waiting: np.ndarray


@dataclass(slots=True)
class Taken:
    """What came: contents that are proven, and results that are left to others."""

    contents: Contents | None = None
    left: list[Result] = field(default_factory=list)


class BulkFetch:
    """Fetches what is small and behind a signed URL. For one consumer; `close` it, or `drop` what is under way.

    `pending` counts what was taken on and is not answered yet.
    """

    def __init__(self, policy: Policy, *, concurrency: int = 64, stall_s: int = 60, proxy: str | None = None) -> None:
        self._terms = Terms(policy, concurrency, stall_s, proxy)
        self._usable = policy.read[:1] == ("signed_url",)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: overlap.ahead[Answer] | None = None
        self._ordered: dict[int, _Ordered] = {}
        self._numbers = self._seen = self._resting = 0
        self._concurrency = concurrency
        self.pending = 0

    @property
    def in_flight(self) -> int:
        """How many it may be fetching at the moment, at most."""
        return min(self.pending, self._concurrency)

    def put(self, listed: Listed, *, alone: bool) -> list[Result]:
        """Begin to fetch those that it can; returns the others. `alone` says that nobody else fetches beside it."""
        self._seen += len(listed)
        self._resting = max(0, self._resting - len(listed))
        if not self._usable or self._resting or self._seen < FROM_RESULTS or not self._started():
            return listed.results()
        small = pc.less_equal(listed.column("size"), SMALL_BYTES)
        wanted = pc.fill_null(pc.and_(small, listed.column("signed_url").is_valid()), False)
        mine, others = listed.filter(wanted), listed.filter(pc.invert(wanted))
        self._concurrency = self._terms.concurrency if alone else max(1, self._terms.concurrency * 3 // 4)
        if len(mine):
            self._order(mine)
        return others.results() if wanted.false_count else []

    def take(self) -> Taken:
        """What came next, perhaps nothing yet."""
        assert self._answers is not None
        try:
            answer = self._answers.poll(LOOK_AGAIN_S)
        except (StopIteration, EOFError, OSError, pickle.UnpicklingError):
            return Taken(left=self._lost())
        if answer is None:
            return Taken()
        ordered = self._ordered[answer.number]
        ordered.waiting[answer.places] = ordered.waiting[answer.failed] = False
        self.pending -= len(answer.places) + len(answer.failed)
        if not ordered.waiting.any():
            del self._ordered[answer.number]
        if answer.silent:
            self._resting = REST_RESULTS
        contents, wrong = _contents_of(ordered.listed, answer)
        left = ordered.listed.take(sorted(answer.failed)).results() if answer.failed else []
        return Taken(contents, left + wrong)

    def drop(self) -> None:
        """Forget what is under way: the process ends, and a later `put` starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        process.kill()
        process.wait()
        if self._answers is not None:
            self._answers.stop()
        assert process.stdout is not None
        process.stdout.close()
        self._ordered.clear()
        self.pending = 0

    close = drop

    def _started(self) -> bool:
        if self._process is None:
            known = {name: value for name, value in os.environ.items() if name not in _SECRETS}
            environment = known | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            try:
                self._process = subprocess.Popen(  # noqa: S603  # this interpreter, and nothing that came from outside
                    [sys.executable, "-c", _MAIN],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pipesize=PIPE_BYTES,
                )
                self._send(self._terms)
            except OSError:
                self._usable = False
                self.drop()
                return False
            self._answers = overlap.ahead(_received(self._process), ANSWERS_AHEAD)
        return True

    def _order(self, listed: Listed) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self._ordered[number] = _Ordered(listed, np.ones(len(listed), np.bool_))
        self.pending += len(listed)
        urls, sizes = (listed.column(name).to_pylist() for name in ("signed_url", "size"))
        with suppress(OSError):  # it died: taking its answers tells
            for first in range(0, len(listed), ORDERED_TOGETHER):
                some = slice(first, first + ORDERED_TOGETHER)
                self._send(Order(number, first, urls[some], sizes[some], self._concurrency))

    def _send(self, message: Terms | Order) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _lost(self) -> list[Result]:
        """What the process had under way when it died. It is not started again."""
        self._usable = False
        places = [(ordered.listed, np.flatnonzero(ordered.waiting).tolist()) for ordered in self._ordered.values()]
        self.drop()
        return [result for listed, waiting in places for result in listed.take(waiting).results()]


def _received(process: subprocess.Popen[bytes]) -> Iterator[Answer]:
    """The answers of the process, until it ends. Raises: EOFError, OSError, UnpicklingError."""
    assert process.stdout is not None
    while True:
        yield pickle.load(process.stdout)  # noqa: S301  # our own process wrote it


def _contents_of(listed: Listed, answer: Answer) -> tuple[Contents | None, list[Result]]:
    """Those whose lengths and md5s are those listed, and the results of the others."""
    if not answer.places:
        return None, []
    found = listed.take(answer.places)
    body = joined(answer.body, answer.sizes)
    md5s, sizes = (found.column(name).to_pylist() for name in ("checksum", "size"))
    if md5s == answer.md5s and sizes == answer.sizes:
        return Contents(found, answer.sha256s, body), []
    facts = zip(md5s, sizes, answer.md5s, answer.sizes, strict=True)
    right = [place for place, (md5, size, its_md5, its_size) in enumerate(facts) if (md5, size) == (its_md5, its_size)]
    wrong = sorted(set(range(len(found))) - set(right))
    kept = body.take(pa.array(right, pa.int64()))
    contents = Contents(found.take(right), [answer.sha256s[place] for place in right], kept)
    return contents if right else None, found.take(wrong).results()
