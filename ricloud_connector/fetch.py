"""Downloads contents with everything that can go wrong on the way. I/O: through the stores; re-reads results at the API.

Every result that comes is tried once, as soon as there is room in flight. Those that failed in a way that can be helped
wait; at the end, or once many wait, they are helped (a pause, a fresh signed URL, a restart) and run again together, in
rounds, before anything new is tried. Only a content whose length and md5 are those listed leaves this module as `Content`.

A fault of one result is its `Rejection`. One that is `transient` tells of a host, the API or the disk and not of the
result: also of results that were not tried any more because those before them found nobody there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ricloud_connector.download import NO_ROOM, Download
from ricloud_connector.errors import ApiError, ApiRefused, ContentError, LakeError
from ricloud_connector.location import (
    BucketLocation,
    HttpLocation,
    LocalLocation,
    Policy,
    kind_of,
    locate,
    redirected_location,
)
from ricloud_connector.model import AVAILABLE, CHUNK_BYTES, CONSUMED, Content, Elsewhere, Rejection, Result, SignedUrl
from ricloud_connector.part_sink import PartSinks
from ricloud_connector.parts import ContentPart
from ricloud_connector.redact import clean
from ricloud_connector.rereading import Retrieve, ask_again
from ricloud_connector.room import Room, lack_of_room
from ricloud_connector.sink import Sink
from ricloud_connector.stores import ContentStore, Remedy, Transfer, TransferFault
from ricloud_connector.stores.health import Health

MAX_CONTENT_BYTES = 1024**4
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
LONGEST_REST_S = 300.0  # that hosts ask for, together, in one call of `fetch`
KEPT_BYTES = 32 * 1024 * 1024  # of broken contents in memory until their next try; beyond it they start again
LARGE_TOGETHER = 4  # of more than a chunk in flight: the first is to be done, and on its way to the lake, soon
WAITING_TOGETHER = 1_000  # for another try, before nothing new is tried until they are done


Outcome = Content | ContentPart | Rejection | Elsewhere


class Fetcher:
    """Turns results into contents. `staging` is a folder on a local disk, made by and for this run alone.

    A content listed with more than `max_bytes` is not read at all.
    """

    def __init__(
        self,
        retrieve: Retrieve,
        policy: Policy,
        staging: Path,
        *,
        http: ContentStore,
        local: ContentStore | None = None,
        bucket: ContentStore | None = None,
        parts: PartSinks | None = None,
        max_bytes: int = MAX_CONTENT_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retrieve, self._policy, self._staging, self._sleep = retrieve, policy, staging, sleep
        self._http, self._local, self._bucket = http, local, bucket
        self._parts, self._max_bytes = parts, max_bytes
        self._health = Health(clock)
        self._kept_bytes = self._in_flight = 0
        self._exhausted = False
        self._open: dict[int, Download] = {}  # by the identity of their sinks
        self._room = Room()

    def fetch(self, results: Iterable[Result | None]) -> Iterator[Outcome]:
        """One outcome per result, in the order in which they are done.

        `results` are asked for as there is room; a None among them says that there is none at the moment.
        Raises: LakeError when the staging folder cannot be written; a fault of one result is its `Rejection` instead.
        """
        incoming = iter(results)
        self._open, self._room, self._exhausted = {}, Room(), False
        try:
            while not self._exhausted:
                yield from self._first_tries(incoming)
                yield from self._rounds(list(self._open.values()))
                self._open.clear()
        finally:
            for download in self._open.values():
                if not download.done:
                    download.sink.discard()

    def _first_tries(self, incoming: Iterator[Result | None]) -> Iterator[Outcome]:
        """Try each result once, until there are no more or too many wait for another try."""
        self._health.start_round()
        self._kept_bytes = self._in_flight = 0
        for transfer, fault in self._http.transfer(self._feed(self._arriving(incoming))):
            self._in_flight -= 1
            outcome = self._judge(self._open[id(transfer.sink)], fault)
            if outcome is not None:
                del self._open[id(transfer.sink)]
                yield outcome

    def _arriving(self, incoming: Iterator[Result | None]) -> Iterator[Download | None]:
        """Downloads that can be tried at once. Those that need a closer look are left to the rounds."""
        while len(self._open) - self._in_flight < WAITING_TOGETHER:
            try:
                result = next(incoming)
            except StopIteration:
                self._exhausted = True
                return
            if result is None:
                yield None
                continue
            download = Download(self._sink_for(result))
            self._open[id(download.sink)] = download
            try:
                download.location = locate(result, self._policy)
            except ContentError:
                continue  # the round meets it again, and asks the API before it believes it
            if isinstance(download.location, HttpLocation) and download.size <= self._max_bytes:
                yield download

    def _sink_for(self, result: Result) -> Sink:
        large = None if self._parts is None else self._parts.sink(result)
        return large or Sink(result, self._staging)

    def _rounds(self, downloads: list[Download]) -> Iterator[Outcome]:
        """Help and try again, together, until each is done."""
        rest_s = LONGEST_REST_S
        yield from self._refuse_too_large(downloads)
        while True:
            yield from self._give_up([download for download in downloads if not download.done])
            downloads = [download for download in downloads if not download.done]
            if not downloads:
                return
            asked_s = min(rest_s, max(download.asked_s for download in downloads))
            rest_s -= asked_s
            self._sleep(max(asked_s, _pause_s(downloads)))
            yield from self._round(downloads)

    def _refuse_too_large(self, downloads: Iterable[Download]) -> Iterator[Outcome]:
        for download in downloads:
            if download.size > self._max_bytes:
                said = f"{download.size} bytes are listed; at most {self._max_bytes} are read"
                yield download.reject(ContentError("too_large", said))

    def _round(self, downloads: list[Download]) -> Iterator[Outcome]:
        self._health.start_round()
        yield from self._renew([download for download in downloads if download.renew])
        yield from self._locate(downloads)
        pending = [download for download in downloads if not download.done]
        self._kept_bytes = sum(download.sink.in_memory for download in pending)
        for kind, store in ((HttpLocation, self._http), (LocalLocation, self._local), (BucketLocation, self._bucket)):
            ready = {id(download.sink): download for download in pending if isinstance(download.location, kind)}
            if store is None:
                for download in ready.values():
                    yield download.reject(ContentError("no_location", "this kind of place is not read by this version"))
                continue
            for transfer, fault in store.transfer(self._feed(ready.values())):
                self._in_flight -= 1
                outcome = self._judge(ready[id(transfer.sink)], fault)
                if outcome is not None:
                    yield outcome

    def _locate(self, downloads: Iterable[Download]) -> Iterator[Outcome]:
        unsigned = []
        for download in downloads:
            if download.done or download.location is not None:
                continue
            try:
                download.location = locate(download.result, self._policy, download.tried)
            except ContentError as error:
                # A missing signed URL may have been missing only in the list: the result itself decides.
                hoped = "signed_url" in self._policy.read and "signed_url" not in download.tried
                if download.result.signed_url is None and hoped and not download.renewals:
                    unsigned.append(download)
                else:
                    yield download.reject(error)
        if unsigned:
            yield from self._renew(unsigned)
            yield from self._locate(unsigned)

    def _renew(self, downloads: list[Download]) -> Iterator[Outcome]:
        """Read results anew, some at a time: their signed URLs are fresh afterwards, or their state says why not."""
        for download, answer in zip(
            downloads, ask_again(self._retrieve, [download.result.id for download in downloads]), strict=True
        ):
            download.renew, download.renewals, download.location = False, download.renewals + 1, None
            if isinstance(answer, ApiRefused) and answer.status in (404, 410):
                yield download.reject(ContentError("gone", "the API does not know it any more"))
            elif isinstance(answer, ApiError):
                yield download.reject(ContentError("unreachable", f"cannot be read again: {answer}", transient=True))
            elif isinstance(answer, Rejection) or not download.same_content(answer):
                yield download.reject(ContentError("changed", "the API now lists another md5, size or date for it"))
            elif answer.state == CONSUMED:
                download.drop()
                yield Elsewhere(download.sink.result)
            elif answer.state != AVAILABLE:
                yield download.reject(ContentError("gone", f"its state is now {clean(answer.state)!r}"))
            else:
                download.result = answer

    def _feed(self, downloads: Iterable[Download | None]) -> Iterator[Transfer | None]:
        """The transfers of this round, asked for one by one as there is room for them in flight."""
        for download in downloads:
            if download is None:
                yield None
            elif not self._health.may_try(download.host):
                download.hold(TransferFault("unreachable", f"{clean(download.host)} does not answer: not tried", Remedy.RESUME))
            elif not self._room.take(download.sink):
                download.hold(lack_of_room(download.sink))
            else:
                while download.size > CHUNK_BYTES and self._room.large > LARGE_TOGETHER:
                    yield None
                self._kept_bytes -= download.sink.in_memory
                self._in_flight += 1
                yield download.start()

    def _judge(self, download: Download, fault: TransferFault | None) -> Outcome | None:
        """What follows from one transfer; None where it is to be tried again."""
        self._room.leave(download.sink)
        if isinstance(download.sink.fault, LakeError):
            raise download.sink.fault
        silent = fault is not None and fault.remedy in (Remedy.RESUME, Remedy.LATER) and not download.advanced
        (self._health.failed if silent else self._health.answered)(download.host)
        if fault is None or (fault.remedy is Remedy.RESUME and download.advanced and not download.missing):
            return self._prove(download)
        download.fault = fault
        outcome: Outcome | None = None
        if fault.remedy is Remedy.RESUME:
            download.count_try()
        elif fault.remedy is Remedy.RENEW and download.may_renew:
            download.renew = True
        elif fault.remedy is Remedy.RESTART and download.may_restart:
            download.restart()
        elif fault.remedy is Remedy.FOLLOW and download.may_follow:
            outcome = self._follow(download, SignedUrl(fault.target or "", None))
        else:
            outcome = self._turn(download)
        self._keep(download)
        return outcome

    def _prove(self, download: Download) -> Outcome | None:
        try:
            if isinstance(download.sink.fault, ContentError):
                raise download.sink.fault
            return download.deliver()
        except ContentError as error:
            if download.restarts:
                return download.reject(error)
            # A wrong md5 or length may be a fault of the way: once more from the first byte.
            download.fault = TransferFault(error.reason, error.detail, Remedy.RESTART)
            download.restart()
            return None

    def _follow(self, download: Download, target: SignedUrl) -> Outcome | None:
        assert isinstance(download.location, HttpLocation)  # nothing else redirects
        try:
            download.follow(redirected_location(download.location, target, self._policy))
        except ContentError as error:
            return download.reject(error)
        return None

    def _keep(self, download: Download) -> None:
        """Keep what came of it until its next try, in a closed file or within a budget of memory."""
        download.sink.rest()
        if self._kept_bytes + download.sink.in_memory > KEPT_BYTES:
            download.forget()
        self._kept_bytes += download.sink.in_memory

    def _give_up(self, downloads: Iterable[Download]) -> Iterator[Outcome]:
        """End those that have had their tries, and those that wait for a host which has been down for long."""
        for download in downloads:
            waited = download.release()
            # Where the host came back within this round, to have waited for it is no try.
            if waited and (download.lacks_room or self._health.is_down(download.host)):
                download.count_try()
            if not download.may_resume or (download.resumes and self._health.is_lost(download.host)):
                outcome = self._turn(download)
                if outcome is not None:
                    yield outcome

    def _turn(self, download: Download) -> Outcome | None:
        """Go on at the next place that the policy's order offers, or give up."""
        if download.location is not None:
            download.tried.add(kind_of(download.location))
        try:
            if download.lacks_room:
                raise ContentError(NO_ROOM, "which another place does not mend")
            following = locate(download.result, self._policy, download.tried)
        except ContentError:  # the fault of a place that was tried says more than why another is not
            return download.give_up()
        download.turn_to(following)
        return None


def _pause_s(downloads: Iterable[Download]) -> float:
    """Seconds before the next round: growing, with jitter; none where no host is to rest."""
    tries = max((download.tries for download in downloads if download.resumes), default=0)
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (tries - 1)) * random.uniform(0.5, 1.0) if tries else 0.0  # noqa: S311  # jitter
