"""Many small contents fetched by a process of its own, and taken as columns. I/O: starts the process, talks with it by pipes.

A content that comes whole, with the length and the md5 that are listed, takes this way: nearly all do. Whatever else happens is
judged nowhere here: the result is given back, and `fetch.py` tries it with all of its patience. So is everything where the
process cannot be started or dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ricloud_connector
from ricloud_connector import overlap
from ricloud_connector.listed import Listed
from ricloud_connector.location import Policy
from ricloud_connector.model import Result
from ricloud_connector.parts import Contents, joined
from ricloud_connector.stores.worker import Answer, Order, Terms

logger = logging.getLogger(__name__)

STARTED_FROM, FROM_RESULTS = 1_000, 4_000
"""So many to fetch are worth a process. It is started beside the first ones, which somebody else fetches meanwhile."""

SMALL_BYTES = 128 * 1024
ORDERED_TOGETHER = 1_000
ANSWERS_AHEAD = 3  # each about 1 MiB
PIPE_BYTES = 1024 * 1024
LOOK_AGAIN_S = 0.02
LONGEST_END_S = 5.0

# Its modules come from where ours do, and from nowhere else: neither the working directory nor the environment has a say.
_MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = sys.argv[1:]; "
    "from ricloud_connector.stores.worker import main; main()"
)
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

    Of `concurrency` it takes what `others` leaves, who are told of each answer that asks to slow down (`throttled`).
    `pending` counts what was taken on and is not answered yet.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        concurrency: int = 64,
        stall_s: int = 60,
        proxy: str | None = None,
        others: Callable[[], int] = lambda: 0,
        throttled: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._terms, self._others, self._throttled = Terms(policy, concurrency, stall_s, proxy), others, throttled
        self._usable = policy.read[:1] == ("signed_url",) and bool(sys.executable) and not getattr(sys, "frozen", False)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: overlap.ahead[Answer] | None = None
        self._ordered: dict[int, _Ordered] = {}
        self._numbers = self._seen = self._share = 0
        self._alone = True
        self.pending = 0

    @property
    def reserved(self) -> int:
        """How many of the transfers at a time are for this: three quarters beside others, all of them alone."""
        if not self.pending:
            return 0
        return self._terms.concurrency if self._alone else max(1, self._terms.concurrency * 3 // 4)

    def put(self, listed: Listed, *, alone: bool) -> list[Result]:
        """Begin to fetch those that it can; returns the others. `alone` says that nobody else fetches beside it."""
        small = pc.less_equal(listed.column("size"), SMALL_BYTES)
        wanted = pc.fill_null(pc.and_(small, listed.column("signed_url").is_valid()), False)
        self._seen += wanted.true_count
        begun = wanted.true_count > 0 and self._seen >= STARTED_FROM and self._started()
        if not begun or self._seen < FROM_RESULTS:
            return listed.results()
        self._alone = alone
        self._order(listed.filter(wanted))
        return listed.filter(pc.invert(wanted)).results() if wanted.false_count else []

    def take(self, *, alone: bool) -> Taken:
        """What came next, perhaps nothing yet."""
        assert self._answers is not None
        self._alone = alone
        try:
            self._agree()
            answer = self._answers.poll(LOOK_AGAIN_S)
            return Taken() if answer is None else self._taken(answer)
        except Exception as error:  # noqa: BLE001  # StopIteration and whatever unpickling raises
            return Taken(left=self._lost(error))

    def drop(self) -> None:
        """Forget what is under way: the process ends, and a later `put` starts another."""
        process, self._process = self._process, None
        answers, self._answers = self._answers, None
        self._ordered.clear()
        self.pending = self._share = 0
        if process is None:
            return
        process.kill()
        try:
            process.wait()
        finally:
            if answers is not None:
                answers.stop(LONGEST_END_S)  # it reads to the end, which a process forked meanwhile may hold back
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]  # both were asked for

    close = drop

    def _started(self) -> bool:
        if self._process is None and self._usable:
            try:
                self._process = _start()
                self._send(self._terms)
            except (OSError, ValueError) as error:
                self._lost(error)
                return False
            self._answers = overlap.ahead(_received(self._process), ANSWERS_AHEAD)
        return self._usable

    def _order(self, listed: Listed) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self._ordered[number] = _Ordered(listed, np.ones(len(listed), np.bool_))
        self.pending += len(listed)
        self._share = self._fair_share
        with suppress(OSError):  # it died: taking its answers tells
            for first in range(0, len(listed), ORDERED_TOGETHER):
                some = listed.slice(first, first + ORDERED_TOGETHER)
                urls, sizes = some.column("signed_url"), some.column("size")
                self._send(Order(number, first, urls.to_pylist(), sizes.to_pylist(), self._share))

    def _agree(self) -> None:
        """Tell the process where it may have more transfers at a time, or fewer, than it was told before. Raises: OSError."""
        if (share := self._fair_share) != self._share:
            self._share = share
            self._send(Order(-1, 0, [], [], share))

    @property
    def _fair_share(self) -> int:
        """What is reserved, as far as others have left it by now."""
        return max(0, min(self.reserved, self._terms.concurrency - self._others()))

    def _send(self, message: Terms | Order) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def _taken(self, answer: Answer) -> Taken:
        """Raises: LookupError, ValueError for an answer to nothing that was asked."""
        ordered = self._ordered[answer.number]
        places = answer.places + answer.failed
        if not ordered.waiting[places].all() or sum(answer.sizes) != len(answer.body):
            raise ValueError("an answer that does not fit what was ordered")
        if answer.throttled:
            self._throttled(answer.throttled)
        contents, wrong = _contents_of(ordered.listed, answer)
        left = ordered.listed.take(answer.failed).results() if answer.failed else []
        ordered.waiting[places] = False
        self.pending -= len(places)
        if not ordered.waiting.any():
            del self._ordered[answer.number]
        return Taken(contents, left + wrong)

    def _lost(self, error: Exception) -> list[Result]:
        """What the process had under way when it died. It is not started again."""
        name = type(error).__name__
        logger.warning("small contents are fetched one by one from now on: the process for them has ended (%s)", name)
        self._usable = False
        open_ = [(ordered.listed, np.flatnonzero(ordered.waiting).tolist()) for ordered in self._ordered.values()]
        self.drop()
        return [result for listed, waiting in open_ for result in listed.take(waiting).results()]


def _start() -> subprocess.Popen[bytes]:
    """Raises: OSError, ValueError."""
    home = str(Path(ricloud_connector.__file__).parent.parent)
    path = [os.path.abspath(each) for each in sys.path if isinstance(each, str)]
    process = subprocess.Popen(  # noqa: S603  # this interpreter, and nothing that came from outside
        [sys.executable, "-I", "-S", "-c", _MAIN, *path, home],
        env={name: value for name, value in os.environ.items() if name not in _SECRETS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with suppress(OSError, AttributeError):  # where it is not allowed, or not known, the other process wakes more often
        fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def _received(process: subprocess.Popen[bytes]) -> Iterator[Answer]:
    """The answers of the process, until it ends. Raises: EOFError, OSError, and whatever unpickling raises."""
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
