"""Room on the disk for contents that go into files: one that fills it would take all others along. I/O: looks at disks."""

from __future__ import annotations

import shutil

from ricloud_connector.download import NO_ROOM
from ricloud_connector.errors import LakeError
from ricloud_connector.sink import MEMORY_BYTES, Sink
from ricloud_connector.stores import Remedy, TransferFault


class Room:
    """Counts what is in flight on its way to a disk. `large` is how many contents these are."""

    def __init__(self) -> None:
        self._in_flight: set[Sink] = set()

    @property
    def large(self) -> int:
        return len(self._in_flight)

    def take(self, sink: Sink) -> bool:
        """Whether its disk takes it whole, beside those in flight, of which it is one from now on. Raises: LakeError."""
        if (sink.result.size or 0) <= MEMORY_BYTES:
            return True
        try:
            free = shutil.disk_usage(sink.folder).free
        except OSError as error:
            raise LakeError(f"cannot look at the staging folder {sink.folder}: {error.strerror}") from error
        if free < sink.unwritten_bytes + sink.copied_bytes + sum(other.unwritten_bytes for other in self._in_flight):
            return False
        self._in_flight.add(sink)
        return True

    def leave(self, sink: Sink) -> None:
        """It is not in flight any more."""
        self._in_flight.discard(sink)


def lack_of_room(sink: Sink) -> TransferFault:
    """Why a content waits, and what to do. `RICLOUD_STAGING` helps where it is copied from there."""
    needs, helps = f"{sink.result.size} bytes", "free some"
    if sink.copied_bytes:
        needs, helps = f"{needs} and for their copy in the lake", f"{helps}, or set RICLOUD_STAGING to a folder of another disk"
    return TransferFault(NO_ROOM, f"the staging folder {sink.folder} has no room for {needs}: {helps}", Remedy.RESUME)
