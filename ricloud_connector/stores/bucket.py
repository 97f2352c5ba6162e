"""Contents at `s3://` and `gs://`, by obstore in some threads. I/O: HTTP GET with the credentials of their chains.

Small objects are read in one request each, many at a time; a large one in ranges, some at a time and in their order, one
such object after the other, so that memory holds a few ranges and not one object more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

from ricloud_connector.buckets import RANGE_BYTES, Buckets, call, load_obstore, read_range, read_ranges
from ricloud_connector.errors import ContentError
from ricloud_connector.location import BucketLocation
from ricloud_connector.refusal import Kind, Refused
from ricloud_connector.stores import Receiver, Remedy, Transfer, TransferFault

AT_ONCE_BYTES = 256 * 1024  # objects up to this length are read whole before the sink sees them
CHUNK_BYTES = 1024 * 1024

_REMEDIES = {
    Kind.ABSENT: Remedy.RENEW,
    Kind.DENIED: Remedy.RENEW,
    Kind.NO_BUCKET: Remedy.LATER,
    Kind.NO_CREDENTIALS: Remedy.LATER,
    Kind.WRONG_REGION: Remedy.LATER,
    Kind.REQUESTER_PAYS: Remedy.LATER,
    Kind.THROTTLED: Remedy.RESUME,
    Kind.UNREACHABLE: Remedy.RESUME,
    Kind.NO_RANGE: Remedy.RESTART,
    Kind.REFUSED: Remedy.RESTART,
    Kind.BAD_KEY: Remedy.NONE,
}


class BucketStore:
    """Up to `concurrency` transfers at a time; fewer for a while after a bucket asks to slow down."""

    def __init__(self, buckets: Buckets, *, concurrency: int = 32) -> None:
        self._buckets = buckets
        self._concurrency = concurrency
        self._allowed = float(concurrency)
        self._lane = Lock()  # for the one large object under way
        self._stopped = Event()

    def transfer(self, transfers: Iterable[Transfer | None]) -> Iterator[tuple[Transfer, TransferFault | None]]:
        ended: SimpleQueue[tuple[Transfer, TransferFault | None, BaseException | None]] = SimpleQueue()
        waiting, busy, exhausted = iter(transfers), 0, False
        self._stopped.clear()
        workers = ThreadPoolExecutor(self._concurrency, "bucket")
        ranges = ThreadPoolExecutor(8, "range")
        try:
            while busy or not exhausted:
                while not exhausted and busy < max(1, int(self._allowed)):
                    try:
                        following = next(waiting)
                    except StopIteration:
                        exhausted = True
                        break
                    if following is None:
                        break  # nothing at the moment
                    workers.submit(self._run, following, ranges, ended)
                    busy += 1
                if busy:
                    transfer, fault, raised = ended.get()
                    busy -= 1
                    if raised is not None:
                        raise raised
                    self._adapt(fault)
                    yield transfer, fault
        finally:  # also where the caller stops early: no thread may write into a sink afterwards
            self._stopped.set()
            workers.shutdown(cancel_futures=True)
            ranges.shutdown(cancel_futures=True)

    def _adapt(self, fault: TransferFault | None) -> None:
        if fault is None:
            self._allowed = min(float(self._concurrency), self._allowed + 1 / self._allowed)
        elif fault.reason == "throttled":
            self._allowed = max(1.0, self._allowed / 2)

    def _run(self, transfer: Transfer, ranges: ThreadPoolExecutor, ended: SimpleQueue[Any]) -> None:
        """Be one worker's turn: whatever happens is told."""
        fault, raised = None, None
        try:
            fault = self._read(transfer, ranges)
        except BaseException as error:  # noqa: BLE001  # raised again, by the thread that waits for it
            raised = error
        ended.put((transfer, fault, raised))

    def _read(self, transfer: Transfer, ranges: ThreadPoolExecutor) -> TransferFault | None:
        location = transfer.location
        assert isinstance(location, BucketLocation)
        refused: Refused | None = None
        for key in _keys(location):
            try:
                self._read_key(location, key, transfer.sink, ranges)
                return None
            except Refused as error:
                refused = refused or error
                if error.kind is not Kind.ABSENT:
                    break
        assert refused is not None
        return TransferFault(refused.kind.value, refused.detail, _REMEDIES[refused.kind])

    def _read_key(self, location: BucketLocation, key: str, sink: Receiver, ranges: ThreadPoolExecutor) -> None:
        """Write the object from byte `sink.size` on into the sink. Raises: Refused."""
        listed, start = sink.listed_bytes, sink.size
        store, path = self._buckets.place(location.scheme, location.bucket, key)
        bucket = location.name
        if listed - start > RANGE_BYTES:
            with self._lane:
                if self._stopped.is_set():
                    return
                second = start + RANGE_BYTES
                answer = call(bucket, load_obstore().get, store, path, options={"range": (start, second)})
                size = answer.meta["size"]
                if self._fits(size, sink):
                    first = call(bucket, answer.bytes).to_bytes()
                    ask = partial(read_range, bucket, store, path)
                    self._feed(chain([first], read_ranges(ranges, bucket, ask, second, size)), sink)
            return
        options = {"range": {"offset": start}} if start else None
        answer = call(bucket, load_obstore().get, store, path, options=options)
        if self._fits(answer.meta["size"], sink):
            self._feed(_chunks(bucket, answer, listed - start), sink)

    def _fits(self, size: int, sink: Receiver) -> bool:
        """Whether no more will come than was listed; where it would, nothing is read and the sink says why."""
        listed = sink.listed_bytes
        if size > listed:
            said = f"the object has {size} bytes, {listed} are listed"
            sink.fault = ContentError("size_mismatch", said, actual_size=size)
        return size <= listed

    def _feed(self, chunks: Iterator[bytes], sink: Receiver) -> None:
        for chunk in chunks:
            if self._stopped.is_set() or not sink.write(chunk):
                return  # the sink's own fault says why


def _keys(location: BucketLocation) -> list[str]:
    """The keys to try. ricloud's own client asks S3 for `/path` where the URL is `s3://bucket/path`; the md5 decides."""
    return [location.key, f"/{location.key}"] if location.scheme == "s3" else [location.key]


def _chunks(bucket: str, answer: Any, expected: int) -> Iterator[bytes]:
    if expected <= AT_ONCE_BYTES:
        yield call(bucket, answer.bytes).to_bytes()
        return
    stream = call(bucket, answer.stream, min_chunk_size=CHUNK_BYTES)
    while (chunk := call(bucket, next, stream, None)) is not None:
        yield bytes(chunk)
