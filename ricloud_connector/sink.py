"""A sink receives one content while it is downloaded: counted, hashed, and kept. I/O: staging files for the larger ones."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from ricloud_connector.errors import ContentError, LakeError
from ricloud_connector.model import Content, Result
from ricloud_connector.parts import ContentPart
from ricloud_connector.verify import Digest, check_content

MEMORY_BYTES = 1024 * 1024
"""Contents up to this length stay in memory: with 64 in flight, at most 64 MiB."""

CHUNKS_HELD = 256
"""Beyond these they become one: a server may send single bytes, and as an object each would take forty."""

_numbers = count()


class Sink:
    """The bytes of one result so far. `fault` is why it refused a chunk, since libcurl's callbacks cannot raise.

    A larger content goes to a file of its own in `staging`, a folder of this process alone. `restart` and
    `discard` remove the file; after `finish` it is the `Content`'s.
    """

    __slots__ = ("_chunks", "_digest", "_handle", "_path", "_staging", "fault", "result")

    def __init__(self, result: Result, staging: Path) -> None:
        self.result = result
        self.fault: ContentError | LakeError | None = None
        self._staging = staging
        self._start()

    def _start(self) -> None:
        self._digest = Digest(self.result.size or 0)
        self._chunks: list[bytes] = []
        self._path: Path | None = None  # once it has one
        self._handle: int | None = None

    @property
    def listed_bytes(self) -> int:
        return self.result.size or 0

    @property
    def folder(self) -> Path:
        """Where its file lies, if it has one."""
        return self._staging

    @property
    def unwritten_bytes(self) -> int:
        """Of those listed, what is not in its file yet."""
        return (self.result.size or 0) - self.size

    @property
    def copied_bytes(self) -> int:
        """Of a file, what its copy in a part will take beside it."""
        return self.result.size or 0

    @property
    def size(self) -> int:
        """Bytes received: where a broken transfer goes on."""
        return self._digest.size

    @property
    def in_memory(self) -> int:
        """Bytes held in memory."""
        return sum(map(len, self._chunks))

    def write(self, chunk: bytes) -> bool:
        """Take a chunk. False after setting `fault`: the chunk was refused, and nothing may follow it."""
        try:
            self._take(chunk)
        except (ContentError, LakeError) as error:
            self.fault = error
        except OSError as error:
            self.fault = self._unwritable(error)
        return self.fault is None

    def _take(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        if self._path is None and self._digest.size <= MEMORY_BYTES:
            self._chunks.append(chunk)
            if len(self._chunks) > CHUNKS_HELD:
                self._chunks = [b"".join(self._chunks)]
        else:
            self._spill(chunk)

    def _spill(self, chunk: bytes) -> None:
        if self._path is None:
            path = self._staging / f"content-{next(_numbers)}"
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._path = path
            _write_all(self._handle, b"".join(self._chunks))
            self._chunks = []
        elif self._handle is None:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        _write_all(self._handle, chunk)

    def rest(self) -> None:
        """Close the file until more comes: thousands may wait for their next try. Raises: LakeError."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                os.close(handle)
            except OSError as error:
                raise self._unwritable(error) from error

    def restart(self) -> None:
        """Forget all that came. Raises: LakeError."""
        self._drop()
        self.fault = None
        self._start()

    def discard(self) -> None:
        """Give back memory and disk, for good. Raises: LakeError."""
        self._drop()

    def _drop(self) -> None:
        self.rest()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._chunks = []

    def finish(self) -> Content | ContentPart:
        """The content, once its length and md5 are those listed. Raises: ContentError, LakeError."""
        check_content(self.result, self._digest)
        self.rest()
        content = Content(self.result, self._digest.md5, self._digest.sha256, self._path or b"".join(self._chunks))
        self._chunks, self._path = [], None  # what it held goes with the content
        return content

    def _unwritable(self, error: OSError) -> LakeError:
        return LakeError(f"cannot write to the staging folder {self._staging}: {error.strerror}")


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
