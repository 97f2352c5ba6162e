"""One download between its tries: what it has come to, and how often each remedy may still be used. I/O: its sink's file."""

from __future__ import annotations

from ricloud_connector.errors import ContentError
from ricloud_connector.location import BucketLocation, HttpLocation, Location, kind_of
from ricloud_connector.model import Content, Rejection, Result
from ricloud_connector.parts import ContentPart
from ricloud_connector.sink import MEMORY_BYTES, Sink
from ricloud_connector.stores import Remedy, Transfer, TransferFault

NO_ROOM = "no_room"

MAX_TRIES = 5
MAX_RENEWALS = 2
MAX_REDIRECTS = 3
MAX_RESTARTS = 2


class Download:
    """The state of one result. Each remedy is allowed a number of times, so that every download ends."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.result = sink.result
        self.location: Location | None = None
        self.fault: TransferFault | None = None
        self.tried: set[str] = set()  # kinds of places that were given up
        self._before = ""  # what was wrong with them
        self.done = self.renew = False
        self.renewals = self.restarts = self.redirects = self.tries = 0
        self._held = False
        self._started_at = self._mark = 0

    @property
    def size(self) -> int:
        """Bytes, as listed."""
        return self.sink.result.size or 0

    @property
    def missing(self) -> int:
        """Bytes that have not come yet."""
        return self.size - self.sink.size

    @property
    def advanced(self) -> bool:
        """Whether the last transfer brought anything."""
        return self.sink.size > self._started_at

    @property
    def host(self) -> str:
        """What to hold responsible where nothing answers."""
        if isinstance(self.location, HttpLocation):
            return self.location.host
        return self.location.name if isinstance(self.location, BucketLocation) else "local"

    @property
    def resumes(self) -> bool:
        """Whether it waits for its host and nothing else."""
        return self.fault is not None and self.fault.remedy is Remedy.RESUME

    @property
    def lacks_room(self) -> bool:
        return self.fault is not None and self.fault.reason == NO_ROOM

    @property
    def asked_s(self) -> float:
        """Seconds that its host asked to be left alone."""
        return self.fault.retry_after_s if self.fault is not None else 0.0

    @property
    def may_resume(self) -> bool:
        return self.tries < MAX_TRIES

    @property
    def may_renew(self) -> bool:
        return self.renewals < MAX_RENEWALS

    @property
    def may_restart(self) -> bool:
        return self.restarts < MAX_RESTARTS

    @property
    def may_follow(self) -> bool:
        return self.redirects < MAX_REDIRECTS

    def start(self) -> Transfer:
        """Its next transfer, from where the last one ended."""
        assert self.location is not None
        self._started_at = self.sink.size
        return Transfer(self.location, self.sink)

    def hold(self, fault: TransferFault) -> None:
        """Leave it out of this round, for a reason that is not its own."""
        self.fault, self._held = fault, True

    def release(self) -> bool:
        """Let it take part again; says whether it was held."""
        held, self._held = self._held, False
        return held

    def count_try(self) -> None:
        """Count a try that ended early, from one again where a good part came: a large content may break often."""
        if self.sink.size - self._mark >= max(MEMORY_BYTES, self.size // 16):
            self._mark, self.tries = self.sink.size, 0
        self.tries += 1

    def same_content(self, answer: Result) -> bool:
        """Whether the result read anew is still the one that was listed."""
        listed = self.sink.result
        return (answer.checksum, answer.size, answer.date_created) == (listed.checksum, listed.size, listed.date_created)

    def forget(self) -> None:
        """Give back what came: the next transfer begins with the first byte. Raises: LakeError."""
        self._mark = 0
        self.sink.restart()

    def restart(self) -> None:
        """Once more from the first byte. Raises: LakeError."""
        self.restarts += 1
        self.forget()

    def follow(self, target: HttpLocation) -> None:
        """Read from where a redirect points. Raises: LakeError."""
        self.redirects += 1
        self.location = target
        self.forget()

    def turn_to(self, other: Location) -> None:
        """Read from another place, with new tries, since this one was given up. Raises: LakeError."""
        assert self.location is not None
        assert self.fault is not None
        self._before += f"; before that, {kind_of(self.location)}: {self.fault.reason}, {self.fault.detail}"
        self.location, self.fault, self.renew = other, None, False
        self.restarts = self.redirects = self.tries = 0
        self.forget()

    def deliver(self) -> Content | ContentPart:
        """The proven content. Raises: ContentError, LakeError."""
        content = self.sink.finish()
        self.done = True
        return content

    def drop(self) -> None:
        """End without a content and without a fault. Raises: LakeError."""
        self.sink.discard()
        self.done = True

    def reject(self, error: ContentError) -> Rejection:
        """End with the reason. Raises: LakeError."""
        self.drop()
        return Rejection.of(
            self.sink.result,
            error.reason,
            error.detail,
            actual_checksum=error.actual_checksum,
            actual_size=error.actual_size,
            transient=error.transient,
        )

    def give_up(self) -> Rejection:
        """End with the last fault; transient where another run may do without anything new at the API. Raises: LakeError."""
        assert self.fault is not None
        transient = self.fault.remedy in (Remedy.RESUME, Remedy.LATER)
        return self.reject(ContentError(self.fault.reason, self.fault.detail + self._before, transient=transient))
