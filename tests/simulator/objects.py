"""A bucket as a model in memory, with everything that object stores do wrong. Pure but for chance.

`SimulatedObjects` stands where `ObstoreObjects` does: one method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ricloud_connector.refusal import Kind, Refused
from tests.simulator.processes import Stage

EPOCH = datetime(2026, 11, 20, tzinfo=UTC)
LATEST_WRITE_S = 60.0


@dataclass(slots=True)
class Kept:
    """An object; lists show it after so many of them have not."""

    body: bytes
    at: datetime
    hidden: int = 0


class SimulatedObjects:
    """One bucket. `on_create` is told of each object that is new, `conditional` says whether conditions are heeded.

    A write whose time-out came first may arrive later, at any moment within a minute; also that of a process which died.
    """

    def __init__(self, stage: Stage, *, fault_rate: float = 0.0) -> None:
        self.objects: dict[str, Kept] = {}
        self.on_create: Callable[[str], None] = lambda _: None
        self.fault_rate = fault_rate
        self.conditional = True
        self.stale = 0.0
        self._stage = stage
        self._late: list[tuple[float, str, bytes]] = []

    def __call__(self, verb: str, key: str, /, **named: Any) -> Any:
        if verb != "create":
            return self._stage.touch(f"{verb} {key}", lambda: self._ask(verb, key, named), changes=verb == "put", lost=_lost())
        body = bytes(named["body"])  # a request in flight holds what it was given

        def torn() -> None:
            self._delay(key, body)

        return self._stage.touch(f"create {key}", lambda: self._create(key, body), changes=True, torn=torn, lost=_lost())

    def arrive(self, *, all_of_them: bool = False) -> None:
        """Let late writes arrive whose time has come."""
        due = [write for write in self._late if all_of_them or write[0] <= self._stage.seconds]
        self._late = [write for write in self._late if write not in due]
        for _, key, body in due:
            self._stage.say(f"    a late write of {key} arrives")
            self._write(key, body)

    def come_to_rest(self) -> None:
        """Late writes arrive, and lists show everything."""
        self.arrive(all_of_them=True)
        for kept in self.objects.values():
            kept.hidden = 0

    def _ask(self, verb: str, key: str, named: dict[str, Any]) -> Any:
        self.arrive()
        befalls, rate = self._stage.befalls, self.fault_rate
        if rate and befalls(f"bucket: {verb} fails", rate / 2):
            raise Refused(Kind.UNREACHABLE, "simulated: 500")
        if verb == "get":
            return self._get(key)
        if verb == "get_range":
            body = self._get(key)[named["start"] : named["end"]]
            if rate and body and befalls("bucket: other bytes are read than were written", rate / 4):
                return body[:-9] + bytes(byte ^ 1 for byte in body[-9:])
            return body[: len(body) // 2] if rate and befalls("bucket: a read is short", rate / 4) else body
        if verb == "put":
            self.objects[key] = Kept(bytes(named["body"]), self._now())
            if rate and befalls("bucket: put fails after the effect", rate / 2):
                raise Refused(Kind.UNREACHABLE, "simulated: no answer")
            return None
        return self._list(key) if verb == "list" else self._list_with_delimiter(key)

    def _create(self, key: str, body: bytes) -> None:
        """Raises: Refused, of which only EXISTS says anything, and that not always the truth."""
        self.arrive()
        befalls, rate = self._stage.befalls, self.fault_rate
        if rate:
            if befalls("bucket: create fails", rate):
                raise Refused(Kind.UNREACHABLE, "simulated: 500")
            if befalls("bucket: create is throttled", rate / 2):
                raise Refused(Kind.THROTTLED, "simulated: 503")
            if befalls("bucket: 409 though there is nothing", rate):
                raise Refused(Kind.EXISTS, "simulated: 409")
            if befalls("bucket: a write arrives late", rate):
                self._delay(key, body)
                raise Refused(Kind.UNREACHABLE, "simulated: time-out")
        if not self._write(key, body):
            raise Refused(Kind.EXISTS, "simulated: 412")
        if rate and befalls("bucket: created, reply lost", rate):
            raise Refused(Kind.UNREACHABLE, "simulated: no answer")

    def _delay(self, key: str, body: bytes) -> None:
        self._late.append((self._stage.seconds + self._stage.rng.uniform(0, LATEST_WRITE_S), key, body))

    def _write(self, key: str, body: bytes) -> bool:
        if key in self.objects and self.conditional:
            return False
        hidden = 0
        if self.stale and self._stage.befalls("bucket: lists do not show the newest object", self.stale):
            hidden = self._stage.rng.randrange(1, 6)
        self.objects[key] = Kept(body, self._now(), hidden)
        self.on_create(key)
        return True

    def _get(self, key: str) -> bytes:
        if key not in self.objects:
            raise Refused(Kind.ABSENT, "simulated: 404")
        return self.objects[key].body

    def _shown(self, prefix: str) -> list[str]:
        found = []
        for key in sorted(self.objects):
            if key.startswith(f"{prefix}/" if prefix else ""):
                kept = self.objects[key]
                if kept.hidden > 0:
                    kept.hidden -= 1
                else:
                    found.append(key)
        return found

    def _list(self, prefix: str) -> list[dict[str, Any]]:
        return [
            {
                "path": key,
                "size": len(self.objects[key].body),
                "last_modified": self.objects[key].at,
                "e_tag": hashlib.md5(self.objects[key].body).hexdigest(),
            }
            for key in self._shown(prefix)
        ]

    def _list_with_delimiter(self, prefix: str) -> list[str]:
        skip = len(prefix) + 1 if prefix else 0
        inside = (key[skip:].partition("/") for key in self._shown(prefix))
        return sorted({f"{prefix}/{name}" if prefix else name for name, slash, _ in inside if slash})

    def _now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._stage.seconds)


def _lost() -> Refused:
    return Refused(Kind.UNREACHABLE, "simulated: no answer")
