"""The facts that pass between the emulator's parts and out to tests. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal

Id = str | int
State = Literal["available", "consumed", "expired"]
ServerName = Literal["api", "contents"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOTHING: Mapping[str, object] = MappingProxyType({})


def microseconds_of(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def format_moment(moment: datetime) -> str:
    """The API's one format, `2026-11-20T10:15:30.123456Z`, of an aware datetime."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes known by their digest and written when somebody first asks for them."""

    md5: str
    size: int
    write: Callable[[BinaryIO], None] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A result as it is about to be published. `created` places it in the listing, `date_created` is what it says."""

    id: Id
    identifier: str
    type: str | None
    organisation: Id
    poll: Id | None
    task: Id | None
    content: Content
    checksum: str
    size: int
    created: datetime
    date_created: str
    state: State = "available"
    date_consumed: datetime | None = None
    date_deleted: datetime | None = None
    signed: bool = True
    url: str | None = None
    fields: Mapping[str, object]
    without: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedResult:
    """What the emulator knows to be true of one result: the judge's side of the story.

    `checksum` and `size` are what the API says, `md5` and `byte_size` what the bytes at `path` were when published.
    """

    id: str
    identifier: str
    type: str | None
    state: State
    url: str
    signed: bool
    date_created: datetime
    checksum: str
    size: int
    md5: str
    byte_size: int
    _locate: Callable[[], Path] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Where its bytes lie in the bucket; written now if nobody asked before. Absent once deleted."""
        return self._locate()


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request as it arrived. Names of headers are in lower case; the repr shows no header and no query."""

    server: ServerName
    method: str
    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
