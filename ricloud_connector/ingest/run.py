"""What a run works with, and what it tells of each day. Facts and the edges of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

from ricloud_connector.bulk_fetch import BulkFetch
from ricloud_connector.client import RicloudClient
from ricloud_connector.clock import now_utc
from ricloud_connector.errors import LakeError
from ricloud_connector.fetch import Fetcher
from ricloud_connector.lake import Lake
from ricloud_connector.model import NAMED_AT_MOST, Rejection, Window


class Progress(Protocol):
    """Told how far a day is, now and then: results listed, results done, bytes downloaded."""

    def __call__(self, day: date, listed: int, done: int, downloaded_bytes: int, /) -> None: ...


@dataclass(slots=True)
class Run:
    """The edges of one run, and who it is.

    `patient` runs leave a quarantined result alone for a while: those that the sensor asks for, and nobody else.
    `bulk` fetches many small contents together, where there is one.
    """

    client: RicloudClient
    lake: Lake
    fetcher: Fetcher
    run_id: str
    now: Callable[[], datetime] = now_utc
    sleep: Callable[[float], None] = time.sleep
    progress: Progress = lambda *_: None
    patient: bool = False
    bulk: BulkFetch | None = None


@dataclass(slots=True)
class DayReport:
    """What became of one day, or of the `span` of it that was asked for. Counts are of results where nothing else is said.

    `fetched` were downloaded and proven, `new` stored by this run, `already_stored` before it or by another;
    `quarantined` are set aside with a reason, `resting` were, and are not tried again yet; `failed` could not be fetched
    this time; `unconfirmed` are still available after their acknowledgement. `record_rows` are new rows out of JSON results;
    `record_faults` stored results whose document gave no rows, or not all. `seconds` of days that are stored side by side pass
    at the same time.
    """

    day: date
    listed: int = 0
    fetched: int = 0
    new: int = 0
    already_stored: int = 0
    skipped: int = 0
    new_result_rows: int = 0
    downloaded_bytes: int = 0
    quarantined: int = 0
    resting: int = 0
    failed: int = 0
    acknowledged: int = 0
    found_acknowledged: int = 0
    unconfirmed: int = 0
    seconds: float = 0.0
    rejections: list[Rejection] = field(default_factory=list)
    unconfirmed_ids: list[str] = field(default_factory=list)
    error: LakeError | None = None
    record_rows: int = 0
    record_faults: list[Rejection] = field(default_factory=list)
    records_error: str | None = None
    span: Window | None = None

    @property
    def complete(self) -> bool:
        """Whether all that was listed is stored, made records of and, where that was asked for, acknowledged."""
        if self.error is not None or self.records_error is not None:
            return False
        return not (self.quarantined or self.resting or self.failed or self.unconfirmed or self.record_faults)

    def count_fetched(self, results: int, size: int) -> None:
        """Count results whose contents were downloaded and proven, of so many bytes together."""
        self.fetched += results
        self.downloaded_bytes += size

    def reject(self, rejections: Iterable[Rejection]) -> None:
        for rejection in rejections:
            if rejection.transient:
                self.failed += 1
            else:
                self.quarantined += 1
            if len(self.rejections) < NAMED_AT_MOST:
                self.rejections.append(rejection)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time it takes; keep an error of this day's lake, so that the other days go on."""
        started = time.monotonic()
        try:
            yield
        except LakeError as error:
            self.error = self.error or error
        finally:
            self.seconds += time.monotonic() - started
