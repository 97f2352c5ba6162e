"""Downloads contents with everything that can go wrong on the way. I/O: through the stores; re-reads results at the API.

Works in rounds: all transfers of a batch run once, bounded; those that failed in a way that can be helped are helped
(a pause, a fresh signed URL, a restart) and run again together in the next round. Only a content whose length and md5
are those listed leaves this module as `Content`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ricloud_connector.errors import ApiError, ContentError, LakeError
from ricloud_connector.location import (
    BucketLocation,
    HttpLocation,
    LocalLocation,
    Location,
    Policy,
    http_location,
    locate,
)
from ricloud_connector.model import AVAILABLE, CONSUMED, Content, Rejection, Result
from ricloud_connector.sink import Sink
from ricloud_connector.stores import ContentStore, Remedy, Transfer, TransferFault

ROUNDS = 5
MAX_RENEWALS = 2
MAX_REDIRECTS = 3
MAX_RESTARTS = 2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
KEPT_BYTES = 32 * 1024 * 1024  # of unfinished contents in memory between two rounds; beyond it they start again
RENEWERS = 8


class Retrieve(Protocol):
    """Reads one result anew. Raises: ApiError."""

    def __call__(self, result_id: str, /) -> Result | Rejection: ...


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A result that somebody acknowledged while it was fetched: it is in a lake already, so nothing is wrong."""

    result: Result


Outcome = Content | Rejection | Elsewhere


