"""Where contents are read: one module for each kind of place, all behind `ContentStore`. Pure.

A store moves bytes into sinks and says how each transfer ended. It decides nothing: what to try again, and when a
result is given up, is said in `fetch.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from ricloud_connector.errors import ContentError, LakeError
from ricloud_connector.location import Location


class Remedy(Enum):
    """What can help after a transfer that failed."""

    RESUME = "go on where it broke, after a pause"
    RESTART = "once more from the first byte"
    RENEW = "read the result again, for a fresh signed URL or its present state"
    FOLLOW = "read the place to which the answer points, if the policy allows it"
    LATER = "another run, once somebody has mended the host"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class TransferFault:
    """How a transfer failed: a stable code, plain words without secrets, and what can help.

    `target` is where a redirect points, as it was written: perhaps relative to the place that was read.
    """

    reason: str
    detail: str
    remedy: Remedy
    target: str | None = field(default=None, repr=False)
    retry_after_s: float = 0.0


class Receiver(Protocol):
    """What takes the bytes of one content: so many are listed, so many have come. `fault` is why it refused some."""

    fault: ContentError | LakeError | None

    @property
    def listed_bytes(self) -> int: ...
    @property
    def size(self) -> int: ...
    def write(self, chunk: bytes) -> bool: ...


@dataclass(slots=True)
class Transfer:
    """One content on its way from a location into a sink, from byte `sink.size` on."""

    location: Location
    sink: Receiver


class ContentStore(Protocol):
    """Runs transfers, several at a time; yields each with its fault, or None where all bytes came. In any order.

    A None among the transfers says that there is none at the moment, and that those under way are to go on.
    """

    def transfer(self, transfers: Iterable[Transfer | None]) -> Iterator[tuple[Transfer, TransferFault | None]]: ...
