"""The facts that travel through the connector, frozen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of content in one row of the contents dataset, at most. Part of the lake's format."""

UNDATED = date(1970, 1, 1)
"""The partition of quarantine rows whose result has no usable `date_created`."""

NAMED_AT_MOST = 1000
"""Results that a report names one by one; beyond it they are counted."""

AVAILABLE, CONSUMED, EXPIRED = "available", "consumed", "expired"
STATES = frozenset({AVAILABLE, CONSUMED, EXPIRED})


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of `date_created`, `since <= moment < until`, both aware and in UTC."""

    since: datetime
    until: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.since <= moment < self.until

    def __str__(self) -> str:
        return f"[{self.since.isoformat()}, {self.until.isoformat()})"

    @classmethod
    def of_day(cls, day: date) -> Window:
        """The whole UTC day."""
        since = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return cls(since, since + timedelta(days=1))

    def by_day(self) -> Iterator[tuple[date, Window]]:
        """The parts of this window that fall into each UTC day, oldest first."""
        since = self.since
        while since < self.until:
            day = since.date()
            until = min(Window.of_day(day).until, self.until)
            yield day, Window(since, until)
            since = until


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """Where a content may be read without credentials, for a while. A secret: never stored, never shown."""

    url: str = field(repr=False)
    expires_at: datetime | None


class Result(NamedTuple):
    """One result as the API listed it. A tuple, since it is what a run makes most of.

    `id` is exact text; `wire_id` is the same as the API wrote it, for replies. `checksum` is an md5 in lower-case hex and
    `size` in bytes, or None where the API gave nothing that can be one. `extra` is JSON text of all other fields.
    """

    id: str
    wire_id: int | str
    state: str
    date_created: datetime
    checksum: str | None
    size: int | None
    identifier: str | None = None
    type: str | None = None
    url: str | None = None
    signed_url: SignedUrl | None = None
    resource: str | None = None
    organisation: str | None = None
    poll: str | None = None
    task: str | None = None
    date_consumed: datetime | None = None
    date_deleted: datetime | None = None
    extra: str | None = None

    @property
    def day(self) -> date:
        """The UTC day that names the result's partition."""
        return self.date_created.date()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a result is not stored: a future row of the quarantine dataset.

    `checksum` and `size` are as listed; the actual ones are known only where something was downloaded. A rejection that
    is `transient` says nothing about the result itself (a host that does not answer): it is reported, but not written.
    """

    result_id: str
    reason: str
    detail: str
    date_created: datetime | None = None
    identifier: str | None = None
    checksum: str | None = None
    size: int | None = None
    actual_checksum: str | None = None
    actual_size: int | None = None
    transient: bool = False

    @property
    def day(self) -> date:
        return self.date_created.date() if self.date_created else UNDATED

    @classmethod
    def of(
        cls,
        result: Result,
        reason: str,
        detail: str,
        *,
        actual_checksum: str | None = None,
        actual_size: int | None = None,
        transient: bool = False,
    ) -> Rejection:
        """A rejection that carries the result's listed facts."""
        return cls(
            result_id=result.id,
            reason=reason,
            detail=detail,
            date_created=result.date_created,
            identifier=result.identifier,
            checksum=result.checksum,
            size=result.size,
            actual_checksum=actual_checksum,
            actual_size=actual_size,
            transient=transient,
        )


def id_of(item: Result | Rejection) -> str:
    """The result's id, of whatever came of an item of a list."""
    return item.id if isinstance(item, Result) else item.result_id


@dataclass(frozen=True, slots=True)
class Content:
    """A downloaded content whose length and md5 match what was listed: in memory, or whole in a staging file.

    Both digests were taken of the same bytes, in one pass. (One that is written into a part while it arrives: `ContentPart`.)
    """

    result: Result
    md5: str
    sha256: str
    body: bytes | Path = field(repr=False)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A result that somebody acknowledged while it was fetched: it is in a lake already, so nothing is wrong."""

    result: Result


class Proven(NamedTuple):
    """What was proven of one result: md5 (hex) and size in bytes."""

    checksum: str
    size: int


@dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """A place in a bucket, such as `s3://bucket`, for what is done with a `Path` of a lake."""

    bucket: str
    key: str

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.bucket, self.key.rpartition("/")[0])

    def as_uri(self) -> str:
        return str(self)


Place = Path | ObjectPath
"""Where something of a lake lies: on a local disk, or in a bucket."""


@dataclass(frozen=True, slots=True, order=True)
class DataFile:
    """One committed, immutable file of a partition, identified so that a cache of it can tell another file.

    In a bucket, where there is no `inode`, it is a digest of the ETag.
    """

    number: int
    path: Place
    size: int
    mtime_ns: int
    inode: int