class Fetcher:
    """Turns results into contents. `staging` is a folder on a local disk that belongs to this run alone."""

    def __init__(
        self,
        retrieve: Retrieve,
        policy: Policy,
        staging: Path,
        *,
        http: ContentStore,
        local: ContentStore | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retrieve, self._policy, self._staging, self._sleep = retrieve, policy, staging, sleep
        self._http, self._local = http, local

    def fetch(self, results: Sequence[Result]) -> Iterator[Outcome]:
        """One outcome per result, in the order in which they are done.

        Raises: LakeError when the staging folder cannot be written; a fault of one result is its `Rejection` instead.
        """
        downloads = [_Download(Sink(result, self._staging)) for result in results]
        try:
            for attempt in range(ROUNDS):
                yield from self._round(downloads)
                downloads = [download for download in downloads if not download.done]
                if not downloads:
                    return
                self._forget_beyond_budget(downloads)
                self._sleep(_pause_s(attempt, downloads))
            for download in downloads:
                yield download.give_up()
        finally:
            for download in downloads:
                if not download.done:
                    download.sink.discard()

    def _round(self, downloads: list[_Download]) -> Iterator[Outcome]:
        yield from self._renew([download for download in downloads if download.renew])
        for download in downloads:
            if not download.done and download.location is None:
                yield from self._locate(download)
        pending = [download for download in downloads if not download.done and download.location is not None]
        for store, kind in ((self._http, HttpLocation), (self._local, LocalLocation), (None, BucketLocation)):
            ready = {id(download.sink): download for download in pending if isinstance(download.location, kind)}
            if store is None:
                for download in ready.values():
                    yield download.reject(ContentError("no_location", "this kind of place is not read by this version"))
                continue
            transfers = (Transfer(download.place(), download.sink) for download in ready.values())
            for transfer, fault in store.transfer(transfers):
                yield from self._judge(ready[id(transfer.sink)], fault)

    def _locate(self, download: _Download) -> Iterator[Outcome]:
        try:
            download.location = locate(download.result, self._policy)
        except ContentError as error:
            # A missing signed URL may have been missing only in the list: the result itself decides.
            unsigned = download.result.signed_url is None and "signed_url" in self._policy.read
            if unsigned and download.renewals == 0:
                download.renew, download.fault = True, _fault_of(error)
                yield from self._renew([download])
                if not download.done:
                    yield from self._locate(download)
            else:
                yield download.reject(error)

    def _renew(self, downloads: list[_Download]) -> Iterator[Outcome]:
        """Read results anew, some at a time: their signed URLs are fresh afterwards, or their state says why not."""
        if not downloads:
            return
        with ThreadPoolExecutor(min(RENEWERS, len(downloads))) as pool:
            for download, answer in zip(downloads, pool.map(self._ask, downloads), strict=True):
                download.renew, download.renewals, download.location = False, download.renewals + 1, None
                if isinstance(answer, ApiError):
                    yield download.reject(ContentError("unreachable", f"cannot be read again: {answer}", transient=True))
                elif isinstance(answer, Rejection) or not download.same_content(answer):
                    yield download.reject(ContentError("changed", "the API now lists another md5, size or date for it"))
                elif answer.state == CONSUMED:
                    yield download.elsewhere()
                elif answer.state != AVAILABLE:
                    yield download.reject(ContentError("gone", f"its state is now {answer.state!r}"))
                else:
                    download.result = answer

    def _ask(self, download: _Download) -> Result | Rejection | ApiError:
        try:
            return self._retrieve(download.result.id)
        except ApiError as error:
            return error

    def _judge(self, download: _Download, fault: TransferFault | None) -> Iterator[Outcome]:
        """What follows from one transfer: an outcome, or another try in the next round."""
        sink = download.sink
        if isinstance(sink.fault, LakeError):
            raise sink.fault
        if fault is None:
            try:
                if sink.fault is not None:
                    raise sink.fault
                yield download.deliver()
            except ContentError as error:
                download.fault = _fault_of(error)
                if download.restarts:
                    yield download.reject(error)
                else:  # a wrong md5 or length may be a fault of the way: once more from the first byte
                    download.restart()
            return
        download.fault = fault
        if fault.remedy is Remedy.RENEW and download.renewals < MAX_RENEWALS:
            download.renew = True
        elif fault.remedy is Remedy.RESTART and download.restarts < MAX_RESTARTS:
            download.restart()
        elif fault.remedy is Remedy.FOLLOW and download.redirects < MAX_REDIRECTS:
            yield from self._follow(download, fault.target or "")
        elif fault.remedy is not Remedy.RESUME:
            yield download.give_up()

    def _follow(self, download: _Download, target: str) -> Iterator[Outcome]:
        download.redirects += 1
        try:
            location = http_location(target, self._policy)
        except ContentError as error:
            yield download.reject(error)
            return
        download.sink.restart()
        download.location = location

    @staticmethod
    def _forget_beyond_budget(downloads: Iterable[_Download]) -> None:
        kept = 0
        for download in downloads:
            kept += download.sink.in_memory
            if kept > KEPT_BYTES:
                kept -= download.sink.in_memory
                download.sink.restart()


class _Download:
    """The state of one result between rounds."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.result = sink.result
        self.location: Location | None = None
        self.fault: TransferFault | None = None
        self.done = self.renew = False
        self.renewals = self.restarts = self.redirects = 0

    def place(self) -> Location:
        assert self.location is not None
        return self.location

    def same_content(self, answer: Result) -> bool:
        listed = self.sink.result
        return (answer.checksum, answer.size, answer.date_created) == (
            listed.checksum,
            listed.size,
            listed.date_created,
        )

    def restart(self) -> None:
        self.restarts += 1
        self.sink.restart()

    def deliver(self) -> Content:
        content = self.sink.finish()
        self.done = True
        return content

    def elsewhere(self) -> Elsewhere:
        self.sink.discard()
        self.done = True
        return Elsewhere(self.sink.result)

    def reject(self, error: ContentError) -> Rejection:
        self.sink.discard()
        self.done = True
        return Rejection.of(
            self.sink.result,
            error.reason,
            error.detail,
            actual_checksum=error.actual_checksum,
            actual_size=error.actual_size,
            transient=error.transient,
        )

    def give_up(self) -> Rejection:
        fault = self.fault or TransferFault("unreachable", "not tried", Remedy.RESUME)
        return self.reject(ContentError(fault.reason, fault.detail, transient=fault.remedy is Remedy.RESUME))


def _fault_of(error: ContentError) -> TransferFault:
    return TransferFault(error.reason, error.detail, Remedy.RESTART)


def _pause_s(attempt: int, downloads: list[_Download]) -> float:
    """Seconds before the next round: what a host asked for, else growing with jitter; none where no host is to rest."""
    faults = [download.fault for download in downloads if download.fault is not None]
    if not any(fault.remedy is Remedy.RESUME for fault in faults):
        return 0.0
    asked = max((fault.retry_after_s for fault in faults), default=0.0)
    return max(asked, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
