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
REMEMBERED = 50_000  # hashes at most: in an hour that brought more, the overlap is in effect shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ask:
    """A partition that has new results. `key` names exactly these results: asking twice makes one run."""

    day: date
    key: str


@dataclass(slots=True)
class Watch:
    """The sensor's cursor.

    `newest` is the latest `date_created` met (never later than the clock), `walk` the id after which a walk goes on that a
    tick's budget ended. `pending` are days with new results that no run was asked for yet, `asked` when one was last.
    """

    newest: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)
    walk: str | None = None
    walk_since: datetime | None = None
    walk_newest: datetime | None = None
    pending: dict[date, int] = field(default_factory=dict)
    asked: dict[date, datetime] = field(default_factory=dict)
    undated: int = 0

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
            self.pending[item.day] = (self.pending.get(item.day, 0) + int(short, 16)) % 2**64
            self.seen[short] = _seconds(item.date_created)
            met = min(item.date_created, now)
            self.walk_newest = met if self.walk_newest is None else max(self.walk_newest, met)
        self._forget(overlap)

    def finish(self) -> None:
        """The walk came to its end: the next one starts from the newest result met."""
        self.newest, self.walk, self.walk_since = self.walk_newest, None, None

    def asks(self, now: datetime, *, pause: timedelta, most: int) -> list[Ask]:
        """The days to ask a run for now: those whose last one was asked for longer ago than `pause`, oldest first.

        A day that has not come yet stays pending until it has.
        """
        self.asked = {day: moment for day, moment in self.asked.items() if now - moment < pause}
        ready = sorted(day for day in self.pending if day not in self.asked and day <= now.date())[:most]
        asks = [Ask(day, f"{day.isoformat()}:{self.pending.pop(day):016x}") for day in ready]
        self.asked |= dict.fromkeys(ready, now)
        return asks

    def drop_before(self, first: date) -> list[date]:
        """Remove the days for which there is no partition, since they lie before the first; returns them."""
        early = sorted(day for day in self.pending if day < first)
        for day in early:
            del self.pending[day]
        return early

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
                "newest": _text(self.newest),
                "walk": self.walk,
                "walk_since": _text(self.walk_since),
                "walk_newest": _text(self.walk_newest),
                "pending": {day.isoformat(): f"{digest:016x}" for day, digest in sorted(self.pending.items())},
                "asked": {day.isoformat(): _text(moment) for day, moment in sorted(self.asked.items())},
                "undated": self.undated,
                "seen": self.seen,
            }
        )

    @classmethod
    def load(cls, text: str | None) -> Watch | None:
        """The cursor of an earlier tick; None for one that is not of this version, or not a cursor at all."""
        try:
            found = json.loads(text or "")
            if found["version"] != VERSION:
                return None
            return cls(
                newest=_moment(found["newest"]),
                seen={str(short): int(moment) for short, moment in found["seen"].items()},
                walk=None if found["walk"] is None else str(found["walk"]),
                walk_since=_moment(found["walk_since"]),
                walk_newest=_moment(found["walk_newest"]),
                pending={date.fromisoformat(day): int(digest, 16) for day, digest in found["pending"].items()},
                asked={date.fromisoformat(day): _known(_moment(moment)) for day, moment in found["asked"].items()},
                undated=int(found["undated"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
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
