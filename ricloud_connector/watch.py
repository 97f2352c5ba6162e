"""What the sensor remembers between two ticks, and which partitions it asks for. Pure.

A walk lists what is available from `overlap` before the newest result met so far. Whether a result is new is decided by
its id, never by its time: those met within the overlap are remembered as short hashes. What appears later than the
overlap with an older date is the daily reconcile's part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from ricloud_connector.model import AVAILABLE, Rejection, Result

VERSION = 1
DAY = timedelta(days=1)
REMEMBERED = 50_000  # hashes at most: in an hour that brought more, the overlap is in effect shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ask:
    """A partition that has new results, by its first moment. `key` names exactly these results: asking twice makes one run."""

    start: datetime
    key: str


@dataclass(slots=True)
class Watch:
    """The sensor's cursor.

    `newest` is the latest `date_created` met (never later than the clock), `walk` the id after which a walk goes on that a
    tick's budget ended. `pending` are partitions, by their first moment, with new results that no run was asked for yet,
    `asked` when one was last. `grain` is how long a partition is: a day or an hour.
    """

    newest: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)
    walk: str | None = None
    walk_since: datetime | None = None
    walk_newest: datetime | None = None
    pending: dict[datetime, int] = field(default_factory=dict)
    asked: dict[datetime, datetime] = field(default_factory=dict)
    undated: int = 0
    grain: timedelta = DAY

    def start(self, first: datetime, overlap: timedelta) -> datetime:
        """From when on to list: where a walk goes on that was cut, the same as before."""
        if self.walk is None or self.walk_since is None:
            self.walk_since = first if self.newest is None else max(first, self.newest - overlap)
            self.walk_newest, self.undated = self.newest, 0
        return self.walk_since

    def notice(self, items: Iterable[Result | Rejection], now: datetime, overlap: timedelta) -> None:
        """Take in a page: which of its results are new, by id."""
        for item in items:
            if isinstance(item, Rejection):
                self.undated += 1
                continue
            short = _hash(item.id)
            if item.state != AVAILABLE or short in self.seen:
                continue
            partition = self._partition_of(item.date_created)
            self.pending[partition] = (self.pending.get(partition, 0) + int(short, 16)) % 2**64
            self.seen[short] = _seconds(item.date_created)
            met = min(item.date_created, now)
            self.walk_newest = met if self.walk_newest is None else max(self.walk_newest, met)
        self._forget(overlap)

    def finish(self) -> None:
        """The walk came to its end: the next one starts from the newest result met."""
        self.newest, self.walk, self.walk_since = self.walk_newest, None, None

    def asks(self, now: datetime, *, pause: timedelta, most: int) -> list[Ask]:
        """The partitions to ask a run for now: those whose last one was asked for longer ago than `pause`, oldest first.

        One that has not come yet stays pending until it has.
        """
        self.asked = {start: moment for start, moment in self.asked.items() if now - moment < pause}
        ready = sorted(start for start in self.pending if start not in self.asked and start <= now)[:most]
        asks = [Ask(start, f"{self.name_of(start)}:{self.pending.pop(start):016x}") for start in ready]
        self.asked |= dict.fromkeys(ready, now)
        return asks

    def drop_before(self, first: date) -> list[date]:
        """Forget the new results of days that have no partition, since they lie before the first; returns those days."""
        early = sorted(start for start in self.pending if start.date() < first)
        for start in early:
            del self.pending[start]
        return sorted({start.date() for start in early})

    def name_of(self, start: datetime) -> str:
        """A partition's name: its day, or its hour."""
        return start.date().isoformat() if self.grain == DAY else start.isoformat(timespec="minutes")

    def _partition_of(self, moment: datetime) -> datetime:
        return _EPOCH + (moment - _EPOCH) // self.grain * self.grain

    def _forget(self, overlap: timedelta) -> None:
        if self.walk_newest is not None:
            oldest = _seconds(self.walk_newest - overlap) if self.walk_newest - _EPOCH > overlap else 0
            if len(self.seen) > REMEMBERED:
                oldest = max(oldest, sorted(self.seen.values())[-REMEMBERED])
            self.seen = {short: moment for short, moment in self.seen.items() if moment >= oldest}

    def dump(self) -> str:
        """The cursor as JSON text that a person can read."""
        return json.dumps(
            {
                "version": VERSION,
                "grain_s": int(self.grain.total_seconds()),
                "newest": _text(self.newest),
                "walk": self.walk,
                "walk_since": _text(self.walk_since),
                "walk_newest": _text(self.walk_newest),
                "pending": {start.isoformat(): f"{digest:016x}" for start, digest in sorted(self.pending.items())},
                "asked": {start.isoformat(): _text(moment) for start, moment in sorted(self.asked.items())},
                "undated": self.undated,
                "seen": self.seen,
            }
        )

    @classmethod
    def load(cls, text: str | None, grain: timedelta = DAY) -> Watch | None:
        """The cursor of an earlier tick; None for one that is not of this version and grain, or not a cursor at all."""
        try:
            found = json.loads(text or "")
            if (found["version"], found["grain_s"]) != (VERSION, grain.total_seconds()):
                return None
            return cls(
                newest=_moment(found["newest"]),
                seen={str(short): int(moment) for short, moment in found["seen"].items()},
                walk=None if found["walk"] is None else str(found["walk"]),
                walk_since=_moment(found["walk_since"]),
                walk_newest=_moment(found["walk_newest"]),
                pending={_known(_moment(start)): int(digest, 16) for start, digest in found["pending"].items()},
                asked={_known(_moment(start)): _known(_moment(moment)) for start, moment in found["asked"].items()},
                undated=int(found["undated"]),
                grain=grain,
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None


def _hash(result_id: str) -> str:
    return hashlib.blake2b(result_id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    moment = None if text is None else datetime.fromisoformat(text)
    if moment is not None and moment.tzinfo is None:
        raise ValueError("a moment without a zone")
    return moment


def _known(moment: datetime | None) -> datetime:
    if moment is None:
        raise ValueError("a moment is missing")
    return moment
