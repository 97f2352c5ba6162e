"""A sink that writes a large content into a part of its own while it arrives. I/O: the lake's staging folder.

So its bytes go to the disk once, where others go there twice: into a file, until they are proven, and from it into a part.
Hashing and writing are the work of other threads than the one that receives, each full chunk at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path

from ricloud_connector import overlap
from ricloud_connector.errors import LakeError
from ricloud_connector.model import CHUNK_BYTES, Result
from ricloud_connector.parts import ContentPart, PartWriter, chunk_count, chunk_rows, is_compressible, one_chunk
from ricloud_connector.sink import Sink
from ricloud_connector.verify import check_content

LARGE_BYTES = 32 * 1024 * 1024
"""From this size on a content has a part of its own: half of what parts are filled up to."""

OPEN_TOGETHER = 8
"""Beyond these a large content is staged like others: each has a file open, and up to two chunks in memory."""

LANES = 4


class PartSinks:
    """Makes sinks for large contents, up to so many bytes as a part may hold.

    `writer` opens a part in `folder`, and is told whether it is worth while to compress the contents' bytes.
    """

    def __init__(self, writer: Callable[[bool], PartWriter], folder: Path, longest_part: int | None = None) -> None:
        self.writer, self.folder = writer, folder
        self._longest = math.inf if longest_part is None else longest_part
        self.lanes: Executor = overlap.pool(LANES, "ricloud-hash")
        self._buffers: list[bytearray] = []
        self._open = 0

    def sink(self, result: Result) -> PartSink | None:
        """One for this result; None where it is not large, or too large, or there are enough at the moment."""
        if self._open >= OPEN_TOGETHER or not LARGE_BYTES <= (result.size or 0) <= self._longest:
            return None
        self._open += 1
        return PartSink(result, self)

    def close(self) -> None:
        """End the threads."""
        self.lanes.shutdown()

    def buffer(self) -> bytearray:
        """Memory for one chunk, used before if possible: what the kernel gives anew costs more than to fill it."""
        try:
            return self._buffers.pop()
        except IndexError:
            return bytearray(CHUNK_BYTES)

    def give_back(self, buffer: bytearray) -> None:
        """Let others use it."""
        self._buffers.append(buffer)

    def ended(self) -> None:
        """One of them is done."""
        self._open -= 1
        if not self._open:
            self._buffers.clear()


class PartSink(Sink):
    """Receives one large content. What came of it stays, in an open file, until it is finished, restarted or discarded."""

    __slots__ = ("_buffer", "_busy", "_filled", "_index", "_job", "_over", "_sinks", "_writer")

    def __init__(self, result: Result, sinks: PartSinks) -> None:
        self._sinks, self._over = sinks, False
        super().__init__(result, sinks.folder)

    def _start(self) -> None:
        super()._start()
        self._writer: PartWriter | None = None
        self._buffer: bytearray | None = None  # of the chunk that arrives, filled so far
        self._filled = self._index = 0
        self._job: Future[None] | None = None  # hashes and writes the chunk before it
        self._busy: bytearray | None = None  # which is this one

    def _take(self, chunk: bytes) -> None:
        self._digest.count(len(chunk))
        rest = memoryview(chunk)
        while rest:
            if self._buffer is None:
                self._buffer, self._filled = self._sinks.buffer(), 0
            elif self._filled == CHUNK_BYTES:  # and more has come: it is not the last one
                self._wait()
                self._busy = self._buffer
                self._job = self._sinks.lanes.submit(self._write, memoryview(self._buffer))
                self._buffer, self._filled = self._sinks.buffer(), 0
            fits = rest[: CHUNK_BYTES - self._filled]
            self._buffer[self._filled : self._filled + len(fits)] = fits
            self._filled += len(fits)
            rest = rest[len(fits) :]

    def _write(self, chunk: memoryview) -> None:
        self._digest.hash(chunk)
        self._put(chunk, None)

    def _put(self, chunk: memoryview, sha256: str | None) -> None:
        if self._writer is None:
            self._writer = self._sinks.writer(is_compressible(chunk))
        rows = chunk_rows([self.result], [self._index], [chunk_count(self.result)], [sha256], one_chunk(chunk))
        self._writer.write(rows)
        self._index += 1

    def _wait(self) -> None:
        """Until the chunk before is written. Raises: LakeError."""
        error = self._joined()
        if isinstance(error, LakeError):  # its frames hold the chunk, and reports hold errors
            error.__traceback__ = None
            if error.__cause__ is not None:
                error.__cause__.__traceback__ = None
        if error is not None:
            raise error

    def _joined(self) -> BaseException | None:
        """What was wrong with the chunk before, once it is done with."""
        job, self._job = self._job, None
        busy, self._busy = self._busy, None
        error = None if job is None else job.exception()
        if error is None and busy is not None:
            self._sinks.give_back(busy)
        return error

    @property
    def unwritten_bytes(self) -> int:
        return (self.result.size or 0) - self._index * CHUNK_BYTES

    @property
    def copied_bytes(self) -> int:
        return 0

    def rest(self) -> None:
        self._wait()

    def discard(self) -> None:
        self._drop()
        self._end()

    def finish(self) -> ContentPart:
        self._wait()
        last = memoryview(self._buffer or b"")[: self._filled]
        self._digest.hash(last)
        check_content(self.result, self._digest)
        self._put(last, self._digest.sha256)
        assert self._writer is not None
        self._writer.md5s[self._digest.sha256] = self._digest.md5
        content = ContentPart(self.result, self._writer.finish())
        self._give_back()
        self._end()
        return content

    def _drop(self) -> None:
        self._joined()  # what could not be written is not needed
        if self._writer is not None:
            self._writer.abandon()
        self._give_back()

    def _give_back(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._sinks.give_back(buffer)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._sinks.ended()
